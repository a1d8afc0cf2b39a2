use std::sync::Arc;

use iceberg::spec::{
    DataFileBuilder, Datum, FieldSummary, FormatVersion, Literal, ManifestContentType, ManifestFile,
    PartitionSpec, Schema, SortOrder, Struct, TableMetadataBuilder,
};
use roaring::RoaringTreemap;

use super::*;
use crate::ErrorKind;
use crate::evolve::{bucket, identity, partition_spec, types};

/// A table with an unpartitioned spec 0 and spec 1, `bucket(id, 4)`.
fn metadata() -> TableMetadata {
    let schema = Schema::builder()
        .with_fields([iceberg::spec::NestedField::optional(1, "id", types::long()).into()])
        .build()
        .unwrap();
    let spec = partition_spec(&schema, [bucket("id", 4)]).unwrap();
    let none = PartitionSpec::unpartition_spec().into_unbound();
    let order = SortOrder::unsorted_order();
    let location = "memory://w/t".to_string();
    TableMetadataBuilder::new(schema, none, order, location, FormatVersion::V3, HashMap::new())
        .unwrap()
        .add_partition_spec(spec)
        .unwrap()
        .build()
        .unwrap()
        .metadata
}

struct Entry {
    content: DataContentType,
    path: &'static str,
    spec: i32,
    partition: Option<Literal>,
    number: i64,
    of: Option<&'static str>,
    bounds: Option<(&'static str, &'static str)>,
}

const NONE: Entry = Entry {
    content: DataContentType::Data,
    path: "",
    spec: 0,
    partition: None,
    number: 1,
    of: None,
    bounds: None,
};

fn live(entry: Entry, puffin: bool) -> Arc<LiveFile> {
    let mut builder = DataFileBuilder::default();
    let values = match entry.spec {
        0 => Vec::new(),
        _ => vec![entry.partition],
    };
    builder
        .content(entry.content)
        .file_path(entry.path.to_string())
        .file_format(if puffin { DataFileFormat::Puffin } else { DataFileFormat::Parquet })
        .partition(Struct::from_iter(values))
        .record_count(1)
        .file_size_in_bytes(1)
        .partition_spec_id(entry.spec)
        .referenced_data_file(entry.of.map(str::to_string));
    if entry.content == DataContentType::EqualityDeletes {
        builder.equality_ids(Some(vec![1]));
    }
    if let Some((lower, upper)) = entry.bounds {
        builder.lower_bounds(HashMap::from([(DELETE_FILE_PATH_ID, Datum::string(lower))]));
        builder.upper_bounds(HashMap::from([(DELETE_FILE_PATH_ID, Datum::string(upper))]));
    }
    let file = builder.build().unwrap();
    Arc::new(LiveFile {
        spec_id: entry.spec,
        file,
        snapshot_id: 1,
        sequence_number: entry.number,
        file_sequence_number: entry.number,
        exact: false,
    })
}

fn data(path: &'static str, spec: i32, partition: Option<Literal>, number: i64) -> Arc<LiveFile> {
    live(Entry { path, spec, partition, number, ..NONE }, false)
}

fn positions(path: &'static str, spec: i32, partition: Option<Literal>, number: i64) -> Arc<LiveFile> {
    live(Entry { content: DataContentType::PositionDeletes, path, spec, partition, number, ..NONE }, false)
}

fn equality(path: &'static str, spec: i32, partition: Option<Literal>, number: i64) -> Arc<LiveFile> {
    live(Entry { content: DataContentType::EqualityDeletes, path, spec, partition, number, ..NONE }, false)
}

fn vector(of: Option<&'static str>, number: i64) -> Arc<LiveFile> {
    let content = DataContentType::PositionDeletes;
    live(Entry { content, path: "dv.puffin", of, number, ..NONE }, true)
}

fn index(deletes: Vec<Arc<LiveFile>>) -> DeleteIndex<Arc<LiveFile>> {
    DeleteIndex::new(deletes, &metadata()).unwrap()
}

/// The names of what applies: vector, positions, equality.
fn found(index: &DeleteIndex<Arc<LiveFile>>, data: &LiveFile) -> (bool, Vec<String>, Vec<String>) {
    let found = index.of(data);
    let names = |files: &[&Arc<LiveFile>]| files.iter().map(|f| f.path().to_string()).collect();
    (found.vector.is_some(), names(&found.positions), names(&found.equality))
}

