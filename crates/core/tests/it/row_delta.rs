//! Row deltas: what they write, count and refuse, version by version.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, FormatVersion, Literal, ManifestContentType,
    Operation, Struct,
};
use icefield_core::ConflictReason;
use icefield_core::ErrorKind::{self, InvalidInput, Unsupported};
use icefield_core::catalog::MemoryCatalog;
use icefield_core::commit::{Committed, RowDelta, Transaction};
use icefield_core::deletes::{
    DeletionVectorWriter, PositionDeleteWriter, RoaringTreemap, load_deletion_vector, only_path,
};
use icefield_core::format::{ContentFile, FileRef, load_manifest, load_manifest_list};
use icefield_core::{Result, Table};
use icefield_testkit::deletes::deletion_vectors;

use crate::conflicts::{ELSEWHERE, HERE, add, file, find, partition, table};
use crate::support::{equality_deletes, live, names};

/// Deletes of rows of one data file, as the table's version has them.
pub(crate) async fn deletes(
    table: &Table,
    name: &str,
    data: &FileRef,
    rows: RoaringTreemap,
) -> Vec<ContentFile> {
    let location = format!("{}/data/{name}", table.metadata().location());
    if table.metadata().format_version() >= FormatVersion::V3 {
        let mut writer = DeletionVectorWriter::new(location);
        writer.add(data, rows).unwrap();
        return writer.finish(table.storage()).await.unwrap();
    }
    let mut writer = PositionDeleteWriter::new(location).unwrap();
    writer.add(data, &rows).unwrap();
    writer.finish(table.storage()).await.unwrap().into_iter().collect()
}

async fn delete_rows(table: &Table, name: &str, of: &str, rows: &[u64]) -> Vec<ContentFile> {
    let data = find(table, of).await.reference();
    deletes(table, name, &data, rows.iter().copied().collect()).await
}

/// A table with file `a` in one partition and file `b` in another.
async fn two_files(version: FormatVersion) -> (Arc<MemoryCatalog>, Table) {
    let (catalog, t) = table(version).await;
    let t = add(&catalog, &t, file("a", HERE)).await;
    let t = add(&catalog, &t, file("b", ELSEWHERE)).await;
    (catalog, t)
}

async fn commit(catalog: &MemoryCatalog, table: &Table, delta: RowDelta) -> Result<Committed> {
    Transaction::new(table).row_delta(delta).commit(catalog).await
}

async fn reference(table: &Table, name: &str) -> FileRef {
    find(table, name).await.reference()
}

