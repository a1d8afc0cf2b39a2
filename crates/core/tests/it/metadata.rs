//! Metadata is kept whole: what a file has, whoever wrote it, is what is written again, but for what was changed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use iceberg::spec::{FormatVersion, SnapshotReference, SnapshotRetention};
use iceberg::{TableRequirement, TableUpdate};
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, Expect, MemoryCatalog, NamespaceIdent, parse_ident,
};
use icefield_core::evolve::{MetadataEdit, PartitionUpdate, SchemaUpdate, types};
use icefield_core::format::{Metadata, initial_default, write_default};
use icefield_core::storage::Storage;
use icefield_core::{AsOf, ErrorKind, Table};
use serde_json::{Value, json};

pub(crate) const FILES: [(&str, &str); 6] = [
    ("v1-of-the-first-writers", include_str!("../metadata/v1-of-the-first-writers.json")),
    ("v1-with-tags", include_str!("../metadata/v1-with-tags.json")),
    ("v1-with-void-fields", include_str!("../metadata/v1-with-void-fields.json")),
    ("v2-minimal", include_str!("../metadata/v2-minimal.json")),
    ("v2-with-all-members", include_str!("../metadata/v2-with-all-members.json")),
    ("v3-with-all-members", include_str!("../metadata/v3-with-all-members.json")),
];

pub(crate) fn file(name: &str) -> Value {
    let (_, text) = FILES.iter().find(|(other, _)| *other == name).unwrap();
    serde_json::from_str(text).unwrap()
}

/// A table of this metadata in a catalog. Where it says that it is, is in memory.
pub(crate) async fn registered(json: &Value) -> (Arc<MemoryCatalog>, Table) {
    let moved = [("file:///warehouse", "memory://w/warehouse"), ("file:///moved", "memory://w/moved")];
    let catalog = Arc::new(MemoryCatalog::new("memory://w", Storage::new().with_mappings(moved).unwrap()));
    catalog.create_namespace(&NamespaceIdent::new("db".to_string()), HashMap::new()).await.unwrap();
    let location = "memory://w/db/t/metadata/00001-a.metadata.json";
    catalog.storage().write(location, json.to_string()).await.unwrap();
    let table = catalog.register_table(&parse_ident("db.t").unwrap(), location).await.unwrap();
    (catalog, table)
}

