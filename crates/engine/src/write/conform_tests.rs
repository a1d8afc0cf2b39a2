use std::sync::Arc;

use arrow::array::{
    Date32Array, Date64Array, Decimal128Array, FixedSizeListArray, Int32Array, Int64Array, LargeListArray,
    MapBuilder, StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::Int32Type;
use iceberg::spec::{ListType, Literal, MapType, NestedField, StructType};

use super::*;

fn table(fields: Vec<NestedField>) -> Schema {
    Schema::builder().with_fields(fields.into_iter().map(Arc::new)).build().unwrap()
}

fn conform(schema: &Schema, columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    Conform::new(&batch.schema(), schema)?.apply(&batch)
}

#[test]
fn lists_and_maps_keep_their_rows_through_slices_and_casts() {
    let element = NestedField::list_element(3, PrimitiveType::Long.into(), false);
    let map = MapType::optional(4, PrimitiveType::String.into(), 5, PrimitiveType::Long.into());
    let schema = table(vec![
        NestedField::optional(1, "l", Type::List(ListType::new(element.into()))),
        NestedField::optional(2, "m", Type::Map(map)),
    ]);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1)]),
        None,
        Some(vec![Some(2), None]),
        Some(vec![]),
    ]);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), arrow::array::Int32Builder::new());
    for row in 0..4 {
        maps.keys().append_value(format!("k{row}"));
        maps.values().append_value(row);
        maps.append(row != 1).unwrap();
    }
    let (lists, maps) = (lists.slice(1, 3), maps.finish().slice(1, 3));
    let made = conform(&schema, vec![("m", Arc::new(maps)), ("l", Arc::new(lists))]).unwrap();
    let lists = made.column(0).as_list::<i32>();
    assert!(lists.is_null(0));
    let second = lists.value(1);
    assert_eq!(second.as_primitive::<arrow::datatypes::Int64Type>(), &Int64Array::from(vec![Some(2), None]));
    let maps = made.column(1).as_map();
    assert!(maps.is_null(0));
    assert_eq!(maps.value(1).column(0).as_string::<i32>(), &StringArray::from(vec!["k2"]));
    assert_eq!(made.schema().field(0).metadata().get("PARQUET:field_id").map(String::as_str), Some("1"));
}

#[test]
fn other_list_representations_fit() {
    let element = NestedField::list_element(2, PrimitiveType::Int.into(), false);
    let schema = table(vec![NestedField::optional(1, "l", Type::List(ListType::new(element.into())))]);
    let values = vec![Some(vec![Some(1), Some(2)]), None];
    let large = LargeListArray::from_iter_primitive::<Int32Type, _, _>(values.clone());
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(values, 2);
    for list in [Arc::new(large) as ArrayRef, Arc::new(fixed)] {
        let made = conform(&schema, vec![("l", list)]).unwrap();
        assert_eq!(made.column(0).as_list::<i32>().value(0).as_primitive::<Int32Type>().values(), &[1, 2]);
        assert!(made.column(0).is_null(1));
    }
}

#[test]
fn decimals_widen_and_do_not_narrow() {
    let schema =
        table(vec![NestedField::optional(1, "d", PrimitiveType::Decimal { precision: 12, scale: 4 }.into())]);
    let decimal = |precision, scale| {
        Arc::new(Decimal128Array::from(vec![150]).with_precision_and_scale(precision, scale).unwrap())
            as ArrayRef
    };
    let made = conform(&schema, vec![("d", decimal(9, 2))]).unwrap();
    assert_eq!(made.column(0).as_primitive::<arrow::datatypes::Decimal128Type>().value(0), 15_000);
    for (precision, scale) in [(12, 2), (12, 5), (20, 4)] {
        assert!(conform(&schema, vec![("d", decimal(precision, scale))]).is_err(), "{precision}, {scale}");
    }
}