#[test]
fn positions_apply_to_files_no_newer_and_equality_to_older_ones() {
    let index = index(vec![positions("p", 0, None, 5), equality("e", 0, None, 5)]);
    let all = |p: bool, e: bool| {
        let some = |yes: bool, name: &str| if yes { vec![name.to_string()] } else { Vec::new() };
        (false, some(p, "p"), some(e, "e"))
    };
    for (number, expected) in [(4, all(true, true)), (5, all(true, false)), (6, all(false, false))] {
        assert_eq!(found(&index, &data("d", 0, None, number)), expected, "{number}");
    }
}

#[test]
fn deletes_stay_in_their_partition_and_equality_deletes_without_one_are_global() {
    let (one, two) = (Some(Literal::int(1)), Some(Literal::int(2)));
    let deletes = vec![
        positions("p1", 1, one.clone(), 5),
        positions("p0", 0, None, 5),
        equality("e1", 1, one.clone(), 5),
        equality("e0", 0, None, 5),
        equality("enull", 1, None, 5),
    ];
    let index = index(deletes);
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(found(&index, &data("d", 1, one, 1)), (false, names(&["p1"]), names(&["e0", "e1"])));
    assert_eq!(found(&index, &data("d", 1, two, 1)), (false, names(&[]), names(&["e0"])));
    assert_eq!(found(&index, &data("d", 1, None, 1)), (false, names(&[]), names(&["e0", "enull"])));
    assert_eq!(found(&index, &data("d", 0, None, 1)), (false, names(&["p0"]), names(&["e0"])));
}

#[test]
fn keys_are_looked_for_only_where_bounds_and_counts_let_them_be() {
    // Least and greatest value, and NULLs of ten.
    type Of = (Option<(i64, i64)>, Option<u64>);
    let file = |content, (bounds, nulls): Of| {
        let mut builder = DataFileBuilder::default();
        builder
            .content(content)
            .file_path("f".to_string())
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .partition_spec_id(0)
            .record_count(10)
            .file_size_in_bytes(1)
            .value_counts(HashMap::from([(1, 10)]))
            .null_value_counts(nulls.map(|nulls| (1, nulls)).into_iter().collect())
            .lower_bounds(bounds.map(|(lower, _)| (1, Datum::long(lower))).into_iter().collect())
            .upper_bounds(bounds.map(|(_, upper)| (1, Datum::long(upper))).into_iter().collect());
        if content == DataContentType::EqualityDeletes {
            builder.equality_ids(Some(vec![1]));
        }
        builder.build().unwrap()
    };
    for (delete, data, expected) in [
        ((Some((1, 5)), Some(0)), (Some((5, 9)), Some(0)), true),
        ((Some((1, 5)), Some(0)), (Some((6, 9)), Some(0)), false),
        ((Some((6, 9)), Some(0)), (Some((1, 5)), Some(3)), false),
        ((Some((6, 9)), Some(1)), (Some((1, 5)), Some(3)), true),
        ((Some((6, 9)), None), (Some((1, 5)), Some(0)), false),
        ((Some((6, 9)), None), (Some((1, 5)), None), true),
        ((None, Some(10)), (Some((1, 5)), Some(0)), false),
        ((None, Some(10)), (Some((1, 5)), Some(1)), true),
        ((Some((1, 5)), Some(0)), (None, Some(10)), false),
        ((None, None), (Some((1, 5)), Some(0)), true),
        // Bounds that contradict themselves, and more NULLs than rows, say nothing.
        ((Some((5, 1)), Some(0)), (Some((6, 9)), Some(0)), true),
        ((Some((1, 5)), Some(0)), (Some((9, 6)), Some(0)), true),
        ((None, Some(11)), (Some((1, 5)), Some(0)), true),
    ] {
        let (delete, data) =
            (file(DataContentType::EqualityDeletes, delete), file(DataContentType::Data, data));
        assert_eq!(keys::might_share_key(&delete, &data), expected, "{delete:?} in {data:?}");
    }
}

#[test]
fn bounds_of_paths_are_believed_no_further_than_they_hold() {
    let of = |bounds| {
        let content = DataContentType::PositionDeletes;
        live(Entry { content, path: "p", number: 5, bounds: Some(bounds), ..NONE }, false)
    };
    for (bounds, applies) in [
        (("memory://w/t/b", "memory://w/t/b"), true),
        (("memory://w/t/a", "memory://w/t/c"), true),
        (("memory://w/t/c", "memory://w/t/d"), false),
        (("memory://w/t/a", "memory://w/t/a"), false),
        // Upside down.
        (("memory://w/t/d", "memory://w/t/c"), true),
        // Cut short, and the upper one not raised.
        (("memory://w", "memory://w"), true),
        (("memory://v", "memory://w"), true),
    ] {
        let index = index(vec![of(bounds)]);
        let found = index.of(&data("memory://w/t/b", 0, None, 1)).positions.len();
        assert_eq!(found, usize::from(applies), "{bounds:?}");
    }
}

