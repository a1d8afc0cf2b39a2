use super::*;

fn data(fields: Vec<NestedField>) -> Schema {
    Schema::builder().with_fields(with_ids(fields)).build().unwrap()
}

fn unite(fields: Vec<NestedField>) -> SchemaUpdate {
    SchemaUpdate::new().union_by_name(data(fields))
}

fn one(name: &str, ty: Type) -> SchemaUpdate {
    unite(vec![NestedField::optional(0, name, ty)])
}

#[test]
fn missing_columns_come_optional_and_last_with_new_ids() {
    let table = table();
    let next = evolve(
        &table,
        unite(vec![
            NestedField::required(0, "currency", string()),
            NestedField::optional(0, "name", string()),
            NestedField::optional(0, "a.b", int()),
            NestedField::optional(
                0,
                "area",
                structure([required("code", int()), optional("names", list(string()))]),
            ),
        ]),
    );
    assert!(!field(&next, "currency").required);
    assert_eq!(id(&next, "currency"), table.last_column_id() + 1);
    assert_eq!(order(&next, "")[11..], ["currency", "a.b", "area"]);
    assert_eq!(next.last_column_id(), table.last_column_id() + 6);
    assert!(has(&next, "price"), "what the data lacks stays");
}

#[test]
fn missing_nested_columns_come_too() {
    let next = evolve(
        &table(),
        unite(vec![
            NestedField::optional(0, "point", structure([required("alt", double())])),
            NestedField::optional(
                0,
                "stops",
                list(structure([optional("gate", string()), optional("note", string())])),
            ),
            NestedField::optional(
                0,
                "attributes",
                map(structure([required("code", int())]), structure([optional("source", string())])),
            ),
        ]),
    );
    assert_eq!(order(&next, "point"), ["lat", "lon", "alt"]);
    assert!(!field(&next, "point.alt").required);
    assert_eq!(order(&next, "stops.element"), ["at", "note", "gate"]);
    assert_eq!(order(&next, "attributes.value"), ["value", "unit", "source"]);
}

#[test]
fn wider_types_widen_the_column_and_narrower_ones_change_nothing() {
    let next = evolve(
        &table(),
        unite(vec![
            NestedField::optional(0, "quantity", long()),
            NestedField::optional(0, "price", double()),
            NestedField::optional(0, "amount", decimal(12, 2)),
            NestedField::optional(0, "id", int()),
        ]),
    );
    for (name, ty) in [("quantity", long()), ("price", double()), ("amount", decimal(12, 2)), ("id", long())]
    {
        assert_eq!(*field(&next, name).field_type, ty, "{name}");
    }
    for (name, ty) in [("id", int()), ("amount", decimal(5, 2)), ("name", string())] {
        assert!(one(name, ty).apply(&table()).unwrap().is_empty(), "{name}");
    }
}

#[test]
fn what_can_not_be_united_names_the_column_and_both_types() {
    let cases: Vec<(SchemaUpdate, &[&str])> = vec![
        (one("name", int()), &["column: name", "from: string", "to: int"]),
        (one("quantity", string()), &["column: quantity", "from: int", "to: string", "cast"]),
        (one("amount", decimal(9, 3)), &["column: amount", "scale"]),
        (one("day", timestamp()), &["column: day", "from: date", "to: timestamp", "cast"]),
        (one("name", list(string())), &["column: name", "from: string", "to: list"]),
        (one("point", string()), &["column: point", "from: struct"]),
        (one("point", structure([optional("lat", string())])), &["column: point.lat", "from: double"]),
        (one("tags", list(int())), &["column: tags.element", "from: string"]),
        (one("at", timestamp_ns()), &["column: at", "format version 3"]),
        (
            one(
                "attributes",
                map(structure([required("code", long())]), structure([optional("unit", int())])),
            ),
            &["column: attributes.key.code", "key"],
        ),
        (
            one(
                "attributes",
                map(structure([required("other", int())]), structure([optional("unit", int())])),
            ),
            &["column: attributes.key.other", "key"],
        ),
    ];
    for (edit, parts) in cases {
        refused(&table(), edit, parts);
    }
    refused(&v3(), one("day", timestamp()), &["column: day"]);
}

#[test]
fn required_columns_stay_so_unless_relaxed() {
    let optional_id = data(vec![NestedField::optional(0, "id", long())]);
    let keep = SchemaUpdate::new().union_by_name(optional_id.clone());
    assert!(keep.apply(&table()).unwrap().is_empty());
    let next = evolve(&table(), SchemaUpdate::new().union_by_name_relaxing(optional_id));
    assert!(!field(&next, "id").required);
}

#[test]
fn case_may_be_ignored() {
    let fields =
        || vec![NestedField::optional(0, "NAME", string()), NestedField::optional(0, "Quantity", long())];
    let apart = evolve(&table(), unite(fields()));
    assert!(has(&apart, "NAME") && has(&apart, "name"));
    let united = evolve(&table(), unite(fields()).case_sensitive(false));
    assert!(!has(&united, "NAME"));
    assert_eq!(*field(&united, "quantity").field_type, long());
    refused(&apart, one("Name", string()).case_sensitive(false), &["column: Name", "several columns"]);
}

#[test]
fn union_with_its_own_schema_changes_nothing_and_a_second_time_neither() {
    let table = table();
    assert!(SchemaUpdate::new().union_by_name(schema()).apply(&table).unwrap().is_empty());
    let wider = one("x", structure([optional("y", int())]));
    let once = evolve(&table, wider.clone());
    assert!(wider.apply(&once).unwrap().is_empty());
}

#[test]
fn a_promotion_that_a_partition_forbids_is_refused_in_a_union_too() {
    let table = Fixture { partition: vec![bucket("quantity", 4).into()], ..Fixture::default() }.build();
    let next = evolve(&table, one("quantity", long()));
    assert_eq!(*field(&next, "quantity").field_type, long(), "int and long have the same hash");
}
