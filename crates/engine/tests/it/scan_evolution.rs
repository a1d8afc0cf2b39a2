//! Files of every earlier schema read in the current one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Decimal128Array, Float32Array, Int32Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields};
use iceberg::spec::{FormatVersion, ListType, Literal, NestedField, PrimitiveType, Schema, StructType, Type};
use icefield_core::evolve::{NewColumn, SchemaUpdate};
use icefield_testkit::{content_hash, everything_schema, random_batches};

use crate::scan_support::{append_batches, change, create, rows, session};

fn primitive(of: PrimitiveType) -> Type {
    Type::Primitive(of)
}

#[tokio::test]
async fn every_type_reads_as_it_was_written() {
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let session = session();
        let schema = everything_schema(version);
        let table = create(&session, "t", schema.clone(), version, None).await;
        // Ids as the catalog assigned them.
        let schema = Schema::clone(table.core().schema());
        let batches = random_batches(7, &schema, 3, 150);
        let table = append_batches(&table, "a", &batches[..2]).await;
        let table = append_batches(&table, "b", &batches[2..]).await;
        let read = table.dataframe().await.unwrap().collect().await.unwrap();
        assert_eq!(content_hash(&read, &schema), content_hash(&batches, &schema), "{version}");
        let count = rows(&session, "SELECT count(*), min(id), max(id) FROM ns.t").await;
        assert_eq!(count, ["450|7000000|7000449"]);
    }
}

#[tokio::test]
async fn renamed_promoted_added_dropped_and_moved_columns_are_found_by_id() {
    let session = session();
    let schema = Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "a", primitive(PrimitiveType::Int)).into(),
            NestedField::optional(2, "b", primitive(PrimitiveType::String)).into(),
            NestedField::optional(3, "f", primitive(PrimitiveType::Float)).into(),
            NestedField::optional(4, "d", primitive(PrimitiveType::Decimal { precision: 9, scale: 2 }))
                .into(),
            NestedField::optional(5, "gone", primitive(PrimitiveType::Int)).into(),
        ])
        .build()
        .unwrap();
    let table = create(&session, "t", schema, FormatVersion::V3, None).await;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(Int32Array::from(vec![Some(1), None, Some(-3)]))),
        ("b", Arc::new(StringArray::from(vec![Some("x"), Some("y"), None]))),
        ("f", Arc::new(Float32Array::from(vec![Some(0.5), None, Some(-0.0)]))),
        (
            "d",
            Arc::new(
                Decimal128Array::from(vec![Some(12345), None, Some(-1)])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
        ),
        ("gone", Arc::new(Int32Array::from(vec![7, 8, 9]))),
    ];
    let table = append_batches(&table, "old", &[RecordBatch::try_from_iter(columns).unwrap()]).await;
    let first = table.core().metadata().current_snapshot_id().unwrap();
    // The names of a and b change places.
    let table = change(&table, |metadata| {
        SchemaUpdate::new()
            .rename_column("a", "c")
            .rename_column("b", "a")
            .rename_column("c", "b")
            .promote_column("b", primitive(PrimitiveType::Long))
            .promote_column("f", primitive(PrimitiveType::Double))
            .promote_column("d", primitive(PrimitiveType::Decimal { precision: 20, scale: 2 }))
            .drop_column("gone")
            .add_column("late", primitive(PrimitiveType::String))
            .add_column_with(NewColumn::new("born", primitive(PrimitiveType::Int)).default(Literal::int(42)))
            .move_first("d")
            .apply(metadata)
    })
    .await;
    // Another column takes the dropped one's name.
    change(&table, |metadata| {
        SchemaUpdate::new().add_column("gone", primitive(PrimitiveType::String)).apply(metadata)
    })
    .await;

    assert_eq!(
        rows(&session, "SELECT * FROM ns.t ORDER BY b NULLS LAST").await,
        ["-0.01|-3|NULL|-0.0|NULL|42|NULL", "123.45|1|x|0.5|NULL|42|NULL", "NULL|NULL|y|NULL|NULL|42|NULL"]
    );
    for (filter, expected) in [
        ("b = 1", vec!["1"]),
        ("b > -5 AND b < 0", vec!["-3"]),
        ("b > 5000000000", vec![]),
        ("a = 'x'", vec!["1"]),
        ("f >= 0.5", vec!["1"]),
        ("d = 123.45", vec!["1"]),
        ("d < 0", vec!["-3"]),
        ("late IS NULL", vec!["-3", "1", "NULL"]),
        ("late = 'x'", vec![]),
        ("born = 42 AND b = 1", vec!["1"]),
        ("born <> 42", vec![]),
        ("gone IS NOT NULL", vec![]),
    ] {
        let query = format!("SELECT b FROM ns.t WHERE {filter} ORDER BY b NULLS LAST");
        assert_eq!(rows(&session, &query).await, expected, "{filter}");
    }
    assert_eq!(
        rows(&session, "SELECT count(*), count(b), min(b), max(born), sum(f) FROM ns.t").await,
        ["3|2|-3|42|0.5"]
    );
    // The snapshot's own schema.
    let then = session.table("ns.t").await.unwrap().as_of(first).unwrap().dataframe().await.unwrap();
    let names: Vec<_> = then.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["a", "b", "f", "d", "gone"]);
    assert_eq!(then.collect().await.unwrap()[0].num_rows(), 3);
}

