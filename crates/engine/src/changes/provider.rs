//! [`FileRows`]: chosen rows of files of a table as DataFusion's `TableProvider`.

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
use icefield_core::catalog::Catalog;
use icefield_core::{AsOf, Result, Table};

use crate::error::to_datafusion;
use crate::scan::{ChosenRows, ScanCaches, SnapshotScan};

#[derive(Debug)]
pub(crate) struct FileRows {
    table: Table,
    catalog: Arc<dyn Catalog>,
    rows: ChosenRows,
    caches: Arc<ScanCaches>,
    schema: SchemaRef,
}

impl FileRows {
    pub(super) fn new(
        table: &Table,
        catalog: Arc<dyn Catalog>,
        caches: Arc<ScanCaches>,
        rows: ChosenRows,
    ) -> Result<Self> {
        let schema = SnapshotScan::new(table, AsOf::Current, caches.clone())?.schema();
        Ok(Self { table: table.clone(), catalog, rows, caches, schema })
    }

    /// The table, as it was when the rows were chosen.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Where the table is registered.
    pub(crate) fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.catalog
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
        let rows = self.rows.plan(&self.table, &self.caches, &state.task_ctx(), partitions);
        let rows = rows.map_err(to_datafusion)?;
        let Some(projection) = projection else { return Ok(rows) };
        // The optimizer takes the projection, and filters, down into the scan.
        let columns = projection.iter().map(|place| {
            let name = self.schema.field(*place).name().clone();
            (Arc::new(Column::new(&name, *place)) as Arc<dyn PhysicalExpr>, name)
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), rows)?))
    }
}
