use serde_json::json;

use super::*;

fn schema() -> Value {
    json!({"type": "struct", "schema-id": 0, "fields": [
        {"id": 1, "name": "id", "required": true, "type": "long"},
        {"id": 2, "name": "u", "required": false, "type": "unknown", "initial-default": null},
        {"id": 3, "name": "v", "required": false, "type": "variant", "doc": "what came"},
        {"id": 4, "name": "here", "required": false, "type": "geometry"},
        {"id": 5, "name": "there", "required": false, "type": "geometry(srid:3857)"},
        {"id": 6, "name": "round", "required": false, "type": "geography(OGC:CRS84, vincenty)"},
        {"id": 7, "name": "later", "required": false, "type": "interval(month)"},
        {"id": 8, "name": "fixed", "required": false, "type": "fixed[7]"},
        {"id": 9, "name": "huge", "required": false, "type": "fixed[9223372036854775808]"},
        {"id": 10, "name": "list", "required": false, "type":
            {"type": "list", "element-id": 11, "element-required": false, "element": "variant"}},
        {"id": 12, "name": "map", "required": false, "type":
            {"type": "map", "key-id": 13, "key": "string", "value-id": 14, "value-required": false, "value":
                {"type": "struct", "fields": [
                    {"id": 15, "name": "g", "required": false, "type": "geometry(srid:3857)"},
                    {"id": 16, "name": "n", "required": false, "type": "decimal(38, 2)"}]}}}
    ]})
}

fn hidden() -> Schema {
    let mut json = schema();
    assert!(hide(&mut json, &mut OfFile::default()).unwrap());
    serde_json::from_value(json).unwrap()
}

#[test]
fn types_at_every_level_come_back_as_they_were() {
    let mut back = serde_json::to_value(hidden()).unwrap();
    show(&mut back);
    assert_eq!(back, schema());
    // Hiding again what was hidden finds the same stand-ins.
    let mut again = back.clone();
    hide(&mut again, &mut OfFile::of_known_table()).unwrap();
    assert_eq!(serde_json::from_value::<Schema>(again).unwrap(), hidden());
    let mut plain =
        json!({"type": "struct", "fields": [{"id": 1, "name": "a", "required": true, "type": "int"}]});
    assert!(!hide(&mut plain, &mut OfFile::default()).unwrap());
}

#[test]
fn a_stand_in_tells_its_kind_and_its_text() {
    let schema = hidden();
    let of = |id: i32| match schema.field_by_id(id).unwrap().field_type.as_ref() {
        Type::Primitive(of) => (foreign_kind(of), primitive_text(of)),
        other => panic!("{other}"),
    };
    use ForeignKind as K;
    for (id, kind, text) in [
        (1, None, "long"),
        (2, Some(K::Unknown), "unknown"),
        (3, Some(K::Variant), "variant"),
        (4, Some(K::Geometry), "geometry"),
        (5, Some(K::Geometry), "geometry(srid:3857)"),
        (6, Some(K::Geography), "geography(OGC:CRS84, vincenty)"),
        (7, Some(K::Other), "interval(month)"),
        (8, None, "fixed(7)"),
        (9, Some(K::Other), "fixed[9223372036854775808]"),
        (11, Some(K::Variant), "variant"),
        (15, Some(K::Geometry), "geometry(srid:3857)"),
    ] {
        assert_eq!(of(id), (kind, text.to_string()), "{id}");
    }
    assert_eq!(first_foreign(&schema).unwrap().0, "u");
    for text in ["variant(1)", "unknown()", "geometric", "Variant", "geometry(x"] {
        assert_eq!(ForeignKind::of(text), K::Other, "{text}");
    }
}

