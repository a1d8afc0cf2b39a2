use iceberg::spec::Transform;

use super::*;

fn update() -> PartitionUpdate {
    PartitionUpdate::new()
}

fn partitioned(version: FormatVersion, terms: Vec<PartitionTerm>) -> TableMetadata {
    Fixture { version, partition: terms, ..Fixture::default() }.build()
}

#[test]
fn fields_have_javas_names() {
    let next = evolve(
        &table(),
        update()
            .add_field("name")
            .add_field(bucket("id", 16))
            .add_field(truncate("name", 4))
            .add_field(day("ts"))
            .add_field(month("day"))
            .add_field("point.lat")
            .add_field(Term::new("quantity", Transform::Void)),
    );
    assert_eq!(
        spec(&next),
        [
            "1000 name=identity(name)",
            "1001 id_bucket_16=bucket[16](id)",
            "1002 name_trunc_4=truncate[4](name)",
            "1003 ts_day=day(ts)",
            "1004 day_month=month(day)",
            "1005 point.lat=identity(point.lat)",
            "1006 quantity_null=void(quantity)",
        ]
    );
    assert_eq!((next.default_partition_spec_id(), next.last_partition_id()), (1, 1006));
    for (term, name) in [(year("ts"), "ts_year"), (hour("ts"), "ts_hour")] {
        assert!(spec(&evolve(&table(), update().add_field(term)))[0].contains(name));
    }
}

#[test]
fn additions_that_break_a_rule_are_refused_by_name() {
    let table = partitioned(FormatVersion::V2, vec![day("ts").into(), bucket("id", 8).into()]);
    let cases: Vec<(PartitionUpdate, &[&str])> = vec![
        (update().add_field("missing"), &["missing", "no such column"]),
        (update().add_field("point"), &["point", "primitive"]),
        (update().add_field("tags.element"), &["tags.element", "list or map"]),
        (update().add_field("attributes.value.unit"), &["list or map"]),
        (update().add_field(bucket("price", 4)), &["price", "float", "bucket"]),
        (update().add_field(hour("day")), &["day", "date", "hour"]),
        (update().add_field(truncate("ts", 4)), &["ts", "truncate"]),
        (update().add_field(bucket("name", 0)), &["name", "at least 1"]),
        (update().add_field(day("ts")), &["ts", "already", "ts_day"]),
        (update().add_field(hour("ts")), &["ts", "already", "ts_day"]),
        (update().add_field(bucket("name", 4).named("ts_day")), &["ts_day", "another partition field"]),
        (update().add_field(bucket("name", 4).named("name")), &["name", "a column has this name"]),
        (update().add_field(identity("name").named("price")), &["price", "a column has this name"]),
        (update().add_field(bucket("name", 4).named("")), &["empty"]),
        (update().remove_field("nothing"), &["nothing", "no such field", "ts_day"]),
        (update().remove(month("ts")), &["month(ts)", "ts_day"]),
        (update().rename_field("ts_day", "id_bucket_8"), &["id_bucket_8", "another partition field"]),
        (update().rename_field("ts_day", "name"), &["name", "a column"]),
        (update().rename_field("nothing", "x"), &["nothing", "no such field"]),
    ];
    for (edit, parts) in cases {
        refused(&table, edit, parts);
    }
}

#[test]
fn two_bucketings_of_a_column_and_other_names_are_fine() {
    let table = partitioned(FormatVersion::V2, vec![bucket("id", 8).into()]);
    let next =
        evolve(&table, update().add_field(bucket("id", 16).named("shard")).rename_field("id_bucket_8", "b"));
    assert_eq!(spec(&next), ["1000 b=bucket[8](id)", "1001 shard=bucket[16](id)"]);
    let next = evolve(&next, update().case_sensitive(false).add_field(year("TS")));
    assert_eq!(spec(&next)[2], "1002 ts_year=year(ts)");
}

#[test]
fn version_2_drops_removed_fields_and_gives_ids_back_to_equal_ones() {
    let table = partitioned(FormatVersion::V2, vec![day("ts").into(), "name".into()]);
    let without = evolve(&table, update().remove(day("ts")));
    assert_eq!(spec(&without), ["1001 name=identity(name)"]);
    let hourly = evolve(&without, update().add_field(hour("ts")));
    assert_eq!(spec(&hourly), ["1001 name=identity(name)", "1002 ts_hour=hour(ts)"]);
    let back = evolve(&hourly, update().remove_field("ts_hour").add_field(day("ts")));
    assert_eq!(spec(&back), ["1001 name=identity(name)", "1000 ts_day=day(ts)"]);
    assert_eq!((back.default_partition_spec_id(), back.last_partition_id()), (3, 1002));
    let other = evolve(&hourly, update().remove_field("ts_hour").add_field(day("ts").named("d")));
    assert_eq!(spec(&other)[1], "1003 d=day(ts)", "another name is another field");
    let renamed = evolve(&table, update().rename_field("ts_day", "d"));
    let removed = evolve(&renamed, update().remove_field("d"));
    let again = evolve(&removed, update().add_field(day("ts").named("d")));
    assert_eq!(spec(&again)[1], "1000 d=day(ts)");
}

