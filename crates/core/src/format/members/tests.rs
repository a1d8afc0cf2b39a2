use iceberg::spec::{ListType, NestedField};
use serde_json::json;

use super::*;

fn shown(json: &Value) -> (NestedField, Value) {
    let mut hidden = json.as_object().unwrap().clone();
    hide(&mut hidden);
    let field: NestedField = serde_json::from_value(Value::Object(hidden)).unwrap();
    let mut back = serde_json::to_value(&field).unwrap();
    show(back.as_object_mut().unwrap());
    (field, back)
}

#[test]
fn a_description_carries_what_users_do_not_see() {
    for doc in [Value::Null, json!(""), json!("text"), json!("a\u{1f}b"), json!("a\u{1f}{}"), json!({"x": 1})]
    {
        for extra in [None, Some(json!({"y": [1, null]}))] {
            let mut json = json!({"id": 1, "name": "c", "required": false, "type": "int", "doc": doc});
            if let Some(extra) = &extra {
                json["x-extra"] = extra.clone();
            }
            let (field, back) = shown(&json);
            assert_eq!(back, json);
            assert_eq!(column_doc(&field), doc.as_str(), "{json}");
            // Taken apart and put together it is the same.
            let mut again = field.clone();
            let parts = parts(&field);
            set_parts(&mut again, parts);
            assert_eq!(again, field);
        }
    }
}

#[test]
fn lists_and_maps_keep_members_at_each_level() {
    let json = json!({"id": 1, "name": "c", "required": false, "type": {"type": "map", "x": 1, "key-id": 2, "key": "string",
        "value-id": 3, "value-required": false, "value": {"type": "list", "y": 2, "element-id": 4,
            "element-required": true, "element": {"type": "struct", "z": 3, "fields": []}}}});
    let (field, back) = shown(&json);
    assert_eq!(back, json);
    // Where the type is another one there is nothing to put them back into.
    let of = NestedField::list_element(2, Type::Primitive(PrimitiveType::Int), false);
    let mut other = NestedField::optional(1, "c", Type::List(ListType::new(of.into())));
    other.doc = field.doc;
    let mut back = serde_json::to_value(&other).unwrap();
    show(back.as_object_mut().unwrap());
    assert_eq!(back["type"]["element"], "int");
}

#[test]
fn values_out_of_range_are_no_defaults() {
    use PrimitiveType as P;
    let long = |value: i64| Literal::Primitive(PrimitiveLiteral::Long(value));
    for (of, value) in [
        (P::Timestamp, long(i64::MIN)),
        (P::Timestamptz, long(i64::MAX)),
        (P::Time, long(-1)),
        (P::Time, long(i64::MAX)),
        (P::Date, Literal::Primitive(PrimitiveLiteral::Int(i32::MAX))),
        (P::Float, Literal::float(f32::NAN)),
        (P::Double, Literal::double(f64::INFINITY)),
    ] {
        let of = Type::Primitive(of);
        assert!(matches!(kept_as(&value, &of), KeptAs::Other), "{of}");
        assert!(!is_held(&value, &of));
    }
    assert!(matches!(kept_as(&long(1), &Type::Primitive(P::String)), KeptAs::Nothing));
    for (of, value) in [
        (P::TimestampNs, long(i64::MIN + 1)),
        (P::TimestamptzNs, long(i64::MAX)),
        (P::Timestamptz, long(-1)),
        (P::Decimal { precision: 38, scale: 38 }, Literal::decimal(-(10i128.pow(38) - 1))),
        (P::Decimal { precision: 3, scale: 0 }, Literal::decimal(0)),
        (P::Date, Literal::date(-719_528)),
    ] {
        let of = Type::Primitive(of);
        assert!(matches!(kept_as(&value, &of), KeptAs::Itself), "{of}");
    }
    let decimal = Type::Primitive(P::Decimal { precision: 9, scale: 2 });
    for text in ["", ".", "-", "1.234", "1e3", "a", "١"] {
        assert_eq!(decode(&json!(text), &decimal), None, "{text}");
    }
    assert_eq!(decode(&json!("-1.2"), &decimal), Some(Literal::decimal(-120)));
    let instant = Type::Primitive(P::TimestamptzNs);
    for text in ["2020-01-01T00:00:00", "2020-01-01T00:00:00+01:00", "9999-01-01T00:00:00+00:00", "x+00:00"] {
        assert_eq!(decode(&json!(text), &instant), None, "{text}");
    }
}

#[test]
fn small_decimals_are_spelled_without_exponents() {
    let of = Type::Primitive(PrimitiveType::Decimal { precision: 20, scale: 12 });
    let json = json!({"id": 1, "name": "c", "required": false, "type": "decimal(20, 12)",
        "initial-default": "0.000000000001", "write-default": "-0.000000000000"});
    let (field, back) = shown(&json);
    assert_eq!(back, json);
    assert_eq!(initial_default(&field).unwrap(), Some(Literal::decimal(1)));
    // Another writer's spelling stays as it is.
    let other = json!({"id": 1, "name": "c", "required": false, "type": "decimal(20, 12)", "initial-default": "1E-12"});
    let (field, back) = shown(&other);
    assert_eq!(back, other);
    assert_eq!(initial_default(&field).unwrap(), Some(Literal::decimal(1)));

    let mut field = NestedField::optional(1, "c", of);
    field.initial_default = Some(Literal::decimal(-7));
    let schema = Schema::builder().with_fields([field.into()]).build().unwrap();
    let settled = settled(schema).unwrap();
    let field = settled.field_by_id(1).unwrap();
    assert_eq!(initial_default(field).unwrap(), Some(Literal::decimal(-7)));
    let mut written = serde_json::to_value(field).unwrap();
    show(written.as_object_mut().unwrap());
    assert_eq!(written["initial-default"], "-0.000000000007");
}
