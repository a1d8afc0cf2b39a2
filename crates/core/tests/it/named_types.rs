//! Tables that are partitioned by several columns of one of the types that have names in Avro: decimals, UUIDs, fixed. A name
//! is defined once in a manifest, and referred to from then on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Decimal128Array, FixedSizeBinaryArray, Int64Array, RecordBatch};
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, Literal, NestedField, Schema, Struct,
};
use icefield_core::Table;
use icefield_core::catalog::{Catalog, MemoryCatalog, NamespaceIdent, TableCreation, parse_ident};
use icefield_core::commit::Transaction;
use icefield_core::evolve::{identity, partition_spec, truncate, types};
use icefield_core::format::{ContentFile, arrow_schema, load_manifest, load_manifest_list, parquet_schema};
use icefield_core::storage::{Storage, file_name};
use icefield_testkit::{Content, Engine, Pick, Referee, content_hash};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use super::support::live;

const UUIDS: [&str; 2] = ["key", "other_key"];
const FIXED: [&str; 3] = ["code", "other_code", "long_code"];

/// All columns but for these.
fn schema(without: &[&str]) -> Schema {
    let columns = [
        ("price", types::decimal(9, 2)),
        ("tax", types::decimal(9, 2)),
        ("large", types::decimal(38, 10)),
        ("larger", types::decimal(38, 10)),
        ("code", types::fixed(3)),
        ("other_code", types::fixed(3)),
        ("key", types::uuid()),
        ("other_key", types::uuid()),
        ("long_code", types::fixed(16)),
    ];
    let columns = columns.into_iter().filter(|(name, _)| !without.contains(name));
    let columns = (2..).zip(columns).map(|(id, (name, of))| NestedField::optional(id, name, of));
    let fields = std::iter::once(NestedField::required(1, "id", types::long())).chain(columns);
    Schema::builder().with_fields(fields.map(Into::into)).build().unwrap()
}

/// The values of a file's columns after the first, by name: the same ones as `WriteNamed.java` gives.
fn values(n: u8) -> Vec<(&'static str, Option<Literal>)> {
    let number = i128::from(n);
    let some = |value: Literal| (n != 2).then_some(value);
    let price = some(Literal::decimal(-100 * number));
    let long: Vec<u8> = (1..16).rev().chain([n]).collect();
    vec![
        ("price", price.clone()),
        ("tax", Some(Literal::decimal(999_999_999 - number))),
        ("price_trunc", price),
        (
            "large",
            Some(Literal::decimal(
                -12_345_678_901_234_567_890_123_456_780_123_456_789 + number * 10_000_000_000,
            )),
        ),
        ("larger", Some(Literal::decimal(number))),
        ("code", some(Literal::binary(vec![0, n, 255]))),
        ("other_code", Some(Literal::binary(vec![1, 2, n]))),
        ("key", some(Literal::uuid(uuid::Uuid::from_u64_pair(n.into(), u64::MAX)))),
        ("other_key", Some(Literal::uuid(uuid::Uuid::from_u64_pair(u64::MAX, n.into())))),
        ("long_code", Some(Literal::binary(long))),
    ]
}

fn partition(n: u8, without: &[&str]) -> Struct {
    values(n).into_iter().filter(|(name, _)| !without.contains(name)).map(|(_, value)| value).collect()
}

/// Some rows that all have a file's values.
fn rows(n: u8, schema: &Schema) -> RecordBatch {
    use iceberg::spec::{PrimitiveLiteral as L, PrimitiveType as P};
    let count = 10 + usize::from(n);
    let all: HashMap<&str, Option<Literal>> = values(n).into_iter().collect();
    let column = |field: &NestedField| -> ArrayRef {
        let Some(value) = all.get(field.name.as_str()) else {
            return Arc::new(Int64Array::from_iter_values(
                (0..count as i64).map(|id| id * 10 + i64::from(n)),
            ));
        };
        let value = value.clone().map(|value| value.as_primitive_literal().unwrap());
        let bytes = |length: i32, bytes: Option<Vec<u8>>| {
            let all = std::iter::repeat_n(bytes, count);
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(all, length).unwrap())
        };
        match field.field_type.as_primitive_type().unwrap() {
            P::Decimal { precision, scale } => {
                let value = value.map(|value| match value {
                    L::Int128(value) => value,
                    other => panic!("{other:?}"),
                });
                let array = Decimal128Array::from_iter(std::iter::repeat_n(value, count));
                Arc::new(array.with_precision_and_scale(*precision as u8, *scale as i8).unwrap())
            }
            of => {
                let value = value.map(|value| match value {
                    L::Binary(value) => value,
                    L::UInt128(value) => value.to_be_bytes().to_vec(),
                    other => panic!("{other:?}"),
                });
                let length = if let P::Fixed(length) = of { *length as i32 } else { 16 };
                bytes(length, value)
            }
        }
    };
    let columns = schema.as_struct().fields().iter().map(|field| column(field)).collect();
    RecordBatch::try_new(arrow_schema(schema).unwrap(), columns).unwrap()
}

