//! [`SnapshotScan`]: the rows of a table at one snapshot as DataFusion's `TableProvider`.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use iceberg::spec::{PrimitiveType, Transform, Type};
use icefield_core::filter::{FileMatcher, Filter, Test};
use icefield_core::format::WantedStatistics;
use icefield_core::{AsOf, Error, Result, Table};

use super::ScanCaches;
use super::by_file;
use super::chosen::{FilesScan, deleted_too};
use super::deletes::ScanDeletes;
use super::exec::{df, target_partitions};
use super::file::FileDeletes;
use super::filter::{conjunction, translate};
use super::metadata_columns::{with_deleted, with_metadata_columns};
use super::plan::{PlannedFile, PlannedFiles, check_format, plan_files};
use super::schema::{ReadSchema, field_id, require_carried};
use super::sizes::collect_leaves;

/// The rows of a table at one snapshot as DataFusion's table provider. It is read, never written to.
#[derive(Debug, Clone)]
pub struct SnapshotScan {
    table: Table,
    as_of: AsOf,
    caches: Arc<ScanCaches>,
    schema: Arc<ReadSchema>,
    /// Whether rows are read that are deleted, too.
    deleted_rows: bool,
}

impl SnapshotScan {
    /// A table at a snapshot, read through the session's caches. Makes no request.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) when the table has no such snapshot. A column of a type that can't be
    /// carried is an error only where it is read.
    pub fn new(table: &Table, as_of: AsOf, caches: Arc<ScanCaches>) -> Result<Self> {
        let schema = table.schema_as_of(&as_of)?;
        let schema = Arc::new(ReadSchema::new(table, &schema, caches.view_types())?);
        Ok(Self { table: table.clone(), as_of, caches, schema, deleted_rows: false })
    }

    /// The same table with the metadata columns after its own: `_file`, `_pos`, `_spec_id`, `_partition` (a struct of the
    /// fields of all partition specs, if there are any, NULL where a file's spec has them not), `_row_id` and
    /// `_last_updated_sequence_number`, those two NULL where files have no row ids. A column of the table of such a name
    /// stays itself.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a partition field of a type that can't be carried.
    pub fn with_metadata_columns(mut self) -> Result<Self> {
        self.schema = Arc::new(with_metadata_columns(&self.table, &self.schema)?);
        Ok(self)
    }

    /// The same table with the rows that its files still hold though they are deleted, and the column `_deleted` that tells
    /// them.
    ///
    /// # Cost
    /// Rows deleted by position are read alone, with the others of their pages; a file with equality deletes is read twice.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a table with a column `_deleted` of its own.
    pub fn with_deleted_rows(mut self) -> Result<Self> {
        self.schema = Arc::new(with_deleted(&self.table, &self.schema)?);
        self.deleted_rows = true;
        Ok(self)
    }

