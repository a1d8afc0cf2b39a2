//! Metadata files that Spark, Iceberg Java, PyIceberg and the Python library before it wrote (`tests/metadata/written`, with the scripts that made them) are
//! read, changed and written, and keep all that is not changed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use icefield_core::format::Metadata;
use serde_json::Value;

use super::metadata::{
    BY_A_PROPERTY, assert_kept, assert_kept_through_changes, commit, differences, registered, set, written,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/metadata/written")
}

/// What is written of a file that is read. PyIceberg leaves a table's first spec where version 1 has the default one: that is
/// mended.
fn mended(name: &str, json: &Value) -> Value {
    let mut json = json.clone();
    if json["format-version"] == 1 {
        let specs = json["partition-specs"].as_array().unwrap();
        let default = specs.iter().find(|spec| spec["spec-id"] == json["default-spec-id"]).unwrap();
        let default = default["fields"].clone();
        assert!(json["partition-spec"] == default || name.starts_with("pyiceberg-"), "{name}");
        json["partition-spec"] = default;
    }
    json
}

/// The files by name: as many as their list, in the folder's README, has.
fn files() -> Vec<(String, Value)> {
    let list = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let listed: BTreeSet<String> = list
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_string()))
        .collect();
    let names =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<String> =
        names.filter_map(|name| Some(name.strip_suffix(".metadata.json")?.to_string())).collect();
    assert_eq!(found, listed);
    let writers: BTreeSet<&str> = found.iter().filter_map(|name| name.split('-').next()).collect();
    assert_eq!(writers, BTreeSet::from(["java", "legacy", "pyiceberg", "spark"]));
    let read = |name: String| {
        let text = std::fs::read_to_string(folder().join(format!("{name}.metadata.json"))).unwrap();
        let json = serde_json::from_str(&text).unwrap();
        (name, json)
    };
    found.into_iter().map(read).collect()
}

#[test]
fn metadata_of_other_writers_is_read_whole() {
    for (name, json) in files().into_iter().filter(|(name, _)| !name.starts_with("legacy-")) {
        let metadata = Metadata::from_json(json.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = metadata.to_json().unwrap();
        assert_eq!(differences(&mended(&name, &json), &again), [""; 0], "{name}");
        let count = |member: &str| match &json[member] {
            Value::Array(all) => all.len(),
            Value::Object(all) => all.len(),
            _ => 0,
        };
        let typed = [
            ("schemas", metadata.schemas_iter().count()),
            ("partition-specs", metadata.partition_specs_iter().count()),
            ("sort-orders", metadata.sort_orders_iter().count()),
            ("snapshots", metadata.snapshots().count()),
            ("metadata-log", metadata.metadata_log().len()),
            ("refs", metadata.references().len()),
            ("properties", metadata.properties().len()),
            ("statistics", metadata.statistics_iter().count()),
            ("partition-statistics", metadata.partition_statistics_iter().count()),
            ("encryption-keys", metadata.encryption_keys_iter().count()),
        ];
        for (member, found) in typed {
            assert_eq!(found, count(member), "{name}: {member}");
        }
        let current = json["current-snapshot-id"].as_i64().filter(|id| *id != -1);
        assert_eq!(metadata.current_snapshot_id(), current, "{name}");
        assert_eq!(json["current-schema-id"], metadata.current_schema_id(), "{name}");
        assert_eq!(json["default-spec-id"], metadata.default_partition_spec_id(), "{name}");
        assert_eq!(json["default-sort-order-id"], metadata.default_sort_order_id(), "{name}");
        assert_eq!(json["format-version"], metadata.format_version() as u8, "{name}");
    }
}

#[tokio::test]
async fn metadata_of_other_writers_is_kept_whole_through_changes() {
    for (name, json) in files().into_iter().filter(|(name, _)| !name.starts_with("legacy-")) {
        assert_kept_through_changes(&mended(&name, &json), &name).await;
    }
}

/// It knows neither ids of tables and schemas nor branches, and has a snapshot's manifests and operation beside its summary.
#[tokio::test]
async fn metadata_of_a_writer_before_them_is_completed_and_kept() {
    for (name, json) in files().into_iter().filter(|(name, _)| name.starts_with("legacy-")) {
        let metadata = Metadata::from_json(json.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_kept(&json, &metadata.to_json().unwrap(), &[]);
        let snapshots = json["snapshots"].as_array().unwrap();
        assert_eq!(metadata.snapshots().count(), snapshots.len(), "{name}");
        assert_eq!(json["default-spec-id"], metadata.default_partition_spec_id(), "{name}");
        let current = snapshots.last().and_then(|last| last["snapshot-id"].as_i64());
        assert_eq!(metadata.current_snapshot_id(), current, "{name}");
        let main = current.map(|id| ("main", id));
        let references = metadata.references().iter().map(|(name, of)| (name.as_str(), of.snapshot_id));
        assert_eq!(references.collect::<Vec<_>>(), Vec::from_iter(main), "{name}");

        let (catalog, table) = registered(&json).await;
        let table = commit(&catalog, &table, vec![set("a", "b")]).await;
        let after = written(&table).await;
        assert_kept(&json, &after, &BY_A_PROPERTY);
        assert_eq!(after["snapshots"], json["snapshots"], "{name}");
    }
}
