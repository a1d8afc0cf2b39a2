//! Input that fits, input that does not: nothing is lost silently, nothing is half applied.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int8Array, Int16Array, Int32Array, Int64Array, LargeStringArray, RecordBatch,
    StringArray, StringViewArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use icefield_core::ErrorKind;
use icefield_core::evolve::types::{double, long, optional, required, string, structure, timestamp};
use icefield_engine::Table;
use icefield_engine::ops::DataFrameExt;

use crate::write_support::{Lake, batch, data_files, longs, rows_of};

async fn table(lake: &Lake) -> Table {
    let columns = [
        required("id", long()),
        optional("name", string()),
        optional("at", timestamp()),
        optional("price", double()),
        optional("place", structure([required("city", string()), optional("zip", long())])),
    ];
    lake.session.create_table("input.t", columns).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn narrower_types_and_other_representations_fit() {
    let lake = Lake::open().await;
    table(&lake).await;
    let names: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec!["a"])),
        Arc::new(LargeStringArray::from(vec!["a"])),
        Arc::new(vec!["a"].into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    let ids: Vec<ArrayRef> = vec![
        Arc::new(Int8Array::from(vec![1])),
        Arc::new(Int16Array::from(vec![1])),
        Arc::new(UInt64Array::from(vec![1])),
    ];
    let times: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from(vec![-1])),
        Arc::new(TimestampNanosecondArray::from(vec![-1_000_000])),
        Arc::new(arrow::array::NullArray::new(1)),
    ];
    for ((name, id), at) in names.into_iter().zip(ids).zip(times) {
        let rows = batch(vec![("at", at), ("name", name), ("id", id)]);
        lake.frame(&[rows]).append_to(&lake.session, "input.t").await.unwrap();
    }
    let table = lake.session.table("input.t").await.unwrap();
    let mut rows = Vec::new();
    for file in data_files(table.core()).await {
        rows.extend(rows_of(table.core(), &file).await);
    }
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    for batch in rows {
        assert_eq!(batch.column_by_name("price").unwrap().null_count(), 1);
        assert_eq!(batch.schema().field(0).name(), "id");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_an_error_that_names_the_column_and_changes_nothing() {
    let lake = Lake::open().await;
    table(&lake).await;
    let place = |city: Option<&str>| -> ArrayRef {
        let city: ArrayRef = Arc::new(StringArray::from(vec![city]));
        Arc::new(arrow::array::StructArray::from(vec![(
            Arc::new(arrow::datatypes::Field::new("city", arrow::datatypes::DataType::Utf8, true)),
            city,
        )]))
    };
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let cases: Vec<(RecordBatch, &[&str])> = vec![
        (batch(vec![("id", text("1"))]), &["column: id", "Utf8", "long", "cast"]),
        (batch(vec![("name", text("x"))]), &["column: id", "required"]),
        (batch(vec![("id", Arc::new(Int64Array::from(vec![None])) as ArrayRef)]), &["column: id", "NULL"]),
        (batch(vec![("id", longs([1])), ("nmae", text("x"))]), &["column: nmae", "evolve"]),
        (batch(vec![("id", longs([1])), ("price", longs([1]))]), &["column: price", "Int64", "double"]),
        (
            batch(vec![
                ("id", longs([1])),
                ("at", Arc::new(TimestampNanosecondArray::from(vec![1])) as ArrayRef),
            ]),
            &["column: at", "microsecond", "date_trunc"],
        ),
        (
            batch(vec![("id", Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef)]),
            &["column: id", "does not fit"],
        ),
        (batch(vec![("id", longs([1])), ("place", place(None))]), &["column: place.city", "NULL"]),
        (
            batch(vec![("id", longs([1])), ("place", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]),
            &["column: place", "Int32", "struct"],
        ),
    ];
    for (rows, words) in cases {
        let error = lake.frame(&[rows]).append_to(&lake.session, "input.t").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error} does not say {word:?}");
        }
    }
    let table = lake.session.table("input.t").await.unwrap();
    assert!(table.core().metadata().current_snapshot().is_none());
    let left = walk(lake.folder.path());
    assert!(left.iter().all(|path| !path.ends_with(".parquet")), "{left:?}");
    lake.frame(&[batch(vec![("id", longs([1])), ("place", place(Some("x")))])])
        .append_to(&lake.session, "input.t")
        .await
        .unwrap();
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rows_bring_no_row_ids() {
    let lake = Lake::open().await;
    lake.session.create_table("lineage.new", [required("id", long())]).format_version(3).await.unwrap();
    let rows = || lake.frame(&[batch(vec![("id", longs([1])), ("_row_id", longs([0]))])]);
    for refused in [
        rows().append_to(&lake.session, "lineage.new").await,
        rows().append_to(&lake.session, "lineage.new").evolve_schema().await,
        rows().overwrite(&lake.session, "lineage.new").await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("column: _row_id"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_keeps_row_ids_under_their_reserved_field_ids() {
    let lake = Lake::open().await;
    let create = lake.session.create_table("lineage.t", [required("id", long())]).format_version(3);
    let table = create.await.unwrap();
    let rows = batch(vec![
        ("_row_id", longs([40, 41])),
        ("id", longs([1, 2])),
        ("_last_updated_sequence_number", longs([3, 4])),
    ]);
    let context = lake.session.context().task_ctx();
    let plan = lake.frame(&[rows]).create_physical_plan().await.unwrap();
    let options = icefield_engine::write::WriteOptions::new();
    let written =
        icefield_engine::write::write_data_files(table.core(), plan, context, &options).await.unwrap();
    assert_eq!(written.files[0].file.first_row_id(), None);
    let bytes = table.core().storage().read(written.files[0].file.file_path()).await.unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let ids: Vec<(String, i32)> = reader
        .parquet_schema()
        .columns()
        .iter()
        .map(|column| (column.name().to_string(), column.self_type().get_basic_info().id()))
        .collect();
    let expected = [("id", 1), ("_row_id", 2_147_483_540), ("_last_updated_sequence_number", 2_147_483_539)];
    assert_eq!(ids, expected.map(|(name, id)| (name.to_string(), id)));
    written.discard().await;
    assert!(!table.core().storage().exists(written.files[0].file.file_path()).await.unwrap());
}
