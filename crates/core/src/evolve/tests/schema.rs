use iceberg::spec::Literal;

use super::*;
use crate::format::{column_doc, initial_default, write_default};

fn update() -> SchemaUpdate {
    SchemaUpdate::new()
}

#[test]
fn a_column_is_added_last_and_optional_with_the_next_id() {
    let table = table();
    let next = evolve(&table, update().add_column("currency", string()));
    let added = field(&next, "currency");
    assert_eq!((added.id, added.required), (table.last_column_id() + 1, false));
    assert_eq!(order(&next, "").last().unwrap(), "currency");
    assert_eq!(next.last_column_id(), added.id);
    assert_eq!(next.current_schema_id(), 1);
    assert!(table.current_schema().as_struct().fields().iter().all(|f| field(&next, &f.name) == **f));
}

#[test]
fn nested_types_get_ids_level_by_level_and_advance_the_last_column_id() {
    let table = table();
    let address =
        structure([optional("street", string()), optional("parts", list(structure([optional("x", int())])))]);
    let next =
        evolve(&table, update().add_column("address", address).add_column("labels", map(string(), long())));
    let base = table.last_column_id();
    let ids = [
        ("address", 1),
        ("address.street", 2),
        ("address.parts", 3),
        ("address.parts.element", 4),
        ("address.parts.element.x", 5),
        ("labels", 6),
        ("labels.key", 7),
        ("labels.value", 8),
    ];
    for (name, offset) in ids {
        assert_eq!(id(&next, name), base + offset, "{name}");
    }
    assert_eq!(next.last_column_id(), base + 8);
}

#[test]
fn columns_are_added_inside_structs_lists_and_maps() {
    let next = evolve(
        &table(),
        update()
            .add_column("point.alt", double())
            .add_column("stops.delay", int())
            .add_column("stops.element.gate", string())
            .add_column("attributes.source", string())
            .add_column_with(NewColumn::new("a.b", int()).doc("a dot in its name")),
    );
    assert_eq!(order(&next, "point"), ["lat", "lon", "alt"]);
    assert_eq!(order(&next, "stops.element"), ["at", "note", "delay", "gate"]);
    assert_eq!(order(&next, "attributes.value"), ["value", "unit", "source"]);
    assert_eq!(field(&next, "a.b").doc.as_deref(), Some("a dot in its name"));
}

#[test]
fn columns_go_where_they_are_put() {
    let next = evolve(
        &table(),
        update()
            .add_column_with(NewColumn::new("first", int()).first())
            .add_column_with(NewColumn::new("currency", string()).after("price"))
            .add_column_with(NewColumn::new("alias", string()).before("name"))
            .add_column_with(NewColumn::new("z", double()).inside("point").first()),
    );
    assert_eq!(order(&next, "")[..6], ["first", "id", "alias", "name", "price", "currency"]);
    assert_eq!(order(&next, "point"), ["z", "lat", "lon"]);
}

#[test]
fn additions_that_break_a_rule_are_refused_by_name() {
    let table = table();
    let cases: Vec<(SchemaUpdate, &[&str])> = vec![
        (update().add_column("name", int()), &["name", "taken"]),
        (update().add_column("point.lat", int()), &["point.lat", "taken"]),
        (update().add_column("nowhere.x", int()), &["nowhere", "no such column", "point"]),
        (update().add_column("name.x", int()), &["name", "only to structs", "string"]),
        (update().add_column("tags.x", int()), &["tags", "only to structs"]),
        (update().add_column("attributes.key.x", int()), &["attributes.key", "key can't change"]),
        (update().add_column("", int()), &["empty"]),
        (update().add_column_with(NewColumn::new("n", int()).required()), &["column: n", "needs a default"]),
        (
            update().add_column_with(NewColumn::new("n", int()).default(Literal::int(1))),
            &["column: n", "format version 3"],
        ),
        (
            update().add_column_with(NewColumn::new("n", int()).after("nothing")),
            &["column: n", "beside: nothing"],
        ),
        (update().add_column("at", timestamp_ns()), &["column: at", "nanoseconds", "format version 3"]),
        (update().add_column("n", decimal(39, 2)), &["column: n", "38"]),
        (update().add_column("n", decimal(3, 4)), &["column: n", "scale"]),
        (update().add_column("s", structure([])), &["column: s", "at least one field"]),
        (
            update().add_column("s", structure([optional("a", int()), optional("a", int())])),
            &["column: s.a", "same name"],
        ),
        (update().case_sensitive(false).add_column("NAME", int()), &["NAME", "taken_by: name"]),
        (update().add_column("x", int()).add_column("x", int()), &["column: x", "taken"]),
    ];
    for (edit, parts) in cases {
        refused(&table, edit, parts);
    }
}

