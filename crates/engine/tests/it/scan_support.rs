//! Tables whose files these tests write themselves.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema as ArrowSchema;
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::{ident, lit};
use iceberg::spec::{FormatVersion, Literal, Schema, Struct, UnboundPartitionSpec};
use icefield_core::catalog::{NamespaceIdent, TableCreation};
use icefield_core::commit::Transaction;
use icefield_core::evolve::MetadataChange;
use icefield_core::format::{
    ContentFile, FileMetrics, MetricsConfig, arrow_schema, data_file, data_file_metrics, parquet_schema,
};
use icefield_core::storage::{Storage, join};
use icefield_engine::{Session, Table};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;

/// A session in memory.
pub(crate) fn session() -> Session {
    Session::builder().parallelism(2).build().unwrap()
}

/// The same, for tables that others wrote wherever they lie.
pub(crate) fn session_for_all_places() -> Session {
    Session::builder().storage(Storage::new().unconfined()).parallelism(2).build().unwrap()
}

/// A new table `ns.{name}`.
pub(crate) async fn create(
    session: &Session,
    name: &str,
    schema: Schema,
    version: FormatVersion,
    spec: Option<UnboundPartitionSpec>,
) -> Table {
    let namespace = NamespaceIdent::new("ns".to_string());
    if !session.catalog().namespace_exists(&namespace).await.unwrap() {
        session.catalog().create_namespace(&namespace, HashMap::new()).await.unwrap();
    }
    let creation = TableCreation {
        name: name.to_string(),
        location: None,
        schema,
        partition_spec: spec,
        sort_order: None,
        properties: HashMap::new(),
        format_version: version,
    };
    session.catalog().create_table(&namespace, creation).await.unwrap();
    session.table(&format!("ns.{name}")).await.unwrap()
}

/// Writes batches as one Parquet file of small row groups, with the table's current field ids, and gives its entry.
pub(crate) async fn write_file(
    table: &Table,
    name: &str,
    batches: &[RecordBatch],
    partition: Struct,
) -> ContentFile {
    write_claiming(table, name, batches, partition, |_| {}).await
}

/// As [`write_file`], with an entry that says something else of the file.
pub(crate) async fn write_claiming(
    table: &Table,
    name: &str,
    batches: &[RecordBatch],
    partition: Struct,
    claim: impl FnOnce(&mut FileMetrics),
) -> ContentFile {
    let schema = table.core().schema();
    let parquet = parquet_schema(schema).unwrap();
    let arrow = arrow_schema(schema).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(64)).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_parquet_schema(parquet);
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, arrow.clone(), options).unwrap();
    for batch in batches {
        writer.write(&relabel(batch, &arrow)).unwrap();
    }
    let footer = writer.close().unwrap();
    let location = join(table.core().metadata().location(), &format!("data/{name}.parquet"));
    let size = bytes.len() as u64;
    table.core().storage().write(&location, bytes).await.unwrap();
    let config = MetricsConfig::from_table(table.core().metadata());
    let mut metrics = data_file_metrics(&footer, schema, &config, &HashMap::new()).unwrap();
    claim(&mut metrics);
    let spec = table.core().metadata().default_partition_spec_id();
    data_file(location, spec, partition, size, metrics, None).unwrap()
}

/// Commits files.
pub(crate) async fn append(table: &Table, files: Vec<ContentFile>) -> Table {
    let commit = Transaction::new(table.core()).fast_append(files).commit(&**table.session().catalog());
    Table::new(table.session().clone(), commit.await.unwrap().table)
}

/// Commits files as our own writer's: what their entries say is what they hold.
pub(crate) async fn append_exact(table: &Table, files: Vec<ContentFile>) -> Table {
    let commit = Transaction::new(table.core()).exact_files().fast_append(files);
    let commit = commit.commit(&**table.session().catalog());
    Table::new(table.session().clone(), commit.await.unwrap().table)
}

/// Writes and commits one unpartitioned file.
pub(crate) async fn append_batches(table: &Table, name: &str, batches: &[RecordBatch]) -> Table {
    let file = write_file(table, name, batches, Struct::empty()).await;
    append(table, vec![file]).await
}

/// Commits a change of metadata.
pub(crate) async fn change(
    table: &Table,
    change: impl Fn(&iceberg::spec::TableMetadata) -> icefield_core::Result<MetadataChange>
    + Send
    + Sync
    + 'static,
) -> Table {
    let commit = Transaction::new(table.core()).change(change).commit(&**table.session().catalog());
    Table::new(table.session().clone(), commit.await.unwrap().table)
}

/// A partition value of one field.
pub(crate) fn partition(value: Option<Literal>) -> Struct {
    Struct::from_iter([value])
}

/// The same columns under another schema's field metadata.
pub(crate) fn relabel(batch: &RecordBatch, schema: &Arc<ArrowSchema>) -> RecordBatch {
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| {
            let column = batch.column_by_name(field.name()).unwrap();
            arrow::compute::cast(column, field.data_type()).unwrap()
        })
        .collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

/// Runs a statement.
pub(crate) async fn run(session: &Session, sql: &str) -> icefield_core::Result<()> {
    session.sql(sql).await?.collect().await.map_err(icefield_engine::from_datafusion).map(drop)
}

/// A SQL query's rows as text.
pub(crate) async fn rows(session: &Session, query: &str) -> Vec<String> {
    let batches = session.sql(query).await.unwrap().collect().await.unwrap();
    text_rows(&batches)
}

/// Rows as text, columns separated by `|`.
pub(crate) fn text_rows(batches: &[RecordBatch]) -> Vec<String> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            rows.push(cells.join("|"));
        }
    }
    rows
}

/// Every column alone, and what a filter on each leaves, against rows that were read whole.
pub(crate) async fn same_by_columns(session: &Session, table: DataFrame, whole: &[RecordBatch]) {
    let all = session.context().read_batches(whole.to_vec()).unwrap();
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    for field in table.schema().fields() {
        let column = ident(field.name());
        let select = |from: &DataFrame| from.clone().select(vec![column.clone()]).unwrap().collect();
        let (alone, expected) = (select(&table).await.unwrap(), select(&all).await.unwrap());
        assert_eq!(sorted(text_rows(&alone)), sorted(text_rows(&expected)), "{field}");
        let counted = |from: &DataFrame| from.clone().filter(column.clone().is_null()).unwrap().count();
        assert_eq!(counted(&table).await.unwrap(), counted(&all).await.unwrap(), "{field}");
        let first = expected.iter().find(|batch| batch.num_rows() > 0);
        let Some(first) = first.filter(|_| !field.data_type().is_nested()) else { continue };
        let value = ScalarValue::try_from_array(first.column(0), 0).unwrap();
        if value.is_null() {
            continue;
        }
        for filter in [column.clone().eq(lit(value.clone())), column.clone().gt(lit(value))] {
            let rows = |from: &DataFrame| from.clone().filter(filter.clone()).unwrap().collect();
            let (found, expected) = (rows(&table).await.unwrap(), rows(&all).await.unwrap());
            assert_eq!(sorted(text_rows(&found)), sorted(text_rows(&expected)), "{filter}");
        }
    }
    assert_eq!(table.clone().count().await.unwrap(), all.clone().count().await.unwrap());
    let some = table.limit(0, Some(3)).unwrap().collect().await.unwrap();
    assert_eq!(text_rows(&some).len(), 3.min(text_rows(whole).len()));
}
