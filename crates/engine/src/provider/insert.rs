//! `INSERT INTO` as a plan: its input is written as data files, partition by partition, and committed.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result as DfResult, exec_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use icefield_core::catalog::Catalog;
use icefield_core::commit::{DeleteBy, Overwrite, Transaction};
use icefield_core::filter::Filter;
use icefield_core::table::MAIN_BRANCH;
use icefield_core::{Result, Table};

use crate::error::to_datafusion;
use crate::looks::Looks;
use crate::publish::publish;
use crate::write::{WriteOptions, write_data_files};

/// Writes its input to a table and commits it. Gives one row: how many rows were written.
#[derive(Debug)]
pub(super) struct InsertExec {
    table: Table,
    branch: String,
    catalog: Arc<dyn Catalog>,
    input: Arc<dyn ExecutionPlan>,
    /// Whether the rows replace all that the table holds.
    replaces: bool,
    /// What the rows were made from.
    made_from: Looks,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl InsertExec {
    pub(super) fn new(
        table: Table,
        branch: Option<String>,
        catalog: Arc<dyn Catalog>,
        input: Arc<dyn ExecutionPlan>,
        replaces: bool,
        made_from: Looks,
    ) -> Self {
        let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let branch = branch.unwrap_or_else(|| MAIN_BRANCH.to_string());
        Self { table, branch, catalog, input, replaces, made_from, schema, properties: Arc::new(properties) }
    }
}

impl DisplayAs for InsertExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InsertExec: table={}, branch={}", self.table.ident(), self.branch)
    }
}

impl ExecutionPlan for InsertExec {
    fn name(&self) -> &str {
        "InsertExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return exec_err!("an insert has one input") };
        let (branch, made_from) = (Some(self.branch.clone()), self.made_from.clone());
        let (table, catalog) = (self.table.clone(), self.catalog.clone());
        Ok(Arc::new(Self::new(table, branch, catalog, input, self.replaces, made_from)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return exec_err!("an insert has one partition");
        }
        let schema = self.schema.clone();
        let write = write(
            self.table.clone(),
            self.branch.clone(),
            self.catalog.clone(),
            self.input.clone(),
            self.replaces.then(|| self.made_from.clone()),
            context,
        );
        let rows = futures::stream::once(async move {
            let rows = write.await.map_err(to_datafusion)?;
            let count = Arc::new(UInt64Array::from(vec![rows])) as ArrayRef;
            Ok(RecordBatch::try_new(schema, vec![count])?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }
}

async fn write(
    table: Table,
    branch: String,
    catalog: Arc<dyn Catalog>,
    input: Arc<dyn ExecutionPlan>,
    replaced_by: Option<Looks>,
    context: Arc<TaskContext>,
) -> Result<u64> {
    let replaces = replaced_by.is_some();
    // Without a look at the table in its query, the statement has seen the table as it was planned on.
    let start = match replaced_by {
        Some(looks) => looks.start(&table, &branch).await?,
        None => None,
    };
    let options = WriteOptions::new().clock(catalog.clock().clone());
    let written = write_data_files(&table, input, context, &options).await?;
    if written.files.is_empty() && !replaces {
        return Ok(0);
    }
    let mut transaction = Transaction::new(&table).on_branch(branch).exact_files();
    if let Some(start) = start {
        transaction = transaction.based_on(start);
    }
    let transaction = if replaces {
        let delete = DeleteBy::Filter(Filter::True);
        transaction.overwrite(Overwrite { delete, add: written.files.clone(), reads: None })
    } else {
        transaction.append(written.files.clone())
    };
    publish(transaction, &*catalog, &[&written]).await.map(|_| written.rows)
}