#[test]
fn names_that_differ_in_case_are_two_columns_unless_case_is_ignored() {
    let both = evolve(&table(), update().add_column("Name", int()));
    assert_ne!(id(&both, "Name"), id(&both, "name"));
    let next = evolve(&both, update().case_sensitive(false).rename_column("Name", "label"));
    assert_eq!(id(&next, "label"), id(&both, "Name"), "the exact name wins");
    refused(&both, update().case_sensitive(false).drop_column("NAME"), &["NAME", "several columns"]);
    let next = evolve(&table(), update().case_sensitive(false).rename_column("POINT.Lat", "latitude"));
    assert_eq!(id(&next, "point.latitude"), id(&table(), "point.lat"));
    let next = evolve(&table(), update().case_sensitive(false).rename_column("name", "Name"));
    assert!(has(&next, "Name") && !has(&next, "name"));
}

#[test]
fn required_columns_come_with_a_default_or_when_incompatibility_is_allowed() {
    let next = evolve(
        &v3(),
        update().add_column_with(NewColumn::new("n", int()).required().default(Literal::int(7))),
    );
    let n = field(&next, "n");
    assert!(n.required);
    assert_eq!(
        (n.initial_default.clone(), n.write_default.clone()),
        (Some(Literal::int(7)), Some(Literal::int(7)))
    );
    let next = evolve(
        &table(),
        update().allow_incompatible().add_column_with(NewColumn::new("n", int()).required()),
    );
    assert!(field(&next, "n").required);
    let next = evolve(
        &v3(),
        update().add_column_with(NewColumn::new("n", int()).default(Literal::int(7))).require_column("n"),
    );
    assert!(field(&next, "n").required, "an added column with a default may be made required");
}

#[test]
fn defaults_of_each_type_survive_the_metadata_file_or_are_refused() {
    let kept = [
        (boolean(), Literal::bool(true)),
        (int(), Literal::int(-1)),
        (long(), Literal::long(1i64 << 40)),
        (float(), Literal::float(0.1)),
        (double(), Literal::double(0.1)),
        (decimal(9, 2), Literal::decimal(-12345)),
        (date(), Literal::date(-1)),
        (time(), Literal::time(1)),
        (timestamp(), Literal::timestamp(-1)),
        (timestamptz(), Literal::timestamptz(1_700_000_000_123_456)),
        (string(), Literal::string("ü")),
        (uuid(), Literal::uuid(uuid::Uuid::from_u128(7))),
        (fixed(2), Literal::fixed([1, 2])),
        (binary(), Literal::binary([0xff])),
        (timestamptz(), Literal::timestamptz(-500_000)),
        (timestamp_ns(), Literal::long(-1)),
        (timestamptz_ns(), Literal::long(1_577_836_800_000_000_001i64)),
        (decimal(38, 0), Literal::decimal(-(10i128.pow(38) - 1))),
    ];
    for (ty, value) in kept {
        let next =
            evolve(&v3(), update().add_column_with(NewColumn::new("n", ty.clone()).default(value.clone())));
        let n = field(&next, "n");
        assert_eq!(initial_default(&n).unwrap().as_ref(), Some(&value), "{ty}");
        assert_eq!((write_default(&n).unwrap(), column_doc(&n)), (Some(value), None), "{ty}");
    }
    let cases = [
        (int(), Literal::string("a"), "does not fit"),
        (double(), Literal::double(f64::NAN), "can't be kept"),
        (list(int()), Literal::int(1), "fields defaults"),
    ];
    for (ty, value, part) in cases {
        refused(
            &v3(),
            update().add_column_with(NewColumn::new("n", ty).default(value)),
            &["column: n", part],
        );
    }
}