/// What the table's metadata file has.
pub(crate) async fn written(table: &Table) -> Value {
    let bytes = table.storage().read(table.metadata_location()).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

pub(crate) async fn commit(catalog: &MemoryCatalog, table: &Table, updates: Vec<TableUpdate>) -> Table {
    let requirements = vec![TableRequirement::UuidMatch { uuid: table.metadata().uuid() }];
    let request =
        CommitRequest { ident: table.ident().clone(), expect: Expect::Requirements(requirements), updates };
    match catalog.commit(vec![request]).await {
        CommitOutcome::Done(mut tables) => {
            let table = tables.pop().unwrap();
            // What a commit gives back is what the file says.
            let loaded =
                icefield_core::format::load_metadata(table.storage(), table.metadata_location()).await;
            let loaded = loaded.unwrap();
            assert_eq!(*loaded.typed(), table.metadata_ref());
            assert_eq!(loaded.references(), table.references());
            assert_eq!(loaded.to_json().unwrap(), table.whole().to_json().unwrap());
            table
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn set(key: &str, value: &str) -> TableUpdate {
    TableUpdate::SetProperties { updates: [(key.to_string(), value.to_string())].into() }
}

pub(crate) async fn evolve(catalog: &MemoryCatalog, table: &Table, edit: impl Into<MetadataEdit>) -> Table {
    let change = edit.into().apply(table.metadata()).unwrap();
    commit(catalog, table, change.updates).await
}

/// Asserts that `after` has all that `before` has, the same values at the same places, but for members named in `changed`.
/// Members that only `after` has are those that every writer adds.
pub(crate) fn assert_kept(before: &Value, after: &Value, changed: &[&str]) {
    fn compare(path: &str, before: &Value, after: &Value, changed: &[&str]) {
        match (before, after) {
            (Value::Object(b), Value::Object(a)) => {
                for (name, value) in b.iter().filter(|(name, _)| !changed.contains(&name.as_str())) {
                    let path = format!("{path}/{name}");
                    let now = a.get(name).unwrap_or_else(|| panic!("{path} is gone: {value}"));
                    compare(&path, value, now, changed);
                }
                const COMPLETED: [&str; 14] = [
                    "schema-id",
                    "field-id",
                    "table-uuid",
                    "refs",
                    "schemas",
                    "current-schema-id",
                    "partition-specs",
                    "default-spec-id",
                    "last-partition-id",
                    "sort-orders",
                    "default-sort-order-id",
                    "snapshot-log",
                    "metadata-log",
                    "properties",
                ];
                for name in a.keys().filter(|name| !b.contains_key(*name)) {
                    let allowed = COMPLETED.contains(&name.as_str()) || changed.contains(&name.as_str());
                    assert!(allowed, "{path}/{name} is new: {}", a[name]);
                }
            }
            (Value::Array(b), Value::Array(a)) => {
                assert_eq!(b.len(), a.len(), "{path}: {b:?} {a:?}");
                b.iter()
                    .zip(a)
                    .enumerate()
                    .for_each(|(i, (b, a))| compare(&format!("{path}/{i}"), b, a, changed));
            }
            _ => assert_eq!(before, after, "{path}"),
        }
    }
    compare("", before, after, changed);
}

/// Where two JSON documents differ, and what they have there.
pub(crate) fn differences(expected: &Value, found: &Value) -> Vec<String> {
    fn compare(path: &str, expected: Option<&Value>, found: Option<&Value>, all: &mut Vec<String>) {
        match (expected, found) {
            (Some(Value::Object(e)), Some(Value::Object(f))) => {
                let names: BTreeSet<&String> = e.keys().chain(f.keys()).collect();
                for name in names {
                    compare(&format!("{path}/{name}"), e.get(name), f.get(name), all);
                }
            }
            (Some(Value::Array(e)), Some(Value::Array(f))) => {
                for i in 0..e.len().max(f.len()) {
                    compare(&format!("{path}/{i}"), e.get(i), f.get(i), all);
                }
            }
            _ if expected == found => {}
            _ => all.push(format!("{path}: {expected:?} is {found:?}")),
        }
    }
    let mut all = Vec::new();
    compare("", Some(expected), Some(found), &mut all);
    all
}

pub(crate) const BY_A_PROPERTY: [&str; 3] = ["properties", "last-updated-ms", "metadata-log"];

/// Asserts that the next metadata files of a table have all of this one but for what changes: when a property is set, a column
/// comes, a tag comes, and the format's version is raised.
pub(crate) async fn assert_kept_through_changes(json: &Value, what: &str) {
    let (catalog, table) = registered(json).await;
    let table = commit(&catalog, &table, vec![set("a", "b")]).await;
    let after = written(&table).await;
    let mut expected = json.clone();
    for changed in BY_A_PROPERTY {
        expected[changed] = after[changed].clone();
    }
    assert_eq!(differences(&expected, &after), [""; 0], "{what}");
    let mut properties = json["properties"].as_object().cloned().unwrap_or_default();
    properties.insert("a".to_string(), "b".into());
    assert_eq!(after["properties"], Value::Object(properties), "{what}");
    // The log has the file that was, and of those before as many as the table's properties let it have.
    let logs = [json, &after].map(|json| json["metadata-log"].as_array().cloned().unwrap_or_default());
    let (last, others) = logs[1].split_last().unwrap();
    assert_eq!(last["timestamp-ms"], json["last-updated-ms"], "{what}");
    assert!(logs[0].ends_with(others), "{what}");
    let most = json["properties"]["write.metadata.previous-versions-max"].as_str();
    let most = most.map_or(100, |most| most.parse().unwrap());
    assert_eq!(logs[1].len(), most.min(logs[0].len() + 1), "{what}");

    // A column is added: all that was there stays, and the new schema has each old column as it was.
    let table = evolve(&catalog, &table, SchemaUpdate::new().add_column("new column", types::int())).await;
    let after = written(&table).await;
    let current = |json: &Value| {
        let id = json["current-schema-id"].clone();
        let schemas = json["schemas"].as_array().unwrap();
        schemas.iter().find(|schema| schema["schema-id"] == id).unwrap()["fields"].as_array().unwrap().clone()
    };
    let (old, new) = (current(json), current(&after));
    // A type in capitals is written as every writer has it.
    let plain = |fields: &[Value]| {
        serde_json::to_string(fields)
            .unwrap()
            .replace("LONG", "long")
            .replace("decimal(9,2)", "decimal(9, 2)")
    };
    assert_eq!(plain(&new[..old.len()]), plain(&old), "{what}");
    let mut changed = vec!["schema", "current-schema-id", "schemas", "last-column-id"];
    changed.extend(BY_A_PROPERTY);
    assert_kept(json, &after, &changed);
    for (before, now) in json["schemas"].as_array().unwrap().iter().zip(after["schemas"].as_array().unwrap())
    {
        assert_eq!(before, now, "{what}");
    }

    // A tag, and an upgrade.
    let mut table = table;
    if let Some(head) = table.metadata().current_snapshot_id() {
        let reference = SnapshotReference::new(head, SnapshotRetention::Tag { max_ref_age_ms: None });
        let update = TableUpdate::SetSnapshotRef { ref_name: "new tag".to_string(), reference };
        table = commit(&catalog, &table, vec![update]).await;
        let mut refs = json["refs"].clone();
        refs["new tag"] = json!({"snapshot-id": head, "type": "tag"});
        assert_eq!(written(&table).await["refs"], refs, "{what}");
    }
    let upgrade = TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V3 };
    let table = commit(&catalog, &table, vec![upgrade]).await;
    let after = written(&table).await;
    changed.extend([
        "format-version",
        "partition-spec",
        "last-sequence-number",
        "sequence-number",
        "next-row-id",
        "refs",
    ]);
    assert_kept(json, &after, &changed);
    commit(&catalog, &table, vec![set("a", "c")]).await;
}

#[tokio::test]
async fn metadata_of_every_version_is_written_as_it_was_read() {
    for (name, _) in FILES {
        let json = file(name);
        let metadata = Metadata::from_json(json.clone()).unwrap();
        let again = metadata.to_json().unwrap();
        assert_kept(&json, &again, &[]);
        // And is read alike.
        let reread = Metadata::from_json(again.clone()).unwrap();
        assert_eq!(reread.typed(), metadata.typed(), "{name}");
        assert_eq!(reread.to_json().unwrap(), again, "{name}");

        let (catalog, table) = registered(&json).await;
        let table = commit(&catalog, &table, vec![set("a", "b")]).await;
        let after = written(&table).await;
        assert_kept(&json, &after, &BY_A_PROPERTY);
        assert_eq!(after["properties"]["a"], "b");
        let log = after["metadata-log"].as_array().unwrap();
        let before = json["metadata-log"].as_array().cloned().unwrap_or_default();
        assert_eq!(log[..log.len() - 1], before[..]);
        assert_eq!(log.last().unwrap()["timestamp-ms"], json["last-updated-ms"]);
        let text = after.to_string();
        assert!(!text.contains("fixed[") && !text.contains("\\u001f{"), "{name}: {text}");
    }
}

#[tokio::test]
async fn an_upgrade_keeps_all_that_metadata_has() {
    for (name, _) in FILES {
        let json = file(name);
        let (catalog, table) = registered(&json).await;
        for version in [FormatVersion::V2, FormatVersion::V3] {
            if table.metadata().format_version() >= version {
                continue;
            }
            let upgrade = TableUpdate::UpgradeFormatVersion { format_version: version };
            let table = commit(&catalog, &table, vec![upgrade]).await;
            let after = written(&table).await;
            let of_versions = [
                "format-version",
                "schema",
                "partition-spec",
                "last-sequence-number",
                "sequence-number",
                "next-row-id",
                "last-updated-ms",
                "metadata-log",
                "properties",
            ];
            assert_kept(&json, &after, &of_versions);
            assert_eq!(after["format-version"], version as u8);
            assert!(after.get("schema").is_none() && after.get("partition-spec").is_none());
            commit(&catalog, &table, vec![set("a", "b")]).await;
        }
    }
}

#[tokio::test]
async fn branches_and_tags_of_version_1_are_read_and_kept() {
    let json = file("v1-with-tags");
    let (catalog, table) = registered(&json).await;
    let names = |table: &Table| table.references().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&table), ["audit", "eoy", "main"]);
    assert_eq!(icefield_core::table::references(table.metadata()), table.references());
    let tag = table.snapshot_as_of(&AsOf::Ref("eoy".to_string())).unwrap().unwrap();
    assert_eq!(tag.snapshot_id(), 1);
    assert_eq!(table.metadata().last_updated_ms(), 1602638573874);
    assert_eq!(table.metadata().snapshot_for_ref("audit").unwrap().snapshot_id(), 2);
    let main = table.reference("main").unwrap();
    assert_eq!(main.retention, SnapshotRetention::branch(Some(2), Some(86_400_000), None));

    // Tags are made and dropped.
    let reference = SnapshotReference::new(2, SnapshotRetention::Tag { max_ref_age_ms: None });
    let tagged = TableUpdate::SetSnapshotRef { ref_name: "new".to_string(), reference };
    let table = commit(&catalog, &table, vec![tagged]).await;
    let table =
        commit(&catalog, &table, vec![TableUpdate::RemoveSnapshotRef { ref_name: "audit".into() }]).await;
    assert_eq!(names(&table), ["eoy", "main", "new"]);
    let refs = written(&table).await["refs"].clone();
    assert_eq!(refs["eoy"], json["refs"]["eoy"]);
    assert_eq!(refs["main"], json["refs"]["main"]);
    assert_eq!(refs["new"], json!({"snapshot-id": 2, "type": "tag"}));
    assert_eq!(written(&table).await["snapshot-log"], json["snapshot-log"]);

    // They stay through an upgrade, and what is dropped does not come again.
    let upgrade = TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V2 };
    let table = commit(&catalog, &table, vec![upgrade]).await;
    assert_eq!(written(&table).await["refs"], refs);
    // Removing a tag's snapshot is refused unless the tag goes with it.
    let request = CommitRequest {
        ident: table.ident().clone(),
        expect: Expect::Requirements(Vec::new()),
        updates: vec![TableUpdate::RemoveSnapshots { snapshot_ids: vec![1] }],
    };
    assert!(matches!(catalog.commit(vec![request]).await, CommitOutcome::Conflict(_)));
}

