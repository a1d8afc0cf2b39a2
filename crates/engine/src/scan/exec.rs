//! DataFusion's Parquet source over chosen files of a table.

use std::sync::Arc;

use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{Result as DfResult, ScalarValue, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use icefield_core::format::LiveFile;
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use object_store::ObjectMeta;

use super::ScanCaches;
use super::adapter::{Constants, FieldIdAdapterFactory};
use super::deletes::{CLASS_ID, EqualityDeleteExec, EqualityDeletes, FileDeletes};
use super::order::FileOrder;
use super::reader::{FileLocation, ReaderFactory};
use super::schema::ReadSchema;
use super::source::NamedSource;
use super::split::split;
use super::statistics::total;
use crate::error::{from_datafusion, to_datafusion};

/// What a scan is to read.
pub(super) struct ScanRequest<'a> {
    pub(super) schema: &'a Arc<ReadSchema>,
    pub(super) storage: &'a Storage,
    pub(super) caches: &'a Arc<ScanCaches>,
    /// The columns to produce, by their place in the schema.
    pub(super) projection: Option<Vec<usize>>,
    pub(super) limit: Option<usize>,
    pub(super) partitions: usize,
    /// What row groups and pages are pruned by.
    pub(super) predicate: Option<Arc<dyn PhysicalExpr>>,
    /// The equality deletes of the files. Their hidden columns are the last ones of the schema.
    pub(super) equality: Option<Arc<EqualityDeletes>>,
    /// Values that are the same for all rows of a file.
    pub(super) constants: Constants,
    /// Whether the schema has a column of positions, or one that is made of them.
    pub(super) positions: bool,
    /// The order that all of the files are in.
    pub(super) order: Option<FileOrder>,
}

/// A file of a scan.
pub(super) struct ScanFile<'a> {
    pub(super) live: &'a LiveFile,
    /// What the file holds, deleted rows too.
    pub(super) statistics: Statistics,
    pub(super) deletes: FileDeletes,
}

impl<'a> ScanFile<'a> {
    /// A file of which nothing is known and nothing is deleted.
    pub(super) fn whole(live: &'a LiveFile, schema: &ReadSchema) -> Self {
        let statistics = Statistics::new_unknown(&schema.arrow);
        Self { live, statistics, deletes: FileDeletes::default() }
    }

    /// What is read of the file.
    fn remaining(&self) -> Statistics {
        if self.deletes.is_empty() {
            return self.statistics.clone();
        }
        let mut statistics = self.statistics.clone().to_inexact();
        if let Some(rows) = self.deletes.rows_left(self.live.file.record_count()) {
            statistics.num_rows = Precision::Exact(rows as usize);
        }
        statistics
    }
}

impl ScanRequest<'_> {
    /// The plan that reads the files, each with its statistics.
    pub(super) fn plan(
        mut self,
        files: &[ScanFile<'_>],
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(first) = files.first() else {
            let schema = match &self.projection {
                Some(projection) => Arc::new(self.schema.arrow.project(projection)?),
                None => self.schema.arrow.clone(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        };
        let partitioned = files.iter().map(|file| self.partitioned(file)).collect::<Result<Vec<_>>>()?;
        let sizes: Vec<u64> = files.iter().map(|file| file.live.file.file_size_in_bytes()).collect();
        let cuts: Vec<Option<&[i64]>> = files.iter().map(|file| file.live.file.split_offsets()).collect();
        let partitions = if self.limit.is_some() { 1 } else { self.partitions };
        let groups = split(&sizes, &cuts, partitions).into_iter().map(|pieces| {
            let pieces = pieces.into_iter().map(|piece| {
                let file = partitioned[piece.file].clone();
                if piece.end - piece.start == sizes[piece.file] {
                    file
                } else {
                    file.with_range(piece.start as i64, piece.end as i64)
                }
            });
            FileGroup::new(pieces.collect())
        });
        let mut source = ParquetSource::new(TableSchema::from_file_schema(self.schema.arrow.clone()))
            .with_table_parquet_options(parquet_options(config))
            .with_parquet_file_reader_factory(Arc::new(ReaderFactory::new(
                self.caches.clone(),
                self.positions,
            )));
        if let Some(predicate) = self.predicate.take() {
            source = source.with_predicate(predicate);
        }
        if let Some(equality) = &self.equality {
            for file in files {
                let class = ScalarValue::Int32(Some(file.deletes.class.unwrap_or(-1)));
                self.constants.entry(file.live.path().to_string()).or_default().insert(CLASS_ID, class);
            }
            let columns = self.schema.arrow.fields().len();
            let visible = columns - equality.hidden();
            let projection = self.projection.take().unwrap_or_else(|| (0..visible).collect());
            self.projection = Some(projection.into_iter().chain(visible..columns).collect());
        }
        // The readers find their stores themselves; this one only has to exist.
        let base = self.storage.resolve(first.live.path())?.base;
        let url = ObjectStoreUrl::parse(base.as_str()).map_err(from_datafusion)?;
        let columns = self.schema.arrow.fields().len();
        let remaining: Vec<Statistics> = files.iter().map(ScanFile::remaining).collect();
        let adapters = FieldIdAdapterFactory::new(self.schema.clone(), self.constants);
        let scan = FileScanConfigBuilder::new(url, Arc::new(NamedSource::new(source, self.order.take())))
            .with_file_groups(groups.collect())
            .with_statistics(total(columns, &remaining))
            .with_expr_adapter(Some(Arc::new(adapters)))
            .with_limit(self.limit)
            .with_projection_indices(self.projection)
            .map_err(from_datafusion)?
            .build();
        let scan = DataSourceExec::from_data_source(scan);
        Ok(match self.equality {
            Some(equality) => Arc::new(EqualityDeleteExec::try_new(scan, equality).map_err(from_datafusion)?),
            None => scan,
        })
    }

    fn partitioned(&self, file: &ScanFile<'_>) -> Result<PartitionedFile> {
        let live = file.live;
        let at = self.storage.resolve(live.path())?;
        let meta = ObjectMeta {
            location: at.path,
            last_modified: DateTime::UNIX_EPOCH,
            size: live.file.file_size_in_bytes(),
            e_tag: None,
            version: None,
        };
        let location = FileLocation::new(live.path(), at.store, self.schema.may_be_nan(&live.file));
        let mut partitioned = PartitionedFile::new_from_meta(meta).with_extension(location);
        partitioned.statistics = Some(Arc::new(file.statistics.clone()));
        Ok(match &file.deletes.rows {
            Some(rows) => partitioned.with_extension(rows.clone()),
            None => partitioned,
        })
    }
}

fn parquet_options(config: &ConfigOptions) -> TableParquetOptions {
    let mut options =
        TableParquetOptions { global: config.execution.parquet.clone(), ..TableParquetOptions::default() };
    // What wrote INT96 timestamps meant microseconds at most, and nanoseconds end in 2262.
    options.global.coerce_int96 = Some("us".to_string());
    options.global.coerce_int96_tz = None;
    options
}

/// The number of partitions that a session wants.
pub(super) fn target_partitions(state: &dyn Session) -> usize {
    state.config_options().execution.target_partitions
}

/// As DataFusion's result.
pub(super) fn df<T>(result: Result<T, Error>) -> DfResult<T> {
    result.map_err(to_datafusion)
}
