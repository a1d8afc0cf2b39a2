//! Metadata JSON made ready for `iceberg`'s parser, which takes less than Iceberg Java does.
//!
//! Two kinds of things are done. What old writers left out and every reader has to work out is filled in, for good
//! ([`complete`]). What the parser refuses, though the format allows it, gets a stand-in ([`stand_in`]), which
//! [`Kept`](super::kept::Kept) takes out again when the metadata is written.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::format::foreign::{self, OfFile};

/// The field ids of partitions begin after this.
const BEFORE_PARTITION_IDS: i64 = 999;

/// Stands before the manifests of a snapshot that lists them itself, in the place of its manifest list's location.
pub(crate) const INLINE_MANIFESTS: &str = "\u{1f}manifests:";

fn objects(of: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    of.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn has(object: &Map<String, Value>, member: &str) -> bool {
    object.get(member).is_some_and(|value| !value.is_null())
}

/// Fills in what version 1 lets writers leave out: the table's id, the ids of partition fields, specs beside the default one. Repairs
/// a last partition id that is lower than an id in use.
pub(super) fn complete(json: &mut Map<String, Value>) {
    let first_version = json.get("format-version").and_then(Value::as_u64) == Some(1);
    if first_version && !has(json, "table-uuid") {
        let location = json.get("location").and_then(Value::as_str).unwrap_or_default();
        // Every reader finds the same one until a commit writes it.
        json.insert("table-uuid".to_string(), id_of(location).to_string().into());
    }
    if first_version {
        for schema in objects(json.get_mut("schemas")).filter(|schema| !has(schema, "schema-id")) {
            schema.insert("schema-id".to_string(), 0.into());
        }
    }
    if first_version && !has(json, "partition-specs") {
        let fields = json.get("partition-spec").filter(|spec| spec.is_array()).cloned();
        let fields = fields.unwrap_or_else(|| json!([]));
        json.insert("partition-specs".to_string(), json!([{ "spec-id": 0, "fields": fields }]));
        json.insert("default-spec-id".to_string(), 0.into());
    }
    let mut highest = BEFORE_PARTITION_IDS;
    let mut number = |fields: Option<&mut Value>| {
        for (id, field) in (BEFORE_PARTITION_IDS + 1..).zip(objects(fields)) {
            if !has(field, "field-id") {
                field.insert("field-id".to_string(), id.into());
            }
            highest = highest.max(field.get("field-id").and_then(Value::as_i64).unwrap_or_default());
        }
    };
    number(json.get_mut("partition-spec"));
    for spec in objects(json.get_mut("partition-specs")) {
        number(spec.get_mut("fields"));
    }
    let last = json.get("last-partition-id").and_then(Value::as_i64);
    if last.is_none_or(|last| last < highest && highest > BEFORE_PARTITION_IDS) {
        json.insert("last-partition-id".to_string(), highest.into());
    }
}

/// Times, in milliseconds, and numbers that are counted on from end here: what `iceberg` works out of them must not overflow.
const MOST: i64 = 1 << 53;
/// Ids of partition fields, schemas, specs and sort orders end here: each new one is the highest and one.
const MOST_ID: i64 = 1 << 30;

/// Refuses times, numbers and ids that no table gets to: they are added to and subtracted, by `iceberg` unchecked.
pub(super) fn check_numbers(json: &Map<String, Value>) -> Result<()> {
    let of_table = ["last-updated-ms", "last-sequence-number", "next-row-id"];
    let of_table = of_table.into_iter().map(|member| (member, json.get(member)));
    let lists = ["snapshots", "snapshot-log", "metadata-log"].into_iter();
    let entries = lists.flat_map(|list| json.get(list).and_then(Value::as_array).into_iter().flatten());
    let of_entries = entries
        .flat_map(|entry| ["timestamp-ms", "sequence-number"].map(|member| (member, entry.get(member))));
    let numbers = of_table.chain(of_entries).map(|(member, value)| (member, value, MOST));
    let ids = [("schemas", "schema-id"), ("partition-specs", "spec-id"), ("sort-orders", "order-id")];
    let ids = ids.into_iter().flat_map(|(list, member)| {
        let of_list = json.get(list).and_then(Value::as_array).into_iter().flatten();
        of_list.map(move |entry| (member, entry.get(member), MOST_ID))
    });
    let last = "last-partition-id";
    for (member, value, most) in numbers.chain(ids).chain([(last, json.get(last), MOST_ID)]) {
        if let Some(value) = value.and_then(Value::as_i64).filter(|value| !(-most..=most).contains(value)) {
            let message = "the metadata has a time, number or id that no table gets to; restore the metadata file or register an \
                           earlier one";
            return Err(Error::data_invalid(message).with(member, value));
        }
    }
    Ok(())
}

/// An id made of a text.
fn id_of(text: &str) -> Uuid {
    // FNV-1a, twice, from different starts.
    let hash = |start: u64| {
        text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    let bytes = (u128::from(hash(0xcbf2_9ce4_8422_2325)) << 64) | u128::from(hash(0x6c62_272e_07bb_0142));
    uuid::Builder::from_custom_bytes(bytes.to_be_bytes()).into_uuid()
}

/// Puts stand-ins for what the parser refuses.
pub(super) fn stand_in(json: &mut Map<String, Value>) -> Result<()> {
    // A member that is null is one that is left out.
    json.retain(|_, value| !value.is_null());
    let version = json.get("format-version").and_then(Value::as_u64).unwrap_or_default();
    if let Some(id) = json.get("table-uuid").and_then(Value::as_str)
        && Uuid::parse_str(id).is_err()
    {
        let id = id_of(id).to_string();
        json.insert("table-uuid".to_string(), id.into());
    }
    let mut types = OfFile::default();
    if let Some(schema) = json.get_mut("schema") {
        foreign::hide(schema, &mut types)?;
    }
    for schema in json.get_mut("schemas").and_then(Value::as_array_mut).into_iter().flatten() {
        foreign::hide(schema, &mut types)?;
    }
    let columns = columns(json);
    let default_spec = json.get("default-spec-id").cloned();
    for spec in objects(json.get_mut("partition-specs")) {
        let is_default = spec.get("spec-id") == default_spec.as_ref();
        for field in objects(spec.get_mut("fields")) {
            partition_field(field, is_default.then_some(&columns));
        }
    }
    for field in objects(json.get_mut("partition-spec")) {
        partition_field(field, Some(&columns));
    }
    for order in objects(json.get_mut("sort-orders")) {
        for field in objects(order.get_mut("fields")) {
            one_source(field);
            transform(field);
            for member in ["direction", "null-order"] {
                if let Some(Value::String(text)) = field.get_mut(member) {
                    *text = text.to_ascii_lowercase();
                }
            }
        }
    }
    for snapshot in objects(json.get_mut("snapshots")) {
        prepare_snapshot(snapshot, version);
    }
    Ok(())
}

fn prepare_snapshot(snapshot: &mut Map<String, Value>, version: u64) {
    // Java writes none of those from before an upgrade.
    if version > 1 && !has(snapshot, "sequence-number") {
        snapshot.insert("sequence-number".to_string(), 0.into());
    }
    // Some writers have it for none.
    if snapshot.get("parent-snapshot-id").and_then(Value::as_i64) == Some(-1) {
        snapshot.remove("parent-snapshot-id");
    }
    if has(snapshot, "manifest-list") {
        snapshot.remove("manifests");
    } else if let Some(manifests) = snapshot.remove("manifests") {
        snapshot.insert("manifest-list".to_string(), format!("{INLINE_MANIFESTS}{manifests}").into());
    }
    let known = |operation: &Value| {
        ["append", "replace", "overwrite", "delete"].iter().any(|known| operation.as_str() == Some(known))
    };
    match snapshot.get_mut("summary") {
        Some(Value::Object(summary)) => {
            if !summary.get("operation").is_some_and(known) {
                // Of all operations it is the one that allows no conclusion.
                summary.insert("operation".to_string(), "overwrite".into());
            }
        }
        _ => {
            snapshot.insert("summary".to_string(), json!({ "operation": "overwrite" }));
        }
    }
}

/// The ids of the current schema's columns of primitive types, those at its top first.
fn columns(json: &Map<String, Value>) -> Vec<i64> {
    fn collect(fields: &Value, into: &mut Vec<i64>) {
        let fields = || fields.get("fields").and_then(Value::as_array).into_iter().flatten();
        for field in fields() {
            if let (Some(Value::String(_)), Some(id)) =
                (field.get("type"), field.get("id").and_then(Value::as_i64))
            {
                into.push(id);
            }
        }
        for of in fields().filter_map(|field| field.get("type")) {
            collect(of, into);
        }
    }
    let current = json.get("current-schema-id");
    let schemas = json.get("schemas").and_then(Value::as_array);
    let of =
        schemas.into_iter().flatten().find(|schema| current.is_some() && schema.get("schema-id") == current);
    let mut ids = Vec::new();
    if let Some(schema) = of.or(json.get("schema")) {
        collect(schema, &mut ids);
    }
    ids
}

fn partition_field(field: &mut Map<String, Value>, columns: Option<&Vec<i64>>) {
    one_source(field);
    transform(field);
    // A void field needs no column: its values are NULL. The parser needs one to know their type.
    let is_void = field.get("transform").and_then(Value::as_str) == Some("void");
    if let (true, Some(columns)) = (is_void, columns)
        && let Some(other) = columns.first()
        && !field.get("source-id").and_then(Value::as_i64).is_some_and(|id| columns.contains(&id))
    {
        field.insert("source-id".to_string(), (*other).into());
    }
}

/// The one source that the parser asks for, of a field that names several.
fn one_source(field: &mut Map<String, Value>) {
    if !has(field, "source-id")
        && let Some(first) = field.get("source-ids").and_then(|ids| ids.get(0)).cloned()
    {
        field.insert("source-id".to_string(), first);
    }
}

/// A transform in the parser's words: in lower case, and `unknown` for those that it does not know.
fn transform(field: &mut Map<String, Value>) {
    let Some(Value::String(text)) = field.get_mut("transform") else { return };
    let lower = text.to_ascii_lowercase();
    let with_number = |name: &str| {
        let number = lower.strip_prefix(name).and_then(|rest| rest.strip_prefix('[')?.strip_suffix(']'));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let known = ["identity", "year", "month", "day", "hour", "void", "unknown"].contains(&lower.as_str())
        || with_number("bucket")
        || with_number("truncate");
    *text = if known { lower } else { "unknown".to_string() };
}

/// Sorts what the typed metadata has in no order by its ids, so that the same metadata is always written alike.
pub(super) fn sort(json: &mut Map<String, Value>) {
    let number = |thing: &Value, member: &str| thing.get(member).and_then(Value::as_i64).unwrap_or_default();
    for (list, members) in [
        ("schemas", &["schema-id"][..]),
        ("partition-specs", &["spec-id"]),
        ("sort-orders", &["order-id"]),
        ("snapshots", &["sequence-number", "timestamp-ms", "snapshot-id"]),
        ("statistics", &["snapshot-id"]),
        ("partition-statistics", &["snapshot-id"]),
    ] {
        if let Some(Value::Array(things)) = json.get_mut(list) {
            things.sort_by_cached_key(|thing| members.iter().map(|by| number(thing, by)).collect::<Vec<_>>());
        }
    }
    if let Some(Value::Array(keys)) = json.get_mut("encryption-keys") {
        keys.sort_by_cached_key(|key| key.get("key-id").map(Value::to_string));
        for key in keys.iter_mut().filter_map(Value::as_object_mut) {
            key.retain(|_, value| !value.is_null());
        }
    }
    let schemas = json.get_mut("schemas").and_then(Value::as_array_mut).into_iter().flatten();
    for schema in schemas {
        sort_identifiers(schema);
    }
    json.get_mut("schema").into_iter().for_each(sort_identifiers);
}

fn sort_identifiers(schema: &mut Value) {
    if let Some(Value::Array(ids)) = schema.get_mut("identifier-field-ids") {
        ids.sort_by_key(|id| id.as_i64().unwrap_or_default());
    }
}

/// The locations of the manifests that a snapshot of version 1 lists itself, of what stands in the place of its manifest
/// list's location.
pub(crate) fn inline_manifests(manifest_list: &str) -> Option<Vec<String>> {
    serde_json::from_str(manifest_list.strip_prefix(INLINE_MANIFESTS)?).ok()
}