#[test]
fn the_write_default_changes_and_the_initial_one_never_does() {
    let added = evolve(&v3(), update().add_column_with(NewColumn::new("n", int()).default(Literal::int(7))));
    let next = evolve(&added, update().set_write_default("n", Literal::int(8)));
    let n = field(&next, "n");
    assert_eq!(
        (n.initial_default.clone(), n.write_default.clone()),
        (Some(Literal::int(7)), Some(Literal::int(8)))
    );
    let next = evolve(&next, update().remove_write_default("n"));
    assert_eq!(field(&next, "n").write_default, None);
    let required = evolve(
        &v3(),
        update().add_column_with(NewColumn::new("n", int()).required().default(Literal::int(7))),
    );
    refused(&required, update().remove_write_default("n"), &["column: n", "required"]);
    refused(
        &table(),
        update().set_write_default("name", Literal::string("x")),
        &["name", "format version 3"],
    );
    refused(&v3(), update().set_write_default("name", Literal::int(1)), &["name", "does not fit", "string"]);
    refused(&v3(), update().set_write_default("tags.element", Literal::string("x")), &["tags.element"]);
}

#[test]
fn a_dropped_column_that_comes_again_is_another_column() {
    let table = table();
    let dropped = evolve(&table, update().drop_column("name"));
    assert!(!has(&dropped, "name"));
    assert_eq!(dropped.last_column_id(), table.last_column_id());
    let again = evolve(&dropped, update().add_column("name", string()));
    assert_eq!(id(&again, "name"), table.last_column_id() + 1);
    let once = evolve(&table, update().drop_column("name").add_column("name", string()));
    assert_eq!(id(&once, "name"), table.last_column_id() + 1);
    // Dropping the last one does not free its id.
    let dropped = evolve(&again, update().drop_column("name"));
    let again = evolve(&dropped, update().add_column("name", string()));
    assert_eq!(id(&again, "name"), table.last_column_id() + 2);
}

#[test]
fn nested_columns_are_dropped() {
    let next =
        evolve(&table(), update().drop_column("point.lon").drop_column("stops.note").drop_column("tags"));
    assert_eq!(order(&next, "point"), ["lat"]);
    assert_eq!(order(&next, "stops.element"), ["at"]);
    assert!(!has(&next, "tags") && !has(&next, "tags.element"));
}

#[test]
fn columns_in_use_are_not_dropped() {
    let used = Fixture {
        partition: vec![day("ts").into(), "point.lat".into()],
        sort: vec![asc(bucket("id", 4))],
        identifiers: vec!["id"],
        ..Fixture::default()
    }
    .build();
    refused(&used, update().drop_column("ts"), &["column: ts", "partition", "ts_day"]);
    refused(&used, update().drop_column("point"), &["column: point.lat", "partition_field: point.lat"]);
    refused(&used, update().drop_column("id"), &["column: id", "identifier", "set_identifier_fields"]);
    let none: [&str; 0] = [];
    refused(
        &used,
        update().drop_column("id").set_identifier_fields(none),
        &["column: id", "sort order", "sort_order: 1"],
    );
    let unsorted = evolve(&used, SortOrderUpdate::unsorted());
    let free = evolve(&unsorted, update().drop_column("id").set_identifier_fields(none));
    assert!(!has(&free, "id"));
    // A spec that files may still have keeps its columns, too.
    let moved = evolve(&used, PartitionUpdate::new().clear());
    refused(&moved, update().drop_column("ts"), &["column: ts", "expire", "spec: 0"]);
}

#[test]
fn dropping_what_has_no_place_of_its_own_is_refused() {
    let table = table();
    for part in ["tags.element", "attributes.value"] {
        refused(&table, update().drop_column(part), &[part]);
    }
    for part in ["attributes.key", "attributes.key.code"] {
        refused(&table, update().drop_column(part), &[part, "key can't change"]);
    }
    refused(&table, update().drop_column("missing"), &["missing", "no such column", "quantity"]);
    refused(
        &table,
        update().drop_column("point.lat").drop_column("point.lon"),
        &["point", "at least one field"],
    );
    let all =
        table.current_schema().as_struct().fields().iter().fold(update(), |u, f| u.drop_column(&f.name));
    refused(&table, all, &["at least one column"]);
}

