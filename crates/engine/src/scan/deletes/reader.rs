//! [`DeleteReader`]: the rows of delete files.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::SendableRecordBatchStream;
use icefield_core::format::LiveFile;
use icefield_core::{Error, ErrorKind, Result, Table};

use crate::error::from_datafusion;
use crate::scan::ScanCaches;
use crate::scan::exec::ScanRequest;
use crate::scan::file::ScanFile;
use crate::scan::schema::ReadSchema;

/// How the delete files of a scan are read, and the memory that holds them.
#[derive(Debug)]
pub(super) struct DeleteReader {
    pub(super) table: Table,
    pub(super) caches: Arc<ScanCaches>,
    context: Arc<TaskContext>,
    memory: MemoryReservation,
}

impl DeleteReader {
    pub(super) fn new(table: &Table, caches: &Arc<ScanCaches>, context: &Arc<TaskContext>) -> Self {
        let memory = MemoryConsumer::new(format!("deletes of {}", table.ident()));
        let memory = memory.register(context.memory_pool());
        Self { table: table.clone(), caches: caches.clone(), context: context.clone(), memory }
    }

    /// The rows of a delete file; `predicate` prunes row groups and pages, and need not hold of all rows.
    pub(super) fn rows(
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
            constants: HashMap::new(),
            positions: false,
            order: None,
            facts: Arc::default(),
        };
        let plan = request.plan(&[ScanFile::whole(file)], self.context.session_config().options())?;
        plan.execute(0, self.context.clone()).map_err(from_datafusion)
    }

    /// Takes memory for deletes, until the scan is over.
    pub(super) fn reserve(&self, bytes: usize) -> Result<()> {
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
