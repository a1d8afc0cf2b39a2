//! Staged tables as DataFusion DataFrames.
//!
//! A table's parts are scanned as they are staged, text where a type was inferred, and a projection over the scan casts what
//! is to be cast; so filters and column choices reach the Parquet files, and each part is read only as far as it is asked for.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result as PlanResult, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::{Expr, cast};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::prelude::{DataFrame, SessionContext, ident, lit};
use futures::FutureExt;
use futures::future::BoxFuture;
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::quarantine::Quarantine;
use crate::read::{Part, Projected, SOURCE};
use crate::staging::Staging;
use crate::table::IngestedTable;

impl IngestedTable {
    /// The table as a DataFrame: columns united, NULL where a file lacks one, types settled. Makes no request.
    ///
    /// Rows come in no order. The staged files are read when the DataFrame is executed, so they are to stay until then; a
    /// temporary staging folder stays by itself.
    pub fn dataframe(&self, context: &SessionContext) -> Result<DataFrame> {
        let columns = || self.projection.schema.fields().iter().zip(&self.projection.columns);
        let staged = columns().map(|(field, projected)| match projected {
            Projected::Staged => field.clone(),
            Projected::Cast { .. } => Field::new(field.name(), DataType::Utf8, true).into(),
            Projected::Source => Field::new(SOURCE, DataType::Utf8, false).into(),
        });
        let table = StagedTable {
            schema: Arc::new(Schema::new(staged.collect::<Fields>())),
            parts: self.parts.clone(),
            storage: self.storage.clone(),
            staging: Some(self.staging.clone()),
        };
        let expressions: Vec<Expr> = columns()
            .map(|(field, projected)| match projected {
                Projected::Staged => ident(field.name()),
                Projected::Source => ident(SOURCE).alias(field.name()),
                Projected::Cast { empty_as_null } => {
                    let text = ident(field.name());
                    let text = if *empty_as_null { nullif(text, lit("")) } else { text };
                    cast(text, field.data_type().clone()).alias(field.name())
                }
            })
            .collect();
        let scan = context.read_table(Arc::new(table)).map_err(unplanned)?;
        scan.select(expressions).map_err(unplanned)
    }
}

impl Quarantine {
    /// All of the quarantine as a DataFrame, of [`Quarantine::schema`]. Makes no request.
    pub fn dataframe(&self, context: &SessionContext) -> Result<DataFrame> {
        let table = StagedTable {
            schema: Self::schema(),
            parts: self.parts.clone(),
            storage: self.storage.clone(),
            staging: self.staging.clone(),
        };
        context.read_table(Arc::new(table)).map_err(unplanned)
    }
}

fn unplanned(error: DataFusionError) -> Error {
    Error::internal("the staged table can't be planned").with_source(error)
}

/// Parts as one table.
#[derive(Debug)]
struct StagedTable {
    schema: SchemaRef,
    parts: Vec<Part>,
    storage: Storage,
    staging: Option<Arc<Staging>>,
}

#[async_trait]
impl TableProvider for StagedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        if self.parts.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema().project(columns)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let reader = PartReader { storage: self.storage.clone(), _staging: self.staging.clone() };
        let source = ParquetSource::new(TableSchema::new(self.schema.clone(), Vec::new()))
            .with_table_parquet_options(state.table_options().parquet.clone())
            .with_parquet_file_reader_factory(Arc::new(reader));
        let rows = self.parts.iter().map(|p| usize::try_from(p.rows).unwrap_or(usize::MAX)).sum();
        let statistics = Statistics::new_unknown(&self.schema()).with_num_rows(Precision::Exact(rows));
        // The reader opens parts by itself; the URL stands for a store that every session has.
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(self.groups(state.config().target_partitions()))
            .with_statistics(statistics)
            .with_limit(limit)
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

impl StagedTable {
    /// The parts in as many groups as are read at a time, of about the same size.
    fn groups(&self, partitions: usize) -> Vec<FileGroup> {
        let mut groups = vec![(0, Vec::new()); partitions.clamp(1, self.parts.len().max(1))];
        for part in &self.parts {
            let file = PartitionedFile::new(part.location.clone(), part.size).with_extension(part.clone());
            if let Some((bytes, files)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                *bytes += part.size;
                files.push(file);
            }
        }
        groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
    }
}

/// Opens parts in the ingest's own stores, whatever stores the session knows.
#[derive(Debug)]
struct PartReader {
    storage: Storage,
    /// Keeps a temporary staging folder.
    _staging: Option<Arc<Staging>>,
}

impl ParquetFileReaderFactory for PartReader {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> PlanResult<Box<dyn AsyncFileReader + Send>> {
        let part = file
            .extension::<Part>()
            .ok_or_else(|| DataFusionError::Internal("a staged file without its part".into()))?;
        let at = self.storage.resolve(&part.location).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let reader = ParquetObjectReader::new(at.store, at.path).with_file_size(part.size);
        if part.size <= WHOLE_BYTES {
            return Ok(Box::new(SmallPart { reader, size: part.size, bytes: None }));
        }
        Ok(Box::new(reader.with_footer_size_hint(metadata_size_hint.unwrap_or(64 << 10))))
    }
}

/// Parts of so many bytes are read whole, footer and rows in one request.
const WHOLE_BYTES: u64 = 512 << 10;

/// A part that is read whole at the first request.
struct SmallPart {
    reader: ParquetObjectReader,
    size: u64,
    bytes: Option<Bytes>,
}

impl SmallPart {
    async fn whole(&mut self) -> ParquetResult<Bytes> {
        if let Some(bytes) = &self.bytes {
            return Ok(bytes.clone());
        }
        let bytes = self.reader.get_bytes(0..self.size).await?;
        Ok(self.bytes.insert(bytes).clone())
    }
}

impl AsyncFileReader for SmallPart {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let whole = self.whole().await?;
            let end = usize::try_from(range.end).unwrap_or(usize::MAX);
            if range.start > range.end || end > whole.len() {
                return Err(ParquetError::EOF(format!("a staged file ends before byte {end}")));
            }
            Ok(whole.slice(range.start as usize..end))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            // Staged files have no page indexes.
            Ok(Arc::new(ParquetMetaDataReader::new().parse_and_finish(&self.whole().await?)?))
        }
        .boxed()
    }
}
