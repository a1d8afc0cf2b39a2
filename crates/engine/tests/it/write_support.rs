//! What the write tests share: a session in a folder of its own, and the rows of a table as its files hold them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use iceberg::spec::{DataFile, Schema};
use icefield_core::Table as CoreTable;
use icefield_core::format::{load_manifest, load_manifest_list};
use icefield_engine::Session;
use icefield_testkit::{Content, content_hash};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

/// A session, and the folder that goes with it.
pub(crate) struct Lake {
    pub(crate) session: Session,
    pub(crate) folder: TempDir,
}

impl Lake {
    pub(crate) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let session = Session::builder().parallelism(2).open(folder.path()).await.unwrap();
        Self { session, folder }
    }

    pub(crate) fn frame(&self, batches: &[RecordBatch]) -> DataFrame {
        self.session.read_batches(batches.to_vec()).unwrap()
    }
}

/// The data files of the current snapshot.
pub(crate) async fn data_files(table: &CoreTable) -> Vec<DataFile> {
    let Some(snapshot) = table.metadata().current_snapshot() else { return Vec::new() };
    let list = load_manifest_list(table.storage(), snapshot).await.unwrap();
    let mut files = Vec::new();
    for manifest in &list {
        let content = load_manifest(table.storage(), table.metadata(), manifest).await.unwrap();
        files.extend(content.live.into_iter().map(|live| live.file));
    }
    files.sort_by(|a, b| a.file_path().cmp(b.file_path()));
    files
}

/// The rows of one data file, as it is.
pub(crate) async fn rows_of(table: &CoreTable, file: &DataFile) -> Vec<RecordBatch> {
    let bytes = table.storage().read(file.file_path()).await.unwrap();
    assert_eq!(bytes.len() as u64, file.file_size_in_bytes());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.unwrap()).collect();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows as u64, file.record_count());
    batches
}

/// What the table's files hold, read by name with Parquet's own reader.
pub(crate) async fn content(table: &CoreTable) -> Content {
    let mut batches = Vec::new();
    for file in data_files(table).await {
        batches.extend(rows_of(table, &file).await);
    }
    content_hash(&batches, table.schema())
}

/// Batches in the Arrow schema of a table.
pub(crate) fn random(seed: u64, schema: &Schema, batches: usize, rows: usize) -> Vec<RecordBatch> {
    icefield_testkit::random_batches(seed, schema, batches, rows)
}

/// One batch of named columns.
pub(crate) fn batch(columns: Vec<(&str, arrow::array::ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

pub(crate) fn longs(values: impl IntoIterator<Item = i64>) -> arrow::array::ArrayRef {
    Arc::new(arrow::array::Int64Array::from_iter_values(values))
}

/// The rows of a query as text, sorted.
pub(crate) async fn sorted_rows(session: &Session, query: &str) -> Vec<String> {
    let mut rows = crate::scan_support::rows(session, query).await;
    rows.sort();
    rows
}