#[test]
fn a_renamed_column_keeps_its_id_and_goes_by_its_new_name() {
    let table = table();
    let next = evolve(
        &table,
        update()
            .rename_column("price", "nightly_price")
            .set_doc("nightly_price", "per night")
            .rename_column("point", "location")
            .rename_column("location.lat", "latitude")
            .rename_column("stops.note", "remark"),
    );
    assert_eq!(id(&next, "nightly_price"), id(&table, "price"));
    assert_eq!(field(&next, "nightly_price").doc.as_deref(), Some("per night"));
    assert_eq!(id(&next, "location.latitude"), id(&table, "point.lat"));
    assert_eq!(id(&next, "stops.element.remark"), id(&table, "stops.element.note"));
    assert_eq!(next.last_column_id(), table.last_column_id());
    let back = evolve(&next, update().remove_doc("nightly_price"));
    assert_eq!(field(&back, "nightly_price").doc, None);
}

#[test]
fn columns_swap_names_through_a_third() {
    let table = table();
    let next = evolve(
        &table,
        update().rename_column("name", "t").rename_column("price", "name").rename_column("t", "price"),
    );
    assert_eq!((id(&next, "name"), id(&next, "price")), (id(&table, "price"), id(&table, "name")));
}

#[test]
fn renames_that_break_a_rule_are_refused_by_name() {
    let table = table();
    let cases: Vec<(SchemaUpdate, &[&str])> = vec![
        (update().rename_column("price", "name"), &["column: name", "taken"]),
        (update().rename_column("missing", "x"), &["missing", "no such column"]),
        (update().rename_column("tags.element", "x"), &["tags.element"]),
        (update().rename_column("attributes.key.code", "x"), &["attributes.key.code", "key"]),
        (update().rename_column("point.lat", "point.latitude"), &["point.lat", "own name alone"]),
        (update().rename_column("price", ""), &["empty"]),
    ];
    for (edit, parts) in cases {
        refused(&table, edit, parts);
    }
    let partitioned = Fixture { partition: vec![day("ts").into()], ..Fixture::default() }.build();
    refused(&partitioned, update().rename_column("name", "ts_day"), &["ts_day", "partition field"]);
    refused(&partitioned, update().add_column("ts_day", int()), &["ts_day", "partition field"]);
}

#[test]
fn a_partitioned_column_is_renamed_and_its_old_name_stays_taken() {
    let table = Fixture { partition: vec!["name".into()], ..Fixture::default() }.build();
    let next = evolve(&table, update().rename_column("name", "label"));
    assert_eq!(spec(&next), ["1000 name=identity(label)"]);
    refused(&next, update().add_column("name", string()), &["column: name", "partition field"]);
    let back = evolve(&next, update().rename_column("label", "name"));
    assert_eq!(back.current_schema_id(), table.current_schema_id(), "an equal schema is used again");
}

#[test]
fn columns_move_within_their_struct() {
    let table = table();
    let next = evolve(
        &table,
        update()
            .move_first("ts")
            .move_after("quantity", "id")
            .move_before("tags", "name")
            .move_first("point.lon"),
    );
    assert_eq!(order(&next, "")[..5], ["ts", "id", "quantity", "tags", "name"]);
    assert_eq!(order(&next, "point"), ["lon", "lat"]);
    assert_eq!(id(&next, "ts"), id(&table, "ts"));
    let added = evolve(&table, update().add_column("x", int()).move_before("x", "id"));
    assert_eq!(order(&added, "")[0], "x");
    let cases: Vec<(SchemaUpdate, &[&str])> = vec![
        (update().move_after("name", "name"), &["name", "itself"]),
        (update().move_after("name", "point.lat"), &["name", "own struct", "point.lat"]),
        (update().move_before("name", "missing"), &["missing", "no such column"]),
        (update().move_first("tags.element"), &["tags.element"]),
        (update().move_first("attributes.key.code"), &["attributes.key.code"]),
    ];
    for (edit, parts) in cases {
        refused(&table, edit, parts);
    }
}

