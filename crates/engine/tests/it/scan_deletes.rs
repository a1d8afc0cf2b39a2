//! Row-level deletes of every kind: a scan leaves out just the rows that the specification says are deleted.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};
use iceberg::spec::{
    FormatVersion, Literal, NestedField, PrimitiveType, Schema, Struct, StructType, Transform, Type,
    UnboundPartitionSpec,
};
use icefield_core::evolve::SchemaUpdate;
use icefield_core::format::ContentFile;
use icefield_core::{AsOf, ErrorKind};
use icefield_engine::{Session, Table, from_datafusion};
use icefield_testkit::deletes::{
    Partition, commit_deletes, deletion_vectors, equality_deletes, position_deletes, unpartitioned,
};
use icefield_testkit::reference_read;

use crate::scan_support::{append, change, create, rows, session, text_rows, write_file};

fn of(primitive: PrimitiveType) -> Type {
    Type::Primitive(primitive)
}

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn texts(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, c)| (name, c, true))).unwrap()
}

/// `id` (1) and `name` (2), optionally partitioned by `p` (3).
fn schema() -> Schema {
    Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "id", of(PrimitiveType::Long)).into(),
            NestedField::optional(2, "name", of(PrimitiveType::String)).into(),
            NestedField::optional(3, "p", of(PrimitiveType::Int)).into(),
        ])
        .build()
        .unwrap()
}

/// Rows `ids`, every tenth without a name.
fn people(ids: std::ops::Range<i64>, p: i32) -> RecordBatch {
    let names = ids.clone().map(|id| (id % 10 != 0).then(|| format!("n{}", id % 7)));
    let names = Arc::new(names.collect::<StringArray>());
    let count = (ids.end - ids.start) as usize;
    let p = Arc::new(Int32Array::from(vec![p; count]));
    batch(vec![("id", longs(ids)), ("name", names), ("p", p)])
}

async fn file(table: &Table, name: &str, rows: RecordBatch, partition: &Partition) -> ContentFile {
    write_file(table, name, &[rows], partition.1.clone()).await
}

/// A table of the files `a` (ids 0 to 199) and `b` (ids 200 to 399), in row groups of 64 rows.
async fn two_files(session: &Session, version: FormatVersion) -> (Table, String, String) {
    let table = create(session, "t", schema(), version, None).await;
    let none = unpartitioned();
    let a = file(&table, "a", people(0..200, 1), &none).await;
    let b = file(&table, "b", people(200..400, 1), &none).await;
    let (a_path, b_path) = (a.file.file_path().to_string(), b.file.file_path().to_string());
    (append(&table, vec![a, b]).await, a_path, b_path)
}