    /// The same table at another snapshot, in the same columns.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) when the table has no such snapshot.
    pub(crate) fn at(&self, as_of: AsOf) -> Result<Self> {
        self.table.snapshot_as_of(&as_of)?;
        Ok(Self { as_of, ..self.clone() })
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Which snapshot is read.
    pub fn as_of(&self) -> &AsOf {
        &self.as_of
    }

    /// Whether the partition values of all files decide a filter, so that nothing need be evaluated on rows: it is
    /// translated without loss, and tests only columns that every spec of the table partitions by identity.
    fn is_decided_by_partitions(&self, expr: &Expr) -> bool {
        let Some(translated) = translate(expr, &self.schema.iceberg) else { return false };
        let mut columns = HashSet::new();
        translated.exact
            && tested_columns(&translated.filter, &mut columns)
            && !columns.is_empty()
            && columns.into_iter().all(|id| self.is_identity_everywhere(id))
    }

    fn is_identity_everywhere(&self, id: i32) -> bool {
        let compares_alike = match self.schema.iceberg.field_by_id(id).map(|field| field.field_type.as_ref())
        {
            // Floating point has several NaNs and two zeros.
            Some(Type::Primitive(of)) => !matches!(of, PrimitiveType::Float | PrimitiveType::Double),
            _ => false,
        };
        compares_alike
            && self.table.metadata().partition_specs_iter().all(|spec| {
                let mut fields = spec.fields().iter();
                fields.any(|field| field.source_id == id && field.transform == Transform::Identity)
            })
    }

    async fn plan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let visible = self.schema.arrow.fields().len();
        let used: HashSet<usize> = match projection {
            Some(projection) => {
                let filtered = filters.iter().flat_map(Expr::column_refs);
                let filtered = filtered.filter_map(|c| self.schema.arrow.index_of(&c.name).ok());
                projection.iter().copied().chain(filtered).collect()
            }
            None => (0..visible).collect(),
        };
        let PlannedFiles { data: mut entries, deletes } = match self.table.snapshot_as_of(&self.as_of)? {
            Some(snapshot) => {
                let filter = conjunction(filters, &self.schema.iceberg);
                let fields = used.iter().filter_map(|at| self.schema.arrow.fields().get(*at));
                let mut columns = Vec::new();
                for id in fields.filter_map(|field| field_id(field)) {
                    columns.push(id);
                    if let Some(field) = self.schema.iceberg.field_by_id(id) {
                        collect_leaves(id, &field.field_type, &mut columns);
                    }
                }
                let statistics = WantedStatistics::of(columns);
                plan_files(&self.table, &snapshot, &filter, &statistics, &self.caches).await?
            }
            None => PlannedFiles::default(),
        };
        entries.iter().try_for_each(|entry| check_format(entry))?;
        for expr in filters.iter().filter(|expr| self.is_decided_by_partitions(expr)) {
            self.keep_matching(&mut entries, expr)?;
        }
        by_file::keep_matching(&self.table, &self.schema, state, filters, &mut entries)?;
        // Limits come down only where no filter is left to be evaluated above.
        let limit = limit.filter(|_| filters.iter().all(|expr| self.is_decided_by_partitions(expr)));
        let context = state.task_ctx();
        for (_, column) in self.schema.arrow.fields().iter().enumerate().filter(|(at, _)| used.contains(at)) {
            require_carried(column).map_err(|e| e.with("table", self.table.ident()))?;
        }
        let scan = FilesScan {
            table: &self.table,
            schema: &self.schema,
            caches: &self.caches,
            projection,
            partitions: target_partitions(state),
            config: state.config_options(),
            context: &context,
        };
        if self.deleted_rows {
            return deleted_too(&scan, &entries, &deletes, &context);
        }
        let (data, deletes) = (entries.iter().map(|entry| &**entry), deletes.iter().map(|file| &**file));
        let mut deletes = ScanDeletes::live(&self.table, data, deletes, &self.caches, &context)?;
        if let Some(limit) = limit {
            keep_enough(&mut entries, &mut deletes.files, limit);
        }
        let limit = limit.filter(|_| deletes.equality.is_none());
        let files = entries.iter().map(|entry| &**entry).zip(deletes.files);
        scan.plan(files, &deletes.equality, limit, false)
    }

    /// Drops the files whose partition says that none of their rows matches.
    fn keep_matching(&self, entries: &mut Vec<PlannedFile>, expr: &Expr) -> Result<()> {
        let Some(translated) = translate(expr, &self.schema.iceberg) else { return Ok(()) };
        let matcher = FileMatcher::new(&translated.filter, self.table.metadata())?;
        let mut undecided = None;
        entries.retain(|entry| match matcher.partition_decides(entry.spec_id, &entry.file) {
            Some(matches) => matches,
            None => {
                undecided = Some(entry.path().to_string());
                true
            }
        });
        match undecided {
            Some(file) => {
                Err(Error::internal("a filter on partitions was not decided by one").with("file", file))
            }
            None => Ok(()),
        }
    }
}

/// Collects the columns that a filter tests. False where it tests one in a way that partitions may not decide.
fn tested_columns(filter: &Filter, into: &mut HashSet<i32>) -> bool {
    match filter {
        Filter::True | Filter::False => true,
        Filter::And(all) | Filter::Or(all) => all.iter().all(|filter| tested_columns(filter, into)),
        Filter::Not(filter) => tested_columns(filter, into),
        Filter::Test(id, test) => {
            into.insert(*id);
            !matches!(test, Test::IsNan | Test::NotNan)
        }
    }
}

/// Drops files once those before them have `limit` rows. A file with deletes of which nobody knows how many rows they leave
/// counts for none.
fn keep_enough(entries: &mut Vec<PlannedFile>, deletes: &mut Vec<FileDeletes>, limit: usize) {
    let mut rows = 0_u64;
    let enough = entries.iter().zip(deletes.iter()).position(|(entry, deletes)| {
        let enough = rows >= limit as u64;
        rows = rows.saturating_add(deletes.rows_left(entry.file.record_count()).unwrap_or(0));
        enough
    });
    let enough = enough.unwrap_or(entries.len());
    entries.truncate(enough);
    deletes.truncate(enough);
}

#[async_trait]
impl TableProvider for SnapshotScan {
    fn schema(&self) -> SchemaRef {
        self.schema.arrow.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let support = |expr: &&Expr| {
            if self.is_decided_by_partitions(expr) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Inexact
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        df(self.plan(state, projection, filters, limit).await)
    }
}