/// The summary's counts that are not zero and none of data files.
fn counts(table: &Table) -> HashMap<String, String> {
    let all = &table.metadata().current_snapshot().unwrap().summary().additional_properties;
    let of_deletes = all.iter().filter(|(key, value)| {
        ["delete", "dvs"].iter().any(|part| key.contains(part)) && !value.starts_with('0')
    });
    of_deletes.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[tokio::test]
async fn summaries_count_delete_files_as_java_does() {
    let (catalog, t) = two_files(FormatVersion::V2).await;
    let mut add_deletes = delete_rows(&t, "p1", "a", &[0, 4]).await;
    add_deletes.push(equality_deletes("e", 0, [Literal::int(ELSEWHERE)]));
    let delta = RowDelta { add_deletes, ..RowDelta::default() };
    let t = commit(&catalog, &t, delta).await.unwrap().table;
    let expected = map(&[
        ("added-delete-files", "2"),
        ("added-position-delete-files", "1"),
        ("added-position-deletes", "2"),
        ("added-equality-delete-files", "1"),
        ("added-equality-deletes", "1"),
        ("total-delete-files", "2"),
        ("total-position-deletes", "2"),
        ("total-equality-deletes", "1"),
    ]);
    assert_eq!(counts(&t), expected);
    let delta = RowDelta {
        add_deletes: delete_rows(&t, "p2", "a", &[0, 4, 9]).await,
        remove_deletes: vec![reference(&t, "p1").await],
        ..RowDelta::default()
    };
    let t = commit(&catalog, &t, delta).await.unwrap().table;
    let expected = map(&[
        ("added-delete-files", "1"),
        ("added-position-delete-files", "1"),
        ("added-position-deletes", "3"),
        ("removed-delete-files", "1"),
        ("removed-position-delete-files", "1"),
        ("removed-position-deletes", "2"),
        ("total-delete-files", "2"),
        ("total-position-deletes", "3"),
        ("total-equality-deletes", "1"),
    ]);
    assert_eq!(counts(&t), expected);
    assert_eq!(names(&t, "main").await, ["a", "b", "e", "p2"]);

    // Vectors count as such, with the bytes of their own and not of the file that they share.
    let (catalog, t) = two_files(FormatVersion::V3).await;
    let vectors = async |table: &Table, name: &str, rows: [u64; 2]| {
        let mut writer = DeletionVectorWriter::new(format!("{}/data/{name}", table.metadata().location()));
        for (of, row) in ["a", "b"].into_iter().zip(rows) {
            writer.add(&reference(table, of).await, RoaringTreemap::from_iter([row])).unwrap();
        }
        writer.finish(table.storage()).await.unwrap()
    };
    let add_deletes = vectors(&t, "v1", [1, 2]).await;
    let own: i64 = add_deletes.iter().filter_map(|vector| vector.file.content_size_in_bytes()).sum();
    let old = add_deletes.iter().map(|vector| FileRef {
        path: vector.file.file_path().to_string(),
        content_offset: vector.file.content_offset(),
        spec_id: vector.spec_id,
        partition: vector.file.partition().clone(),
    });
    let old: Vec<FileRef> = old.collect();
    let delta = RowDelta { add_deletes, ..RowDelta::default() };
    let t = commit(&catalog, &t, delta).await.unwrap().table;
    let expected = map(&[
        ("added-delete-files", "2"),
        ("added-dvs", "2"),
        ("added-position-deletes", "2"),
        ("total-delete-files", "2"),
        ("total-position-deletes", "2"),
    ]);
    assert_eq!(counts(&t), expected);
    let summary = t.metadata().current_snapshot().unwrap().summary().additional_properties.clone();
    assert_eq!(summary["added-files-size"], own.to_string());
    assert_eq!(summary["changed-partition-count"], "2");
    let add_deletes = vectors(&t, "v2", [3, 4]).await;
    let delta = RowDelta { add_deletes, remove_deletes: old, ..RowDelta::default() };
    let t = commit(&catalog, &t, delta).await.unwrap().table;
    let summary = &t.metadata().current_snapshot().unwrap().summary().additional_properties;
    assert_eq!((&*summary["removed-dvs"], &*summary["total-delete-files"]), ("2", "2"));
    assert_eq!(summary["removed-files-size"], own.to_string());
}

#[tokio::test]
async fn the_operation_is_the_one_of_javas_row_delta() {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        let (catalog, t) = two_files(version).await;
        let deletes = delete_rows(&t, "d", "a", &[0]).await;
        let (rows, b) = (vec![file("new", HERE)], vec![reference(&t, "b").await]);
        let cases = [
            (true, false, false, Operation::Append),
            (false, true, false, Operation::Delete),
            (false, true, true, Operation::Delete),
            (true, true, false, Operation::Overwrite),
            (true, false, true, Operation::Overwrite),
            (false, false, true, Operation::Overwrite),
        ];
        for (adds, adds_deletes, removes, operation) in cases {
            let delta = RowDelta {
                add_data: if adds { rows.clone() } else { Vec::new() },
                add_deletes: if adds_deletes { deletes.clone() } else { Vec::new() },
                remove_data: if removes { b.clone() } else { Vec::new() },
                ..RowDelta::default()
            };
            let done = commit(&catalog, &t, delta).await.unwrap();
            let snapshot = done.table.metadata().current_snapshot().unwrap().clone();
            assert_eq!(snapshot.summary().operation, operation, "{adds} {adds_deletes} {removes}");
            let back = t.metadata().current_snapshot_id().unwrap();
            Transaction::new(&done.table).rollback_to(back).commit(&*catalog).await.unwrap();
        }
        let none = commit(&catalog, &t, RowDelta::default()).await.unwrap();
        assert_eq!(none.snapshot_id, None, "nothing to do is no snapshot");
    }
}

