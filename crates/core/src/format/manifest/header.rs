//! The header of a manifest: the Avro schema of its entries, and what it says of the table.

use std::fmt::Write;

use iceberg::spec::{FormatVersion, ManifestContentType, PartitionSpec, PrimitiveType};
use serde_json::{Value, json};

use super::types::PartitionTypes;
use super::widen::decimal_length;
use crate::error::{Error, Result};
use crate::format::foreign;

/// The header of a manifest.
pub(super) fn header(
    version: FormatVersion,
    content: ManifestContentType,
    names: &[String],
    partition: &PartitionTypes,
) -> Result<Vec<(&'static str, String)>> {
    let lost = |e| Error::internal("a manifest's header can't be put together").with_source(e);
    let mut header = Vec::new();
    if let Some(schema) = partition.schema() {
        let mut json = serde_json::to_value(schema).map_err(lost)?;
        // Stand-ins for types that `iceberg` does not know must not come into the file.
        foreign::show(&mut json);
        header.push(("schema", json.to_string()));
        header.push(("schema-id", schema.schema_id().to_string()));
    }
    let spec = partition.spec();
    let mut fields = serde_json::to_value(spec.fields()).map_err(lost)?;
    for (field, name) in fields.as_array_mut().into_iter().flatten().zip(names) {
        field["name"] = name.as_str().into();
    }
    header.push(("partition-spec", fields.to_string()));
    header.push(("partition-spec-id", spec.spec_id().to_string()));
    header.push(("format-version", (version as u8).to_string()));
    if version >= FormatVersion::V2 {
        header.push(("content", content.to_string()));
    }
    Ok(header)
}

/// The Avro schema of entries.
pub(super) fn entry_schema(version: FormatVersion, names: &[String], partition: &PartitionTypes) -> Value {
    let mut fields = vec![required("status", 0, json!("int"))];
    if version == FormatVersion::V1 {
        fields.push(required("snapshot_id", 1, json!("long")));
    } else {
        fields.push(optional("snapshot_id", 1, json!("long")));
        fields.push(optional("sequence_number", 3, json!("long")));
        fields.push(optional("file_sequence_number", 4, json!("long")));
    }
    let mut file = Vec::new();
    if version >= FormatVersion::V2 {
        file.push(required("content", 134, json!("int")));
    }
    file.push(required("file_path", 100, json!("string")));
    file.push(required("file_format", 101, json!("string")));
    let mut defined = Vec::new();
    let values = partition.spec().fields().iter().zip(names).zip(partition.types());
    let values: Vec<Value> = values
        .map(|((field, name), of)| {
            let mut json = match of {
                Some(of) => optional(name, field.field_id, partition_schema(of, &mut defined)),
                None => json!({"name": name, "type": "null", "default": null, "field-id": field.field_id}),
            };
            if *name != field.name {
                json["iceberg-field-name"] = field.name.as_str().into();
            }
            json
        })
        .collect();
    file.push(required("partition", 102, json!({"type": "record", "name": "r102", "fields": values})));
    file.push(required("record_count", 103, json!("long")));
    file.push(required("file_size_in_bytes", 104, json!("long")));
    if version == FormatVersion::V1 {
        file.push(required("block_size_in_bytes", 105, json!("long")));
    }
    for (name, id, key, value) in [
        ("column_sizes", 108, 117, 118),
        ("value_counts", 109, 119, 120),
        ("null_value_counts", 110, 121, 122),
        ("nan_value_counts", 137, 138, 139),
    ] {
        file.push(optional(name, id, map(key, value, "long")));
    }
    file.push(optional("lower_bounds", 125, map(126, 127, "bytes")));
    file.push(optional("upper_bounds", 128, map(129, 130, "bytes")));
    file.push(optional("key_metadata", 131, json!("bytes")));
    file.push(optional("split_offsets", 132, list(133, "long")));
    if version >= FormatVersion::V2 {
        file.push(optional("equality_ids", 135, list(136, "int")));
    }
    file.push(optional("sort_order_id", 140, json!("int")));
    if version >= FormatVersion::V3 {
        file.push(optional("first_row_id", 142, json!("long")));
    }
    if version >= FormatVersion::V2 {
        file.push(optional("referenced_data_file", 143, json!("string")));
    }
    if version >= FormatVersion::V3 {
        file.push(optional("content_offset", 144, json!("long")));
        file.push(optional("content_size_in_bytes", 145, json!("long")));
    }
    fields.push(required("data_file", 2, json!({"type": "record", "name": "r2", "fields": file})));
    json!({"type": "record", "name": "manifest_entry", "fields": fields})
}