#[test]
fn a_manifest_is_passed_over_only_where_its_summaries_say_that_nothing_applies() {
    let manifest = |spec, oldest, least: i32, greatest: i32, contains_null| ManifestFile {
        manifest_path: String::new(),
        manifest_length: 1,
        partition_spec_id: spec,
        content: ManifestContentType::Data,
        sequence_number: 9,
        min_sequence_number: oldest,
        added_snapshot_id: 1,
        added_files_count: Some(1),
        existing_files_count: Some(0),
        deleted_files_count: Some(0),
        added_rows_count: Some(1),
        existing_rows_count: Some(0),
        deleted_rows_count: Some(0),
        partitions: (spec == 1).then(|| {
            vec![FieldSummary {
                contains_null,
                contains_nan: None,
                lower_bound: Some(Datum::int(least).to_bytes().unwrap()),
                upper_bound: Some(Datum::int(greatest).to_bytes().unwrap()),
            }]
        }),
        key_metadata: None,
        first_row_id: None,
    };
    let one = Some(Literal::int(1));
    let (ones, zeros) = (positions("p1", 1, one.clone(), 5), positions("p0", 0, None, 5));
    let (keys, everywhere) = (equality("e1", 1, one, 5), equality("e0", 0, None, 5));
    let nulls = equality("enull", 1, None, 5);
    for (delete, spec, oldest, range, contains_null, expected) in [
        (&ones, 1, 5, (0, 1), false, true),
        (&ones, 1, 6, (0, 1), false, false),
        (&ones, 1, 5, (2, 3), true, false),
        (&ones, 0, 5, (0, 1), false, false),
        (&zeros, 0, 5, (0, 0), false, true),
        (&keys, 1, 4, (1, 1), false, true),
        (&keys, 1, 5, (1, 1), false, false),
        (&nulls, 1, 1, (1, 1), false, false),
        (&nulls, 1, 1, (1, 1), true, true),
        (&everywhere, 1, 4, (2, 3), false, true),
        (&everywhere, 1, 5, (2, 3), false, false),
    ] {
        let manifest = manifest(spec, oldest, range.0, range.1, contains_null);
        let found = might_apply_to_manifest(delete, &manifest, &metadata());
        assert_eq!(found, expected, "{} to {manifest:?}", delete.path());
    }
}

#[test]
fn a_partition_value_is_the_same_before_and_after_its_column_was_widened() {
    let index = index(vec![positions("p", 1, Some(Literal::long(7)), 5)]);
    assert_eq!(found(&index, &data("d", 1, Some(Literal::int(7)), 1)).1, ["p"]);
}

#[test]
fn a_position_delete_file_of_one_data_file_goes_by_its_path() {
    let content = DataContentType::PositionDeletes;
    let named = live(Entry { content, path: "named", of: Some("a"), number: 5, ..NONE }, false);
    let bounded =
        live(Entry { content, path: "bounded", bounds: Some(("b", "b")), number: 5, ..NONE }, false);
    let several =
        live(Entry { content, path: "several", bounds: Some(("b", "d")), number: 5, ..NONE }, false);
    let index = index(vec![named, bounded, several]);
    for (path, expected) in
        [("a", vec!["named"]), ("b", vec!["bounded", "several"]), ("c", vec!["several"]), ("e", vec![])]
    {
        assert_eq!(found(&index, &data(path, 0, None, 1)).1, expected, "{path}");
    }
}

#[test]
fn a_deletion_vector_stands_for_all_position_deletes_of_its_file() {
    let index = index(vec![positions("p", 0, None, 5), vector(Some("d"), 5), equality("e", 0, None, 5)]);
    assert_eq!(found(&index, &data("d", 0, None, 1)), (true, vec![], vec!["e".to_string()]));
    assert_eq!(
        found(&index, &data("other", 0, None, 1)),
        (false, vec!["p".to_string()], vec!["e".to_string()])
    );
    // One of an older file at the same path is no longer of this one.
    assert_eq!(found(&index, &data("d", 0, None, 6)), (false, vec![], vec![]));
}