#[test]
fn types_are_widened() {
    let table = table();
    let next = evolve(
        &table,
        update()
            .promote_column("quantity", long())
            .promote_column("price", double())
            .promote_column("amount", decimal(38, 2))
            .promote_column("attributes.unit", long())
            .promote_column("id", long()),
    );
    for (name, ty) in [
        ("quantity", long()),
        ("price", double()),
        ("amount", decimal(38, 2)),
        ("attributes.value.unit", long()),
    ] {
        assert_eq!(*field(&next, name).field_type, ty, "{name}");
        assert_eq!(id(&next, name), id(&table, name));
    }
}

#[test]
fn other_changes_of_type_are_refused_with_both_types_and_a_remedy() {
    let cases: [(&str, Type, &[&str]); 12] = [
        ("id", int(), &["from: long", "to: int", "narrowed", "new type"]),
        ("amount", decimal(8, 2), &["from: decimal(9, 2)", "to: decimal(8, 2)", "precision can only grow"]),
        ("amount", decimal(12, 3), &["scale can't change"]),
        ("amount", decimal(39, 2), &["38"]),
        ("quantity", string(), &["from: int", "to: string", "cast"]),
        ("name", int(), &["from: string", "to: int"]),
        ("quantity", float(), &["from: int", "to: float"]),
        ("day", timestamp(), &["format version 3"]),
        ("day", timestamptz(), &["from: date", "to: timestamptz"]),
        ("point", string(), &["from: struct", "to: string"]),
        ("tags", list(int()), &["from: list", "to: list"]),
        ("attributes.key.code", long(), &["key can't change"]),
    ];
    for (name, ty, parts) in cases {
        let text = refused(&table(), update().promote_column(name, ty), parts);
        assert!(text.contains(&format!("column: {name}")), "{text}");
    }
}

#[test]
fn dates_become_timestamps_in_version_3_where_no_partition_value_changes() {
    refused(
        &v3(),
        update().promote_column("day", timestamp()),
        &["column: day", "other engines", "allow_incompatible"],
    );
    for ty in [timestamp(), timestamp_ns()] {
        let next = evolve(&v3(), update().allow_incompatible().promote_column("day", ty.clone()));
        assert_eq!(*field(&next, "day").field_type, ty);
        refused(
            &v3(),
            update().allow_incompatible().promote_column("day", timestamptz()),
            &["column: day", "timestamptz"],
        );
    }
    let partitioned = |term: PartitionTerm| {
        Fixture { version: FormatVersion::V3, partition: vec![term], ..Fixture::default() }.build()
    };
    for term in [year("day"), month("day"), day("day")] {
        evolve(
            &partitioned(term.named("p")),
            update().allow_incompatible().promote_column("day", timestamp()),
        );
    }
    for (term, name) in [(identity("day"), "day"), (bucket("day", 4), "p")] {
        let table = partitioned(term.named(name));
        refused(
            &table,
            update().allow_incompatible().promote_column("day", timestamp()),
            &["column: day", "partition_field"],
        );
        let cleared = evolve(&table, PartitionUpdate::new().clear());
        refused(
            &cleared,
            update().allow_incompatible().promote_column("day", timestamp()),
            &["column: day", "partition_field"],
        );
    }
    let bucketed = Fixture { partition: vec![bucket("quantity", 4).into()], ..Fixture::default() }.build();
    evolve(&bucketed, update().allow_incompatible().promote_column("quantity", long()));
}

#[test]
fn defaults_are_promoted_with_their_column() {
    let table = evolve(
        &v3(),
        update()
            .add_column_with(NewColumn::new("n", int()).default(Literal::int(7)))
            .add_column_with(NewColumn::new("f", float()).default(Literal::float(0.5)))
            .add_column_with(NewColumn::new("d", date()).default(Literal::date(-1))),
    );
    let next = evolve(
        &table,
        update()
            .allow_incompatible()
            .promote_column("n", long())
            .promote_column("f", double())
            .promote_column("d", timestamp()),
    );
    assert_eq!(field(&next, "n").initial_default, Some(Literal::long(7)));
    assert_eq!(field(&next, "f").write_default, Some(Literal::double(0.5)));
    assert_eq!(field(&next, "d").initial_default, Some(Literal::timestamp(-86_400_000_000)));
}