async fn delete(table: &Table, files: Vec<ContentFile>) -> Table {
    let core = commit_deletes(&**table.session().catalog(), table.core(), files).await;
    Table::new(table.session().clone(), core)
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

/// Checks that a scan gives what a plain reader does, whole, by column, filtered and limited, and gives the rows' ids.
async fn agrees(session: &Session, table: &Table) -> Vec<i64> {
    let plain = reference_read(table.core(), &AsOf::Current).await;
    let expected = sorted(text_rows(&plain));
    assert_eq!(sorted(rows(session, "SELECT * FROM ns.t").await), expected);
    assert_eq!(rows(session, "SELECT count(*) FROM ns.t").await, [expected.len().to_string()]);
    let plain = session.context().read_batches(plain).unwrap();
    session.context().deregister_table("plain").unwrap();
    session.context().register_table("plain", plain.into_view()).unwrap();
    for query in [
        "SELECT name FROM @ ORDER BY name",
        "SELECT min(id), max(id), count(name), count(*) FROM @",
        "SELECT id FROM @ WHERE name = 'n3' ORDER BY id",
        "SELECT count(*) FROM @ WHERE name IS NULL",
        "SELECT id, name FROM @ WHERE id BETWEEN 60 AND 330 ORDER BY id DESC LIMIT 7",
        "SELECT name, count(*) FROM @ WHERE id > 100 GROUP BY name ORDER BY name",
        "SELECT count(*) FROM @ AS a JOIN @ AS b ON a.id = b.id WHERE b.name = 'n1'",
    ] {
        let (ours, plain) = (query.replace('@', "ns.t"), query.replace('@', "plain"));
        assert_eq!(rows(session, &ours).await, rows(session, &plain).await, "{query}");
    }
    for limit in [1, 50, 199, 1000] {
        let limited = rows(session, &format!("SELECT id FROM ns.t LIMIT {limit}")).await;
        assert_eq!(limited.len(), expected.len().min(limit), "limit {limit}");
    }
    let ids = rows(session, "SELECT id FROM ns.t ORDER BY id").await;
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

#[tokio::test]
async fn rows_deleted_by_position_are_gone_and_a_row_deleted_twice_is_gone_once() {
    let session = session();
    let (table, a, b) = two_files(&session, FormatVersion::V2).await;
    let first = position_deletes(
        table.core(),
        "d1",
        &unpartitioned(),
        &[(&a, 0), (&a, 63), (&a, 64), (&a, 199), (&b, 7)],
    )
    .await;
    let again = position_deletes(table.core(), "d2", &unpartitioned(), &[(&a, 64), (&a, 100)]).await;
    let table = delete(&table, vec![first, again]).await;
    let left = agrees(&session, &table).await;
    assert_eq!(left.len(), 394);
    assert!([0, 63, 64, 100, 199, 207].iter().all(|id| !left.contains(id)));
}

#[tokio::test]
async fn a_whole_file_and_whole_row_groups_can_be_deleted() {
    let session = session();
    let (table, a, b) = two_files(&session, FormatVersion::V2).await;
    let all: Vec<(&str, i64)> = (0..200).map(|row| (a.as_str(), row)).collect();
    let group: Vec<(&str, i64)> = (64..128).map(|row| (b.as_str(), row)).collect();
    let all = position_deletes(table.core(), "d1", &unpartitioned(), &all).await;
    let group = position_deletes(table.core(), "d2", &unpartitioned(), &group).await;
    let table = delete(&table, vec![all, group]).await;
    let left = agrees(&session, &table).await;
    assert_eq!(left, (200..264).chain(328..400).collect::<Vec<i64>>());
}

#[tokio::test]
async fn deletes_do_not_reach_files_that_came_later() {
    let session = session();
    let (table, a, _) = two_files(&session, FormatVersion::V2).await;
    let keys = batch(vec![("name", texts(vec![Some("n3"), None]))]);
    let positions = position_deletes(table.core(), "d1", &unpartitioned(), &[(&a, 5)]).await;
    let ids = [("name", 2)];
    let keys = equality_deletes(table.core(), "d2", &unpartitioned(), &[2], &ids, &keys).await;
    let table = delete(&table, vec![positions, keys]).await;
    let before = agrees(&session, &table).await;
    assert!(before.iter().all(|id| id % 10 != 0 && id % 7 != 3 && *id != 5));
    let later = file(&table, "c", people(400..450, 1), &unpartitioned()).await;
    let table = append(&table, vec![later]).await;
    let after = agrees(&session, &table).await;
    assert_eq!(after.len(), before.len() + 50);
}

#[tokio::test]
async fn a_deletion_vector_is_read_from_the_middle_of_its_file_and_counts_rows_exactly() {
    let session = session();
    let (table, a, b) = two_files(&session, FormatVersion::V3).await;
    let every_third: Vec<u64> = (0..200).step_by(3).collect();
    let vectors = deletion_vectors(
        table.core(),
        "v",
        &unpartitioned(),
        &[(&a, &every_third), (&b, &[0, 1, 2, 63, 64, 199])],
    )
    .await;
    let table = delete(&table, vectors).await;
    let left = agrees(&session, &table).await;
    assert_eq!(left.len(), 400 - every_third.len() - 6);
    let plan = rows(&session, "EXPLAIN SELECT count(*) FROM ns.t").await.join("\n");
    assert!(!plan.contains("DataSourceExec"), "the count comes from metadata: {plan}");
    let plan = rows(&session, "EXPLAIN SELECT min(id) FROM ns.t").await.join("\n");
    assert!(plan.contains("DataSourceExec"), "the least may be deleted: {plan}");
}

#[tokio::test]
async fn a_damaged_vector_is_an_error_that_names_its_file() {
    let session = session();
    let (table, a, _) = two_files(&session, FormatVersion::V3).await;
    let vectors = deletion_vectors(table.core(), "v", &unpartitioned(), &[(&a, &[1, 2])]).await;
    let path = vectors[0].file.file_path().to_string();
    let table = delete(&table, vectors).await;
    let mut bytes = table.core().storage().read(&path).await.unwrap().to_vec();
    bytes[20] ^= 1;
    table.core().storage().write(&path, bytes).await.unwrap();
    let error = session.sql("SELECT id FROM ns.t").await.unwrap().collect().await.unwrap_err();
    let error = from_datafusion(error);
    assert_eq!(error.kind(), ErrorKind::DataInvalid);
    assert!(error.to_string().contains(&path), "{error}");
}

#[tokio::test]
async fn equality_deletes_stay_in_their_partition_unless_they_are_global() {
    let session = session();
    let spec = UnboundPartitionSpec::builder().add_partition_field(3, "p", Transform::Identity).unwrap();
    let table = create(&session, "t", schema(), FormatVersion::V2, Some(spec.build())).await;
    let spec = table.core().metadata().default_partition_spec_id();
    let of = |p: i32| (spec, Struct::from_iter([Some(Literal::int(p))]));
    let mut files = Vec::new();
    for p in 0..3 {
        files.push(file(&table, &format!("f{p}"), people(0..100, p), &of(p)).await);
    }
    let table = append(&table, files).await;
    let (ids, names) = ([("id", 1)], [("id", 1), ("name", 2)]);
    let keys = batch(vec![("id", longs([1, 2, 500]))]);
    let one = equality_deletes(table.core(), "e1", &of(1), &[1], &ids, &keys).await;
    let keys = batch(vec![("id", longs([10, 11, 12])), ("name", texts(vec![None, Some("n4"), Some("no")]))]);
    let two = equality_deletes(table.core(), "e2", &of(2), &[1, 2], &names, &keys).await;
    let table = delete(&table, vec![one, two]).await;
    agrees(&session, &table).await;
    let gone = |p: i32| format!("SELECT 100 - count(*) FROM ns.t WHERE p = {p}");
    assert_eq!(rows(&session, &gone(0)).await, ["0"]);
    assert_eq!(rows(&session, &gone(1)).await, ["2"]);
    assert_eq!(rows(&session, &gone(2)).await, ["2"]);

    // An unpartitioned spec's deletes are of the whole table.
    let table = change(&table, |metadata| {
        icefield_core::evolve::PartitionUpdate::new().remove_field("p").apply(metadata)
    })
    .await;
    let global = (table.core().metadata().default_partition_spec_id(), Struct::empty());
    let keys = batch(vec![("id", longs([50]))]);
    let keys = equality_deletes(table.core(), "e3", &global, &[1], &ids, &keys).await;
    let table = delete(&table, vec![keys]).await;
    agrees(&session, &table).await;
    assert_eq!(rows(&session, &gone(0)).await, ["1"]);
}

#[tokio::test]
async fn keys_that_were_renamed_promoted_or_dropped_still_delete() {
    let session = session();
    let schema = Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "id", of(PrimitiveType::Int)).into(),
            NestedField::optional(2, "gone", of(PrimitiveType::String)).into(),
        ])
        .build()
        .unwrap();
    let table = create(&session, "t", schema, FormatVersion::V2, None).await;
    let ints = |values: Vec<i32>| Arc::new(Int32Array::from(values)) as ArrayRef;
    let gone = texts(vec![Some("x"), Some("y"), None, Some("z")]);
    let data = batch(vec![("id", ints(vec![1, 2, 3, 4])), ("gone", gone)]);
    let data = file(&table, "a", data, &unpartitioned()).await;
    let table = append(&table, vec![data]).await;
    let by_text = batch(vec![("gone", texts(vec![Some("y"), None]))]);
    let by_text =
        equality_deletes(table.core(), "e1", &unpartitioned(), &[2], &[("gone", 2)], &by_text).await;
    let table = delete(&table, vec![by_text]).await;
    let table = change(&table, |metadata| {
        SchemaUpdate::new()
            .rename_column("id", "number")
            .promote_column("number", of(PrimitiveType::Long))
            .drop_column("gone")
            .apply(metadata)
    })
    .await;
    let by_number = batch(vec![("number", longs([4, 99]))]);
    let by_number =
        equality_deletes(table.core(), "e2", &unpartitioned(), &[1], &[("number", 1)], &by_number).await;
    let table = delete(&table, vec![by_number]).await;
    assert_eq!(rows(&session, "SELECT number FROM ns.t").await, ["1"]);
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.t WHERE number < 3").await, ["1"]);
    assert_eq!(text_rows(&reference_read(table.core(), &AsOf::Current).await), ["1"]);
}

