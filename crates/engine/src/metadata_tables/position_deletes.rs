//! `position_deletes`: the rows that position delete files and deletion vectors name, one by one.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::execution::TaskContext;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use iceberg::spec::{DataContentType, FormatVersion, ManifestFile};
use icefield_core::deletes::DELETE_FILE_PATH_ID;
use icefield_core::format::{LiveFile, ManifestReader, WantedStatistics, arrow_schema};
use icefield_core::{Result, Table};

use super::columns::{Column, Columns};
use super::partition;
use crate::scan::{NamedRow, PartitionFields, ScanCaches, named_rows};

/// A row that a delete file names.
pub(super) struct Position {
    named: NamedRow,
    by: Arc<LiveFile>,
}

pub(super) fn position_deletes(table: &Table) -> Result<Columns<Position>> {
    let row = DataType::Struct(arrow_schema(table.schema())?.fields().clone());
    let mut columns = vec![
        Column::string("file_path", |p: &Position| Some(p.named.path.to_string())).required(),
        Column::long("pos", |p: &Position| Some(p.named.position)).required(),
        // Nobody writes the rows themselves any more, and nobody needs them.
        Column::scalar("row", row, |_: &Position| Ok(None)),
    ];
    let fields = PartitionFields::new(table);
    if !fields.is_empty() {
        columns.push(partition::column(&fields, |p: &Position| (p.by.spec_id, p.by.file.partition()))?);
    }
    columns.extend([
        Column::int("spec_id", |p: &Position| Some(p.by.spec_id)).required(),
        Column::string("delete_file_path", |p: &Position| Some(p.by.path().to_string())).required(),
    ]);
    if table.metadata().format_version() >= FormatVersion::V3 {
        columns.extend([
            Column::long("content_offset", |p: &Position| p.by.file.content_offset()),
            Column::long("content_size_in_bytes", |p: &Position| p.by.file.content_size_in_bytes()),
        ]);
    }
    Ok(Columns::from(columns))
}

/// What reads the rows of delete files.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) table: Table,
    pub(super) caches: Arc<ScanCaches>,
    pub(super) context: Arc<TaskContext>,
    pub(super) columns: Columns<Position>,
}

impl Reader {
    /// The rows that the delete files of a manifest name.
    pub(super) async fn of_manifest(
        self,
        manifest: ManifestFile,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let reader = ManifestReader::new(self.table.storage(), self.table.metadata());
        // Their bounds may say which data file they are of.
        let statistics = WantedStatistics::of([DELETE_FILE_PATH_ID]);
        let content = reader.open(&manifest).await?.content_with(&statistics)?;
        let by_position = |live: &LiveFile| live.file.content_type() == DataContentType::PositionDeletes;
        let files = content.live.into_iter().filter(by_position).map(Arc::new);
        let files = stream::iter(files.collect::<Vec<_>>()).then(move |file| self.clone().of_file(file));
        Ok(files.try_flatten().boxed())
    }

    async fn of_file(self, by: Arc<LiveFile>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let rows = named_rows(&self.table, &self.caches, &self.context, &by).await?;
        let batches = rows.and_then(move |rows| {
            let rows = rows.into_iter().map(|named| Position { named, by: by.clone() });
            let batch = self.columns.batch(&rows.collect::<Vec<_>>());
            async move { batch }
        });
        Ok(batches.boxed())
    }
}