#[test]
fn columns_become_optional_at_will_and_required_only_knowingly() {
    let table = table();
    let next = evolve(&table, update().make_optional("id").make_optional("point.lat").make_optional("name"));
    assert!(!field(&next, "id").required && !field(&next, "point.lat").required);
    refused(&table, update().require_column("name"), &["column: name", "allow_incompatible"]);
    let next =
        evolve(&table, update().allow_incompatible().require_column("name").require_column("tags.element"));
    assert!(field(&next, "name").required && field(&next, "tags.element").required);
    assert_eq!(update().require_column("id").apply(&table).unwrap(), MetadataChange::default());
    refused(&table, update().make_optional("attributes.key"), &["attributes.key"]);
}

#[test]
fn identifier_fields_obey_their_rules() {
    let next = evolve(&table(), update().set_identifier_fields(["id"]));
    let ids: Vec<i32> = next.current_schema().identifier_field_ids().collect();
    assert_eq!(ids, [id(&next, "id")]);
    let renamed = evolve(&next, update().rename_column("id", "key"));
    assert_eq!(renamed.current_schema().identifier_field_ids().collect::<Vec<_>>(), ids);
    refused(&next, update().make_optional("id"), &["column: id", "is required"]);
    refused(&next, update().drop_column("id"), &["column: id", "identifier"]);
    let cases = [
        ("name", "is required"),
        ("point.lat", "float or double"),
        ("point", "primitive type"),
        ("attributes.key.code", "list or map"),
        ("missing", "no such column"),
    ];
    for (name, part) in cases {
        refused(&table(), update().set_identifier_fields([name]), &[name, part]);
    }
    let nested = update().allow_incompatible().add_column("o", structure([required("x", int())]));
    refused(&table(), nested.clone().set_identifier_fields(["o.x"]), &["column: o.x", "optional struct"]);
    evolve(&table(), nested.require_column("o").set_identifier_fields(["o.x", "id"]));
}

#[test]
fn an_equal_schema_with_several_identifier_fields_is_used_again_every_time() {
    let base = evolve(
        &table(),
        update()
            .allow_incompatible()
            .require_column("name")
            .require_column("day")
            .require_column("ts")
            .set_identifier_fields(["id", "name", "day", "ts"]),
    );
    for _ in 0..20 {
        let there = evolve(&base, update().add_column("x", int()));
        let back = evolve(&there, update().drop_column("x"));
        assert_eq!(back.current_schema_id(), base.current_schema_id());
        assert_eq!(back.last_column_id(), there.last_column_id());
    }
}

#[test]
fn requirements_are_those_of_the_rest_specification() {
    let table = table();
    let change = update().add_column("x", int()).apply(&table).unwrap();
    assert_eq!(
        change.requirements,
        [
            TableRequirement::UuidMatch { uuid: table.uuid() },
            TableRequirement::CurrentSchemaIdMatch { current_schema_id: 0 },
            TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id: table.last_column_id() },
        ]
    );
    assert!(matches!(
        change.updates.as_slice(),
        [TableUpdate::AddSchema { .. }, TableUpdate::SetCurrentSchema { schema_id: -1 }]
    ));
    let change = update().drop_column("name").apply(&table).unwrap();
    assert!(change.requirements.contains(&TableRequirement::DefaultSpecIdMatch { default_spec_id: 0 }));
    assert!(
        change.requirements.contains(&TableRequirement::DefaultSortOrderIdMatch { default_sort_order_id: 0 })
    );
}

#[test]
fn edits_that_cancel_out_change_nothing() {
    let table = table();
    for edit in [
        update().rename_column("name", "x").rename_column("x", "name"),
        update().add_column("x", int()).drop_column("x"),
        update().make_optional("name").promote_column("id", long()).move_first("id"),
    ] {
        assert_eq!(edit.apply(&table).unwrap(), MetadataChange::default(), "{edit:?}");
    }
}

#[test]
fn a_preview_shows_the_schema_without_a_change() {
    let schema = update().add_column("x", int()).preview(&table()).unwrap();
    assert_eq!(schema.schema_id(), 1);
    assert!(schema.field_by_name("x").is_some());
}