#[test]
fn what_lies_under_a_null_struct_is_not_checked() {
    let inner = StructType::new(vec![NestedField::required(2, "at", PrimitiveType::Timestamp.into()).into()]);
    let schema = table(vec![NestedField::optional(1, "s", Type::Struct(inner))]);
    let values = Arc::new(TimestampMillisecondArray::from(vec![Some(i64::MAX), None, Some(1)])) as ArrayRef;
    let field = Arc::new(Field::new("at", values.data_type().clone(), true));
    let nulls = NullBuffer::from(vec![false, false, true]);
    let rows = StructArray::new(vec![field].into(), vec![values], Some(nulls));
    let made = conform(&schema, vec![("s", Arc::new(rows))]).unwrap();
    assert_eq!(made.column(0).null_count(), 2);
}

#[test]
fn a_missing_column_is_its_write_default_or_null() {
    let schema = table(vec![
        NestedField::required(1, "a", PrimitiveType::Int.into()).with_write_default(Literal::int(7)),
        NestedField::optional(2, "b", PrimitiveType::String.into()).with_write_default(Literal::string("x")),
        NestedField::optional(3, "c", PrimitiveType::String.into()),
        NestedField::optional(4, "d", PrimitiveType::Int.into()),
    ]);
    let made = conform(&schema, vec![("d", Arc::new(Int32Array::from(vec![1, 2])))]).unwrap();
    assert_eq!(made.column(0).as_primitive::<Int32Type>().values(), &[7, 7]);
    assert_eq!(made.column(1).as_string::<i32>().value(1), "x");
    assert_eq!(made.column(2).null_count(), 2);
}

#[test]
fn two_columns_of_one_name_are_refused() {
    let schema = table(vec![NestedField::optional(1, "a", PrimitiveType::Int.into())]);
    let field = Field::new("a", DataType::Int32, true);
    let error = Conform::new(&ArrowSchema::new(vec![field.clone(), field]), &schema).unwrap_err();
    assert!(error.to_string().contains("column: a"), "{error}");
}

#[test]
fn dates_of_milliseconds_are_days_or_refused() {
    let schema = table(vec![NestedField::optional(1, "on", PrimitiveType::Date.into())]);
    let days = |ms: Vec<Option<i64>>| conform(&schema, vec![("on", Arc::new(Date64Array::from(ms)))]);
    let made = days(vec![Some(-86_400_000), None, Some(0)]).unwrap();
    assert_eq!(
        made.column(0).as_primitive::<arrow::datatypes::Date32Type>(),
        &Date32Array::from(vec![Some(-1), None, Some(0)])
    );
    for unfit in [1, -1, 86_400_000 * (i64::from(i32::MAX) + 1)] {
        let error = days(vec![Some(unfit)]).unwrap_err().to_string();
        assert!(error.contains("column: on") && error.contains("date_trunc"), "{error}");
    }
}

#[test]
fn a_decimal_of_more_digits_than_it_declares_is_refused() {
    let of = PrimitiveType::Decimal { precision: 9, scale: 2 };
    let element = NestedField::list_element(3, of.clone().into(), false);
    let schema = table(vec![
        NestedField::optional(1, "d", of.into()),
        NestedField::optional(2, "l", Type::List(ListType::new(element.into()))),
    ]);
    // Arrow checks no digits here.
    let decimals = |value: i128| -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(9, 2).unwrap())
    };
    let lists = |value: i128| -> ArrayRef {
        let field = Field::new("element", DataType::Decimal128(9, 2), true);
        let offsets = OffsetBuffer::from_lengths([1]);
        Arc::new(ListArray::new(field.into(), offsets, decimals(value), None))
    };
    assert!(conform(&schema, vec![("d", decimals(999_999_999)), ("l", lists(-999_999_999))]).is_ok());
    let error = conform(&schema, vec![("d", decimals(5_000_000_000))]).unwrap_err().to_string();
    assert!(error.contains("column: d") && error.contains("does not fit"), "{error}");
    let error = conform(&schema, vec![("l", lists(-1_000_000_000))]).unwrap_err().to_string();
    assert!(error.contains("column: l.element"), "{error}");
}