#[tokio::test]
async fn deletes_have_manifests_and_the_number_of_their_commit() {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        let (catalog, t) = two_files(version).await;
        let delta = RowDelta {
            add_data: vec![file("new", HERE)],
            add_deletes: delete_rows(&t, "d", "a", &[0]).await,
            ..RowDelta::default()
        };
        let done = Transaction::new(&t).exact_files().row_delta(delta).commit(&*catalog).await.unwrap();
        let snapshot = done.table.metadata().current_snapshot().unwrap();
        let manifests = load_manifest_list(done.table.storage(), snapshot).await.unwrap();
        let mut kinds = Vec::new();
        for manifest in manifests.iter().filter(|of| of.added_snapshot_id == snapshot.snapshot_id()) {
            let content = load_manifest(done.table.storage(), done.table.metadata(), manifest).await.unwrap();
            let is_data = manifest.content == ManifestContentType::Data;
            kinds.push(is_data);
            for file in content.live {
                assert_eq!(file.is_data(), is_data);
                assert_eq!(file.sequence_number, snapshot.sequence_number());
                assert_eq!(file.exact, is_data, "no one takes least values of deletes from entries");
                assert_eq!(file.file.first_row_id().is_some(), is_data && version == FormatVersion::V3);
            }
        }
        assert_eq!(kinds, [true, false]);
        // What was there keeps what it had.
        assert_eq!(find(&done.table, "a").await, find(&t, "a").await);
    }
}

#[tokio::test]
async fn a_data_file_has_one_vector() {
    let (catalog, t) = two_files(FormatVersion::V3).await;
    let first = RowDelta { add_deletes: delete_rows(&t, "v1", "a", &[0]).await, ..RowDelta::default() };
    let t = commit(&catalog, &t, first).await.unwrap().table;
    // A second one beside it is refused, in a transaction of two as well.
    let second = RowDelta { add_deletes: delete_rows(&t, "v2", "a", &[0, 3]).await, ..RowDelta::default() };
    let error = commit(&catalog, &t, second.clone()).await.unwrap_err();
    assert_eq!(error.kind(), InvalidInput, "{error}");
    assert!(error.context().any(|(key, value)| key == "data_file" && value.ends_with("/a")), "{error}");
    let of_b = |rows| deletes_of_b(&t, rows);
    let both = Transaction::new(&t)
        .row_delta(RowDelta { add_deletes: of_b(1).await, ..RowDelta::default() })
        .row_delta(RowDelta { add_deletes: of_b(2).await, ..RowDelta::default() });
    assert_eq!(both.commit(&*catalog).await.unwrap_err().kind(), InvalidInput);
    // In the place of the first it is fine, once.
    let replaced = RowDelta { remove_deletes: vec![reference(&t, "v1").await], ..second };
    let done = commit(&catalog, &t, replaced.clone()).await.unwrap().table;
    assert_eq!(names(&done, "main").await, ["a", "b", "v2"]);
    let vector = load_deletion_vector(done.storage(), &find(&done, "v2").await).await.unwrap();
    assert_eq!(vector.iter().collect::<Vec<_>>(), [0, 3]);
    let error = commit(&catalog, &t, replaced).await.unwrap_err();
    assert_eq!(error.conflict_reason(), Some(ConflictReason::ConcurrentDelete), "{error}");
    // It goes with its data file.
    let delta = RowDelta { remove_data: vec![reference(&done, "a").await], ..RowDelta::default() };
    let done = commit(&catalog, &done, delta).await.unwrap().table;
    assert_eq!(names(&done, "main").await, ["b"]);
    assert_eq!(counts(&done)["removed-dvs"], "1");
}

async fn deletes_of_b(table: &Table, row: u64) -> Vec<ContentFile> {
    delete_rows(table, &format!("b{row}"), "b", &[row]).await
}

