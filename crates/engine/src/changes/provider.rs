//! [`FileRows`]: the rows of chosen files of a table, whole, as DataFusion's `TableProvider`.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use icefield_core::format::LiveFile;
use icefield_core::{AsOf, Result, Table as CoreTable};

use crate::error::to_datafusion;
use crate::scan::{IcebergTable, ScanCaches, scan_files};
use crate::table::Table;

#[derive(Debug)]
pub(super) struct FileRows {
    table: CoreTable,
    files: Vec<LiveFile>,
    caches: Arc<ScanCaches>,
    schema: SchemaRef,
}

impl FileRows {
    pub(super) fn new(table: &Table, files: Vec<LiveFile>) -> Result<Self> {
        let (table, caches) = (table.core().clone(), table.caches().clone());
        let schema = IcebergTable::new(&table, AsOf::Current, caches.clone())?.schema();
        Ok(Self { table, files, caches, schema })
    }
}

#[async_trait]
impl TableProvider for FileRows {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let partitions = state.config_options().execution.target_partitions;
        // No deletes: a range that has some is refused, or asks for what was appended whatever became of it.
        let context = state.task_ctx();
        let rows = scan_files(&self.table, &self.files, &[], &self.caches, &context, partitions, false)
            .map_err(to_datafusion)?;
        let Some(projection) = projection else { return Ok(rows) };
        // The optimizer takes the projection, and filters, down into the scan.
        let columns = projection.iter().map(|place| {
            let name = self.schema.field(*place).name().clone();
            (Arc::new(Column::new(&name, *place)) as Arc<dyn PhysicalExpr>, name)
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), rows)?))
    }
}
