//! Applying row-level deletes while data files are read.
//!
//! Which deletes apply to which file is decided at planning, from metadata alone. Delete files are read when the first data
//! file that they apply to is opened, once for all partitions of a scan, and are held in the session's memory pool.
//! - **Positions** (position delete files, deletion vectors) become row selections of the data file: [`positions`] reads
//!   them, [`morsels`] hands them to DataFusion's Parquet source, or has [`masked`] drop the rows from what that reads. Files in
//!   other formats are read without them.
//! - **Equality deletes** are looked up row by row above the source: [`equality`] holds the keys, [`exec`] drops the rows.
//!
//! The same machinery reads the other way about, just rows that are deleted: a [`Part`] says which rows of a file are read.

mod equality;
mod exec;
mod masked;
mod morsels;
mod parts;
mod positions;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::SendableRecordBatchStream;
use icefield_core::deletes::DeleteIndex;
use icefield_core::format::LiveFile;
use icefield_core::{Error, ErrorKind, Result, Table};

use super::ScanCaches;
use super::exec::{ScanFile, ScanRequest};
use super::plan::check_format;
use super::schema::ReadSchema;
use crate::error::from_datafusion;

pub(super) use equality::{CLASS_ID, EqualityDeletes, KEY_PREFIX};
pub(super) use exec::EqualityDeleteExec;
pub(super) use morsels::morselizer;
pub(crate) use parts::identity;
pub(super) use parts::{Applied, Part};
pub(crate) use positions::{NamedRow, named_rows};
pub(super) use positions::{RowDeletes, Selected};

/// The deletes of a scan, in the order of its parts.
#[derive(Debug, Default)]
pub(super) struct ScanDeletes {
    pub(super) files: Vec<FileDeletes>,
    /// The equality deletes that some of the files are subject to.
    pub(super) equality: Option<Arc<EqualityDeletes>>,
}

/// What deletes do to a part of a data file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileDeletes {
    /// Rows chosen by their position.
    pub(super) rows: Option<Arc<RowDeletes>>,
    /// What [`EqualityDeletes`] knows the file's deletes by.
    pub(super) class: Option<i32>,
    /// How many rows are deleted, where metadata tells.
    count: Option<u64>,
}

impl FileDeletes {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_none() && self.class.is_none()
    }

    /// How many rows of a file of `rows` are left, where metadata tells.
    pub(super) fn rows_left(&self, rows: u64) -> Option<u64> {
        if self.is_empty() { Some(rows) } else { self.count.and_then(|deleted| rows.checked_sub(deleted)) }
    }
}

impl ScanDeletes {
    /// Plans what leaves the rows of data files that are not deleted. Reads nothing.
    ///
    /// # Errors
    /// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for deletes that contradict the format,
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for delete files of a format that holds no rows.
    pub(super) fn live<'a>(
        table: &Table,
        data: impl IntoIterator<Item = &'a LiveFile>,
        deletes: impl IntoIterator<Item = &'a LiveFile>,
        caches: &Arc<ScanCaches>,
        context: &Arc<TaskContext>,
    ) -> Result<Self> {
        let index = DeleteIndex::new(deletes, table.metadata())?;
        let data = data.into_iter();
        if index.is_empty() {
            return Ok(Self { files: data.map(|_| FileDeletes::default()).collect(), equality: None });
        }
        let parts: Vec<Part<'_>> = data.map(|file| Part::live(file, Applied::to(file, &index))).collect();
        Self::plan(table, &parts, caches, context)
    }

    /// Plans how the rows of each part are found. Reads nothing.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for delete files that are not Parquet.
    pub(super) fn plan(
        table: &Table,
        parts: &[Part<'_>],
        caches: &Arc<ScanCaches>,
        context: &Arc<TaskContext>,
    ) -> Result<Self> {
        if parts.iter().all(Part::is_whole) {
            return Ok(Self { files: vec![FileDeletes::default(); parts.len()], equality: None });
        }
        let reader = Arc::new(DeleteReader::new(table, caches, context));
        let mut positions = positions::Planner::new(reader.clone());
        let mut equality = equality::Planner::new(table);
        let mut planned = Vec::with_capacity(parts.len());
        for part in parts {
            part.delete_files().try_for_each(check_format)?;
            let class = equality.class(part.data.sequence_number, &part.drop, &part.pick);
            planned.push((class?, part.deleted()));
            positions.add(part);
        }
        let files = positions.finish().into_iter().zip(planned);
        let files = files.map(|(rows, (class, count))| FileDeletes { rows, class, count }).collect();
        Ok(Self { files, equality: equality.finish(reader)?.map(Arc::new) })
    }
}

/// How the delete files of a scan are read, and the memory that holds them.
#[derive(Debug)]
struct DeleteReader {
    table: Table,
    caches: Arc<ScanCaches>,
    context: Arc<TaskContext>,
    memory: MemoryReservation,
}

impl DeleteReader {
    fn new(table: &Table, caches: &Arc<ScanCaches>, context: &Arc<TaskContext>) -> Self {
        let memory = MemoryConsumer::new(format!("deletes of {}", table.ident()));
        let memory = memory.register(context.memory_pool());
        Self { table: table.clone(), caches: caches.clone(), context: context.clone(), memory }
    }

    /// The rows of a delete file; `predicate` prunes row groups and pages, and need not hold of all rows.
    fn rows(
        &self,
        file: &LiveFile,
        schema: &Arc<ReadSchema>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<SendableRecordBatchStream> {
        let request = ScanRequest {
            schema,
            storage: self.table.storage(),
            caches: &self.caches,
            projection: None,
            limit: None,
            partitions: 1,
            predicate,
            equality: None,
            constants: HashMap::new(),
            positions: false,
            order: None,
            facts: Arc::default(),
        };
        let plan = request.plan(&[ScanFile::whole(file)], self.context.session_config().options())?;
        plan.execute(0, self.context.clone()).map_err(from_datafusion)
    }

    /// Takes memory for deletes, until the scan is over.
    fn reserve(&self, bytes: usize) -> Result<()> {
        self.memory.try_grow(bytes).map_err(|e| {
            Error::new(
                ErrorKind::ResourceExhausted,
                "the table's deletes don't fit into the session's memory; compact the table, or give the session a larger memory budget",
            )
            .with("table", self.table.ident())
            .with("bytes", self.memory.size() + bytes)
            .with_source(e)
        })
    }
}
