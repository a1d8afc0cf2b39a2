//! Reading tables: planning from manifests, pruning, statistics, and the [`IcebergTable`] that DataFusion scans.
//!
//! A scan's plan is DataFusion's own Parquet source over the files that the manifests leave. Columns are found in files by
//! field id. Tables with delete files are refused until deletes are applied.

mod cache;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use icefield_core::{AsOf, Result, Table};

pub use cache::ScanCaches;

/// A table at one snapshot as DataFusion's table provider.
#[derive(Debug)]
pub struct IcebergTable {
    table: Table,
    as_of: AsOf,
    caches: Arc<ScanCaches>,
    schema: SchemaRef,
}

impl IcebergTable {
    /// A table at a snapshot, read through the session's caches. Makes no request.
    pub fn new(table: &Table, as_of: AsOf, caches: Arc<ScanCaches>) -> Result<Self> {
        let schema = table.schema_as_of(&as_of)?;
        let schema = Arc::new(iceberg::arrow::schema_to_arrow_schema(&schema)?);
        Ok(Self { table: table.clone(), as_of, caches, schema })
    }
}

#[async_trait]
impl TableProvider for IcebergTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        datafusion::common::not_impl_err!("scans come next")
    }
}
