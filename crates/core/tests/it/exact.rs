//! Which files' entries are known to say what the files hold: those that this library's writer made, in manifests that this
//! library wrote.

use iceberg::spec::{FormatVersion, Schema};
use icefield_core::commit::Transaction;
use icefield_core::evolve::types::{long, optional};
use icefield_testkit::FakeClock;

use crate::support::{file, live, table};

#[tokio::test]
async fn exact_entries_stay_exact_in_manifests_of_ours_alone() {
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let schema = Schema::builder().with_fields([optional("id", long())]).build().unwrap();
        // Every commit merges.
        let properties = [("commit.manifest.min-count-to-merge", "2")];
        let (catalog, table) = table(FakeClock::new(1).shared(), version, schema, None, &properties).await;
        let exact = |table: &icefield_core::Table| Transaction::new(table).exact_files();
        let done = exact(&table).append(vec![file("a"), file("b")]).commit(&*catalog).await.unwrap();
        let done = Transaction::new(&done.table).append(vec![file("c")]).commit(&*catalog).await.unwrap();
        let done = exact(&done.table).append(vec![file("d")]).commit(&*catalog).await.unwrap();
        let gone = live(&done.table, "main").await.remove(0);
        let done = Transaction::new(&done.table).delete_files([gone.path()]).commit(&*catalog).await.unwrap();
        let files = live(&done.table, "main").await;
        let found: Vec<(&str, bool)> =
            files.iter().map(|file| (&file.path()[file.path().len() - 1..], file.exact)).collect();
        assert_eq!(found, [("b", true), ("c", false), ("d", true)], "{version:?}");
    }
}
