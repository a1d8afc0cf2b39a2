//! Memory that one archive takes, in a process of its own, whose memory is of no other test.

use std::process::Command;

use icefield_ingest::{Ingest, Limits};

use crate::hostile_drop::peak;
use crate::support::PATTERN;

const CHILD: &str = "ICEFIELD_MANY_COLUMNS";

#[test]
fn a_file_of_many_columns_takes_no_more_memory_than_others() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        return runtime.unwrap().block_on(take_columns());
    }
    let name = "memory::a_file_of_many_columns_takes_no_more_memory_than_others";
    let test = std::env::current_exe().unwrap();
    let child = Command::new(test).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let said = [child.stdout, child.stderr].concat();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&said));
}

async fn take_columns() {
    let folder = tempfile::tempdir().unwrap();
    let columns = Limits::default().columns;
    let take = async |name: &str, columns: usize| {
        let row =
            |cell: &dyn Fn(usize) -> String| (0..columns).map(cell).collect::<Vec<_>>().join(",") + "\n";
        let mut text = row(&|column| format!("c{column}"));
        (0..40).for_each(|line| text += &row(&|column| (line * columns + column).to_string()));
        let at = folder.path().join(name);
        std::fs::write(&at, text).unwrap();
        let ingested = Ingest::from_url(at.to_str().unwrap()).pattern(PATTERN).parallelism(1).await.unwrap();
        assert_eq!(ingested.tables[0].rows(), 40, "{}", ingested.report);
    };
    take("few_2024-06-22_1.csv", 2).await;
    let before = peak();
    take("many_2024-06-22_1.csv", columns).await;
    if let (Some(before), Some(after)) = (before, peak()) {
        // What the documentation of `Ingest` has of an archive without long rows, less what is known and listed of it.
        let (grown, bound) = (after.saturating_sub(before), 32 << 20);
        assert!(grown < bound, "peak memory grew by {grown} bytes; the bound is {bound}");
    }
}