#[tokio::test]
async fn void_fields_stay_whatever_becomes_of_their_columns() {
    let json = file("v1-with-void-fields");
    let (catalog, table) = registered(&json).await;
    // The source of the first is gone, two are of one column, and one is called like a column.
    let names = |table: &Table| {
        let spec = table.metadata().default_partition_spec();
        spec.fields().iter().map(|field| field.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&table), ["day_of_ts", "id_bucket_8", "id_bucket_16", "kept", "id_bucket_32"]);
    let tag = |table: &Table| table.reference("first").map(|tag| tag.snapshot_id);
    assert_eq!(tag(&table), Some(1));

    // Another column that only a void field is made from goes.
    let table = evolve(&catalog, &table, SchemaUpdate::new().drop_column("kept")).await;
    let after = written(&table).await;
    assert_eq!(after["partition-specs"], json["partition-specs"]);
    assert_eq!(after["schemas"].as_array().unwrap().len(), 3);
    assert_eq!(after["last-column-id"], 4);
    // The next spec has them all, with the columns that they were made from.
    let table = evolve(&catalog, &table, PartitionUpdate::new().remove_field("id_bucket_32")).await;
    let after = written(&table).await;
    let mut expected = json["partition-specs"][1]["fields"].clone();
    expected[4]["transform"] = "void".into();
    assert_eq!(after["partition-specs"][2]["fields"], expected);
    assert_eq!(after["partition-spec"], expected);
    assert_eq!((after["last-partition-id"].as_i64(), tag(&table)), (Some(1004), Some(1)));
    assert_eq!(after["refs"], json["refs"]);
    let added = SchemaUpdate::new().add_column("more", types::string());
    let table = evolve(&catalog, &table, added).await;
    assert_eq!(table.schema().field_by_name("more").unwrap().id, 5);
    let upgrade = TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V2 };
    let table = commit(&catalog, &table, vec![upgrade]).await;
    assert_eq!((written(&table).await["refs"].clone(), tag(&table)), (json["refs"].clone(), Some(1)));
}

