//! Operations that say which snapshot their input was read from.

use std::sync::Arc;

use iceberg::spec::{Datum, FormatVersion, Literal, NestedField, Schema, Struct};
use icefield_core::catalog::{Catalog, MemoryCatalog};
use icefield_core::commit::{DeleteBy, Expiry, Isolation, Overwrite, Rewrite, Transaction};
use icefield_core::evolve::{identity, partition_spec, types};
use icefield_core::filter::{Filter, Test};
use icefield_core::{ErrorKind, SystemClock, Table};

use crate::support::{branch_at, equality_deletes, file_in, live, names, table};

/// A table of `id` and `k`, partitioned by `k`.
async fn partitioned() -> (Arc<MemoryCatalog>, Table) {
    let fields = [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "k", types::int())];
    let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
    let spec = partition_spec(&schema, [identity("k")]).unwrap();
    let wait = [("commit.retry.min-wait-ms", "1")];
    table(SystemClock::shared(), FormatVersion::V2, schema, Some(spec), &wait).await
}

async fn append(catalog: &dyn Catalog, table: &Table, name: &str, k: i32) -> Table {
    let file = file_in(name, 0, [Literal::int(k)]);
    Transaction::new(table).append(vec![file]).commit(catalog).await.unwrap().table
}

fn head(table: &Table) -> i64 {
    table.metadata().current_snapshot_id().unwrap()
}

fn replace_all(name: &str) -> Overwrite {
    let add = vec![file_in(name, 0, [Literal::int(1)])];
    Overwrite { delete: DeleteBy::Filter(Filter::True), add, reads: None }
}

#[tokio::test]
async fn rows_that_came_after_the_read_are_not_overwritten() {
    let (catalog, t) = partitioned().await;
    let read = append(&*catalog, &t, "a", 1).await;
    // The table is loaded when the rows are written, long after they were read.
    let now = append(&*catalog, &read, "b", 1).await;
    let overwrite = Transaction::new(&now).based_on(head(&read)).overwrite(replace_all("c"));
    let error = overwrite.clone().commit(&*catalog).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("data/b"), "{error}");
    let before_all = Transaction::new(&now).based_on(None).overwrite(replace_all("c"));
    assert_eq!(before_all.commit(&*catalog).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(names(&catalog.load_table(t.ident()).await.unwrap(), "main").await, ["a", "b"]);

    let fresh = Transaction::new(&now).based_on(head(&now)).overwrite(replace_all("c"));
    let t = fresh.commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["c"]);
    let tolerant = Transaction::new(&t).isolation(Isolation::Snapshot).based_on(head(&now));
    let delete = DeleteBy::Partitions(vec![(0, Struct::from_iter([Some(Literal::int(2))]))]);
    let add = vec![file_in("d", 0, [Literal::int(2)])];
    let done = tolerant.overwrite(Overwrite { delete, add, reads: None }).commit(&*catalog).await.unwrap();
    assert_eq!(names(&done.table, "main").await, ["c", "d"]);
}

#[tokio::test]
async fn input_of_a_snapshot_that_is_not_in_the_history_conflicts() {
    let (catalog, t) = partitioned().await;
    let first = append(&*catalog, &t, "a", 1).await;
    let gone = append(&*catalog, &first, "b", 1).await;
    let side = Transaction::new(&gone).set_ref("side", branch_at(head(&first))).rollback_to(head(&first));
    let t = side.commit(&*catalog).await.unwrap().table;
    let on_side = Transaction::new(&t).on_branch("side").append(vec![file_in("s", 0, [Literal::int(1)])]);
    let on_side = on_side.commit(&*catalog).await.unwrap();
    let t = append(&*catalog, &on_side.table, "c", 1).await;
    let old = head(&first);
    let t = append(&*catalog, &t, "d", 1).await;
    let starts =
        [("rolled back", head(&gone)), ("another branch's", on_side.snapshot_id.unwrap()), ("none", 7)];
    for (which, start) in starts {
        let new = || vec![file_in("new", 0, [Literal::int(1)])];
        let based = Transaction::new(&t).based_on(start);
        for transaction in [based.clone().append(new()), based.overwrite(replace_all("new"))] {
            let error = transaction.commit(&*catalog).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{which}");
            assert!(error.to_string().contains(&start.to_string()), "{which}: {error}");
        }
    }
    let drop = Transaction::new(&t)
        .remove_ref("side")
        .expire_snapshots(move |_| Ok(Expiry { snapshots: vec![old], ..Expiry::default() }));
    let t = drop.commit(&*catalog).await.unwrap().table;
    let expired = Transaction::new(&t).based_on(old).append(vec![file_in("new", 0, [Literal::int(1)])]);
    assert_eq!(expired.commit(&*catalog).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(names(&t, "main").await, ["a", "c", "d"]);
}

#[tokio::test]
async fn rows_read_elsewhere_must_be_what_they_were() {
    // One partition is replaced by rows that were made of another's.
    for theirs in ["append", "remove", "equality deletes", "compact", "append beside"] {
        let (catalog, t) = partitioned().await;
        let t = append(&*catalog, &t, "a", 1).await;
        let base = append(&*catalog, &t, "b", 2).await;
        let b = live(&base, "main").await.into_iter().find(|file| file.path().ends_with("/b")).unwrap();
        let add = vec![file_in("c", 0, [Literal::int(2)])];
        let transaction = Transaction::new(&base);
        let transaction = match theirs {
            "append" => transaction.append(add),
            "append beside" => transaction.append(vec![file_in("c", 0, [Literal::int(3)])]),
            "remove" => transaction.delete_files([b.path()]),
            "compact" => {
                transaction.rewrite_files(Rewrite { delete: vec![b.reference()], add, sequence_number: None })
            }
            _ => {
                let deletes = vec![equality_deletes("d", 0, [Literal::int(2)])];
                icefield_testkit::deletes::commit_deletes(&*catalog, &base, deletes).await;
                transaction
            }
        };
        transaction.commit(&*catalog).await.unwrap();
        let equals = |k| Filter::Test(2, Test::Eq(Datum::int(k)));
        let partition = (0, Struct::from_iter([Some(Literal::int(1))]));
        for delete in [DeleteBy::Filter(equals(1)), DeleteBy::Partitions(vec![partition])] {
            for isolation in [Isolation::Serializable, Isolation::Snapshot] {
                let add = vec![file_in("new", 0, [Literal::int(1)])];
                let overwrite = Overwrite { delete: delete.clone(), add, reads: Some(equals(2)) };
                let ours = Transaction::new(&base).isolation(isolation).overwrite(overwrite);
                let conflicts = match theirs {
                    "append" => isolation == Isolation::Serializable,
                    "remove" | "equality deletes" => true,
                    _ => false,
                };
                match ours.commit(&*catalog).await {
                    Ok(done) => {
                        assert!(!conflicts, "{theirs}, {isolation:?}");
                        let back = Transaction::new(&done.table).rollback_to(
                            done.table.metadata().current_snapshot().unwrap().parent_snapshot_id().unwrap(),
                        );
                        back.commit(&*catalog).await.unwrap();
                    }
                    Err(e) => {
                        assert!(conflicts && e.kind() == ErrorKind::Conflict, "{theirs}, {isolation:?}: {e}")
                    }
                }
            }
        }
    }
}
