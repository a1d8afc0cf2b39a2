use super::*;
use crate::error::ErrorKind;

fn primitive(of: PrimitiveType) -> Type {
    Type::Primitive(of)
}

/// One column of every type, nested ones of several levels among them.
fn every_type() -> Schema {
    use PrimitiveType as T;
    let mut fields: Vec<NestedFieldRef> = [
        T::Boolean,
        T::Int,
        T::Long,
        T::Float,
        T::Double,
        T::Decimal { precision: 1, scale: 0 },
        T::Decimal { precision: 9, scale: 2 },
        T::Decimal { precision: 18, scale: 18 },
        T::Decimal { precision: 38, scale: 10 },
        T::Date,
        T::Time,
        T::Timestamp,
        T::Timestamptz,
        T::TimestampNs,
        T::TimestamptzNs,
        T::String,
        T::Uuid,
        T::Fixed(7),
        T::Binary,
    ]
    .into_iter()
    .enumerate()
    .map(|(i, of)| NestedField::new(i as i32 + 1, format!("c{i}"), primitive(of), i % 2 == 0).into())
    .collect();
    let point = Type::Struct(StructType::new(vec![
        NestedField::required(40, "x", primitive(T::Double)).into(),
        NestedField::optional(41, "tags", list(42, primitive(T::Uuid), false)).into(),
    ]));
    let map = Type::Map(MapType::new(
        NestedField::map_key_element(50, primitive(T::String)).into(),
        NestedField::map_value_element(51, list(52, primitive(T::Timestamptz), true), false).into(),
    ));
    fields.push(NestedField::optional(60, "points", list(61, point, true)).into());
    fields.push(NestedField::required(62, "map", map).into());
    Schema::builder().with_fields(fields).build().unwrap()
}

fn list(id: i32, element: Type, required: bool) -> Type {
    Type::List(ListType::new(NestedField::list_element(id, element, required).into()))
}

fn id(field: &Field) -> i32 {
    field.metadata()[PARQUET_FIELD_ID_META_KEY].parse().unwrap()
}

#[test]
fn every_level_of_the_arrow_schema_carries_its_field_id() {
    let arrow = arrow_schema(&every_type()).unwrap();
    let points = arrow.field_with_name("points").unwrap();
    assert_eq!(id(points), 60);
    let DataType::List(element) = points.data_type() else { panic!("{points:?}") };
    assert_eq!((id(element), element.name().as_str(), element.is_nullable()), (61, "element", false));
    let DataType::Struct(fields) = element.data_type() else { panic!("{element:?}") };
    assert_eq!(fields.iter().map(|field| id(field)).collect::<Vec<_>>(), [40, 41]);
    let map = arrow.field_with_name("map").unwrap();
    let DataType::Map(entries, _) = map.data_type() else { panic!("{map:?}") };
    let (key, value) = map_fields(entries).unwrap();
    assert_eq!((id(key), id(value), key.is_nullable(), value.is_nullable()), (50, 51, false, true));
    let DataType::List(element) = value.data_type() else { panic!("{value:?}") };
    assert_eq!(id(element), 52);
    assert_eq!(element.data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())));
}

#[test]
fn types_map_as_the_contract_says() {
    let arrow = arrow_schema(&every_type()).unwrap();
    let types: Vec<String> =
        arrow.fields().iter().take(19).map(|field| field.data_type().to_string()).collect();
    let expected = [
        "Boolean",
        "Int32",
        "Int64",
        "Float32",
        "Float64",
        "Decimal128(1, 0)",
        "Decimal128(9, 2)",
        "Decimal128(18, 18)",
        "Decimal128(38, 10)",
        "Date32",
        "Time64(µs)",
        "Timestamp(µs)",
        "Timestamp(µs, \"+00:00\")",
        "Timestamp(ns)",
        "Timestamp(ns, \"+00:00\")",
        "Utf8",
        "FixedSizeBinary(16)",
        "FixedSizeBinary(7)",
        "Binary",
    ];
    assert_eq!(types, expected);
}

#[test]
fn what_arrow_reads_from_our_parquet_schema_is_our_arrow_schema() {
    let schema = every_type();
    let parquet = parquet_schema(&schema).unwrap();
    let read = parquet::arrow::parquet_to_arrow_schema(&parquet, None).unwrap();
    let ours = arrow_schema(&schema).unwrap();
    for (theirs, ours) in read.fields().iter().zip(ours.fields()) {
        let text = |field: &Field| format!("{field:?}").replace("Some(\"UTC\")", "Some(\"+00:00\")");
        assert_eq!(text(theirs), text(ours), "{}", ours.name());
    }
}

#[test]
fn parquet_columns_have_the_physical_and_logical_types_of_the_specification() {
    let parquet = parquet_schema(&every_type()).unwrap();
    let column = |name: &str| {
        let column = parquet.columns().iter().find(|column| column.path().string() == name).unwrap();
        (column.physical_type(), column.logical_type_ref().cloned(), column.type_length())
    };
    assert_eq!(column("c16"), (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid), 16));
    assert_eq!(column("points.list.element.tags.list.element").1, Some(LogicalType::Uuid));
    assert_eq!(column("c5").0, Physical::INT32);
    assert_eq!(column("c6").0, Physical::INT32);
    assert_eq!(column("c7").0, Physical::INT64);
    assert_eq!(
        column("c8"),
        (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Decimal { scale: 10, precision: 38 }), 16)
    );
    assert_eq!(
        column("map.key_value.value.list.element").1,
        Some(LogicalType::Timestamp { is_adjusted_to_u_t_c: true, unit: ParquetUnit::MICROS })
    );
    assert_eq!(column("map.key_value.key").1, Some(LogicalType::String));
}

