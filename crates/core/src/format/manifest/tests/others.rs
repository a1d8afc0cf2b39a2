//! Manifests as other writers leave them.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::catalog::TableUpdate;
use crate::evolve::{MetadataChange, MetadataEdit, PartitionUpdate};
use crate::format::avro::{Compression, ContainerWriter, put_bytes, put_long, put_optional};

/// A file with another header.
pub(super) fn with_header(file: &[u8], edit: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>)) -> Vec<u8> {
    let Container { metadata, layout } = Container::open(file).unwrap();
    let mut entries = metadata.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    edit(&mut entries);
    let mut out = b"Obj\x01".to_vec();
    put_long(&mut out, entries.len() as i64);
    for (key, value) in entries {
        put_bytes(&mut out, &key);
        put_bytes(&mut out, &value);
    }
    put_long(&mut out, 0);
    out.extend(layout.sync);
    out.extend_from_slice(&file[layout.start..]);
    out
}

#[tokio::test]
async fn a_manifest_is_read_whatever_its_header_says_of_the_table() {
    let of_entries = json!({"type": "struct", "schema-id": 0, "fields": [
        {"id": 0, "name": "status", "required": true, "type": "int"},
        {"id": 1, "name": "snapshot_id", "required": true, "type": "int"},
        {"id": 3, "name": "sequence_number", "required": true, "type": "date"},
        {"id": 4, "name": "file_sequence_number", "required": true, "type": "long"}
    ]});
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let table = table(version).await;
        let (_, manifests) = metadata_files(&table).await;
        for (manifest, bytes) in &manifests {
            let whole = parse(bytes, &table, manifest).unwrap();
            let bare = with_header(bytes, |header| {
                header.retain(|key, _| key.starts_with(b"avro.") || key.starts_with(b"icefield."));
            });
            let misled = with_header(bytes, |header| {
                header.insert(b"schema".to_vec(), of_entries.to_string().into_bytes());
                header.insert(b"partition-spec".to_vec(), b"{}".to_vec());
                header.insert(b"partition-spec-id".to_vec(), b"99".to_vec());
                header.insert(b"content".to_vec(), b"deletes".to_vec());
                header.insert(b"format-version".to_vec(), b"2".to_vec());
            });
            for other in [bare, misled] {
                let found = parse(&other, &table, manifest).unwrap();
                assert_eq!(found.live, whole.live, "{version}");
                assert_eq!((found.added, found.deleted), (whole.added.clone(), whole.deleted.clone()));
            }
        }
    }
}

/// A manifest of entries of a status and a data sequence number.
fn of_entries(entries: &[(i64, Option<i64>)]) -> Vec<u8> {
    let field =
        |name: &str, id: i32, of: serde_json::Value| json!({"name": name, "type": of, "field-id": id});
    let file = [
        field("file_path", 100, json!("string")),
        field("file_format", 101, json!("string")),
        field("partition", 102, json!({"type": "record", "name": "r102", "fields": []})),
        field("record_count", 103, json!("long")),
        field("file_size_in_bytes", 104, json!("long")),
    ];
    let fields = [
        field("status", 0, json!("int")),
        field("sequence_number", 3, json!(["null", "long"])),
        field("data_file", 2, json!({"type": "record", "name": "r2", "fields": file})),
    ];
    let schema = json!({"type": "record", "name": "manifest_entry", "fields": fields}).to_string();
    let mut writer = ContainerWriter::new(schema, Vec::new(), Compression::None, [1; 16]);
    for (n, (status, number)) in entries.iter().enumerate() {
        let encode = |out: &mut Vec<u8>| {
            put_long(out, *status);
            put_optional(out, *number, put_long);
            put_bytes(out, format!("memory://w/{n}").as_bytes());
            put_bytes(out, b"PARQUET");
            put_long(out, 3);
            put_long(out, 1);
            Ok(())
        };
        writer.record(encode).unwrap();
    }
    writer.finish(None).unwrap()
}

#[tokio::test]
async fn a_fixed_value_with_its_length_spoils_no_other() {
    let field =
        |name: &str, id: i32, of: serde_json::Value| json!({"name": name, "type": of, "field-id": id});
    let code = json!(["null", {"type": "fixed", "name": "fixed_3", "size": 3}]);
    let partition = json!({"type": "record", "name": "r102", "fields": [field("code", 1000, code)]});
    let file = [
        field("file_path", 100, json!("string")),
        field("file_format", 101, json!("string")),
        field("partition", 102, partition),
        field("record_count", 103, json!("long")),
        field("file_size_in_bytes", 104, json!("long")),
    ];
    let fields = [
        field("status", 0, json!("int")),
        field("data_file", 2, json!({"type": "record", "name": "r2", "fields": file})),
    ];
    let schema = json!({"type": "record", "name": "manifest_entry", "fields": fields}).to_string();
    let header = vec![("iceberg.schema", "{}".to_string())];
    let mut writer = ContainerWriter::new(schema, header, Compression::None, [1; 16]);
    // Without its length, the last byte of such a value and the number that follows it would be one number.
    let codes = [Some(vec![0xab, 0xcd, 0xef]), None, Some(vec![6, 6, 0xff])];
    for code in &codes {
        let encode = |out: &mut Vec<u8>| {
            put_long(out, 0);
            put_bytes(out, b"memory://w/a");
            put_bytes(out, b"PARQUET");
            put_optional(out, code.as_ref(), |out, code| put_bytes(out, code));
            put_long(out, 300);
            put_long(out, 1);
            Ok(())
        };
        writer.record(encode).unwrap();
    }
    let bytes = writer.finish(None).unwrap();

    let code = NestedField::optional(2, "code", iceberg::spec::Type::Primitive(PrimitiveType::Fixed(3)));
    let schema = Schema::builder().with_fields([code.into()]).build().unwrap();
    let spec = partition_spec(&schema, [identity("code")]).unwrap();
    let catalog = MemoryCatalog::new("memory://w", Storage::new());
    let namespace = NamespaceIdent::new("db".to_string());
    catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
    let creation = TableCreation::builder().name("t".to_string()).schema(schema).partition_spec(spec);
    let table = catalog.create_table(&namespace, creation.build()).await.unwrap();
    let live = parse(&bytes, &table, &listed(0)).unwrap().live;
    for (file, code) in live.iter().zip(codes) {
        assert_eq!(file.file.record_count(), 300);
        assert_eq!(file.file.partition(), &Struct::from_iter([code.map(Literal::binary)]));
    }
    assert_eq!(live.len(), 3);
}