#[tokio::test]
async fn floats_and_fields_of_structs_are_keys_too() {
    let session = session();
    let place = StructType::new(vec![
        NestedField::optional(3, "x", of(PrimitiveType::Long)).into(),
        NestedField::optional(4, "y", of(PrimitiveType::Long)).into(),
    ]);
    let schema = Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "f", of(PrimitiveType::Double)).into(),
            NestedField::optional(2, "place", Type::Struct(place)).into(),
        ])
        .build()
        .unwrap();
    let table = create(&session, "t", schema, FormatVersion::V2, None).await;
    let field = |name| Arc::new(Field::new(name, DataType::Int64, true));
    let place = |x: Vec<i64>, y: Vec<i64>| {
        Arc::new(StructArray::from(vec![(field("x"), longs(x)), (field("y"), longs(y))])) as ArrayRef
    };
    let floats = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
    let data = batch(vec![
        ("f", floats(vec![f64::NAN, -0.0, 0.0, 1.0])),
        ("place", place(vec![1, 2, 3, 4], vec![5, 6, 7, 8])),
    ]);
    let data = file(&table, "a", data, &unpartitioned()).await;
    let table = append(&table, vec![data]).await;
    let by_float = batch(vec![("f", floats(vec![-f64::NAN, 0.0]))]);
    let by_float = equality_deletes(table.core(), "e1", &unpartitioned(), &[1], &[("f", 1)], &by_float).await;
    let x = StructArray::from(vec![(field("x"), longs([4]))]);
    let by_x = batch(vec![("place", Arc::new(x) as ArrayRef)]);
    let ids = [("place", 2), ("place.x", 3)];
    let by_x = equality_deletes(table.core(), "e2", &unpartitioned(), &[3], &ids, &by_x).await;
    delete(&table, vec![by_float, by_x]).await;
    assert_eq!(rows(&session, "SELECT f, place['y'] FROM ns.t").await, ["-0.0|6"]);
    assert_eq!(rows(&session, "SELECT place['x'] FROM ns.t WHERE place['y'] > 1").await, ["2"]);
}

