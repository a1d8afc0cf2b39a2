//! The plan that reads files of a table: DataFusion's Parquet source, and ours for other formats. Equality deletes are applied
//! above it.

use std::sync::Arc;

use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::Result as DfResult;
use datafusion::common::config::TableParquetOptions;
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use iceberg::spec::DataFileFormat;
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use object_store::ObjectMeta;

use super::ScanCaches;
use super::adapter::{FieldIdAdapterFactory, Nans};
use super::decode::{DecodeExec, Decoding};
use super::file::ScanFile;
use super::metadata_columns::Constants;
use super::order::FileOrder;
use super::reader::{FileLocation, ReaderFactory};
use super::schema::ReadSchema;
use super::source::NamedSource;
use super::split::{split, total};
use super::statistics::FileFacts;
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
    /// What row groups and pages of Parquet files are pruned by.
    pub(super) predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Values that are the same for all rows of a file.
    pub(super) constants: Constants,
    /// Whether the schema has a column of positions, or one that is made of them.
    pub(super) positions: bool,
    /// The order that all of the files are in.
    pub(super) order: Option<FileOrder>,
    /// What is known of the files' columns, deleted rows too.
    pub(super) facts: Arc<FileFacts>,
}

impl ScanRequest<'_> {
    /// The plan that reads the files.
    pub(super) fn plan(
        mut self,
        files: &[ScanFile<'_>],
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if files.is_empty() {
            let schema = match &self.projection {
                Some(projection) => Arc::new(self.schema.arrow.project(projection)?),
                None => self.schema.arrow.clone(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let constants = std::mem::take(&mut self.constants);
        let adapters = Arc::new(FieldIdAdapterFactory::new(self.schema.clone(), constants, self.nans(files)));
        let is_parquet = |file: &&ScanFile<'_>| file.live.file.file_format() == DataFileFormat::Parquet;
        let (parquet, others): (Vec<_>, Vec<_>) = files.iter().partition(is_parquet);
        let partitions = if self.limit.is_some() { 1 } else { self.partitions };
        let (for_parquet, for_others) = shares(partitions, bytes(&parquet), bytes(&others));
        let mut plans: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(2);
        if !parquet.is_empty() {
            plans.push(self.parquet(&parquet, &adapters, for_parquet, config)?);
        }
        if !others.is_empty() {
            let projection = self.projection.as_deref();
            let (schema, positions) = (&self.schema.arrow, self.positions);
            let decoding = Decoding::new(schema, projection, self.storage, &adapters, &self.facts, positions);
            let decoding = decoding.map_err(from_datafusion)?;
            let total = self.facts.total(self.schema, &others);
            plans.push(Arc::new(DecodeExec::new(&others, decoding, total, self.limit, for_others)));
        }
        UnionExec::try_new(plans).map_err(from_datafusion)
    }

    /// The columns of each file that may hold NaN, of files that have such.
    fn nans(&self, files: &[ScanFile<'_>]) -> Nans {
        let of_file = |file: &ScanFile<'_>| {
            let columns = self.schema.may_be_nan(&file.live.file);
            (!columns.is_empty()).then(|| (file.live.path().to_string(), columns))
        };
        files.iter().filter_map(of_file).collect()
    }

    /// The part of the plan that reads Parquet files.
    fn parquet(
        &mut self,
        files: &[&ScanFile<'_>],
        adapters: &Arc<FieldIdAdapterFactory>,
        partitions: usize,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut partitioned = Vec::with_capacity(files.len());
        for file in files {
            partitioned.push(Some(self.partitioned(file)?));
        }
        let sizes: Vec<u64> = files.iter().map(|file| file.live.file.file_size_in_bytes()).collect();
        let cuts: Vec<Option<&[i64]>> = files.iter().map(|file| file.live.file.split_offsets()).collect();
        let groups = split(&sizes, &cuts, partitions).into_iter().map(|pieces| {
            let pieces = pieces.into_iter().filter_map(|piece| {
                let (file, size) = (partitioned.get_mut(piece.file)?, sizes.get(piece.file)?);
                if piece.end - piece.start == *size {
                    return file.take();
                }
                Some(file.clone()?.with_range(piece.start as i64, piece.end as i64))
            });
            FileGroup::new(pieces.collect())
        });
        let groups: Vec<FileGroup> = groups.collect();
        let mut source = ParquetSource::new(TableSchema::from_file_schema(self.schema.arrow.clone()))
            .with_table_parquet_options(parquet_options(config))
            .with_parquet_file_reader_factory(Arc::new(ReaderFactory::new(
                self.caches.clone(),
                self.positions,
            )));
        if let Some(predicate) = self.predicate.take() {
            source = source.with_predicate(predicate);
        }
        // Each file carries its table's store. The runtime is asked for one all the same, and might have none for this table's.
        let url = ObjectStoreUrl::local_filesystem();
        let source = NamedSource::new(source, self.order.take(), self.facts.clone());
        let scan = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(self.facts.total(self.schema, files))
            .with_expr_adapter(Some(adapters.clone()))
            .with_limit(self.limit)
            .with_projection_indices(self.projection.clone())
            .map_err(from_datafusion)?
            .build();
        Ok(DataSourceExec::from_data_source(scan))
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
        let location = FileLocation::new(live.path(), file.place, at.store);
        let partitioned = PartitionedFile::new_from_meta(meta).with_extension(location);
        Ok(match &file.deletes.rows {
            Some(rows) => partitioned.with_extension(rows.clone()),
            None => partitioned,
        })
    }
}

fn bytes(files: &[&ScanFile<'_>]) -> u64 {
    total(files.iter().map(|file| file.live.file.file_size_in_bytes()))
}

/// Partitions for two kinds of files, by their bytes. Each has one at least.
fn shares(partitions: usize, one: u64, other: u64) -> (usize, usize) {
    let share = partitions as u128 * u128::from(one) / u128::from(one.saturating_add(other).max(1));
    let share = if other == 0 { partitions } else { share as usize };
    (share.max(1), partitions.saturating_sub(share).max(1))
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
