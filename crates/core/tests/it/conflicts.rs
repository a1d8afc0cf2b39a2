//! What an operation makes of what others committed since it was computed, case by case.

use std::collections::HashSet;
use std::sync::Arc;

use iceberg::spec::{Datum, FormatVersion, Literal, NestedField, Operation, Schema, Struct};
use icefield_core::catalog::{Catalog, MemoryCatalog};
use icefield_core::commit::{Committed, DeleteBy, Isolation, Overwrite, Rewrite, Transaction};
use icefield_core::deletes::is_vector;
use icefield_core::evolve::{PartitionUpdate, identity, partition_spec, types};
use icefield_core::filter::{Filter, Test};
use icefield_core::format::{ContentFile, LiveFile};
use icefield_core::storage::file_name;
use icefield_core::{ConflictReason, ErrorKind, Result, SystemClock, Table};
use icefield_testkit::deletes::{
    Delta, Partition, commit_deletes, commit_delta, deletion_vectors, position_deletes,
};

use crate::support::{equality_deletes, file_in, live, names};

/// The partitions of the cases: ours, and another one.
pub(crate) const HERE: i32 = 1;
pub(crate) const ELSEWHERE: i32 = 2;

/// A table of `id` and `k`, partitioned by `k` (spec 0); by `k` and `id` (spec 1) and by nothing (spec 2) after that.
pub(crate) async fn table(version: FormatVersion) -> (Arc<MemoryCatalog>, Table) {
    let fields = [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "k", types::int())];
    let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
    let spec = partition_spec(&schema, [identity("k")]).unwrap();
    let wait = [("commit.retry.min-wait-ms", "1")];
    let (catalog, mut t) =
        crate::support::table(SystemClock::shared(), version, schema, Some(spec), &wait).await;
    for update in [PartitionUpdate::new().add_field(identity("id")), PartitionUpdate::new().clear()] {
        let change = Transaction::new(&t).change(move |metadata| update.apply(metadata));
        t = change.commit(&*catalog).await.unwrap().table;
    }
    (catalog, t)
}

pub(crate) async fn add(catalog: &MemoryCatalog, table: &Table, file: ContentFile) -> Table {
    Transaction::new(table).append(vec![file]).commit(catalog).await.unwrap().table
}

pub(crate) fn file(name: &str, k: i32) -> ContentFile {
    file_in(name, 0, [Literal::int(k)])
}

pub(crate) fn partition(k: i32) -> Partition {
    (0, Struct::from_iter([Some(Literal::int(k))]))
}

pub(crate) async fn find(table: &Table, name: &str) -> LiveFile {
    live(table, "main").await.into_iter().find(|file| file_name(file.path()) == name).unwrap()
}