#[tokio::test]
async fn all_kinds_of_deletes_apply_to_one_table_at_once() {
    let session = session();
    let (table, a, b) = two_files(&session, FormatVersion::V2).await;
    let old = position_deletes(table.core(), "d1", &unpartitioned(), &[(&a, 1), (&b, 1)]).await;
    let table = delete(&table, vec![old]).await;
    let table = change(&table, |metadata| {
        icefield_core::evolve::FormatUpgrade::to(FormatVersion::V3).apply(metadata)
    })
    .await;
    // A vector takes over what positions said of its file: `a`'s row 1 is written into it again.
    let vectors = deletion_vectors(table.core(), "v", &unpartitioned(), &[(&a, &[1, 2, 130])]).await;
    let table = delete(&table, vectors).await;
    let keys = batch(vec![("id", longs([3, 203, 399, 1000]))]);
    let keys = equality_deletes(table.core(), "e", &unpartitioned(), &[1], &[("id", 1)], &keys).await;
    let table = delete(&table, vec![keys]).await;
    let left = agrees(&session, &table).await;
    assert_eq!(left.len(), 400 - 3 - 1 - 3);
    assert!([1, 2, 130, 201, 3, 203, 399].iter().all(|id| !left.contains(id)));
}

#[tokio::test]
async fn deletes_that_do_not_fit_into_memory_are_an_error_that_says_what_to_do() {
    let session = Session::builder().parallelism(2).memory_budget(60 << 10).build().unwrap();
    let (table, _, _) = two_files(&session, FormatVersion::V2).await;
    let keys = batch(vec![("id", longs(0..5_000))]);
    let keys = equality_deletes(table.core(), "e", &unpartitioned(), &[1], &[("id", 1)], &keys).await;
    delete(&table, vec![keys]).await;
    let error = session.sql("SELECT id FROM ns.t").await.unwrap().collect().await.unwrap_err();
    let error = from_datafusion(error);
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(error.to_string().contains("ns.t") && error.to_string().contains("compact"), "{error}");
}

async fn described(table: &Table, query: &str) -> Vec<String> {
    let session = table.session();
    let frame = table.dataframe_with_metadata_columns().await.unwrap();
    session.context().deregister_table("described").unwrap();
    session.context().register_table("described", frame.into_view()).unwrap();
    rows(session, query).await
}

