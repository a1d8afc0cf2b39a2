//! Manifest lists and manifests with fields that nobody knows, without those that may be left out, and in other orders.

use serde_json::json;

use super::*;
use crate::format::avro::{Compression, ContainerWriter, put_bytes, put_long, put_optional};

fn field(name: &str, id: i32, of: serde_json::Value) -> serde_json::Value {
    json!({"name": name, "type": of, "field-id": id})
}

/// A manifest list of one entry with what each version requires at least.
fn list(edit: impl Fn(&mut Vec<serde_json::Value>), put: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut fields = vec![
        field("manifest_path", 500, json!("string")),
        field("manifest_length", 501, json!("long")),
        field("partition_spec_id", 502, json!("int")),
        field("added_snapshot_id", 503, json!(["null", "long"])),
    ];
    edit(&mut fields);
    let schema = json!({"type": "record", "name": "manifest_file", "fields": fields}).to_string();
    let mut writer = ContainerWriter::new(schema, Vec::new(), Compression::Snappy, [1; 16]);
    let encode = |out: &mut Vec<u8>| {
        put_bytes(out, b"memory://w/m.avro");
        put_long(out, 10);
        put_long(out, 0);
        put_optional(out, Some(7), put_long);
        put(out);
        Ok(())
    };
    writer.record(encode).unwrap();
    writer.finish(None).unwrap()
}

#[test]
fn a_list_has_what_it_must_and_anything_else() {
    let bare = parse_manifest_list(&list(|_| (), |_| ())).unwrap();
    assert_eq!(bare, [ManifestFile { added_snapshot_id: 7, ..unlisted("memory://w/m.avro".into(), 10) }]);

    // Counts by their first names, unknown fields with and without ids, an enum and a map among them, and one of an id that is
    // of another kind of record.
    let edit = |fields: &mut Vec<serde_json::Value>| {
        fields.push(field("added_data_files_count", 504, json!(["int", "null"])));
        fields.push(field("x", 9001, json!({"type": "map", "values": ["null", "bytes"]})));
        fields.push(json!({"name": "y", "type": {"type": "enum", "name": "e", "symbols": ["a", "b"]}}));
        fields.push(field("z", 134, json!("double")));
        fields.push(field("content", 517, json!(["null", "int"])));
        fields.push(field("partitions", 507, json!(["null", {"type": "array", "items": {"type": "record", "name": "r508",
            "fields": [field("contains_null", 509, json!("boolean")), field("upper_bound", 511, json!(["null", "bytes"]))]}}])));
    };
    let put = |out: &mut Vec<u8>| {
        put_long(out, 0);
        put_long(out, 3);
        put_long(out, 1);
        put_bytes(out, b"key");
        put_long(out, 1);
        put_bytes(out, b"value");
        put_long(out, 0);
        put_long(out, 1);
        out.extend(1.5_f64.to_le_bytes());
        put_long(out, 0);
        put_long(out, 1);
        put_long(out, 1);
        out.push(0);
        put_optional(out, Some(&b"b"[..]), put_bytes);
        put_long(out, 0);
    };
    let listed = parse_manifest_list(&list(edit, put)).unwrap();
    assert_eq!((listed[0].added_files_count, listed[0].content), (Some(3), ManifestContentType::Data));
    let summary = &listed[0].partitions.as_ref().unwrap()[0];
    assert!(!summary.contains_null && summary.contains_nan.is_none() && summary.lower_bound.is_none());
    assert_eq!(summary.upper_bound.as_ref().unwrap().as_ref(), b"b");
}