#[tokio::test]
async fn defaults_that_iceberg_can_not_hold_are_read_and_kept() {
    let json = file("v3-with-all-members");
    let (catalog, table) = registered(&json).await;
    let of = |table: &Table, name: &str| {
        let field = table.schema().field_by_name(name).unwrap().clone();
        let show = |value: Option<iceberg::spec::Literal>| match value {
            Some(iceberg::spec::Literal::Primitive(value)) => format!("{value:?}"),
            other => format!("{other:?}"),
        };
        (show(initial_default(&field).unwrap()), show(write_default(&field).unwrap()))
    };
    let micros = "Long(-500000)".to_string();
    assert_eq!(of(&table, "early"), (micros.clone(), micros));
    assert_eq!(of(&table, "ns"), ("Long(1577836800000000001)".to_string(), "Long(-1)".to_string()));
    assert_eq!(of(&table, "nstz").1, "Long(1577836800000000000)");
    assert_eq!(of(&table, "long_decimal").0, "Int128(-12345678901234567890123456789012345678)");
    assert_eq!(of(&table, "s.at").0, "Long(0)");
    assert_eq!(of(&table, "v").1, "None");

    // Columns keep them through changes of their schema; what is set anew is what is written.
    let edit = SchemaUpdate::new()
        .rename_column("ns", "when")
        .set_doc("nstz", "since when")
        .set_write_default("f", iceberg::spec::Literal::float(2.5))
        .remove_write_default("early");
    let table = evolve(&catalog, &table, edit).await;
    let after = written(&table).await;
    assert_eq!(after["schemas"][0], json["schemas"][0]);
    let mut expected = json["schemas"][0]["fields"].clone();
    expected[14 - 1]["type"] = "decimal(9, 2)".into();
    expected[1]["name"] = "when".into();
    expected[2]["doc"] = "since when".into();
    expected[3].as_object_mut().unwrap().remove("write-default");
    expected[4]["write-default"] = 2.5.into();
    assert_eq!(after["schemas"][1]["fields"], expected);
}

