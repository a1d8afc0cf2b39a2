//! Files and tables that others wrote: without field ids, with types of old writers, by the reference implementation.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int32Array, RecordBatch, StringArray, StructArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields};
use iceberg::spec::{FormatVersion, Literal, NestedField, PrimitiveType, Schema, StructType, Type};
use icefield_core::catalog::parse_ident;
use icefield_core::evolve::{PropertiesUpdate, SchemaUpdate};
use icefield_core::format::{FileMetrics, data_file};
use icefield_core::{AsOf, ErrorKind, Table as CoreTable};
use icefield_engine::IcebergTable;
use icefield_engine::{Session, Table};
use icefield_testkit::{ReferenceTables, content_hash, newest_metadata};
use parquet::arrow::ArrowWriter;

use crate::scan_support::{
    append, append_batches, change, create, partition, rows, same_by_columns, session,
};

fn of(primitive: PrimitiveType) -> Type {
    Type::Primitive(primitive)
}

/// Writes a file just as Arrow would, without field ids.
async fn foreign_file(
    table: &Table,
    batch: &RecordBatch,
    partition: iceberg::spec::Struct,
) -> icefield_core::format::ContentFile {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let location = format!("{}/data/foreign.parquet", table.core().metadata().location());
    let size = bytes.len() as u64;
    table.core().storage().write(&location, bytes).await.unwrap();
    let metrics = FileMetrics { record_count: batch.num_rows() as u64, ..FileMetrics::default() };
    let spec = table.core().metadata().default_partition_spec_id();
    data_file(location, spec, partition, size, metrics, None).unwrap()
}

#[tokio::test]
async fn files_without_field_ids_are_read_by_the_name_mapping() {
    let session = session();
    let point = StructType::new(vec![
        NestedField::optional(3, "x", of(PrimitiveType::Int)).into(),
        NestedField::optional(4, "y", of(PrimitiveType::Int)).into(),
    ]);
    let schema = Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "id", of(PrimitiveType::Long)).into(),
            NestedField::optional(2, "p", Type::Struct(point)).into(),
        ])
        .build()
        .unwrap();
    let table = create(&session, "t", schema, FormatVersion::V2, None).await;
    let ints = |values: Vec<i32>| Arc::new(Int32Array::from(values)) as ArrayRef;
    let p = StructArray::new(
        Fields::from(vec![
            Field::new("x", DataType::Int32, true),
            Field::new("other", DataType::Int32, true),
        ]),
        vec![ints(vec![10, 20]), ints(vec![0, 0])],
        None,
    );
    let batch =
        RecordBatch::try_from_iter([("p", Arc::new(p) as ArrayRef), ("old_id", ints(vec![1, 2]))]).unwrap();
    let file = foreign_file(&table, &batch, iceberg::spec::Struct::empty()).await;
    let table = append(&table, vec![file]).await;

    let error = session.sql("SELECT sum(id) FROM ns.t").await.unwrap().collect().await.unwrap_err();
    let error = icefield_engine::from_datafusion(error);
    assert_eq!(error.kind(), ErrorKind::DataInvalid, "{error}");
    assert!(
        error.to_string().contains("foreign.parquet") && error.to_string().contains("name-mapping"),
        "{error}"
    );

    let mapping = r#"[{"field-id": 1, "names": ["id", "old_id"]},
        {"field-id": 2, "names": ["p"], "fields": [{"field-id": 3, "names": ["x"]}]}]"#;
    change(&table, move |metadata| {
        PropertiesUpdate::new().set("schema.name-mapping.default", mapping).apply(metadata)
    })
    .await;
    assert_eq!(
        rows(&session, "SELECT id, p FROM ns.t WHERE id > 0 ORDER BY id").await,
        ["1|{x: 10, y: NULL}", "2|{x: 20, y: NULL}"]
    );
    assert_eq!(rows(&session, "SELECT id FROM ns.t WHERE p['x'] = 20").await, ["2"]);
}

