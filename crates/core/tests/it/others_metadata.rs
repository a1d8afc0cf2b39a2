//! Metadata as other writers leave it: what Iceberg Java reads is read, and goes on.

use iceberg::spec::FormatVersion;
use icefield_core::format::Metadata;
use serde_json::{Value, json};

use crate::metadata::{FILES, assert_kept, commit, file, registered, set, written};

type Edit = fn(&mut Value);

fn without(json: &mut Value, members: &[&str]) {
    members.iter().for_each(|member| drop(json.as_object_mut().unwrap().remove(*member)));
}

/// Members that writers leave out or write otherwise, in every version.
const OF_ALL: [(&str, Edit); 16] = [
    ("no refs", |json| without(json, &["refs"])),
    ("refs are null", |json| json["refs"] = Value::Null),
    ("no logs", |json| without(json, &["snapshot-log", "metadata-log"])),
    ("logs are null", |json| {
        json["snapshot-log"] = Value::Null;
        json["metadata-log"] = Value::Null;
    }),
    ("no properties", |json| without(json, &["properties"])),
    ("properties are null", |json| json["properties"] = Value::Null),
    ("no statistics", |json| without(json, &["statistics", "partition-statistics"])),
    ("statistics are null", |json| {
        json["statistics"] = Value::Null;
        json["partition-statistics"] = Value::Null;
    }),
    ("no snapshots", |json| {
        without(
            json,
            &[
                "snapshots",
                "refs",
                "snapshot-log",
                "current-snapshot-id",
                "statistics",
                "partition-statistics",
            ],
        );
    }),
    ("snapshots are null", |json| {
        without(json, &["refs", "snapshot-log", "statistics", "partition-statistics"]);
        json["snapshots"] = Value::Null;
        json["current-snapshot-id"] = Value::Null;
    }),
    ("current snapshot is -1", |json| {
        without(json, &["refs"]);
        json["current-snapshot-id"] = json!(-1);
    }),
    ("no current snapshot, no refs of main", |json| {
        without(json, &["current-snapshot-id"]);
        json["refs"] = json!({});
    }),
    ("a slash ends the location", |json| json["location"] = "memory://w/db/t/".into()),
    ("snapshots without schema", |json| {
        json.get_mut("snapshots")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .for_each(|snapshot| without(snapshot, &["schema-id"]));
    }),
    ("identifiers are null", |json| {
        let schemas = json.get_mut("schemas").and_then(Value::as_array_mut);
        schemas.into_iter().flatten().for_each(|schema| schema["identifier-field-ids"] = Value::Null);
    }),
    ("keys are null", |json| json["encryption-keys"] = Value::Null),
];

/// Members that version 1 lets writers leave out.
const OF_VERSION_1: [(&str, Edit); 8] = [
    ("no schemas", |json| without(json, &["schemas", "current-schema-id"])),
    ("schemas are null", |json| {
        json["schemas"] = Value::Null;
        json["current-schema-id"] = Value::Null;
    }),
    ("no specs", |json| without(json, &["partition-specs", "default-spec-id"])),
    ("specs are null", |json| {
        json["partition-specs"] = Value::Null;
        json["default-spec-id"] = Value::Null;
        json["last-partition-id"] = Value::Null;
    }),
    ("no sort orders", |json| without(json, &["sort-orders", "default-sort-order-id"])),
    ("sort orders are null", |json| {
        json["sort-orders"] = Value::Null;
        json["default-sort-order-id"] = Value::Null;
    }),
    ("no uuid", |json| without(json, &["table-uuid"])),
    ("the schema alone, without an id", |json| {
        without(json, &["schemas", "current-schema-id"]);
        without(&mut json["schema"], &["schema-id"]);
    }),
];

#[tokio::test]
async fn what_writers_leave_out_is_read_and_goes_on() {
    let mut failed = Vec::new();
    for (name, _) in FILES {
        let of_version = if file(name)["format-version"] == 1 { &OF_VERSION_1[..] } else { &[] };
        for (what, edit) in OF_ALL.iter().chain(of_version) {
            let mut json = file(name);
            edit(&mut json);
            if let Err(e) = Metadata::from_json(json.clone()) {
                failed.push(format!(
                    "{name}: {what}: {e} {:?}",
                    std::error::Error::source(&e).map(|e| e.to_string())
                ));
                continue;
            }
            let outcome = tokio::spawn(async move {
                let (catalog, table) = registered(&json).await;
                let table = commit(&catalog, &table, vec![set("a", "b")]).await;
                let after = written(&table).await;
                let mut before = json.clone();
                let mut after = after;
                for json in [&mut before, &mut after] {
                    json.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                }
                assert_kept(
                    &before,
                    &after,
                    &["properties", "last-updated-ms", "metadata-log", "schemas", "identifier-field-ids"],
                );
                if table.metadata().format_version() == FormatVersion::V1 {
                    let upgrade =
                        iceberg::TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V2 };
                    commit(&catalog, &table, vec![upgrade]).await;
                }
            });
            if outcome.await.is_err() {
                eprintln!("^^^ {name}: {what}");
                failed.push(format!("{name}: {what}: see above"));
            }
        }
    }
    assert_eq!(failed, [""; 0], "{failed:#?}");
}