#[tokio::test]
async fn every_row_knows_its_file_and_its_place_in_it_deleted_rows_counted() {
    let session = session();
    let (table, a, b) = two_files(&session, FormatVersion::V3).await;
    let vectors =
        deletion_vectors(table.core(), "v", &unpartitioned(), &[(&a, &[0, 1, 70]), (&b, &[199])]).await;
    let table = delete(&table, vectors).await;
    // Ids are positions in `a`, and 200 more than that in `b`.
    let wrong = "SELECT count(*) FROM described WHERE _pos <> id % 200";
    assert_eq!(described(&table, wrong).await, ["0"]);
    let files = "SELECT _file, count(*), min(_pos), max(_pos) FROM described GROUP BY _file ORDER BY _file";
    assert_eq!(described(&table, files).await, [format!("{a}|197|2|199"), format!("{b}|199|0|198")]);
    let one = format!("SELECT id FROM described WHERE _file = '{b}' AND _pos = 130");
    assert_eq!(described(&table, &one).await, ["330"]);
    assert_eq!(described(&table, "SELECT count(*) FROM described WHERE _pos >= 190").await, ["19"]);
    assert_eq!(described(&table, "SELECT DISTINCT _spec_id FROM described").await, ["0"]);
    let ids = "SELECT count(DISTINCT _row_id), count(*), max(_last_updated_sequence_number) FROM described";
    assert_eq!(described(&table, ids).await, ["396|396|1"]);
    let by_id = "SELECT id, _row_id FROM described WHERE id IN (2, 205) ORDER BY id";
    let found = described(&table, by_id).await;
    let row_id = |at: usize| found[at].split('|').nth(1).unwrap().parse::<i64>().unwrap();
    assert_eq!((row_id(0) % 200, row_id(1) % 200), (2, 5));
}

#[tokio::test]
async fn rows_from_before_row_ids_have_none_and_a_column_of_the_table_keeps_its_name() {
    let session = session();
    let schema = Schema::builder()
        .with_fields(vec![NestedField::optional(1, "_pos", of(PrimitiveType::String)).into()])
        .build()
        .unwrap();
    let table = create(&session, "t", schema, FormatVersion::V2, None).await;
    let data = file(&table, "a", batch(vec![("_pos", texts(vec![Some("mine")]))]), &unpartitioned()).await;
    let table = append(&table, vec![data]).await;
    let query = "SELECT _pos, _row_id, _last_updated_sequence_number FROM described";
    assert_eq!(described(&table, query).await, ["mine|NULL|NULL"]);
}

#[tokio::test]
async fn random_appends_and_deletes_leave_the_rows_that_a_plain_reader_finds() {
    for seed in 0..4_u64 {
        let mut state = seed * 7_919 + 1;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let version = if seed % 2 == 0 { FormatVersion::V2 } else { FormatVersion::V3 };
        let session = session();
        let mut table = create(&session, "t", schema(), version, None).await;
        let (none, mut paths, mut with_vector) = (unpartitioned(), Vec::new(), Vec::new());
        for step in 0..8_i64 {
            let rows = 20 + random(150) as i64;
            let new =
                file(&table, &format!("f{step}"), people(step * 100..step * 100 + rows, 1), &none).await;
            paths.push((new.file.file_path().to_string(), rows as u64));
            table = append(&table, vec![new]).await;
            let mut deletes = Vec::new();
            let name = format!("d{step}");
            if version == FormatVersion::V2 {
                let mut rows: Vec<(&str, i64)> = Vec::new();
                for _ in 0..random(60) {
                    let (path, rows_of) = &paths[random(paths.len() as u64) as usize];
                    rows.push((path, random(*rows_of) as i64));
                }
                rows.sort_unstable();
                rows.dedup();
                if !rows.is_empty() {
                    deletes.push(position_deletes(table.core(), &name, &none, &rows).await);
                }
            } else if let (path, rows) = &paths[random(paths.len() as u64) as usize]
                && !with_vector.contains(path)
            {
                let every = 1 + random(5) as usize;
                let rows: Vec<u64> = (random(*rows)..*rows).step_by(every).collect();
                deletes.extend(deletion_vectors(table.core(), &name, &none, &[(path, &rows)]).await);
                with_vector.push(path.clone());
            }
            if random(2) == 0 {
                let ids: Vec<i64> = (0..random(20) + 1).map(|_| random(900) as i64).collect();
                let keys = batch(vec![("id", longs(ids))]);
                let name = format!("e{step}");
                deletes.push(equality_deletes(table.core(), &name, &none, &[1], &[("id", 1)], &keys).await);
            }
            if !deletes.is_empty() {
                table = delete(&table, deletes).await;
            }
        }
        let left = agrees(&session, &table).await;
        assert!(!left.is_empty(), "seed {seed}");
    }
}