#[test]
fn deletes_that_break_the_rules_are_named() {
    for deletes in
        [vec![vector(None, 1)], vec![vector(Some("d"), 1), vector(Some("d"), 2)], vec![data("d", 0, None, 1)]]
    {
        let error = DeleteIndex::new(deletes, &metadata()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataInvalid);
        assert!(error.to_string().contains("file: "), "{error}");
    }
}

fn blob(positions: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut body = vec![0xd1, 0xd3, 0x39, 0x64];
    RoaringTreemap::from_iter(positions).serialize_into(&mut body).unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    let mut blob = (body.len() as u32).to_be_bytes().to_vec();
    blob.extend_from_slice(&body);
    blob.extend_from_slice(&crc.sum().to_be_bytes());
    blob
}

#[test]
fn a_deletion_vector_gives_its_positions_and_nothing_broken_does() {
    let positions = [0, 3, 65_536, 5_000_000_000, 5_000_000_001];
    let whole = blob(positions);
    assert_eq!(parse_deletion_vector(&whole).unwrap().iter().collect::<Vec<_>>(), positions);
    assert_eq!(parse_deletion_vector(&blob([])).unwrap().len(), 0);
    for end in 0..whole.len() {
        assert_eq!(parse_deletion_vector(&whole[..end]).unwrap_err().kind(), ErrorKind::DataInvalid);
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        assert!(parse_deletion_vector(&flipped).is_err(), "byte {at}");
    }
    assert!(parse_deletion_vector(&blob([u64::MAX])).is_err());
}

#[test]
fn deletes_meet_the_partition_of_a_column_that_left_the_table() {
    let optional = iceberg::spec::NestedField::optional;
    let before = Schema::builder()
        .with_fields([optional(1, "id", types::long()).into(), optional(2, "a", types::int()).into()])
        .build()
        .unwrap();
    let spec = partition_spec(&before, [identity("a"), bucket("a", 4)]).unwrap();
    let order = SortOrder::unsorted_order();
    let made = TableMetadataBuilder::new(
        before,
        spec,
        order,
        "memory://w/t".to_string(),
        FormatVersion::V2,
        HashMap::new(),
    );
    let after = Schema::builder().with_fields([optional(1, "id", types::long()).into()]).build().unwrap();
    let none = PartitionSpec::unpartition_spec().into_unbound();
    let with = |dropped: bool| {
        let made = made.as_ref().unwrap().clone().add_default_partition_spec(none.clone()).unwrap();
        let made = if dropped { made.add_current_schema(after.clone()).unwrap() } else { made };
        made.build().unwrap().metadata
    };
    let file = |content, path: &str, a: Option<i32>, bucket: i32, number| {
        let mut builder = DataFileBuilder::default();
        builder
            .content(content)
            .file_path(path.to_string())
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::from_iter([a.map(Literal::int), Some(Literal::int(bucket))]))
            .record_count(1)
            .file_size_in_bytes(1)
            .partition_spec_id(0)
            .equality_ids((content == DataContentType::EqualityDeletes).then(|| vec![1]));
        let file = builder.build().unwrap();
        Arc::new(LiveFile {
            spec_id: 0,
            file,
            snapshot_id: 1,
            sequence_number: number,
            file_sequence_number: number,
            exact: false,
        })
    };
    for (of_delete, of_data, dropped, applies) in [
        (Some(5), Some(5), false, true),
        (None, Some(5), false, false),
        (Some(5), None, false, false),
        (Some(5), Some(5), true, true),
        (None, Some(5), true, true),
        (Some(5), None, true, true),
        (None, None, true, true),
        // Both were written before, and are known to be apart.
        (Some(5), Some(6), true, false),
    ] {
        let data = file(DataContentType::Data, "d", of_data, 1, 1);
        let elsewhere = file(DataContentType::Data, "d", of_data, 2, 1);
        let deletes = [
            file(DataContentType::PositionDeletes, "p", of_delete, 1, 2),
            file(DataContentType::EqualityDeletes, "e", of_delete, 1, 2),
        ];
        let index = DeleteIndex::new(deletes, &with(dropped)).unwrap();
        let expected = if applies { (1, 1) } else { (0, 0) };
        let found = index.of(&data);
        let case = format!("{of_delete:?} to {of_data:?}, dropped: {dropped}");
        assert_eq!((found.positions.len(), found.equality.len()), expected, "{case}");
        // What Java can still tell keeps partitions apart.
        assert!(index.of(&elsewhere).is_empty(), "{case}");
    }
}