#[tokio::test]
async fn nested_fields_evolve_at_every_level() {
    let session = session();
    let point = StructType::new(vec![
        NestedField::optional(10, "x", primitive(PrimitiveType::Int)).into(),
        NestedField::optional(11, "y", primitive(PrimitiveType::Int)).into(),
    ]);
    let schema = Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "id", primitive(PrimitiveType::Int)).into(),
            NestedField::optional(
                2,
                "s",
                Type::Struct(StructType::new(vec![
                    NestedField::optional(20, "p", Type::Struct(point.clone())).into(),
                    NestedField::optional(21, "old", primitive(PrimitiveType::String)).into(),
                ])),
            )
            .into(),
            NestedField::optional(
                3,
                "l",
                Type::List(ListType::new(
                    NestedField::list_element(
                        30,
                        Type::Struct(StructType::new(vec![
                            NestedField::optional(31, "u", primitive(PrimitiveType::Int)).into(),
                            NestedField::optional(32, "v", primitive(PrimitiveType::Int)).into(),
                        ])),
                        false,
                    )
                    .into(),
                )),
            )
            .into(),
        ])
        .build()
        .unwrap();
    let table = create(&session, "t", schema, FormatVersion::V3, None).await;
    let int = |name: &str| Arc::new(Field::new(name, DataType::Int32, true));
    let ints = |values: Vec<Option<i32>>| Arc::new(Int32Array::from(values)) as ArrayRef;
    let p = StructArray::new(
        Fields::from(vec![int("x"), int("y")]),
        vec![ints(vec![Some(1), None, Some(3)]), ints(vec![Some(10), Some(20), None])],
        Some(vec![true, false, true].into()),
    );
    let s = StructArray::new(
        Fields::from(vec![
            Field::new("p", p.data_type().clone(), true),
            Field::new("old", DataType::Utf8, true),
        ]),
        vec![Arc::new(p), Arc::new(StringArray::from(vec!["o1", "o2", "o3"]))],
        Some(vec![true, true, false].into()),
    );
    let element = StructArray::from(vec![
        (int("u"), ints(vec![Some(1), Some(2), Some(3)])),
        (int("v"), ints(vec![Some(4), None, Some(6)])),
    ]);
    let l = ListArray::new(
        Arc::new(Field::new("element", element.data_type().clone(), true)),
        arrow::buffer::OffsetBuffer::from_lengths([2, 0, 1]),
        Arc::new(element),
        Some(vec![true, false, true].into()),
    );
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", ints(vec![Some(1), Some(2), Some(3)])), ("s", Arc::new(s)), ("l", Arc::new(l))];
    let table = append_batches(&table, "old", &[RecordBatch::try_from_iter(columns).unwrap()]).await;
    change(&table, |metadata| {
        SchemaUpdate::new()
            .rename_column("s.p.x", "east")
            .promote_column("s.p.east", primitive(PrimitiveType::Long))
            .drop_column("s.p.y")
            .add_column_with(NewColumn::new("z", primitive(PrimitiveType::Int)).inside("s.p"))
            .rename_column("s.old", "text")
            .move_first("s.text")
            .rename_column("s", "t")
            .drop_column("l.element.u")
            .add_column_with(NewColumn::new("w", primitive(PrimitiveType::String)).inside("l.element"))
            .apply(metadata)
    })
    .await;
    assert_eq!(
        rows(&session, "SELECT t, l FROM ns.t ORDER BY id").await,
        [
            "{text: o1, p: {east: 1, z: NULL}}|[{v: 4, w: NULL}, {v: NULL, w: NULL}]",
            "{text: o2, p: NULL}|NULL",
            "NULL|[{v: 6, w: NULL}]",
        ]
    );
    assert_eq!(
        rows(
            &session,
            "SELECT id, t['p']['east'] + 1, t['text'] FROM ns.t WHERE t['p']['east'] > 0 ORDER BY id"
        )
        .await,
        ["1|2|o1"]
    );
    assert_eq!(rows(&session, "SELECT id FROM ns.t WHERE t['text'] = 'o2'").await, ["2"]);
}

