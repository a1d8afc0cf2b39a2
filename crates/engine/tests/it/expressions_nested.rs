//! What is inside a struct, list or map that is NULL is NULL, whatever is required there.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringArray,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use iceberg::spec::{ListType, NestedField, Type};
use icefield_core::evolve::types::{double, int, list, long, map, optional, required, string, structure};
use icefield_engine::ops::DataFrameExt;

use crate::expressions::{add, check};
use crate::scan_support::{append_batches, rows, session};
use crate::write_support::data_files;

/// A struct array with values where it is NULL.
fn structs(fields: Vec<(&str, ArrayRef)>, nulls: &[bool]) -> ArrayRef {
    let (names, arrays): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let fields: Fields = names
        .into_iter()
        .zip(&arrays)
        .map(|(name, array): (&str, &ArrayRef)| Field::new(name, array.data_type().clone(), false))
        .collect();
    Arc::new(StructArray::new(fields, arrays, Some(NullBuffer::from(nulls.to_vec()))))
}

#[tokio::test]
async fn a_required_field_of_a_null_struct_is_null() {
    let session = session();
    let stats = structure([required("measurement", double())]);
    let deep = structure([optional("inner", structure([required("n", int()), required("s", string())]))]);
    let fields = [required("id", int()), optional("stats", stats), optional("deep", deep)];
    let table = session.create_table("ns.t", fields).await.unwrap();
    let measurement: ArrayRef = Arc::new(Float64Array::from(vec![34.0, 34.0, f64::NAN]));
    let n: ArrayRef = Arc::new(Int32Array::from(vec![7, 7, 7]));
    let s: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "a"]));
    let inner = structs(vec![("n", n), ("s", s)], &[true, false, true]);
    let inner_field = Field::new("inner", inner.data_type().clone(), true);
    let deep: ArrayRef = Arc::new(StructArray::new(
        Fields::from(vec![inner_field]),
        vec![inner],
        Some(NullBuffer::from(vec![false, true, true])),
    ));
    let id: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2]));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", id, false),
        ("stats", structs(vec![("measurement", measurement)], &[false, true, true]), true),
        ("deep", deep, true),
    ]);
    append_batches(&table, "a", &[batch.unwrap()]).await;
    check(
        &session,
        &[
            ("SELECT id FROM ns.t WHERE stats['measurement'] IS NULL", &["0"]),
            ("SELECT id FROM ns.t WHERE stats['measurement'] IS NOT NULL", &["1", "2"]),
            ("SELECT id FROM ns.t WHERE stats['measurement'] = 34", &["1"]),
            ("SELECT id FROM ns.t WHERE stats['measurement'] <> 34", &["2"]),
            ("SELECT id FROM ns.t WHERE stats.measurement > 33", &["1", "2"]),
            ("SELECT stats['measurement'] FROM ns.t", &["34.0", "NULL", "NaN"]),
            ("SELECT count(stats['measurement']), min(stats['measurement']) FROM ns.t", &["2|34.0"]),
            ("SELECT id FROM ns.t WHERE coalesce(stats['measurement'], -1) = -1", &["0"]),
            ("SELECT id FROM ns.t WHERE deep['inner']['n'] IS NULL", &["0", "1"]),
            ("SELECT id FROM ns.t WHERE deep['inner'] IS NULL", &["0", "1"]),
            ("SELECT id FROM ns.t WHERE deep['inner']['n'] = 7 AND deep['inner']['s'] = 'a'", &["2"]),
            ("SELECT id FROM ns.t WHERE deep['inner']['s'] LIKE 'a%'", &["2"]),
            (
                "SELECT a.id, b.id FROM ns.t a JOIN ns.t b ON a.deep['inner']['n'] = b.deep['inner']['n']",
                &["2|2"],
            ),
            (
                "SELECT a.id FROM ns.t a LEFT JOIN (SELECT * FROM ns.t WHERE id = 2) b ON a.id = b.id \
                 WHERE b.deep['inner']['n'] IS NULL",
                &["0", "1"],
            ),
            ("SELECT deep['inner']['n'], count(*) FROM ns.t GROUP BY deep['inner']['n']", &["7|1", "NULL|2"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn elements_and_values_of_null_lists_and_maps_are_null() {
    let session = session();
    let element = structure([required("x", long())]);
    let outer = structure([
        required("items", list(element)),
        required("by_name", map(string(), structure([required("y", long())]))),
    ]);
    let fields = || [required("id", long()), optional("outer", outer.clone())];
    let table = session.create_table("ns.t", fields()).await.unwrap();
    // Of the first row the struct is NULL; it has a list and a map nevertheless.
    let xs: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let item = structs(vec![("x", xs)], &[true, true]);
    let item_field = Arc::new(Field::new("element", item.data_type().clone(), true));
    let offsets = || OffsetBuffer::new(ScalarBuffer::from(vec![0, 1, 2]));
    let items: ArrayRef = Arc::new(ListArray::new(item_field, offsets(), item, None));
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["k", "k"]));
    let ys: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let values = structs(vec![("y", ys)], &[true, true]);
    let entry = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", values.data_type().clone(), true),
    ]);
    let entries = StructArray::new(entry.clone(), vec![keys, values], None);
    let entries_field = Arc::new(Field::new("key_value", DataType::Struct(entry), false));
    let by_name: ArrayRef = Arc::new(MapArray::new(entries_field, offsets(), entries, None, false));
    let arrays = structs(vec![("items", items), ("by_name", by_name)], &[false, true]);
    let id: ArrayRef = Arc::new(Int64Array::from(vec![0, 1]));
    let batch =
        RecordBatch::try_from_iter_with_nullable([("id", id, false), ("outer", arrays, true)]).unwrap();
    let queries: &[(&str, &[&str])] = &[
        ("SELECT id FROM ns.t WHERE outer['items'] IS NULL", &["0"]),
        ("SELECT id FROM ns.t WHERE outer['items'][1]['x'] IS NULL", &["0"]),
        ("SELECT id FROM ns.t WHERE outer['items'][1]['x'] = 2", &["1"]),
        ("SELECT id FROM ns.t WHERE outer['items'][2]['x'] IS NULL", &["0", "1"]),
        ("SELECT id FROM ns.t WHERE outer['by_name']['k']['y'] IS NULL", &["0"]),
        ("SELECT id FROM ns.t WHERE outer['by_name']['k']['y'] = 2", &["1"]),
        ("SELECT id FROM ns.t WHERE outer['by_name']['none']['y'] IS NULL", &["0", "1"]),
        ("SELECT count(outer['items']), count(outer['by_name']) FROM ns.t", &["1|1"]),
    ];
    append_batches(&table, "a", std::slice::from_ref(&batch)).await;
    check(&session, queries).await;
    // Written by us, whatever lies below the NULL.
    session.sql("DROP TABLE ns.t").await.unwrap().collect().await.unwrap();
    session.create_table("ns.t", fields()).await.unwrap();
    session.read_batches(vec![batch]).unwrap().append_to(&session, "ns.t").await.unwrap();
    check(&session, queries).await;
}

