use iceberg::spec::NameMapping;

use super::*;

const MAPPING: &str = "schema.name-mapping.default";

fn mapped(json: &str) -> TableMetadata {
    Fixture { properties: HashMap::from([(MAPPING.to_string(), json.to_string())]), ..Fixture::default() }
        .build()
}

fn mapping(metadata: &TableMetadata) -> serde_json::Value {
    let text = &metadata.properties()[MAPPING];
    serde_json::from_str::<NameMapping>(text).unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_name_mapping_learns_new_names_and_columns() {
    let table = mapped(
        r#"[{"field-id":1,"names":["id"]},{"field-id":2,"names":["name","label"]},
        {"field-id":7,"names":["point"],"fields":[{"field-id":12,"names":["lat"]}]}]"#,
    );
    assert_eq!((id(&table, "id"), id(&table, "point"), id(&table, "point.lat")), (1, 7, 12));
    let next = evolve(
        &table,
        SchemaUpdate::new()
            .rename_column("name", "title")
            .rename_column("point.lat", "latitude")
            .add_column("point.alt", double())
            .add_column("box", structure([optional("n", list(int()))])),
    );
    let n = table.last_column_id();
    let expected = serde_json::json!([
        {"field-id": 1, "names": ["id"]},
        {"field-id": 2, "names": ["name", "label", "title"]},
        {"field-id": 7, "names": ["point"], "fields": [
            {"field-id": 12, "names": ["lat", "latitude"]},
            {"field-id": n + 1, "names": ["alt"]},
        ]},
        {"field-id": n + 2, "names": ["box"], "fields": [
            {"field-id": n + 3, "names": ["n"], "fields": [{"field-id": n + 4, "names": ["element"]}]},
        ]},
    ]);
    assert_eq!(mapping(&next), expected);
}

#[test]
fn a_name_that_another_column_takes_leaves_the_one_that_had_it() {
    let table = mapped(r#"[{"field-id":2,"names":["name"]},{"field-id":3,"names":["price"]}]"#);
    let next = evolve(&table, SchemaUpdate::new().drop_column("name").rename_column("price", "name"));
    let expected =
        serde_json::json!([{"field-id": 2, "names": []}, {"field-id": 3, "names": ["price", "name"]}]);
    assert_eq!(mapping(&next), expected);
    let again = evolve(&table, SchemaUpdate::new().drop_column("name").add_column("name", string()));
    let n = table.last_column_id();
    assert_eq!(mapping(&again)[0]["names"], serde_json::json!([]));
    assert_eq!(mapping(&again)[2], serde_json::json!({"field-id": n + 1, "names": ["name"]}));
}

#[test]
fn a_mapping_that_can_not_be_read_stays_and_one_that_needs_no_change_too() {
    let table = mapped("not json");
    let next = evolve(&table, SchemaUpdate::new().rename_column("name", "title"));
    assert_eq!(next.properties()[MAPPING], "not json");
    let table = mapped(r#"[{"field-id":2,"names":["name"]}]"#);
    let change = SchemaUpdate::new().set_doc("name", "x").apply(&table).unwrap();
    assert!(!change.updates.iter().any(|u| matches!(u, TableUpdate::SetProperties { .. })));
}

#[test]
fn settings_of_a_column_follow_its_name_and_go_with_it() {
    let metrics = "write.metadata.metrics.column.";
    let bloom = "write.parquet.bloom-filter-enabled.column.";
    let properties = [
        (format!("{metrics}name"), "full"),
        (format!("{bloom}name"), "true"),
        (format!("{metrics}price"), "none"),
        (format!("{metrics}point.lat"), "counts"),
        (format!("{metrics}unknown"), "counts"),
    ];
    let properties = properties.into_iter().map(|(k, v)| (k, v.to_string())).collect();
    let table = Fixture { properties, ..Fixture::default() }.build();
    let next = evolve(
        &table,
        SchemaUpdate::new()
            .rename_column("name", "title")
            .drop_column("price")
            .rename_column("point", "place"),
    );
    let mut names: Vec<&str> = next.properties().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            &format!("{metrics}place.lat"),
            &format!("{metrics}title"),
            &format!("{metrics}unknown"),
            &format!("{bloom}title"),
        ]
    );
    let swapped = evolve(
        &table,
        SchemaUpdate::new()
            .rename_column("name", "t")
            .rename_column("price", "name")
            .rename_column("t", "price"),
    );
    assert_eq!(swapped.properties()[&format!("{metrics}name")], "none");
    assert_eq!(swapped.properties()[&format!("{metrics}price")], "full");
    assert!(!swapped.properties().contains_key(&format!("{bloom}name")));
}