#[tokio::test]
async fn deletes_are_not_removed_so_that_rows_come_back() {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        let (catalog, t) = two_files(version).await;
        let first =
            RowDelta { add_deletes: delete_rows(&t, "d1", "a", &[0, 3]).await, ..RowDelta::default() };
        let t = commit(&catalog, &t, first).await.unwrap().table;
        let without = RowDelta { remove_deletes: vec![reference(&t, "d1").await], ..RowDelta::default() };
        let of_another = RowDelta { add_deletes: deletes_of_b(&t, 3).await, ..without.clone() };
        let mut cases = vec![("nothing", &without, false), ("another file's", &of_another, false)];
        let fewer = RowDelta { add_deletes: delete_rows(&t, "d2", "a", &[3]).await, ..without.clone() };
        // Positions may come twice in position delete files: their counts don't tell.
        cases.push(("fewer", &fewer, version == FormatVersion::V2));
        let with_file = RowDelta { remove_data: vec![reference(&t, "a").await], ..without.clone() };
        cases.push(("the data file goes", &with_file, true));
        let same = RowDelta { add_deletes: delete_rows(&t, "d3", "a", &[0, 3]).await, ..without.clone() };
        cases.push(("the same", &same, true));
        for (what, delta, fine) in cases {
            match commit(&catalog, &t, delta.clone()).await {
                Ok(done) => {
                    assert!(fine, "{version}, {what}");
                    assert!(!names(&done.table, "main").await.contains(&"d1".to_string()));
                    let back = t.metadata().current_snapshot_id().unwrap();
                    Transaction::new(&done.table).rollback_to(back).commit(&*catalog).await.unwrap();
                }
                Err(error) => {
                    assert!(!fine && error.kind() == InvalidInput, "{version}, {what}: {error}");
                    assert!(
                        error.context().any(|of| of == ("data_file", "memory://w/db/t/data/a")),
                        "{error}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn deletes_that_another_commit_replaced_are_not_there_to_remove() {
    let (catalog, t) = two_files(FormatVersion::V2).await;
    let first = RowDelta { add_deletes: delete_rows(&t, "p1", "a", &[0]).await, ..RowDelta::default() };
    let t = commit(&catalog, &t, first).await.unwrap().table;
    let replaced = async |name: &str, rows: &[u64]| RowDelta {
        add_deletes: delete_rows(&t, name, "a", rows).await,
        remove_deletes: vec![reference(&t, "p1").await],
        ..RowDelta::default()
    };
    commit(&catalog, &t, replaced("p2", &[0, 1]).await).await.unwrap();
    let error = commit(&catalog, &t, replaced("p3", &[0, 2]).await).await.unwrap_err();
    assert_eq!(error.conflict_reason(), Some(ConflictReason::FileRemoved), "{error}");
    assert!(error.context().any(|of| of == ("file", "memory://w/db/t/data/p1")), "{error}");
}

#[tokio::test]
async fn each_version_has_its_own_delete_files() {
    let (_, v2) = two_files(FormatVersion::V2).await;
    let (_, v3) = two_files(FormatVersion::V3).await;
    let positions = delete_rows(&v2, "positions", "a", &[0]).await;
    let vectors = delete_rows(&v3, "vectors", "a", &[0]).await;
    let keys = vec![equality_deletes("keys", 0, [Literal::int(HERE)])];
    let cases = [
        (FormatVersion::V1, &positions, Some("upgrade it to version 2")),
        (FormatVersion::V1, &vectors, Some("upgrade it to version 2")),
        (FormatVersion::V1, &keys, Some("upgrade it to version 2")),
        (FormatVersion::V2, &positions, None),
        (FormatVersion::V2, &vectors, Some("upgrade it to version 3")),
        (FormatVersion::V2, &keys, None),
        (FormatVersion::V3, &positions, Some("deletion vector for each data file")),
        (FormatVersion::V3, &vectors, None),
        (FormatVersion::V3, &keys, None),
    ];
    for (version, add_deletes, refused) in cases {
        let (catalog, t) = two_files(version).await;
        let delta = RowDelta { add_deletes: add_deletes.clone(), ..RowDelta::default() };
        match (commit(&catalog, &t, delta).await, refused) {
            (Ok(_), None) => {}
            (Err(error), Some(remedy)) => {
                assert_eq!(error.kind(), Unsupported, "{error}");
                assert!(error.message().contains(remedy), "{error}");
            }
            (outcome, _) => panic!("{version}, {refused:?}: {outcome:?}"),
        }
    }
    // Without deletes a delta is version 1's too.
    let (catalog, t) = two_files(FormatVersion::V1).await;
    let delta = RowDelta {
        add_data: vec![file("new", HERE)],
        remove_data: vec![reference(&t, "a").await],
        ..RowDelta::default()
    };
    assert_eq!(names(&commit(&catalog, &t, delta).await.unwrap().table, "main").await, ["b", "new"]);
}

/// An entry of a delete file without a word on which data file it is of.
fn positions_of_any(bounds: Option<(&str, &str)>) -> ContentFile {
    let bound = |path: Option<&str>| {
        let path = path.map(|path| (2_147_483_546, iceberg::spec::Datum::string(path)));
        path.into_iter().collect::<HashMap<_, _>>()
    };
    let file: DataFile = DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path("memory://w/db/t/data/any".to_string())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(Literal::int(HERE))]))
        .partition_spec_id(0)
        .record_count(2)
        .file_size_in_bytes(100)
        .lower_bounds(bound(bounds.map(|bounds| bounds.0)))
        .upper_bounds(bound(bounds.map(|bounds| bounds.1)))
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

#[tokio::test]
async fn what_contradicts_itself_is_refused_before_it_is_written() {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        let (catalog, t) = two_files(version).await;
        let (a, b) = (reference(&t, "a").await, reference(&t, "b").await);
        let of_a = delete_rows(&t, "d", "a", &[0]).await;
        let elsewhere = FileRef { partition: b.partition.clone(), ..a.clone() };
        let astray = deletes(&t, "astray", &elsewhere, RoaringTreemap::from_iter([1])).await;
        let delta = |add_deletes: &[ContentFile]| RowDelta {
            add_deletes: add_deletes.to_vec(),
            ..RowDelta::default()
        };
        let mut unknown_spec = equality_deletes("e", 0, [Literal::int(HERE)]);
        unknown_spec.spec_id = 7;
        let mut cases = vec![
            ("twice", delta(&[of_a.clone(), of_a.clone()].concat())),
            ("of a file that goes", RowDelta { remove_data: vec![a.clone()], ..delta(&of_a) }),
            ("of another partition", RowDelta { references: vec![a.clone()], ..delta(&astray) }),
            ("data among deletes", delta(&[file("new", HERE)])),
            ("of no spec", delta(&[unknown_spec])),
        ];
        if version == FormatVersion::V3 {
            let more = delete_rows(&t, "more", "a", &[5]).await;
            cases.push(("two vectors of a file", delta(&[of_a.clone(), more].concat())));
        } else {
            cases.push(("of any file", delta(&[positions_of_any(None)])));
            let between = positions_of_any(Some(("memory://w/db/t/data/x", "memory://w/db/t/data/z")));
            cases.push((
                "of others than named",
                RowDelta { references: vec![a.clone()], ..delta(&[between]) },
            ));
        }
        for (what, delta) in cases {
            let error = commit(&catalog, &t, delta).await.unwrap_err();
            assert_eq!(error.kind(), InvalidInput, "{version}, {what}: {error}");
        }
        let error = Transaction::new(&t).append(of_a).commit(&*catalog).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(names(&t, "main").await, ["a", "b"]);
    }
    let (catalog, t) = two_files(FormatVersion::V2).await;
    let between = positions_of_any(Some(("memory://w/db/t/data/a", "memory://w/db/t/data/b")));
    let references = vec![reference(&t, "a").await];
    let delta = RowDelta { add_deletes: vec![between], references, ..RowDelta::default() };
    let t = commit(&catalog, &t, delta).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["a", "any", "b"]);
}