#[tokio::test]
async fn a_partition_column_that_a_file_lacks_is_read_from_the_metadata() {
    let session = session();
    let schema = Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "id", of(PrimitiveType::Int)).into(),
            NestedField::optional(2, "day", of(PrimitiveType::Date)).into(),
        ])
        .build()
        .unwrap();
    let spec = iceberg::spec::UnboundPartitionSpec::builder()
        .add_partition_field(2, "day", iceberg::spec::Transform::Identity)
        .unwrap()
        .build();
    let table = create(&session, "t", schema, FormatVersion::V2, Some(spec)).await;
    let mapping = r#"[{"field-id": 1, "names": ["id"]}]"#;
    let table = change(&table, move |metadata| {
        PropertiesUpdate::new().set("schema.name-mapping.default", mapping).apply(metadata)
    })
    .await;
    let batch =
        RecordBatch::try_from_iter([("id", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
    let file = foreign_file(&table, &batch, partition(Some(Literal::date(-1)))).await;
    append(&table, vec![file]).await;
    assert_eq!(
        rows(&session, "SELECT id, day FROM ns.t ORDER BY id").await,
        ["1|1969-12-31", "2|1969-12-31"]
    );
    assert_eq!(rows(&session, "SELECT id FROM ns.t WHERE day = '1969-12-31' AND id = 2").await, ["2"]);
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.t WHERE day > '2000-01-01'").await, ["0"]);
    assert_eq!(rows(&session, "SELECT max(day) FROM ns.t WHERE id = 1").await, ["1969-12-31"]);
}

#[tokio::test]
async fn a_name_that_now_means_another_column_does_not_lend_it_its_type() {
    let session = session();
    let schema = Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "a", of(PrimitiveType::Binary)).into(),
            NestedField::optional(2, "b", of(PrimitiveType::String)).into(),
        ])
        .build()
        .unwrap();
    let table = create(&session, "t", schema, FormatVersion::V2, None).await;
    let batch = RecordBatch::try_from_iter([
        ("a", Arc::new(BinaryArray::from(vec![Some(&[0xff_u8, 0xfe][..]), None])) as ArrayRef),
        ("b", Arc::new(StringArray::from(vec![None, Some("text")]))),
    ])
    .unwrap();
    let table = append_batches(&table, "old", &[batch]).await;
    change(&table, |metadata| {
        SchemaUpdate::new()
            .rename_column("a", "bytes")
            .rename_column("b", "a")
            .add_column("b", of(PrimitiveType::Binary))
            .apply(metadata)
    })
    .await;
    assert_eq!(
        rows(&session, "SELECT bytes, a, b FROM ns.t ORDER BY a").await,
        ["NULL|text|NULL", "fffe|NULL|NULL"]
    );
    assert_eq!(rows(&session, "SELECT a FROM ns.t WHERE bytes IS NULL AND a = 'text'").await, ["text"]);
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.t WHERE bytes = X'fffe'").await, ["1"]);
}

#[tokio::test]
async fn timestamps_of_other_units_and_zones_are_the_same_instants() {
    let session = session();
    let schema = Schema::builder()
        .with_fields(vec![NestedField::optional(1, "t", of(PrimitiveType::Timestamptz)).into()])
        .build()
        .unwrap();
    let table = create(&session, "t", schema, FormatVersion::V2, None).await;
    let mapping = r#"[{"field-id": 1, "names": ["t"]}]"#;
    let table = change(&table, move |metadata| {
        PropertiesUpdate::new().set("schema.name-mapping.default", mapping).apply(metadata)
    })
    .await;
    let times = TimestampNanosecondArray::from(vec![1_000, -1_000]).with_timezone("+01:00");
    let batch = RecordBatch::try_from_iter([("t", Arc::new(times) as ArrayRef)]).unwrap();
    let file = foreign_file(&table, &batch, iceberg::spec::Struct::empty()).await;
    append(&table, vec![file]).await;
    assert_eq!(
        rows(&session, "SELECT t FROM ns.t ORDER BY t").await,
        ["1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00.000001Z"]
    );
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.t WHERE t > '1970-01-01T00:00:00Z'").await, ["1"]);
}

#[tokio::test]
async fn tables_of_the_reference_implementation_read_as_it_reads_them() {
    let Some(tables) = ReferenceTables::find() else { return };
    let session: Session = session();
    let expected = tables.expected();
    assert!(!expected.is_empty());
    for line in expected {
        let (name, reference) = (line.table.as_str(), line.reference.as_str());
        let metadata = newest_metadata(&tables.table(name)).unwrap();
        let ident = parse_ident(&format!("db.{name}")).unwrap();
        let storage = session.catalog().storage().unconfined();
        let core = CoreTable::from_metadata_file(storage, ident, &metadata.to_string_lossy()).await.unwrap();
        let as_of = if reference == "main" { AsOf::Current } else { AsOf::Ref(reference.to_string()) };
        // The expected hashes take the columns in the order of the reference's own snapshot, those of branches too.
        let schema = match core.snapshot_as_of(&as_of).unwrap() {
            Some(snapshot) if reference != "main" => snapshot.schema(core.metadata()).unwrap(),
            _ => core.schema().clone(),
        };
        let provider = IcebergTable::new(&core, as_of, session.scan_caches().clone()).unwrap();
        let frame = session.context().read_table(Arc::new(provider)).unwrap();
        let batches = frame.clone().collect().await.unwrap();
        assert_eq!(content_hash(&batches, &schema).to_string(), line.content, "{line:?}");
        same_by_columns(&session, frame, &batches).await;
    }
}