#[tokio::test]
async fn a_null_struct_with_required_fields_can_be_written() {
    let session = session();
    let fields = [
        optional("id", long()),
        optional("s", structure([required("x", long()), required("y", structure([required("z", long())]))])),
    ];
    session.create_table("ns.t", fields).await.unwrap();
    // Arrays whose fields are NULL below the NULL struct, and say that they are.
    let nullable = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new(
            "s",
            DataType::Struct(Fields::from(vec![
                Field::new("x", DataType::Int64, true),
                Field::new(
                    "y",
                    DataType::Struct(Fields::from(vec![Field::new("z", DataType::Int64, true)])),
                    true,
                ),
            ])),
            true,
        ),
    ]);
    let z: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(3)]));
    let y: ArrayRef = Arc::new(StructArray::new(
        Fields::from(vec![Field::new("z", DataType::Int64, true)]),
        vec![z],
        Some(NullBuffer::from(vec![false, true])),
    ));
    let x: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(2)]));
    let DataType::Struct(of_s) = nullable.field(1).data_type().clone() else { unreachable!() };
    let s: ArrayRef = Arc::new(StructArray::new(of_s, vec![x, y], Some(NullBuffer::from(vec![false, true]))));
    let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_new(Arc::new(nullable), vec![id, s]).unwrap();
    session.read_batches(vec![batch]).unwrap().append_to(&session, "ns.t").await.unwrap();
    session.sql("INSERT INTO ns.t VALUES (3, NULL)").await.unwrap().collect().await.unwrap();
    add(&session, "ns.t", "SELECT id + 10 AS id, s FROM ns.t WHERE s IS NULL OR s['y']['z'] = 3").await;
    check(
        &session,
        &[
            ("SELECT id FROM ns.t WHERE s['y']['z'] IS NULL", &["1", "11", "13", "3"]),
            ("SELECT id, s['x'], s['y']['z'] FROM ns.t WHERE s IS NOT NULL", &["12|2|3", "2|2|3"]),
        ],
    )
    .await;
    // A NULL list whose offsets reach an element that is NULL, and required.
    let element = NestedField::list_element(0, long(), true);
    let lists = Type::List(ListType::new(Arc::new(element)));
    session.create_table("ns.lists", [optional("items", lists)]).await.unwrap();
    let items: ArrayRef = Arc::new(ListArray::new(
        Arc::new(Field::new("element", DataType::Int64, true)),
        OffsetBuffer::new(ScalarBuffer::from(vec![0, 1, 2])),
        Arc::new(Int64Array::from(vec![None, Some(5)])),
        Some(NullBuffer::from(vec![false, true])),
    ));
    let batch = RecordBatch::try_from_iter_with_nullable([("items", items, true)]).unwrap();
    session.read_batches(vec![batch]).unwrap().append_to(&session, "ns.lists").await.unwrap();
    check(&session, &[("SELECT items FROM ns.lists", &["NULL", "[5]"])]).await;
    // What is required below a struct that is there, is.
    let bad = "SELECT CAST(9 AS BIGINT) AS id, named_struct('x', CAST(NULL AS BIGINT), 'y', named_struct('z', CAST(1 AS BIGINT))) AS s";
    let refused = session.sql(bad).await.unwrap().append_to(&session, "ns.t").await.unwrap_err();
    assert!(refused.to_string().contains("required column has NULL"), "{refused}");
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.t").await, ["6"]);
    assert_eq!(data_files(session.table("ns.t").await.unwrap().core()).await.len(), 3);
}
