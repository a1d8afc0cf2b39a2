//! The table of conflicts, row by row: what each kind of operation tolerates of what others committed since
//! it read, under each isolation level, and the reason that a conflict gives.

use iceberg::TableUpdate;
use iceberg::spec::{Datum, FormatVersion, Literal};
use icefield_core::ConflictReason::{
    BaseExpired, ConcurrentAppend, ConcurrentDelete, FileRemoved, FormatChanged, SpecChanged,
};
use icefield_core::catalog::{Catalog, MemoryCatalog};
use icefield_core::commit::{DeleteBy, Expiry, Isolation, Overwrite, Rewrite, RowDelta, Transaction};
use icefield_core::deletes::RoaringTreemap;
use icefield_core::evolve::{FormatUpgrade, MetadataChange, SchemaUpdate, types};
use icefield_core::filter::{Filter, Test};
use icefield_core::format::ContentFile;
use icefield_core::{ConflictReason, Error, Result, Table};

use crate::conflicts::{ELSEWHERE, HERE, add, file, find, partition, table};
use crate::support::{equality_deletes, live};

/// Another commit, to file `a` of partition `HERE` or file `b` of partition `ELSEWHERE`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Theirs {
    Append(i32),
    Remove(&'static str),
    Compact(&'static str),
    /// Deletes a row of a file: by position on version 2, by a vector on version 3.
    Delete(&'static str),
    /// Deletes by key, in a partition or everywhere.
    DeleteKeys(Option<i32>),
    /// Deletes a row of a file, and adds one to partition `HERE`.
    Update(&'static str),
}

use Theirs::*;

/// All of them.
const ALL: [Theirs; 13] = [
    Append(HERE),
    Append(ELSEWHERE),
    Remove("a"),
    Remove("b"),
    Compact("a"),
    Compact("b"),
    Delete("a"),
    Delete("b"),
    DeleteKeys(Some(HERE)),
    DeleteKeys(Some(ELSEWHERE)),
    DeleteKeys(None),
    Update("a"),
    Update("b"),
];

fn k_of(name: &str) -> i32 {
    if name == "a" { HERE } else { ELSEWHERE }
}

fn here() -> Filter {
    Filter::Test(2, Test::Eq(Datum::int(HERE)))
}

/// Position deletes or a deletion vector of one row of a file.
async fn delete_of(table: &Table, name: &str, row: u64) -> Vec<ContentFile> {
    let data = find(table, name).await.reference();
    crate::row_delta::deletes(table, &format!("of-{name}-{row}"), &data, RoaringTreemap::from_iter([row]))
        .await
}

impl Theirs {
    async fn commit(self, catalog: &MemoryCatalog, table: &Table) -> Table {
        let transaction = Transaction::new(table);
        let delta = |add_data, add_deletes| RowDelta { add_data, add_deletes, ..RowDelta::default() };
        let transaction = match self {
            Append(k) => transaction.append(vec![file("theirs", k)]),
            Remove(name) => transaction.delete_files([find(table, name).await.path()]),
            Compact(name) => transaction.rewrite_files(Rewrite {
                delete: vec![find(table, name).await.reference()],
                add: vec![file("theirs", k_of(name))],
                sequence_number: None,
            }),
            Delete(name) => transaction.row_delta(delta(vec![], delete_of(table, name, 0).await)),
            DeleteKeys(Some(k)) => {
                transaction.row_delta(delta(vec![], vec![equality_deletes("keys", 0, [Literal::int(k)])]))
            }
            DeleteKeys(None) => transaction.row_delta(delta(vec![], vec![equality_deletes("keys", 2, [])])),
            Update(name) => {
                let rows = vec![file("theirs", HERE)];
                transaction.row_delta(delta(rows, delete_of(table, name, 0).await))
            }
        };
        transaction.commit(catalog).await.unwrap().table
    }
}

/// What comes of an operation under snapshot isolation and under serializable isolation.
type Outcomes = (Option<ConflictReason>, Option<ConflictReason>);

const FINE: Outcomes = (None, None);

fn always(reason: ConflictReason) -> Outcomes {
    (Some(reason), Some(reason))
}

fn serializable(reason: ConflictReason) -> Outcomes {
    (None, Some(reason))
}

/// Runs an operation beside each commit of others, on versions 2 and 3.
async fn check(
    ours: impl AsyncFn(&Table, Transaction) -> Transaction,
    expected: impl Fn(Theirs, FormatVersion) -> Outcomes,
) {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        for theirs in ALL {
            let (snapshot, serializable) = expected(theirs, version);
            let levels = [(Isolation::Snapshot, snapshot), (Isolation::Serializable, serializable)];
            for (isolation, expected) in levels {
                let context = format!("{version}, {theirs:?}, {isolation:?}");
                let (catalog, t) = table(version).await;
                let t = add(&catalog, &t, file("a", HERE)).await;
                let base = add(&catalog, &t, file("b", ELSEWHERE)).await;
                theirs.commit(&catalog, &base).await;
                let transaction = ours(&base, Transaction::new(&base).isolation(isolation)).await;
                match transaction.commit(&*catalog).await {
                    Ok(_) => assert_eq!(None, expected, "{context}: went through"),
                    Err(error) => {
                        assert_eq!(error.conflict_reason(), expected, "{context}: {error}");
                        let names = |key: &str| error.context().any(|(of, _)| of == key);
                        assert!(
                            ["file", "snapshot", "operation"].into_iter().all(names),
                            "{context}: {error}"
                        );
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn an_append_conflicts_with_nothing() {
    check(async |_, transaction| transaction.append(vec![file("new", HERE)]), |_, _| FINE).await;
}

#[tokio::test]
async fn a_copy_on_write_change_keeps_to_its_row_of_the_table() {
    let ours = async |base: &Table, transaction: Transaction| {
        let delete = DeleteBy::Files(vec![find(base, "a").await.reference()]);
        transaction.overwrite(Overwrite { delete, add: vec![file("new", HERE)], reads: Some(here()) })
    };
    let expected = |theirs, _| match theirs {
        Append(HERE) | Update("b") => serializable(ConcurrentAppend),
        Remove("a") | Compact("a") => always(FileRemoved),
        Delete("a") | DeleteKeys(Some(HERE) | None) => always(ConcurrentDelete),
        Update("a") => (Some(ConcurrentDelete), Some(ConcurrentAppend)),
        _ => FINE,
    };
    check(ours, expected).await;
}

#[tokio::test]
async fn a_merge_on_read_delete_keeps_to_its_row_of_the_table() {
    for reads in [true, false] {
        let ours = async |base: &Table, transaction: Transaction| {
            let add_deletes = delete_of(base, "a", 7).await;
            transaction.row_delta(RowDelta { add_deletes, reads: reads.then(here), ..RowDelta::default() })
        };
        let expected = |theirs, version| match (theirs, version) {
            (Remove("a") | Compact("a"), _) => always(FileRemoved),
            // Position deletes of two writers are both right. A data file has one vector.
            (Delete("a"), FormatVersion::V3) => always(ConcurrentDelete),
            (Update("a"), FormatVersion::V3) if reads => (Some(ConcurrentDelete), Some(ConcurrentAppend)),
            (Update("a"), FormatVersion::V3) => always(ConcurrentDelete),
            (Append(HERE) | Update(_), _) if reads => serializable(ConcurrentAppend),
            _ => FINE,
        };
        check(ours, expected).await;
    }
}

#[tokio::test]
async fn a_merge_on_read_update_keeps_to_its_row_of_the_table() {
    for reads in [true, false] {
        let ours = async |base: &Table, transaction: Transaction| {
            transaction.row_delta(RowDelta {
                add_data: vec![file("new", HERE)],
                add_deletes: delete_of(base, "a", 7).await,
                reads: reads.then(here),
                updates: true,
                ..RowDelta::default()
            })
        };
        let expected = |theirs, _| match theirs {
            Remove("a") | Compact("a") => always(FileRemoved),
            Delete("a") | DeleteKeys(Some(HERE) | None) => always(ConcurrentDelete),
            Update("a") if reads => (Some(ConcurrentDelete), Some(ConcurrentAppend)),
            Update("a") => always(ConcurrentDelete),
            Append(HERE) | Update("b") if reads => serializable(ConcurrentAppend),
            _ => FINE,
        };
        check(ours, expected).await;
    }
}

#[tokio::test]
async fn equality_deletes_of_a_stream_conflict_with_nothing() {
    let ours = async |_: &Table, transaction: Transaction| {
        let add_deletes = vec![equality_deletes("upserted", 0, [Literal::int(HERE)])];
        let add_data = vec![file("new", HERE)];
        transaction.row_delta(RowDelta { add_data, add_deletes, ..RowDelta::default() })
    };
    check(ours, |_, _| FINE).await;
}

#[tokio::test]
async fn an_overwrite_keeps_to_its_row_of_the_table() {
    for by_filter in [true, false] {
        let ours = async |_: &Table, transaction: Transaction| {
            let delete = match by_filter {
                true => DeleteBy::Filter(here()),
                false => DeleteBy::Partitions(vec![partition(HERE)]),
            };
            transaction.overwrite(Overwrite { delete, add: vec![file("new", HERE)], reads: None })
        };
        let expected = |theirs, _| match theirs {
            Append(HERE) | Update("b") => serializable(ConcurrentAppend),
            Remove("a") | Compact("a") => always(ConcurrentDelete),
            Delete("a") | DeleteKeys(Some(HERE) | None) => always(ConcurrentDelete),
            Update("a") => (Some(ConcurrentDelete), Some(ConcurrentAppend)),
            _ => FINE,
        };
        check(ours, expected).await;
    }
}

#[tokio::test]
async fn a_rewrite_keeps_to_its_row_of_the_table() {
    for keeps_number in [true, false] {
        let ours = async |base: &Table, transaction: Transaction| {
            transaction.rewrite_files(Rewrite {
                delete: vec![find(base, "a").await.reference()],
                add: vec![file("new", HERE)],
                sequence_number: keeps_number.then(|| base.metadata().last_sequence_number()),
            })
        };
        let expected = |theirs, _| match theirs {
            Remove("a") | Compact("a") => always(FileRemoved),
            Delete("a") | Update("a") => always(ConcurrentDelete),
            DeleteKeys(Some(HERE) | None) if !keeps_number => always(ConcurrentDelete),
            _ => FINE,
        };
        check(ours, expected).await;
    }
}

#[tokio::test]
async fn a_delta_that_removes_a_file_conflicts_with_its_deletes() {
    let ours = async |base: &Table, transaction: Transaction| {
        let remove_data = vec![find(base, "a").await.reference()];
        transaction.row_delta(RowDelta { remove_data, ..RowDelta::default() })
    };
    let expected = |theirs, _| match theirs {
        Remove("a") | Compact("a") => always(FileRemoved),
        Delete("a") | Update("a") | DeleteKeys(Some(HERE) | None) => always(ConcurrentDelete),
        _ => FINE,
    };
    check(ours, expected).await;
}

/// The conflict of a row delta on file `a` with a change of metadata that came first.
async fn conflict_with_change(
    version: FormatVersion,
    change: impl Fn(&iceberg::spec::TableMetadata) -> Result<MetadataChange> + Send + Sync + 'static,
    delta: impl AsyncFn(&Table) -> RowDelta,
) -> Option<Error> {
    let (catalog, t) = table(version).await;
    let base = add(&catalog, &t, file("a", HERE)).await;
    let delta = delta(&base).await;
    Transaction::new(&base).change(change).commit(&*catalog).await.unwrap();
    Transaction::new(&base).row_delta(delta).commit(&*catalog).await.err()
}

#[tokio::test]
async fn a_change_of_metadata_is_a_conflict_where_files_no_longer_fit() {
    let of_a =
        async |base: &Table| RowDelta { add_deletes: delete_of(base, "a", 0).await, ..RowDelta::default() };
    // Columns and properties come and go beside deletes.
    let edit = SchemaUpdate::new().add_column("more", types::long());
    let none = conflict_with_change(FormatVersion::V2, move |m| edit.apply(m), of_a).await;
    assert!(none.is_none(), "{none:?}");
    // Position delete files are not version 3's.
    let upgrade = FormatUpgrade::to(FormatVersion::V3);
    let error = conflict_with_change(FormatVersion::V2, move |m| upgrade.apply(m), of_a).await.unwrap();
    assert_eq!(error.conflict_reason(), Some(FormatChanged), "{error}");
    // The spec of new files is gone.
    let remove = |_: &_| {
        let updates = vec![TableUpdate::RemovePartitionSpecs { spec_ids: vec![1] }];
        Ok(MetadataChange { updates, requirements: Vec::new() })
    };
    let of_spec = async |_: &Table| RowDelta {
        add_deletes: vec![equality_deletes("keys", 1, [Literal::int(HERE), Literal::long(8)])],
        ..RowDelta::default()
    };
    let error = conflict_with_change(FormatVersion::V2, remove, of_spec).await.unwrap();
    assert_eq!(error.conflict_reason(), Some(SpecChanged), "{error}");
}

#[tokio::test]
async fn a_row_delta_needs_the_snapshot_that_it_was_read_from() {
    let (catalog, t) = table(FormatVersion::V2).await;
    let base = add(&catalog, &t, file("a", HERE)).await;
    let add_deletes = delete_of(&base, "a", 0).await;
    let t = add(&catalog, &base, file("b", ELSEWHERE)).await;
    let old = base.metadata().current_snapshot_id().unwrap();
    let expire = move |_: &_| Ok(Expiry { snapshots: vec![old], ..Expiry::default() });
    Transaction::new(&t).expire_snapshots(expire).commit(&*catalog).await.unwrap();
    let delta = RowDelta { add_deletes, ..RowDelta::default() };
    let error = Transaction::new(&base).row_delta(delta).commit(&*catalog).await.unwrap_err();
    assert_eq!(error.conflict_reason(), Some(BaseExpired), "{error}");
    assert_eq!(live(&catalog.load_table(base.ident()).await.unwrap(), "main").await.len(), 2);
}