#[tokio::test]
async fn members_that_nobody_knows_go_with_what_they_are_of() {
    let json = file("v2-with-all-members");
    let (catalog, table) = registered(&json).await;
    let gone = 3051729675574597004;
    let updates = vec![
        TableUpdate::RemoveSnapshotRef { ref_name: "test".to_string() },
        TableUpdate::RemoveSnapshots { snapshot_ids: vec![gone] },
        TableUpdate::RemoveSchemas { schema_ids: vec![0] },
        TableUpdate::RemovePartitionSpecs { spec_ids: vec![0] },
    ];
    let table = commit(&catalog, &table, updates).await;
    let after = written(&table).await;
    assert_eq!(after["snapshots"], json!([json["snapshots"][1]]));
    assert_eq!(after["schemas"], json!([json["schemas"][0]]));
    assert_eq!(after["partition-specs"], json!([json["partition-specs"][0]]));
    assert_eq!(after["refs"], json!({"main": json["refs"]["main"]}));
    let updates = vec![TableUpdate::RemoveStatistics { snapshot_id: 3055729675574597004 }];
    let table = commit(&catalog, &table, updates).await;
    assert!(written(&table).await.get("statistics").is_none_or(|all| all == &json!([])));

    // A column that was changed keeps its own.
    let table =
        evolve(&catalog, &table, SchemaUpdate::new().rename_column("x", "key").drop_column("tags")).await;
    let fields = written(&table).await["schemas"][1]["fields"].clone();
    assert_eq!(
        (&fields[0]["name"], &fields[0]["x-tag"], &fields[0]["doc"]),
        (&json!("key"), &json!("pii"), &json!(""))
    );
    assert_eq!(fields[2], json["schemas"][0]["fields"][2]);
    assert_eq!(fields[3], json["schemas"][0]["fields"][4]);
}

#[tokio::test]
async fn metadata_of_the_first_writers_is_completed() {
    let json = file("v1-of-the-first-writers");
    let (catalog, table) = registered(&json).await;
    let id = table.metadata().uuid();
    assert!(!id.is_nil());
    assert_eq!(catalog.load_table(table.ident()).await.unwrap().metadata().uuid(), id);
    assert_eq!(Metadata::from_json(json.clone()).unwrap().uuid(), id);
    let table = commit(&catalog, &table, vec![set("a", "b")]).await;
    let after = written(&table).await;
    assert_eq!(
        (after["table-uuid"].clone(), &after["last-partition-id"]),
        (id.to_string().into(), &json!(1001))
    );
    let fields = &after["partition-specs"][0]["fields"];
    assert_eq!((&fields[0]["field-id"], &fields[1]["field-id"]), (&json!(1000), &json!(1001)));
    assert_eq!(table.schema().field_by_name("z").unwrap().field_type.to_string(), "decimal(9, 2)");
    // A snapshot that does not say what made it is taken for the one of which nothing can be concluded.
    let operation = |id: i64| table.metadata().snapshot_by_id(id).unwrap().summary().operation.clone();
    assert_eq!(operation(5).as_str(), "overwrite");
    assert_eq!(after["snapshots"][1]["summary"]["operation"], "merge");

    // Partition fields get new ids, after an upgrade too, and of metadata in which a writer left a wrong last one.
    let mut wrong = after;
    wrong["last-partition-id"] = 0.into();
    let (catalog, table) = registered(&wrong).await;
    let upgrade = TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V2 };
    let table = commit(&catalog, &table, vec![upgrade]).await;
    let term = icefield_core::evolve::truncate("y", 3);
    let table = evolve(&catalog, &table, PartitionUpdate::new().add_field(term)).await;
    let spec = table.metadata().default_partition_spec();
    assert_eq!(spec.fields().iter().map(|field| field.field_id).collect::<Vec<_>>(), [1000, 1001, 1002]);
}

