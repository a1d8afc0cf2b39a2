//! Staged parts read back as the tables they make up.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{DataType, SchemaRef};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::async_reader::ParquetObjectReader;
use serde::{Deserialize, Serialize};

use crate::staging::Staging;

/// One staged Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Part {
    /// Where it is.
    pub location: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its rows.
    pub rows: u64,
}

/// The column of parts that names each row's archive and member, where the run has a source column.
pub(crate) const SOURCE: &str = "__source";

/// How a table's columns come from a part's.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    pub(crate) schema: SchemaRef,
    pub(crate) columns: Vec<Projected>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Projected {
    /// As it is staged, or NULL where a part lacks it.
    Staged,
    /// Text that is cast to the column's type, which every value allows.
    Cast { empty_as_null: bool },
    /// The parts' [`SOURCE`].
    Source,
}

/// What turns a part's batches into the reader's.
pub(crate) trait Project: Send + Sync {
    fn apply(&self, batch: RecordBatch) -> Result<RecordBatch>;
}

/// Nothing to do.
pub(crate) struct AsStaged;

impl Project for AsStaged {
    fn apply(&self, batch: RecordBatch) -> Result<RecordBatch> {
        Ok(batch)
    }
}

impl Project for Projection {
    fn apply(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let columns =
            self.schema.fields().iter().zip(&self.columns).map(|(field, projected)| -> Result<ArrayRef> {
                let is_source = *projected == Projected::Source;
                let staged = batch.column_by_name(if is_source { SOURCE } else { field.name() });
                Ok(match (projected, staged) {
                    (_, None) => new_null_array(field.data_type(), rows),
                    (Projected::Staged | Projected::Source, Some(array)) => array.clone(),
                    (Projected::Cast { empty_as_null }, Some(array)) => {
                        cast(array, field.data_type(), *empty_as_null)
                            .map_err(|e| e.with("column", field.name()))?
                    }
                })
            });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

fn cast(array: &ArrayRef, to: &DataType, empty_as_null: bool) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    if empty_as_null {
        let text =
            array.as_string_opt::<i32>().ok_or_else(|| Error::internal("a staged column is not text"))?;
        let empty = text.iter().map(|t| Some(t == Some(""))).collect();
        return Ok(cast_with_options(&nullif(text, &empty)?, to, &options)?);
    }
    Ok(cast_with_options(array, to, &options)?)
}

/// The batches of all parts, in order, one part open at a time. The stream keeps a temporary staging folder.
pub(crate) fn parts(
    storage: Storage,
    parts: Vec<Part>,
    project: Arc<dyn Project>,
    staging: Option<Arc<Staging>>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let open = move |part: Part| {
        let (storage, project, staging) = (storage.clone(), project.clone(), staging.clone());
        async move {
            let at = storage.resolve(&part.location)?;
            let reader = ParquetObjectReader::new(at.store, at.path).with_file_size(part.size);
            let stream = ParquetRecordBatchStreamBuilder::new(reader).await?.build()?;
            let batches = stream.map_err(Error::from).map(move |batch| {
                let _keep = &staging;
                project.apply(batch?)
            });
            Ok::<_, Error>(batches)
        }
    };
    futures::stream::iter(VecDeque::from(parts)).then(open).try_flatten().boxed()
}
