//! [`Command`]: a statement that changes the catalog, as a plan that does so when it is run.
//!
//! Planning a command, and explaining it, changes nothing. What `CREATE TABLE AS` reads is the input of the
//! plan, planned, optimized and limited as any query.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::{DFSchema, DFSchemaRef, Result as DfResult, exec_err};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use icefield_core::Result;

use super::alter::AlterTable;
use super::input::Input;
use super::namespaces::{CreateNamespace, DropNamespace};
use super::tables::{CreateTable, DropTables};
use crate::error::to_datafusion;
use crate::looks::{Looks, looks_of};
use crate::session::Session;

/// A statement that changes the catalog.
#[derive(Debug, Clone)]
pub(super) enum Command {
    CreateTable(CreateTable),
    DropTables(DropTables),
    CreateNamespace(CreateNamespace),
    DropNamespace(DropNamespace),
    AlterTable(AlterTable),
}

impl Command {
    async fn run(&self, session: &Session, input: Option<Input>) -> Result<()> {
        match self {
            Self::CreateTable(create) => create.run(session, input).await,
            Self::DropTables(drop) => drop.run(session).await,
            Self::CreateNamespace(create) => create.run(session).await,
            Self::DropNamespace(drop) => drop.run(session).await,
            Self::AlterTable(alter) => alter.run(session).await,
        }
    }

    /// The plan that does what the command says.
    pub(super) fn plan(self, session: &Session, input: Option<LogicalPlan>) -> LogicalPlan {
        let node = CommandNode {
            session: session.clone(),
            command: Arc::new(self),
            input,
            schema: Arc::new(DFSchema::empty()),
        };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateTable(create) => create.fmt(f),
            Self::DropTables(drop) => drop.fmt(f),
            Self::CreateNamespace(create) => create.fmt(f),
            Self::DropNamespace(drop) => drop.fmt(f),
            Self::AlterTable(alter) => alter.fmt(f),
        }
    }
}

/// True if a node of a plan is a command's.
pub(super) fn is_command(node: &dyn UserDefinedLogicalNode) -> bool {
    node.as_any().is::<CommandNode>()
}

#[derive(Clone)]
struct CommandNode {
    session: Session,
    command: Arc<Command>,
    input: Option<LogicalPlan>,
    schema: DFSchemaRef,
}

impl CommandNode {
    fn key(&self) -> (String, &Option<LogicalPlan>) {
        (self.command.to_string(), &self.input)
    }
}

impl fmt::Debug for CommandNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.command)
    }
}

impl PartialEq for CommandNode {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for CommandNode {}

impl PartialOrd for CommandNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl Hash for CommandNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for CommandNode {
    fn name(&self) -> &str {
        "Command"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.input.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command: {}", self.command)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        Ok(Self { input: inputs.pop(), ..self.clone() })
    }

    /// All columns of the input are written.
    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        let all = |input: &LogicalPlan| (0..input.schema().fields().len()).collect();
        Some(self.input.iter().map(all).collect())
    }
}

/// DataFusion's planner, and that of commands.
#[derive(Debug)]
pub(super) struct CommandPlanner;

#[async_trait]
impl QueryPlanner for CommandPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        state: &SessionState,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Self)]);
        planner.create_physical_plan(plan, state).await
    }
}

#[async_trait]
impl ExtensionPlanner for CommandPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &SessionState,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<CommandNode>() else { return Ok(None) };
        let looks = node.input.as_ref().map(looks_of).transpose()?.unwrap_or_default();
        Ok(Some(Arc::new(CommandExec::new(node.clone(), inputs.first().cloned(), looks))))
    }
}

/// Runs a command. Gives no rows.
#[derive(Debug)]
struct CommandExec {
    node: CommandNode,
    input: Option<Arc<dyn ExecutionPlan>>,
    looks: Looks,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl CommandExec {
    fn new(node: CommandNode, input: Option<Arc<dyn ExecutionPlan>>, looks: Looks) -> Self {
        let schema = Arc::new(Schema::empty());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { node, input, looks, schema, properties: Arc::new(properties) }
    }
}

impl DisplayAs for CommandExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandExec: {}", self.node.command)
    }
}

impl ExecutionPlan for CommandExec {
    fn name(&self) -> &str {
        "CommandExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.input.iter().collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        self.input.iter().map(|_| Distribution::UnspecifiedDistribution).collect()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.input.iter().map(|_| false).collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(self.node.clone(), children.pop(), self.looks.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return exec_err!("a command has one partition");
        }
        let (session, command) = (self.node.session.clone(), self.node.command.clone());
        let looks = self.looks.clone();
        let input = self.input.clone().map(|plan| Input { plan, context, looks });
        let done = futures::stream::once(async move { command.run(&session, input).await });
        let rows = futures::StreamExt::filter_map(done, |done| {
            std::future::ready(done.err().map(|error| Err(to_datafusion(error))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }
}