#[tokio::test]
async fn row_groups_are_pruned_by_renamed_promoted_and_zoned_columns() {
    let session = session();
    let schema = Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "n", primitive(PrimitiveType::Int)).into(),
            NestedField::optional(2, "t", primitive(PrimitiveType::Timestamptz)).into(),
            NestedField::optional(3, "d", primitive(PrimitiveType::Decimal { precision: 9, scale: 2 }))
                .into(),
            NestedField::optional(4, "s", primitive(PrimitiveType::String)).into(),
        ])
        .build()
        .unwrap();
    let table = create(&session, "t", schema, FormatVersion::V2, None).await;
    let numbers = || 0..256_i32;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int32Array::from_iter_values(numbers()))),
        (
            "t",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(numbers().map(|n| i64::from(n) * 1_000_000))
                    .with_timezone("+00:00"),
            ),
        ),
        (
            "d",
            Arc::new(
                Decimal128Array::from_iter_values(numbers().map(i128::from))
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
        ),
        ("s", Arc::new(StringArray::from_iter_values(numbers().map(|n| format!("{n:05}"))))),
    ];
    let table = append_batches(&table, "old", &[RecordBatch::try_from_iter(columns).unwrap()]).await;
    change(&table, |metadata| {
        SchemaUpdate::new()
            .promote_column("n", primitive(PrimitiveType::Long))
            .rename_column("n", "number")
            .rename_column("t", "time")
            .promote_column("d", primitive(PrimitiveType::Decimal { precision: 18, scale: 2 }))
            .rename_column("s", "text")
            .apply(metadata)
    })
    .await;
    for filter in [
        "number >= 200",
        "number + 0 >= 200 AND number > 199",
        "time >= '1970-01-01T00:03:20Z'",
        "d >= 2.00",
        "text >= '00200'",
    ] {
        let query = format!("SELECT count(number) FROM ns.t WHERE {filter}");
        assert_eq!(rows(&session, &query).await, ["56"], "{filter}");
        let plan = rows(&session, &format!("EXPLAIN ANALYZE {query}")).await.join("\n");
        assert!(plan.contains("row_groups_pruned_statistics=4 total → 1 matched"), "{filter}: {plan}");
    }
}