/// A manifest of version 1 as its first writers left them: no snapshot ids in entries, files with members of old, fields in another
/// order, the partition's values last.
fn of_old() -> Vec<u8> {
    let partition = json!({"type": "record", "name": "r102", "fields": [
        field("n", 1000, json!(["null", "int"])), field("unknown", 1999, json!(["null", "string"]))]});
    let sizes = json!({"type": "record", "name": "k117_v118", "fields": [
        field("key", 117, json!("int")), field("value", 118, json!("long"))]});
    let file = [
        field("file_format", 101, json!("string")),
        field("block_size_in_bytes", 105, json!("long")),
        field("file_path", 100, json!(["null", "string"])),
        field("record_count", 103, json!("int")),
        field("file_ordinal", 106, json!(["null", "int"])),
        field("sort_columns", 107, json!(["null", {"type": "array", "items": "int", "element-id": 112}])),
        field("column_sizes", 108, json!(["null", {"type": "array", "logicalType": "map", "items": sizes}])),
        field(
            "distinct_counts",
            111,
            json!(["null", {"type": "array", "items": {"type": "record", "name": "k123_v124",
            "fields": [field("key", 123, json!("int")), field("value", 124, json!("long"))]}}]),
        ),
        field("file_size_in_bytes", 104, json!("long")),
        field("partition", 102, partition),
    ];
    let fields = [
        field("data_file", 2, json!({"type": "record", "name": "r2", "fields": file})),
        field("status", 0, json!("int")),
    ];
    let schema = json!({"type": "record", "name": "manifest_entry", "fields": fields}).to_string();
    let mut writer = ContainerWriter::new(schema, Vec::new(), Compression::Zstandard(3), [1; 16]);
    for status in [0, 1, 2] {
        let encode = |out: &mut Vec<u8>| {
            put_bytes(out, b"parquet");
            put_long(out, 67_108_864);
            put_optional(out, Some(format!("memory://w/{status}").as_bytes()), put_bytes);
            put_long(out, 3);
            put_optional(out, Some(0), put_long);
            put_optional(out, None, put_long);
            put_long(out, 1);
            put_long(out, 1);
            put_long(out, 2);
            put_long(out, 50);
            put_long(out, 0);
            put_long(out, 0);
            put_long(out, 99);
            put_optional(out, Some(5), put_long);
            put_optional(out, Some(&b"later"[..]), put_bytes);
            put_long(out, status);
            Ok(())
        };
        writer.record(encode).unwrap();
    }
    writer.finish(None).unwrap()
}

#[tokio::test]
async fn a_manifest_of_the_first_writers_is_read() {
    let table = table(FormatVersion::V1).await;
    let spec = table.metadata().default_partition_spec();
    let place = spec.fields().iter().position(|field| field.field_id == 1000).unwrap();
    let listed = ManifestFile { added_snapshot_id: 7, ..unlisted("memory://w/m.avro".into(), 10) };
    let content = parse(&of_old(), &table, &listed).unwrap();
    let paths = |files: &[LiveFile]| files.iter().map(|file| file.path().to_string()).collect::<Vec<_>>();
    assert_eq!(paths(&content.live), ["memory://w/0", "memory://w/1"]);
    assert_eq!(
        (paths(&content.deleted), content.added),
        (vec!["memory://w/2".to_string()], vec![false, true])
    );
    let file = &content.live[1];
    assert_eq!((file.snapshot_id, file.sequence_number), (7, 0));
    assert_eq!((file.file.record_count(), file.file.file_size_in_bytes()), (3, 99));
    assert_eq!(file.file.column_sizes(), &HashMap::from([(2, 50)]));
    assert_eq!(file.file.partition().fields()[place], Some(Literal::int(5)));
    // Other fields of the spec have no values there.
    assert_eq!(file.file.partition().fields().iter().flatten().count(), 1);
}

#[tokio::test]
async fn a_manifest_holds_what_its_list_says_or_is_refused() {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        let table = table(version).await;
        let (_, manifests) = metadata_files(&table).await;
        let (listed, bytes) = &manifests[0];
        let of_deletes = ManifestFile { content: ManifestContentType::Deletes, ..listed.clone() };
        let error = parse(bytes, &table, &of_deletes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataInvalid, "{error}");
        assert!(error.to_string().contains(&listed.manifest_path), "{error}");
        let opened = Manifest::parse(bytes.clone(), Some(table.metadata()), of_deletes).unwrap();
        assert!(opened.entries(|_, _| Ok(())).is_err());
        // Where it is to be deleted alone, where its files are is enough.
        let mut files = 0;
        opened.locations(|_| files += 1).unwrap();
        assert!(files > 0);
    }
}