/// A manifest of data files, as its list has it.
fn listed(sequence_number: i64) -> ManifestFile {
    ManifestFile {
        sequence_number,
        min_sequence_number: 1,
        added_snapshot_id: 7,
        ..unlisted("memory://w/m.avro".to_string(), 1)
    }
}

#[tokio::test]
async fn entries_inherit_as_java_lets_them() {
    let (_, table) = of_two_columns(&[]).await;
    // What was deleted has no number of its own, as Iceberg 0.11 to 0.14 left it.
    let bytes = of_entries(&[(0, Some(3)), (2, None), (1, None), (2, Some(4))]);
    let content = parse(&bytes, &table, &listed(5)).unwrap();
    let numbers = |files: &[LiveFile]| files.iter().map(|file| file.sequence_number).collect::<Vec<_>>();
    assert_eq!((numbers(&content.live), numbers(&content.deleted)), (vec![3, 5], vec![5, 4]));
    assert!(content.live.iter().all(|file| file.snapshot_id == 7));
    // In a table that was of version 1 then, all are 0.
    let content = parse(&of_entries(&[(0, None), (2, None), (1, None)]), &table, &listed(0)).unwrap();
    assert_eq!((numbers(&content.live), numbers(&content.deleted)), (vec![0, 0], vec![0]));
    // A live file's can't be made up: deletes go by it.
    let error = parse(&of_entries(&[(0, None)]), &table, &listed(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataInvalid);
    assert!(error.to_string().contains("memory://w/m.avro"), "{error}");
}

/// A table partitioned by the values of these of its columns `id` and `a`.
async fn of_two_columns(partition: &[&str]) -> (MemoryCatalog, Table) {
    let fields = [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "a", types::int())];
    let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
    let spec = partition_spec(&schema, partition.iter().map(|name| identity(*name))).unwrap();
    let catalog = MemoryCatalog::new("memory://w", Storage::new());
    let namespace = NamespaceIdent::new("db".to_string());
    catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
    let creation = TableCreation::builder().name("t".to_string()).schema(schema).partition_spec(spec);
    let table = catalog.create_table(&namespace, creation.build()).await.unwrap();
    (catalog, table)
}

#[tokio::test]
async fn files_of_a_dropped_partition_column_can_be_taken_out() {
    let (catalog, table) = of_two_columns(&["a"]).await;
    let files = [5, 6].map(|a| {
        let file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(format!("memory://w/db/t/data/{a}.parquet"))
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::from_iter([Some(Literal::int(a))]))
            .record_count(1)
            .file_size_in_bytes(1)
            .lower_bounds(HashMap::from([(2, Datum::int(a))]))
            .build()
            .unwrap();
        ContentFile { spec_id: 0, file }
    });
    let table = Transaction::new(&table).fast_append(files.to_vec()).commit(&catalog).await.unwrap().table;
    let spec = MetadataEdit::from(PartitionUpdate::new().clear());
    let table = Transaction::new(&table).change(move |table| spec.apply(table)).commit(&catalog).await;
    // As Iceberg Java drops a column that only an old spec is over.
    let fields = [NestedField::optional(1, "id", types::long()).into()];
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    let updates = vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }];
    let change = MetadataChange { updates, requirements: Vec::new() };
    let table = Transaction::new(&table.unwrap().table).change(move |_| Ok(change.clone()));
    let table = table.commit(&catalog).await.unwrap().table;
    // As Iceberg Java writes it anew from then on.
    let (_, manifests) = metadata_files(&table).await;
    let now = serde_json::to_vec(table.schema()).unwrap();
    let changed = with_header(&manifests[0].1, |header| drop(header.insert(b"schema".to_vec(), now)));
    table.storage().write(&manifests[0].0.manifest_path, changed).await.unwrap();

    let gone = ["memory://w/db/t/data/5.parquet"];
    let table = Transaction::new(&table).delete_files(gone).commit(&catalog).await.unwrap().table;
    let list =
        load_manifest_list(table.storage(), table.metadata().current_snapshot().unwrap()).await.unwrap();
    let content = load_manifest(table.storage(), table.metadata(), &list[0]).await.unwrap();
    let [kept] = content.live.as_slice() else { panic!("{content:?}") };
    assert_eq!(kept.file.partition(), &Struct::from_iter([Some(Literal::int(6))]));
    assert_eq!(kept.file.lower_bounds().get(&2), Some(&Datum::int(6)), "what is said of it is kept");
    assert_eq!(content.deleted.len(), 1);
}