#[tokio::test]
async fn a_snapshot_without_a_summary_reads_and_goes_on() {
    for summary in [json!({}), json!({"engine": "x"}), json!({"operation": "merge-into"}), Value::Null] {
        let mut json = file("v2-with-all-members");
        json["snapshots"][1]["summary"] = summary.clone();
        let (catalog, table) = registered(&json).await;
        let table = commit(&catalog, &table, vec![set("a", "b")]).await;
        assert_eq!(written(&table).await["snapshots"][1]["summary"], summary);
    }
}

#[tokio::test]
async fn a_parent_of_minus_one_is_none() {
    for name in ["v1-with-tags", "v2-with-all-members", "v3-with-all-members"] {
        let mut json = file(name);
        json["snapshots"][0]["parent-snapshot-id"] = json!(-1);
        let (catalog, table) = registered(&json).await;
        let first = json["snapshots"][0]["snapshot-id"].as_i64().unwrap();
        assert_eq!(table.metadata().snapshot_by_id(first).unwrap().parent_snapshot_id(), None, "{name}");
        let table = commit(&catalog, &table, vec![set("a", "b")]).await;
        assert_eq!(written(&table).await["snapshots"][0]["parent-snapshot-id"], -1);
    }
}

#[tokio::test]
async fn references_that_contradict_the_metadata_are_refused() {
    for refs in [
        json!({"gone": {"snapshot-id": 99, "type": "tag"}}),
        json!({"main": {"snapshot-id": 1, "type": "branch"}}),
        json!({"main": 7}),
    ] {
        let mut json = file("v1-with-tags");
        json["refs"] = refs;
        assert_eq!(Metadata::from_json(json).unwrap_err().kind(), ErrorKind::DataInvalid);
    }
}

#[tokio::test]
async fn the_history_of_version_1_is_what_its_file_has() {
    let keeps = json!({"main": {"snapshot-id": 3, "type": "branch", "min-snapshots-to-keep": 2}});
    let plain = json!({"main": {"snapshot-id": 3, "type": "branch"}});
    for refs in [file("v1-with-tags")["refs"].clone(), keeps, plain] {
        let mut json = file("v1-with-tags");
        json["refs"] = refs.clone();
        let (catalog, table) = registered(&json).await;
        let history = |table: &Table| {
            let of = |entry: &iceberg::spec::SnapshotLog| (entry.snapshot_id, entry.timestamp_ms());
            table.history().iter().map(of).collect::<Vec<_>>()
        };
        let expected = vec![(1, 1602638573000), (3, 1602638573800)];
        assert_eq!((history(&table), table.metadata().last_updated_ms()), (expected.clone(), 1602638573874));
        let table = commit(&catalog, &table, vec![set("a", "b")]).await;
        assert_eq!(history(&table), expected);
        assert_eq!(written(&table).await["refs"], refs);
        // The branch's own settings are changed by a commit that is no change of the table's rows.
        let reference = SnapshotReference::new(3, SnapshotRetention::branch(Some(5), None, None));
        let keep = TableUpdate::SetSnapshotRef { ref_name: "main".to_string(), reference };
        let table = commit(&catalog, &table, vec![keep]).await;
        let after = history(&table);
        assert_eq!(after[..2], expected);
        assert_eq!(written(&table).await["snapshot-log"].as_array().unwrap().len(), after.len());
        assert_eq!(written(&table).await["refs"]["main"]["min-snapshots-to-keep"], 5);
    }
}