pub(super) fn required(name: &str, id: i32, of: Value) -> Value {
    json!({"name": name, "type": of, "field-id": id})
}

pub(super) fn optional(name: &str, id: i32, of: Value) -> Value {
    json!({"name": name, "type": ["null", of], "default": null, "field-id": id})
}

fn list(id: i32, of: &str) -> Value {
    json!({"type": "array", "items": of, "element-id": id})
}

fn map(key: i32, value: i32, of: &str) -> Value {
    let pair = [required("key", key, json!("int")), required("value", value, json!(of))];
    let pair = json!({"type": "record", "name": format!("k{key}_v{value}"), "fields": pair});
    json!({"type": "array", "items": pair, "logicalType": "map"})
}

/// A type in Avro. What has a name is named where it was defined already.
fn partition_schema(of: &PrimitiveType, defined: &mut Vec<String>) -> Value {
    let mut named = |name: String, mut json: Value| {
        if defined.contains(&name) {
            return Value::String(name);
        }
        json["name"] = name.as_str().into();
        defined.push(name);
        json
    };
    let timestamp =
        |unit: &str, utc: bool| json!({"type": "long", "logicalType": unit, "adjust-to-utc": utc});
    match of {
        PrimitiveType::Boolean => json!("boolean"),
        PrimitiveType::Int => json!("int"),
        PrimitiveType::Long => json!("long"),
        PrimitiveType::Float => json!("float"),
        PrimitiveType::Double => json!("double"),
        PrimitiveType::Date => json!({"type": "int", "logicalType": "date"}),
        PrimitiveType::Time => json!({"type": "long", "logicalType": "time-micros"}),
        PrimitiveType::Timestamp => timestamp("timestamp-micros", false),
        PrimitiveType::Timestamptz => timestamp("timestamp-micros", true),
        PrimitiveType::TimestampNs => timestamp("timestamp-nanos", false),
        PrimitiveType::TimestamptzNs => timestamp("timestamp-nanos", true),
        PrimitiveType::String => json!("string"),
        PrimitiveType::Binary => json!("bytes"),
        PrimitiveType::Uuid => {
            named("uuid_fixed".to_string(), json!({"type": "fixed", "size": 16, "logicalType": "uuid"}))
        }
        PrimitiveType::Fixed(length) => {
            named(format!("fixed_{length}"), json!({"type": "fixed", "size": length}))
        }
        PrimitiveType::Decimal { precision, scale } => {
            let size = decimal_length(*precision);
            let json = json!({
                "type": "fixed", "size": size, "logicalType": "decimal", "precision": precision, "scale": scale
            });
            named(format!("decimal_{precision}_{scale}"), json)
        }
    }
}

/// The names of a spec's fields as Avro lets a manifest's columns be called, no two the same. Readers find them by their ids;
/// some of them open no file with a column of another name. What Iceberg Java leaves alone beyond ASCII is replaced too.
pub(super) fn avro_names(spec: &PartitionSpec) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(spec.fields().len());
    for field in spec.fields() {
        let name = avro_name(&field.name);
        let name = if names.contains(&name) { format!("{name}_{}", field.field_id) } else { name };
        names.push(name);
    }
    names
}

/// A name of ASCII letters, digits and underscores: other characters become `_x` and their code, a digit in front gets an
/// underscore before it, as in Iceberg Java (`AvroSchemaUtil.makeCompatibleName`).
fn avro_name(name: &str) -> String {
    let mut made = String::with_capacity(name.len());
    for (at, c) in name.chars().enumerate() {
        match c {
            '0'..='9' if at == 0 => made.extend(['_', c]),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => made.push(c),
            // Writing to a string can't fail.
            _ => drop(write!(made, "_x{:X}", u32::from(c))),
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use iceberg::spec::{NestedField, Schema, Transform, Type};

    use super::*;

    #[test]
    fn partition_fields_have_names_that_avro_takes_and_no_two_the_same() {
        let names = ["my col", "my_x20col", "1st", "\u{e9}t\u{e9}", "a.b", "plain_1"];
        let fields = (1..)
            .zip(names)
            .map(|(id, name)| NestedField::optional(id, name, Type::Primitive(PrimitiveType::String)).into());
        let schema = Arc::new(Schema::builder().with_fields(fields).build().unwrap());
        let mut builder = PartitionSpec::builder(schema).with_spec_id(3);
        for name in names {
            builder = builder.add_partition_field(name, name, Transform::Identity).unwrap();
        }
        let made = avro_names(&builder.build().unwrap());
        assert_eq!(made, ["my_x20col", "my_x20col_1001", "_1st", "_xE9t_xE9", "a_x2Eb", "plain_1"]);
    }
}
