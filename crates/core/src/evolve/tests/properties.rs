use super::*;

#[test]
fn properties_are_set_and_removed_and_equal_ones_make_no_update() {
    let table =
        Fixture { properties: HashMap::from([("a".into(), "1".into())]), ..Fixture::default() }.build();
    let next =
        evolve(&table, PropertiesUpdate::new().set("b", "2").set_all([("c", "3")]).remove("a").remove("z"));
    assert!(!next.properties().contains_key("a"));
    assert_eq!((next.properties()["b"].as_str(), next.properties()["c"].as_str()), ("2", "3"));
    assert!(PropertiesUpdate::new().set("a", "1").remove("z").apply(&table).unwrap().is_empty());
    let last = evolve(&table, PropertiesUpdate::new().remove("a").set("a", "9"));
    assert_eq!(last.properties()["a"], "9");
}

#[test]
fn reserved_properties_are_refused() {
    for name in ["uuid", "current-schema", "snapshot-count", "default-sort-order"] {
        refused(&table(), PropertiesUpdate::new().set(name, "1"), &[name]);
        refused(&table(), PropertiesUpdate::new().remove(name), &[name]);
    }
    refused(&table(), PropertiesUpdate::new().remove("format-version"), &["format-version"]);
    refused(&table(), PropertiesUpdate::new().set("", "x"), &["empty"]);
}

#[test]
fn the_format_version_is_a_property_that_upgrades() {
    let table = Fixture { version: FormatVersion::V1, ..Fixture::default() }.build();
    let next = evolve(&table, PropertiesUpdate::new().set("format-version", "2").set("a", "1"));
    assert_eq!((next.format_version(), next.properties().len()), (FormatVersion::V2, 1));
    refused(&next, PropertiesUpdate::new().set("format-version", "1"), &["lowered", "v2", "v1"]);
    refused(&next, PropertiesUpdate::new().set("format-version", "9"), &["9"]);
}

#[test]
fn versions_go_up_and_never_down() {
    use FormatVersion::{V1, V2, V3};
    for (from, to) in [(V1, V2), (V1, V3), (V2, V3)] {
        let table =
            Fixture { version: from, partition: vec![day("ts").into()], ..Fixture::default() }.build();
        let next = evolve(&table, FormatUpgrade::to(to));
        assert_eq!((next.format_version(), next.uuid()), (to, table.uuid()));
        assert_eq!(spec(&next), spec(&table));
        if to == V3 {
            assert_eq!(next.next_row_id(), 0);
        }
        refused(&next, FormatUpgrade::to(from), &["lowered"]);
    }
}

#[test]
fn snapshots_from_before_version_3_stay_as_they_are() {
    for from in [FormatVersion::V1, FormatVersion::V2] {
        let table = Fixture { version: from, ..Fixture::default() }.build();
        let sequence = if from == FormatVersion::V1 { 0 } else { 1 };
        let snapshot = iceberg::spec::Snapshot::builder()
            .with_snapshot_id(7)
            .with_sequence_number(sequence)
            .with_timestamp_ms(table.last_updated_ms())
            .with_manifest_list("memory://w/t/metadata/snap-7.avro")
            .with_schema_id(0)
            .with_summary(iceberg::spec::Summary {
                operation: iceberg::spec::Operation::Append,
                additional_properties: HashMap::new(),
            })
            .build();
        let builder = table.into_builder(None).set_branch_snapshot(snapshot, "main").unwrap();
        let table = builder.build().unwrap().metadata;
        let next = evolve(&table, FormatUpgrade::to(FormatVersion::V3));
        let kept = next.current_snapshot().unwrap();
        assert_eq!((kept.snapshot_id(), kept.row_range()), (7, None));
        let json = serde_json::to_value(&next).unwrap();
        let snapshot = &json["snapshots"][0];
        assert!(snapshot.get("first-row-id").is_none() && snapshot.get("added-rows").is_none(), "{snapshot}");
        assert_eq!(
            (json["next-row-id"].as_i64(), snapshot["sequence-number"].as_i64()),
            (Some(0), Some(sequence))
        );
    }
}

#[test]
fn the_location_changes() {
    let next = evolve(&table(), LocationUpdate::to("s3://bucket/t/"));
    assert_eq!(next.location(), "s3://bucket/t");
    assert!(LocationUpdate::to("memory://w/t/").apply(&table()).unwrap().is_empty());
    for bad in ["", "/", "t", "relative/t", "://t"] {
        refused(&table(), LocationUpdate::to(bad), &["location"]);
    }
}