#[test]
fn a_default_of_such_a_type_is_kept_and_not_read() {
    for key in ["initial-default", "write-default"] {
        let json = json!({"type": "struct", "schema-id": 0, "fields": [
            {"id": 3, "name": "v", "required": false, "type": "variant", key: "AA=="}]});
        let mut hidden = json.clone();
        assert!(hide(&mut hidden, &mut OfFile::default()).unwrap());
        let schema: Schema = serde_json::from_value(hidden).unwrap();
        let field = schema.field_by_id(3).unwrap();
        let read = [members::initial_default(field), members::write_default(field)];
        let error = read.into_iter().find_map(|read| read.err()).unwrap();
        assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
        assert!(error.to_string().contains("column: v"), "{error}");
        let mut back = serde_json::to_value(&schema).unwrap();
        show(&mut back);
        assert_eq!(back, json);
    }
}

#[test]
fn geometries_are_marked_as_geoarrow_has_it() {
    let of = |text: &str| {
        let stand_in = stand_in(text, &mut OfFile::default()).unwrap().unwrap();
        serde_json::from_value::<PrimitiveType>(Value::String(stand_in)).unwrap()
    };
    for (text, metadata) in [
        ("geometry", json!({"crs": "OGC:CRS84", "crs_type": "authority_code"})),
        ("geometry(srid:3857)", json!({"crs": "3857", "crs_type": "srid"})),
        ("geometry(projjson:crs)", json!({})),
        ("geography", json!({"crs": "OGC:CRS84", "crs_type": "authority_code", "edges": "spherical"})),
        (
            "geography(EPSG:4326, karney)",
            json!({"crs": "EPSG:4326", "crs_type": "authority_code", "edges": "karney"}),
        ),
    ] {
        let (name, own) = extension(&of(text)).unwrap();
        assert_eq!(name, "geoarrow.wkb");
        assert_eq!(serde_json::from_str::<Value>(&own).unwrap(), metadata, "{text}");
    }
    assert_eq!(extension(&of("variant")).unwrap().0, VARIANT_EXTENSION);
    assert_eq!(extension(&of("unknown")), None);
}

#[test]
fn invented_types_take_no_room_from_those_that_there_are() {
    let mut texts = Texts::default();
    let mut of = |text: &str| texts.place(text, ForeignKind::of(text)).map(drop);
    let mut number = 0_u32;
    let mut fill = |of: &mut dyn FnMut(&str) -> Result<()>, name: &str| {
        let long = "x".repeat(200);
        loop {
            number += 1;
            if let Err(error) = of(&format!("{name}({number}{long})")) {
                assert_eq!(error.kind(), crate::ErrorKind::ResourceExhausted);
                return;
            }
        }
    };
    fill(&mut of, "madeup");
    for text in ["variant", "geometry(srid:3857)", "geography(OGC:CRS84, karney)"] {
        of(text).unwrap();
    }
    fill(&mut of, "geometry");
    for text in ["unknown", "variant", "geometry", "geography", "geometry(srid:3857)"] {
        of(text).unwrap();
    }
    let held: usize = texts.texts.iter().map(|text| text.len() + PER_TEXT).sum();
    assert!(held <= 2 * MAX_TEXTS + 4 * PER_TEXT * 2, "{held}");
}

#[test]
fn a_file_has_few_types_that_nobody_knows() {
    let column =
        |id: usize, of: String| json!({"id": id, "name": format!("c{id}"), "required": false, "type": of});
    let schema = |types: usize| {
        let fields: Vec<_> = (0..200).map(|id| column(id + 1, format!("few{}", id % types))).collect();
        json!({"type": "struct", "schema-id": 0, "fields": fields})
    };
    hide(&mut schema(MAX_OF_FILE), &mut OfFile::default()).unwrap();
    let error = hide(&mut schema(MAX_OF_FILE + 1), &mut OfFile::default()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::DataInvalid, "{error}");
    // Schemas of one file count together.
    let mut file = OfFile::default();
    hide(&mut schema(MAX_OF_FILE), &mut file).unwrap();
    let other = json!({"type": "struct", "fields": [column(1, "one more".to_string())]});
    hide(&mut other.clone(), &mut file).unwrap_err();
    // A table's manifests have no types that its metadata does not have.
    hide(&mut other.clone(), &mut OfFile::of_known_table()).unwrap_err();
}