async fn file(table: &Table, n: u8, without: &[&str]) -> (ContentFile, RecordBatch) {
    let batch = rows(n, table.schema());
    let options = ArrowWriterOptions::new().with_parquet_schema(parquet_schema(table.schema()).unwrap());
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let path = format!("{}/data/{n}.parquet", table.metadata().location());
    let size = bytes.len() as u64;
    table.storage().write(&path, bytes).await.unwrap();
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(path)
        .file_format(DataFileFormat::Parquet)
        .partition(partition(n, without))
        .record_count(batch.num_rows() as u64)
        .file_size_in_bytes(size)
        .partition_spec_id(0)
        .build()
        .unwrap();
    (ContentFile { spec_id: 0, file }, batch)
}

/// The manifests of a table's current snapshot, as text where they are, and what they say of files: their names, partitions
/// and whether they are still there.
async fn manifests(table: &Table) -> (Vec<String>, Vec<(String, Struct, bool)>) {
    let (mut texts, mut files) = (Vec::new(), Vec::new());
    for manifest in
        load_manifest_list(table.storage(), table.metadata().current_snapshot().unwrap()).await.unwrap()
    {
        let bytes = table.storage().read(&manifest.manifest_path).await.unwrap();
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
        let content = load_manifest(table.storage(), table.metadata(), &manifest).await.unwrap();
        for (file, is_live) in content
            .live
            .iter()
            .map(|file| (file, true))
            .chain(content.deleted.iter().map(|file| (file, false)))
        {
            let name = file_name(file.path()).to_string();
            files.push((name, file.file.partition().clone(), is_live));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    (texts, files)
}

/// Asserts that a manifest refers to each of these types by its name.
fn assert_named(manifest: &str, names: &[&str]) {
    for name in names {
        assert_eq!(manifest.matches(&format!("\"name\":\"{name}\"")).count(), 1, "{name}: {manifest}");
        assert!(manifest.contains(&format!("[\"null\",\"{name}\"]")), "{name}: {manifest}");
    }
}

/// A table with these files' rows, of which one is taken out again, and what it holds. Its manifests were merged.
async fn written(folder: &Path, version: FormatVersion, without: &[&str]) -> (Table, Content) {
    let warehouse = format!("file://{}/{version}-{}", folder.display(), without.len());
    let catalog = MemoryCatalog::new(warehouse, Storage::new());
    let namespace = NamespaceIdent::new("db".to_string());
    catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
    let schema = schema(without);
    let fields = values(0).into_iter().map(|(name, _)| name).filter(|name| !without.contains(name));
    let terms = fields.map(|name| match name {
        "price_trunc" => truncate("price", 50),
        name => identity(name),
    });
    let spec = partition_spec(&schema, terms).unwrap();
    let merged = [("commit.manifest.min-count-to-merge".to_string(), "2".to_string())];
    let creation = TableCreation::builder()
        .name("t".to_string())
        .schema(schema)
        .partition_spec(spec)
        .properties(merged)
        .format_version(version)
        .build();
    let mut t = catalog.create_table(&namespace, creation).await.unwrap();
    let mut batches = Vec::new();
    for n in 0..4 {
        let (file, batch) = file(&t, n, without).await;
        t = Transaction::new(&t).append(vec![file]).commit(&catalog).await.unwrap().table;
        batches.push(batch);
    }
    let gone = format!("{}/data/1.parquet", t.metadata().location());
    t = Transaction::new(&t).delete_files([gone]).commit(&catalog).await.unwrap().table;
    batches.remove(1);
    let content = content_hash(&batches, t.schema());
    (t, content)
}

const DECIMALS: [&str; 2] = ["decimal_9_2", "decimal_38_10"];

#[tokio::test]
async fn engines_read_partitions_of_types_that_have_names() {
    let folder = tempfile::tempdir().unwrap();
    // PyIceberg knows no names. The others than Java print UUIDs in forms of their own.
    let (java, duckdb) = (Engine::Java, Engine::DuckDb);
    for (version, without, engines) in [
        (FormatVersion::V1, &FIXED[..], &[java][..]),
        (FormatVersion::V3, &FIXED, &[java]),
        (FormatVersion::V2, &UUIDS, &[duckdb]),
    ] {
        let (table, content) = written(folder.path(), version, without).await;
        let (texts, files) = manifests(&table).await;
        let expected: Vec<_> =
            (0..4).map(|n| (format!("{n}.parquet"), partition(n, without), n != 1)).collect();
        assert_eq!(files, expected, "{version}");
        for text in texts {
            assert_named(&text, &DECIMALS);
            let others = [("uuid_fixed", &UUIDS[..]), ("fixed_3", &FIXED)];
            let there = others.iter().filter(|(_, columns)| !without.contains(&columns[0]));
            there.for_each(|(name, _)| assert_named(&text, &[name]));
        }
        let referee = Referee::with_engines(engines);
        println!("{version}: {:?}", referee.check(table.metadata_location(), Pick::Current, &content).await);
    }
}

#[tokio::test]
async fn java_reads_no_fixed_partition_values_of_others_yet() {
    let folder = tempfile::tempdir().unwrap();
    let (table, content) = written(folder.path(), FormatVersion::V2, &UUIDS).await;
    let referee = Referee::with_engines(&[Engine::Java]);
    if !referee.is_available() {
        return;
    }
    let check =
        tokio::spawn(async move { referee.check(table.metadata_location(), Pick::Current, &content).await });
    // Once it does, docs/known-limits.md says too much.
    assert!(check.await.is_err());
}

/// A table of `tests/metadata/named`, in a folder of its own.
async fn of_others(name: &str, folder: &Path) -> (MemoryCatalog, Table) {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/metadata/named").join(name);
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let location = format!("file:///warehouse/db/{name}/metadata");
    let storage = Storage::new().with_mappings([(location.clone(), folder.display().to_string())]).unwrap();
    let catalog = MemoryCatalog::new("memory://w", storage.unconfined());
    catalog.create_namespace(&NamespaceIdent::new("db".to_string()), HashMap::new()).await.unwrap();
    let metadata = format!("{location}/table.metadata.json");
    let table = catalog.register_table(&parse_ident("db.t").unwrap(), &metadata).await.unwrap();
    (catalog, table)
}

#[tokio::test]
async fn manifests_of_java_with_types_by_name_are_read_and_kept() {
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let folder = tempfile::tempdir().unwrap();
        let (catalog, table) = of_others(&version.to_string(), folder.path()).await;
        let (texts, files) = manifests(&table).await;
        let names = ["decimal_9_2", "decimal_38_10", "fixed_3", "uuid_fixed"];
        assert_named(&texts[0], &names);
        let of = |n: u8, is_live| (format!("{n}.parquet"), partition(n, &[]), is_live);
        assert_eq!(files, [of(0, true), of(2, true), of(3, false)], "{version}");

        // Written again here, beside a file that goes.
        let before = live(&table, "main").await;
        let gone = before[0].path().to_string();
        let table = Transaction::new(&table).delete_files([gone]).commit(&catalog).await.unwrap().table;
        let (texts, files) = manifests(&table).await;
        assert_named(&texts[0], &names);
        assert_eq!(files, [of(0, false), of(2, true)], "{version}");
        assert_eq!(live(&table, "main").await, before[1..], "{version}");
    }
}

#[tokio::test]
async fn manifests_that_define_a_name_twice_are_read_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    // As PyIceberg writes them.
    let (catalog, table) = of_others("pyiceberg", folder.path()).await;
    let mut before = live(&table, "main").await;
    before.sort_by_key(|file| file.sequence_number);
    let without = ["price_trunc", "large", "larger", "key", "other_key", "long_code"];
    let found: Vec<_> = before.iter().map(|file| file.file.partition().clone()).collect();
    assert_eq!(found, [partition(0, &without), partition(1, &without), partition(2, &without)]);

    let gone = before[1].path().to_string();
    let table = Transaction::new(&table).delete_files([gone]).commit(&catalog).await.unwrap().table;
    let mut after = live(&table, "main").await;
    after.sort_by_key(|file| file.sequence_number);
    assert_eq!(after, [before[0].clone(), before[2].clone()]);
}
