//! DataFusion's Parquet source over chosen files of a table.

use std::sync::Arc;

use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{Result as DfResult, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use icefield_core::format::LiveFile;
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use object_store::ObjectMeta;

use super::ScanCaches;
use super::adapter::FieldIdAdapterFactory;
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
}

impl ScanRequest<'_> {
    /// The plan that reads the files, each with its statistics.
    pub(super) fn plan(
        self,
        files: &[(&LiveFile, Statistics)],
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some((first, _)) = files.first() else {
            let schema = match &self.projection {
                Some(projection) => Arc::new(self.schema.arrow.project(projection)?),
                None => self.schema.arrow.clone(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        };
        let partitioned =
            files.iter().map(|(live, stats)| self.partitioned(live, stats)).collect::<Result<Vec<_>>>()?;
        let sizes: Vec<u64> = files.iter().map(|(live, _)| live.file.file_size_in_bytes()).collect();
        let cuts: Vec<Option<&[i64]>> = files.iter().map(|(live, _)| live.file.split_offsets()).collect();
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
        let source = ParquetSource::new(TableSchema::from_file_schema(self.schema.arrow.clone()))
            .with_table_parquet_options(parquet_options(config))
            .with_parquet_file_reader_factory(Arc::new(ReaderFactory::new(self.caches.clone())));
        // The readers find their stores themselves; this one only has to exist.
        let base = self.storage.resolve(first.path())?.base;
        let url = ObjectStoreUrl::parse(base.as_str()).map_err(from_datafusion)?;
        let columns = self.schema.arrow.fields().len();
        let scan = FileScanConfigBuilder::new(url, Arc::new(NamedSource::new(source)))
            .with_file_groups(groups.collect())
            .with_statistics(total(columns, files.iter().map(|(_, stats)| stats)))
            .with_expr_adapter(Some(Arc::new(FieldIdAdapterFactory::new(self.schema.clone()))))
            .with_limit(self.limit)
            .with_projection_indices(self.projection)
            .map_err(from_datafusion)?
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    fn partitioned(&self, live: &LiveFile, statistics: &Statistics) -> Result<PartitionedFile> {
        let at = self.storage.resolve(live.path())?;
        let meta = ObjectMeta {
            location: at.path,
            last_modified: DateTime::UNIX_EPOCH,
            size: live.file.file_size_in_bytes(),
            e_tag: None,
            version: None,
        };
        let location = FileLocation {
            location: live.path().to_string(),
            store: at.store,
            may_be_nan: self.schema.may_be_nan(&live.file),
        };
        let mut file = PartitionedFile::new_from_meta(meta).with_extension(location);
        file.statistics = Some(Arc::new(statistics.clone()));
        Ok(file)
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