#[test]
fn a_spec_that_the_table_had_is_used_again() {
    let table = partitioned(FormatVersion::V2, vec![day("ts").into()]);
    let monthly = evolve(&table, update().clear().add_field(month("ts")));
    assert_eq!(monthly.default_partition_spec_id(), 1);
    let change = update().clear().add_field(day("ts")).apply(&monthly).unwrap();
    assert_eq!(change.updates, [TableUpdate::SetDefaultSpec { spec_id: 0 }]);
    let back = applied(&monthly, &change);
    assert_eq!((back.default_partition_spec_id(), back.partition_specs_iter().len()), (0, 2));
    let none = evolve(&back, update().clear());
    assert_eq!((none.default_partition_spec_id(), spec(&none).len()), (2, 0));
}

#[test]
fn removing_and_adding_the_same_field_changes_nothing_but_its_name() {
    let table = partitioned(FormatVersion::V2, vec![day("ts").into(), "name".into()]);
    assert!(update().remove(day("ts")).add_field(day("ts")).apply(&table).unwrap().is_empty());
    assert!(update().add_field(year("day")).remove(year("day")).apply(&table).unwrap().is_empty());
    let next = evolve(&table, update().remove(day("ts")).add_field(day("ts").named("d")));
    assert_eq!(spec(&next), ["1000 d=day(ts)", "1001 name=identity(name)"]);
}

#[test]
fn version_1_keeps_the_places_of_removed_fields() {
    let table = partitioned(FormatVersion::V1, vec![day("ts").into(), "name".into(), bucket("id", 8).into()]);
    let next = evolve(&table, update().remove(day("ts")).remove("name"));
    assert_eq!(
        spec(&next),
        ["1000 ts_day=void(ts)", "1001 name_1001=void(name)", "1002 id_bucket_8=bucket[8](id)"]
    );
    let added = evolve(&next, update().add_field(month("ts")).add_field(truncate("name", 2).named("ts_day")));
    assert_eq!(
        spec(&added),
        [
            "1000 ts_day_1000=void(ts)",
            "1001 name_1001=void(name)",
            "1002 id_bucket_8=bucket[8](id)",
            "1003 ts_month=month(ts)",
            "1004 ts_day=truncate[2](name)",
        ]
    );
    refused(&next, update().remove_field("ts_day"), &["ts_day", "removed already"]);
    refused(
        &next,
        update().clear().add_field(year("ts")).remove(year("ts")).remove("id"),
        &["no such field"],
    );
    let again = evolve(&next, update().add_field(day("ts")));
    assert_eq!(spec(&again)[3], "1003 ts_day=day(ts)", "{:?}", spec(&again));
    // As many as are removed of one column.
    let none = evolve(&again, update().remove(day("ts")));
    assert_eq!(spec(&none)[3], "1003 ts_day=void(ts)", "{:?}", spec(&none));
    let error = SchemaUpdate::new().drop_column("ts").apply(&next).unwrap_err().to_string();
    assert!(error.contains("spec: 0") && error.contains("column: ts"), "{error}");
}

#[test]
fn void_fields_of_version_1_can_go_after_an_upgrade() {
    let table = partitioned(FormatVersion::V1, vec![day("ts").into(), "name".into()]);
    let next = evolve(&table, update().remove(day("ts")));
    let upgraded = evolve(&next, FormatUpgrade::to(FormatVersion::V2));
    let clean = evolve(&upgraded, update().remove_field("ts_day").add_field(bucket("id", 4)));
    assert_eq!(spec(&clean), ["1001 name=identity(name)", "1002 id_bucket_4=bucket[4](id)"]);
}

#[test]
fn requirements_are_those_of_the_rest_specification() {
    let table = table();
    let change = update().add_field(day("ts")).apply(&table).unwrap();
    for requirement in [
        TableRequirement::DefaultSpecIdMatch { default_spec_id: 0 },
        TableRequirement::LastAssignedPartitionIdMatch { last_assigned_partition_id: 999 },
        TableRequirement::UuidMatch { uuid: table.uuid() },
    ] {
        assert!(change.requirements.contains(&requirement), "{requirement:?}");
    }
}

#[test]
fn ids_given_are_ids_kept_by_the_metadata_builder() {
    let table = partitioned(FormatVersion::V2, vec![day("ts").into(), "name".into()]);
    let change = update().remove(day("ts")).add_field(bucket("id", 4)).apply(&table).unwrap();
    let TableUpdate::AddSpec { spec: wanted } = &change.updates[0] else { panic!("{change:?}") };
    let next = applied(&table, &change);
    let got: Vec<_> = next.default_partition_spec().fields().iter().map(|f| Some(f.field_id)).collect();
    assert_eq!(got, wanted.fields().iter().map(|f| f.field_id).collect::<Vec<_>>());
    assert_eq!(wanted.spec_id(), Some(next.default_partition_spec_id()));
}