/// What another commit did.
#[derive(Debug, Clone, Copy)]
enum Theirs {
    Append(i32),
    Remove(&'static str),
    Compact(&'static str),
    /// Replaces a file by one of a partition.
    Update(&'static str, i32),
    PositionDeletes(i32),
    Vector(&'static str),
    EqualityDeletes(i32),
    GlobalEqualityDeletes,
    /// Rows of our partition deleted and added in one snapshot.
    MergeOnReadUpdate,
}

use Theirs::*;

impl Theirs {
    fn version(self) -> FormatVersion {
        if matches!(self, Vector(_)) { FormatVersion::V3 } else { FormatVersion::V2 }
    }

    async fn commit(self, catalog: &MemoryCatalog, table: &Table) -> Table {
        let transaction = Transaction::new(table);
        let k_of = |name| if name == "a" { HERE } else { ELSEWHERE };
        let path = |name| format!("memory://w/db/t/data/{name}");
        let positions = async |k: i32| {
            let of = path(if k == HERE { "a" } else { "b" });
            position_deletes(table, "positions", &partition(k), &[(of.as_str(), 0)]).await
        };
        let transaction = match self {
            Append(k) => transaction.append(vec![file("c", k)]),
            Remove(name) => transaction.delete_files([path(name)]),
            Compact(name) => transaction.rewrite_files(Rewrite {
                delete: vec![find(table, name).await.reference()],
                add: vec![file("c", k_of(name))],
                sequence_number: None,
            }),
            Update(name, k) => transaction.overwrite(Overwrite {
                delete: DeleteBy::Files(vec![find(table, name).await.reference()]),
                add: vec![file("c", k)],
                reads: None,
            }),
            PositionDeletes(k) => return commit_deletes(catalog, table, vec![positions(k).await]).await,
            Vector(name) => {
                let of: (&str, &[u64]) = (&path(name), &[0]);
                let vector = deletion_vectors(table, "vector", &partition(k_of(name)), &[of]).await;
                return commit_deletes(catalog, table, vector).await;
            }
            EqualityDeletes(k) => {
                let deletes = equality_deletes("equality", 0, [Literal::int(k)]);
                return commit_deletes(catalog, table, vec![deletes]).await;
            }
            GlobalEqualityDeletes => {
                return commit_deletes(catalog, table, vec![equality_deletes("equality", 2, [])]).await;
            }
            MergeOnReadUpdate => {
                let (data, deletes) = (vec![file("c", HERE)], vec![positions(HERE).await]);
                return commit_delta(catalog, table, Delta { data, deletes, ..Delta::default() }).await;
            }
        };
        transaction.commit(catalog).await.unwrap().table
    }
}

/// What we do, in the order of the columns of [`CASES`]: something to file `a` or to its partition.
const OURS: [&str; 8] = ["append", "remove", "replace", "read", "filter", "dynamic", "compact", "keep"];

async fn ours(name: &str, base: &Table, isolation: Isolation, catalog: &dyn Catalog) -> Result<Committed> {
    let transaction = Transaction::new(base).isolation(isolation);
    let new = || vec![file("new", HERE)];
    let a = find(base, "a").await;
    let in_partition = || Filter::Test(2, Test::Eq(Datum::int(HERE)));
    let overwrite = |delete, reads| Overwrite { delete, add: new(), reads };
    let rewrite = |sequence_number| Rewrite { delete: vec![a.reference()], add: new(), sequence_number };
    let transaction = match name {
        "append" => transaction.append(new()),
        "remove" => transaction.delete_files([a.path()]),
        "replace" => transaction.overwrite(overwrite(DeleteBy::Files(vec![a.reference()]), None)),
        // As UPDATE does, which read the partition to find the rows of `a`.
        "read" => {
            transaction.overwrite(overwrite(DeleteBy::Files(vec![a.reference()]), Some(in_partition())))
        }
        "filter" => transaction.overwrite(overwrite(DeleteBy::Filter(in_partition()), None)),
        "dynamic" => transaction.overwrite(overwrite(DeleteBy::Partitions(vec![partition(HERE)]), None)),
        "compact" => transaction.rewrite_files(rewrite(None)),
        "keep" => transaction.rewrite_files(rewrite(Some(base.metadata().last_sequence_number()))),
        other => panic!("what is {other}?"),
    };
    transaction.commit(catalog).await
}

/// For each of ours: `.` goes through, `s` is a conflict under serializable isolation alone, `x` always.
#[rustfmt::skip]
const CASES: [(Theirs, &str); 16] = [
    //                             append remove replace read filter dynamic compact keep
    (Append(HERE),                 "  .      .      .     s     s      s        .      . "),
    (Append(ELSEWHERE),            "  .      .      .     .     .      .        .      . "),
    (Remove("a"),                  "  .      x      x     x     x      x        x      x "),
    (Remove("b"),                  "  .      .      .     .     .      .        .      . "),
    (Compact("a"),                 "  .      x      x     x     x      x        x      x "),
    (Compact("b"),                 "  .      .      .     .     .      .        .      . "),
    (Update("a", HERE),            "  .      x      x     x     x      x        x      x "),
    (Update("b", ELSEWHERE),       "  .      .      .     .     .      .        .      . "),
    (Update("b", HERE),            "  .      .      .     s     s      s        .      . "),
    (PositionDeletes(HERE),        "  .      .      x     x     x      x        x      x "),
    (PositionDeletes(ELSEWHERE),   "  .      .      .     .     .      .        .      . "),
    (Vector("a"),                  "  .      .      x     x     x      x        x      x "),
    (Vector("b"),                  "  .      .      .     .     .      .        .      . "),
    (EqualityDeletes(HERE),        "  .      .      x     x     x      x        x      . "),
    (EqualityDeletes(ELSEWHERE),   "  .      .      .     .     .      .        .      . "),
    (GlobalEqualityDeletes,        "  .      .      x     x     x      x        x      . "),
];

#[tokio::test]
async fn each_operation_beside_each_other_is_a_conflict_or_leaves_what_both_did() {
    let cases = CASES.into_iter().chain([(MergeOnReadUpdate, ". . x x x x x x")]);
    for (theirs, expected) in cases {
        for (name, expected) in OURS.into_iter().zip(expected.split_whitespace()) {
            for isolation in [Isolation::Snapshot, Isolation::Serializable] {
                let context = format!("{theirs:?}, then {name}, {isolation:?}");
                let (catalog, t) = table(theirs.version()).await;
                let t = add(&catalog, &t, file("a", HERE)).await;
                let base = add(&catalog, &t, file("b", ELSEWHERE)).await;
                let other = theirs.commit(&catalog, &base).await;
                let outcome = ours(name, &base, isolation, &*catalog).await;

                let conflicts = match expected {
                    "." => false,
                    "s" => isolation == Isolation::Serializable,
                    "x" => true,
                    other => panic!("what is {other}?"),
                };
                let now = names(&catalog.load_table(base.ident()).await.unwrap(), "main").await;
                match outcome {
                    Ok(_) if conflicts => panic!("{context}: went through"),
                    Ok(_) => assert_eq!(now, after(&other, name).await, "{context}"),
                    Err(error) => {
                        assert!(conflicts && error.kind() == ErrorKind::Conflict, "{context}: {error}");
                        let reason = error.conflict_reason().unwrap();
                        let expected = reasons(theirs, name);
                        assert!(expected.contains(&reason), "{context}: {reason:?} is not in {expected:?}");
                        assert!(error.context().any(|(key, _)| key == "file"), "{context}: {error}");
                        assert!(error.message().contains("read the table again"), "{context}: {error}");
                        assert_eq!(now, names(&other, "main").await, "{context}");
                    }
                }
            }
        }
    }
}

/// What a conflict of an operation of ours with theirs is told by: one reason, where theirs does one thing.
fn reasons(theirs: Theirs, name: &str) -> Vec<ConflictReason> {
    use ConflictReason as R;
    match theirs {
        Append(_) | Update("b", _) => vec![R::ConcurrentAppend],
        // It removes a file and adds rows, and these have read where it does.
        Update(..) if matches!(name, "read" | "filter" | "dynamic") => {
            vec![R::FileRemoved, R::ConcurrentDelete, R::ConcurrentAppend]
        }
        // These name no file.
        Remove(_) | Compact(_) if matches!(name, "filter" | "dynamic") => {
            vec![R::ConcurrentDelete]
        }
        Remove(_) | Compact(_) | Update(..) => vec![R::FileRemoved],
        MergeOnReadUpdate => vec![R::ConcurrentAppend, R::ConcurrentDelete],
        _ => vec![R::ConcurrentDelete],
    }
}

/// The files that an operation of ours leaves of a table, and its own.
async fn after(table: &Table, name: &str) -> Vec<String> {
    let before = live(table, "main").await;
    let here = partition(HERE);
    let replaced = |file: &&LiveFile| match name {
        "append" => false,
        // What others added there meanwhile goes too.
        "filter" | "dynamic" => file.is_data() && (file.spec_id, file.file.partition()) == (here.0, &here.1),
        _ => file_name(file.path()) == "a",
    };
    let gone: HashSet<String> = before.iter().filter(replaced).map(|file| file.path().to_string()).collect();
    let of_gone = |file: &LiveFile| {
        is_vector(&file.file) && file.file.referenced_data_file().is_some_and(|f| gone.contains(&f))
    };
    let stay = before.iter().filter(|file| !gone.contains(file.path()) && !of_gone(file));
    let mut names: Vec<String> = stay.map(|file| file_name(file.path()).to_string()).collect();
    names.extend((name != "remove").then(|| "new".to_string()));
    names.sort();
    names
}

#[tokio::test]
async fn deletes_conflict_with_a_filter_only_where_their_partition_may_match_it() {
    let (k, id) = (Literal::int, Literal::long);
    let eight = || vec![k(HERE), id(8)];
    // Spec and partition of the deletes, and whether they may delete rows of k = 1 and id = 8.
    let cases = [
        (0, vec![k(HERE)], true),
        (0, vec![k(ELSEWHERE)], false),
        (1, eight(), true),
        (1, vec![k(HERE), id(9)], false),
        (1, vec![k(ELSEWHERE), id(8)], false),
        (2, vec![], true),
    ];
    let equals = |column, value| Filter::Test(column, Test::Eq(value));
    let filter = Filter::And(vec![equals(2, Datum::int(HERE)), equals(1, Datum::long(8))]);
    let of = "memory://w/db/t/data/x";
    for (spec, values, conflicts) in cases {
        for kind in ["positions", "vector", "equality"] {
            let context = format!("{kind}, spec {spec}, {values:?}");
            let version = if kind == "vector" { FormatVersion::V3 } else { FormatVersion::V2 };
            let (catalog, t) = table(version).await;
            let base = add(&catalog, &t, file_in("a", 1, eight())).await;
            let partition = (spec, Struct::from_iter(values.iter().cloned().map(Some)));
            let deletes = match kind {
                "positions" => vec![position_deletes(&base, "d", &partition, &[(of, 0)]).await],
                "vector" => deletion_vectors(&base, "d", &partition, &[(of, &[0])]).await,
                _ => vec![equality_deletes("d", spec, values.clone())],
            };
            commit_deletes(&*catalog, &base, deletes).await;

            let add = vec![file_in("new", 1, eight())];
            let overwrite = Overwrite { delete: DeleteBy::Filter(filter.clone()), add, reads: None };
            let outcome = Transaction::new(&base).overwrite(overwrite).commit(&*catalog).await;
            match outcome {
                Ok(_) if conflicts => panic!("{context}: went through"),
                Ok(done) => {
                    let now = names(&done.table, "main").await;
                    assert!(matches!(&now[..], [d, new] if d.starts_with('d') && new == "new"), "{now:?}");
                }
                Err(e) => assert!(conflicts && e.kind() == ErrorKind::Conflict, "{context}: {e}"),
            }
        }
    }
}

#[tokio::test]
async fn position_deletes_of_other_files_leave_a_rewrite_alone() {
    // The files that the deletes name, and whether they may delete rows of `m`, which is in their partition.
    let cases: [(&[&str], bool); 5] =
        [(&["m"], true), (&["n"], false), (&["a", "l"], false), (&["n", "z"], false), (&["a", "z"], true)];
    for (of, conflicts) in cases {
        let (catalog, t) = table(FormatVersion::V2).await;
        let base = add(&catalog, &t, file("m", HERE)).await;
        let paths: Vec<String> = of.iter().map(|name| format!("memory://w/db/t/data/{name}")).collect();
        let rows: Vec<(&str, i64)> = paths.iter().map(|path| (path.as_str(), 0)).collect();
        let deletes = position_deletes(&base, "positions", &partition(HERE), &rows).await;
        assert_eq!(deletes.file.referenced_data_file(), None, "only the bounds tell");
        commit_deletes(&*catalog, &base, vec![deletes]).await;
        let delete = vec![find(&base, "m").await.reference()];
        let rewrite = Rewrite { delete, add: vec![file("new", HERE)], sequence_number: None };
        match Transaction::new(&base).rewrite_files(rewrite).commit(&*catalog).await {
            Ok(done) => {
                assert!(!conflicts, "{of:?}");
                assert_eq!(names(&done.table, "main").await, ["new", "positions.parquet"]);
            }
            Err(e) => assert!(conflicts && e.kind() == ErrorKind::Conflict, "{of:?}: {e}"),
        }
    }
}

#[tokio::test]
async fn deletes_that_are_rewritten_conflict_as_vectors_alone() {
    for vectors in [false, true] {
        let version = if vectors { FormatVersion::V3 } else { FormatVersion::V2 };
        let (catalog, t) = table(version).await;
        let t = add(&catalog, &t, file("a", HERE)).await;
        let a = find(&t, "a").await;
        let base = match vectors {
            true => t.clone(),
            false => {
                let old = position_deletes(&t, "old", &partition(HERE), &[(a.path(), 0)]).await;
                commit_deletes(&*catalog, &t, vec![old]).await
            }
        };
        let new = match vectors {
            true => deletion_vectors(&base, "new", &partition(HERE), &[(a.path(), &[0])]).await,
            false => vec![position_deletes(&base, "new", &partition(HERE), &[(a.path(), 0)]).await],
        };
        let gone =
            live(&base, "main").await.iter().filter(|f| !f.is_data()).map(|f| f.content_file()).collect();
        let delta = Delta { deletes: new, gone, operation: Some(Operation::Replace), ..Delta::default() };
        commit_delta(&*catalog, &base, delta).await;
        let rewrite =
            Rewrite { delete: vec![a.reference()], add: vec![file("new", HERE)], sequence_number: None };
        let outcome = Transaction::new(&base).rewrite_files(rewrite).commit(&*catalog).await;
        assert_eq!(outcome.is_err(), vectors, "{:?}", outcome.err());
    }
}

#[tokio::test]
async fn deletes_that_a_rewrite_relies_on_do_not_become_positions() {
    for (k, conflicts) in [(HERE, true), (ELSEWHERE, false)] {
        let (catalog, t) = table(FormatVersion::V2).await;
        let t = add(&catalog, &t, file("a", HERE)).await;
        let base = add(&catalog, &t, file("b", ELSEWHERE)).await;
        let by_value = equality_deletes("by_value", 0, [Literal::int(k)]);
        let t = commit_deletes(&*catalog, &base, vec![by_value.clone()]).await;
        let of = find(&t, if k == HERE { "a" } else { "b" }).await;
        let positions = position_deletes(&t, "positions", &partition(k), &[(of.path(), 0)]).await;
        let (deletes, gone) = (vec![positions], vec![by_value]);
        let delta = Delta { deletes, gone, operation: Some(Operation::Replace), ..Delta::default() };
        commit_delta(&*catalog, &t, delta).await;
        let rewrite = Rewrite {
            delete: vec![find(&base, "a").await.reference()],
            add: vec![file("new", HERE)],
            sequence_number: Some(base.metadata().last_sequence_number()),
        };
        match Transaction::new(&base).rewrite_files(rewrite).commit(&*catalog).await {
            Ok(done) => {
                assert!(!conflicts);
                assert_eq!(names(&done.table, "main").await, ["b", "new", "positions.parquet"]);
            }
            Err(e) => assert!(conflicts && e.kind() == ErrorKind::Conflict, "{e}"),
        }
    }
}