#[test]
fn fresh_ids_count_all_fields_of_a_level_before_those_inside() {
    let inner = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(fields.into()), true);
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let entries = Field::new(
        "entries",
        DataType::Struct(vec![inner("keys", vec![int("k")]), inner("values", vec![int("v")])].into()),
        false,
    );
    let arrow = ArrowSchema::new(vec![
        int("a"),
        inner("b", vec![inner("c", vec![int("d")]), int("e")]),
        Field::new("f", DataType::Map(Arc::new(entries), false), true),
        Field::new("g", DataType::LargeList(Arc::new(inner("item", vec![int("h")]))), true),
        int("i"),
    ]);
    let schema = iceberg_schema(&arrow, FormatVersion::V2).unwrap();
    let ids: Vec<(&str, i32)> = [
        "a",
        "b",
        "f",
        "g",
        "i",
        "b.c",
        "b.e",
        "b.c.d",
        "f.key",
        "f.value",
        "f.key.k",
        "f.value.v",
        "g.element",
        "g.element.h",
    ]
    .into_iter()
    .map(|name| (name, schema.field_id_by_name(name).unwrap_or_else(|| panic!("{name}"))))
    .collect();
    let expected: Vec<i32> = (1..=14).collect();
    assert_eq!(ids.iter().map(|(_, id)| *id).collect::<Vec<_>>(), expected, "{ids:?}");
}

#[test]
fn arrow_types_are_widened_to_the_nearest_that_iceberg_has() {
    use DataType as D;
    use PrimitiveType as T;
    let zone = Some(Arc::from("Europe/Paris"));
    let cases = [
        (D::Int8, T::Int),
        (D::UInt16, T::Int),
        (D::UInt32, T::Long),
        (D::Float16, T::Float),
        (D::Utf8View, T::String),
        (D::LargeUtf8, T::String),
        (D::BinaryView, T::Binary),
        (D::Date64, T::Date),
        (D::Time32(TimeUnit::Second), T::Time),
        (D::Timestamp(TimeUnit::Second, None), T::Timestamp),
        (D::Timestamp(TimeUnit::Millisecond, zone.clone()), T::Timestamptz),
        (D::Timestamp(TimeUnit::Nanosecond, None), T::TimestampNs),
        (D::Timestamp(TimeUnit::Nanosecond, zone), T::TimestamptzNs),
        (D::Decimal256(38, 2), T::Decimal { precision: 38, scale: 2 }),
        (D::Decimal32(5, 2), T::Decimal { precision: 5, scale: 2 }),
        (D::FixedSizeBinary(16), T::Fixed(16)),
        (D::Dictionary(Box::new(D::UInt8), Box::new(D::Utf8)), T::String),
    ];
    for (arrow, expected) in cases {
        let schema = ArrowSchema::new(vec![Field::new("c", arrow.clone(), true)]);
        let found = iceberg_schema(&schema, FormatVersion::V3).unwrap();
        assert_eq!(found.field_by_id(1).unwrap().field_type.as_ref(), &primitive(expected), "{arrow}");
    }
    let uuid = Field::new("c", D::FixedSizeBinary(16), true)
        .with_metadata(HashMap::from([(EXTENSION_NAME_KEY.into(), UUID_EXTENSION.into())]));
    let found = iceberg_schema(&ArrowSchema::new(vec![uuid]), FormatVersion::V2).unwrap();
    assert_eq!(found.field_by_id(1).unwrap().field_type.as_ref(), &primitive(T::Uuid));
}

#[test]
fn a_type_that_iceberg_lacks_is_an_error_that_names_the_column() {
    use DataType as D;
    let cases = [
        D::UInt64,
        D::Null,
        D::Decimal256(50, 2),
        D::Decimal128(10, -2),
        D::Time64(TimeUnit::Nanosecond),
        D::Timestamp(TimeUnit::Nanosecond, None),
        D::Duration(TimeUnit::Second),
        D::Interval(arrow_schema::IntervalUnit::DayTime),
    ];
    for arrow in cases {
        let inside = Field::new("deep", arrow.clone(), true);
        let schema = ArrowSchema::new(vec![Field::new("outer", D::Struct(vec![inside].into()), true)]);
        let error = iceberg_schema(&schema, FormatVersion::V2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{arrow}");
        assert!(error.to_string().contains("column: outer.deep"), "{error}");
    }
    let twice = ArrowSchema::new(vec![Field::new("a", D::Int32, true), Field::new("a", D::Int32, true)]);
    assert_eq!(iceberg_schema(&twice, FormatVersion::V2).unwrap_err().kind(), ErrorKind::InvalidInput);
    let empty = Schema::builder()
        .with_fields([NestedField::optional(1, "s", Type::Struct(StructType::new(vec![]))).into()])
        .build()
        .unwrap();
    let error = parquet_schema(&empty).unwrap_err();
    assert!(error.to_string().contains("column: s"), "{error}");
}

#[test]
fn a_schema_goes_to_arrow_and_back_but_for_ids() {
    let schema = every_type();
    let back = iceberg_schema(&arrow_schema(&schema).unwrap(), FormatVersion::V3).unwrap();
    for field in schema.as_struct().fields().iter().take(19) {
        let found = back.field_by_name(&field.name).unwrap();
        let expected = match field.field_type.as_ref() {
            Type::Primitive(PrimitiveType::Uuid) => primitive(PrimitiveType::Fixed(16)),
            other => other.clone(),
        };
        assert_eq!(
            (found.field_type.as_ref(), found.required),
            (&expected, field.required),
            "{}",
            field.name
        );
    }
}