#[tokio::test]
async fn a_vector_does_not_hide_positions_that_came_before_an_upgrade() {
    let (catalog, base) = two_files(FormatVersion::V2).await;
    let upgrade = icefield_core::evolve::FormatUpgrade::to(FormatVersion::V3);
    // Ours began on version 2, and comes as a vector once the table is of version 3.
    let theirs = RowDelta { add_deletes: delete_rows(&base, "p", "a", &[0]).await, ..RowDelta::default() };
    let t = commit(&catalog, &base, theirs).await.unwrap().table;
    Transaction::new(&t).change(move |m| upgrade.apply(m)).commit(&*catalog).await.unwrap();
    let a = find(&base, "a").await;
    let of: (&str, &[u64]) = (a.path(), &[1]);
    let vector = deletion_vectors(&base, "v", &partition(HERE), &[of]).await;
    let delta = RowDelta { add_deletes: vector, ..RowDelta::default() };
    let error = commit(&catalog, &base, delta).await.unwrap_err();
    assert_eq!(error.conflict_reason(), Some(ConflictReason::ConcurrentDelete), "{error}");
}

#[tokio::test]
async fn a_delta_that_lost_a_race_comes_again_with_what_it_wrote() {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        let (catalog, base) = two_files(version).await;
        let delta = RowDelta {
            add_data: vec![file("new", HERE)],
            add_deletes: delete_rows(&base, "d", "a", &[0]).await,
            updates: true,
            ..RowDelta::default()
        };
        add(&catalog, &base, file("c", ELSEWHERE)).await;
        let done = commit(&catalog, &base, delta).await.unwrap().table;
        assert_eq!(names(&done, "main").await, ["a", "b", "c", "d", "new"]);
        let d = find(&done, "d").await;
        assert_eq!(d.sequence_number, done.metadata().last_sequence_number());
        assert_eq!(only_path(&d.file).as_deref(), Some("memory://w/db/t/data/a"));
        assert_eq!(live(&base, "main").await.len(), 2, "an earlier snapshot is what it was");
    }
}
