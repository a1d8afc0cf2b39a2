//! [`IcebergTable`]: a table of a catalog as DataFusion's `TableProvider`. It reads through [`SnapshotScan`] and publishes what is
//! inserted.

mod insert;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::TableType;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, lit};
use datafusion::physical_plan::ExecutionPlan;
use iceberg::spec::{Literal, NestedFieldRef, Schema, Type};
use icefield_core::catalog::Catalog;
use icefield_core::format::write_default;
use icefield_core::{AsOf, Error, Result, Table};

use crate::error::to_datafusion;
use crate::looks::Looks;
use crate::scan::{ScanCaches, SnapshotScan, scalar};
use insert::InsertExec;

/// A table at one snapshot as DataFusion's table provider.
#[derive(Debug, Clone)]
pub struct IcebergTable {
    scan: SnapshotScan,
    /// Where the table is registered.
    catalog: Option<Arc<dyn Catalog>>,
    /// Whether rows can be inserted, by commits to the catalog.
    takes_rows: bool,
    /// Write defaults by column, for inserts that leave columns out.
    defaults: HashMap<String, Expr>,
    /// What the rows that are inserted were made from.
    made_from: Looks,
}

impl IcebergTable {
    /// A table at a snapshot, read through the session's caches. Makes no request.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) when the table has no such snapshot. A column of a type that can't be
    /// carried is an error only where it is read.
    pub fn new(table: &Table, as_of: AsOf, caches: Arc<ScanCaches>) -> Result<Self> {
        let scan = SnapshotScan::new(table, as_of, caches)?;
        Ok(Self {
            scan,
            catalog: None,
            takes_rows: false,
            defaults: HashMap::new(),
            made_from: Looks::default(),
        })
    }

    /// A table of a catalog at a snapshot. Rows can be inserted, unless the table is read-only.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn of_catalog(
        table: &Table,
        as_of: AsOf,
        caches: Arc<ScanCaches>,
        catalog: Arc<dyn Catalog>,
    ) -> Result<Self> {
        let this = Self::new(table, as_of, caches)?;
        Ok(match table.is_read_only() {
            true => this.registered_in(catalog),
            false => this.with_catalog(catalog),
        })
    }

    /// Lets rows be inserted, by commits to this catalog, where the snapshot is the head of a branch.
    pub fn with_catalog(self, catalog: Arc<dyn Catalog>) -> Self {
        let mut this = self.registered_in(catalog);
        this.takes_rows = true;
        this.defaults = write_defaults(this.table().schema());
        this
    }

    /// Says which catalog has the table, without letting rows be inserted.
    pub(crate) fn registered_in(mut self, catalog: Arc<dyn Catalog>) -> Self {
        self.catalog = Some(catalog);
        self
    }

    /// Where the table is registered, if that was said.
    pub(crate) fn catalog(&self) -> Option<&Arc<dyn Catalog>> {
        self.catalog.as_ref()
    }

    /// The same table, to insert rows that were made from these.
    pub(crate) fn made_from(&self, looks: Looks) -> Self {
        Self { made_from: looks, ..self.clone() }
    }

    /// The same table with its [metadata columns](SnapshotScan::with_metadata_columns). Rows can't be inserted through it.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a partition field of a type that can't be carried.
    pub fn with_metadata_columns(self) -> Result<Self> {
        Ok(Self { scan: self.scan.with_metadata_columns()?, takes_rows: false, ..self })
    }

    /// The same table with its [deleted rows](SnapshotScan::with_deleted_rows). Rows can't be inserted through it.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a table with a column `_deleted` of its own.
    pub fn with_deleted_rows(self) -> Result<Self> {
        Ok(Self { scan: self.scan.with_deleted_rows()?, takes_rows: false, ..self })
    }

    /// The same table at another snapshot, in the same columns.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) when the table has no such snapshot.
    pub(crate) fn at(&self, as_of: AsOf) -> Result<Self> {
        Ok(Self { scan: self.scan.at(as_of)?, ..self.clone() })
    }

    /// The branch that inserts go to.
    fn writable_branch(&self) -> Result<Option<String>> {
        match self.as_of() {
            AsOf::Current => Ok(None),
            AsOf::Ref(name) => Ok(Some(name.clone())),
            _ => Err(Error::invalid_input(
                "an earlier snapshot can't be inserted into; insert into the table or a branch",
            )
            .with("table", self.table().ident())),
        }
    }

    /// The table.
    pub fn table(&self) -> &Table {
        self.scan.table()
    }

    /// Which snapshot is read.
    pub fn as_of(&self) -> &AsOf {
        self.scan.as_of()
    }

    fn insert(&self, input: Arc<dyn ExecutionPlan>, op: InsertOp) -> Result<InsertExec> {
        let ident = self.table().ident();
        let Some(catalog) = self.catalog.clone().filter(|_| self.takes_rows) else {
            return Err(
                Error::unsupported("a table without a catalog can't be inserted into").with("table", ident)
            );
        };
        let replaces = match op {
            InsertOp::Append => false,
            InsertOp::Overwrite => true,
            InsertOp::Replace => {
                let message = "REPLACE INTO needs row-level changes, which are not there yet";
                return Err(Error::unsupported(message).with("table", ident));
            }
        };
        let mut columns = self.table().schema().as_struct().fields().iter();
        let unknown = |field: &&NestedFieldRef| {
            !matches!(write_default(field), Ok(None)) && !self.defaults.contains_key(&field.name)
        };
        if let Some(column) = columns.find(unknown) {
            // A statement that leaves it out would write NULL.
            return Err(Error::unsupported(
                "write defaults of nested columns are not there in SQL yet; append a DataFrame instead",
            )
            .with("table", ident)
            .with("column", &column.name));
        }
        let (branch, made_from) = (self.writable_branch()?, self.made_from.clone());
        Ok(InsertExec::new(self.table().clone(), branch, catalog, input, replaces, made_from))
    }
}

fn row_level(statement: &str, table: &Table) -> Error {
    let message = format!(
        "{statement} is not there yet; replace whole partitions with INSERT OVERWRITE or a DataFrame's overwrite(...).filter(...)"
    );
    Error::unsupported(message).with("table", table.ident())
}

/// The write defaults of columns of primitive types.
fn write_defaults(schema: &Schema) -> HashMap<String, Expr> {
    let fields = schema.as_struct().fields().iter();
    let default = |field: &NestedFieldRef| match (&*field.field_type, write_default(field).ok()?) {
        (Type::Primitive(of), Some(Literal::Primitive(value))) => {
            Some((field.name.clone(), lit(scalar(of, &value).ok()?)))
        }
        _ => None,
    };
    fields.filter_map(default).collect()
}

#[async_trait]
impl TableProvider for IcebergTable {
    fn schema(&self) -> SchemaRef {
        self.scan.schema()
    }

    fn table_type(&self) -> TableType {
        self.scan.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        self.scan.supports_filters_pushdown(filters)
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.scan.scan(state, projection, filters, limit).await
    }

    async fn delete_from(&self, _: &dyn Session, _: Vec<Expr>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Err(to_datafusion(row_level("DELETE", self.table())))
    }

    async fn update(
        &self,
        _: &dyn Session,
        _: Vec<(String, Expr)>,
        _: Vec<Expr>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Err(to_datafusion(row_level("UPDATE", self.table())))
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.insert(input, op).map_err(to_datafusion)?))
    }
}
