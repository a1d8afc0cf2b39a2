//! Tables at versions that placeholders stand for: `FROM t FOR VERSION AS OF $1`.
//!
//! Columns are resolved when a statement is planned, values come later. So such a table is planned in its
//! current schema, by a node of its own, which a rule replaces by a scan of the snapshot once the version has
//! a value.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference, exec_err, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::AnalyzerRule;
use icefield_core::Clock;

use super::constant::{evaluate, is_open};
use super::times::{time_of, version_of};
use crate::error::to_datafusion;
use crate::provider::IcebergTable;

/// A table at a version that has no value yet.
#[derive(Clone)]
pub(crate) struct OpenVersion {
    name: TableReference,
    table: IcebergTable,
    version: Expr,
    is_time: bool,
    clock: Arc<dyn Clock>,
    schema: DFSchemaRef,
}

impl OpenVersion {
    pub(super) fn plan(
        name: TableReference,
        table: IcebergTable,
        version: Expr,
        is_time: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<LogicalPlan> {
        let columns = datafusion::catalog::TableProvider::schema(&table);
        let schema = Arc::new(DFSchema::try_from_qualified_schema(name.clone(), &columns)?);
        let node = Self { name, table, version, is_time, clock, schema };
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    /// The table, as it was when the statement was planned.
    pub(crate) fn table(&self) -> &IcebergTable {
        &self.table
    }

    fn resolved(&self, config: &ConfigOptions) -> Result<LogicalPlan> {
        if is_open(&self.version) {
            return exec_err!("Placeholder {} was not provided a value for execution.", self.version);
        }
        let config = Arc::new(config.clone());
        let Some(value) = evaluate(self.version.clone(), &config, &*self.clock)? else {
            return exec_err!("the version of a table is a constant, and no {}", self.version);
        };
        let as_of = if self.is_time { time_of(&value) } else { version_of(self.table.table(), &value) };
        let table = as_of.and_then(|as_of| self.table.at(as_of)).map_err(to_datafusion)?;
        LogicalPlanBuilder::scan(self.name.clone(), provider_as_source(Arc::new(table)), None)?.build()
    }

    fn key(&self) -> (String, String, bool) {
        (self.name.to_string(), self.version.to_string(), self.is_time)
    }
}

impl fmt::Debug for OpenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_for_explain(f)
    }
}

impl PartialEq for OpenVersion {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for OpenVersion {}

impl PartialOrd for OpenVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl Hash for OpenVersion {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for OpenVersion {
    fn name(&self) -> &str {
        "TableAtVersion"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.version.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_time { "TIMESTAMP" } else { "VERSION" };
        write!(f, "TableScan: {} FOR {kind} AS OF {}", self.name, self.version)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        match exprs.pop() {
            Some(version) => Ok(Self { version, ..self.clone() }),
            None => internal_err!("a table at a version has that version"),
        }
    }
}

/// Puts scans in the place of [`OpenVersion`]s. First of the analyzer's rules.
#[derive(Debug)]
pub(crate) struct ResolveVersions;

impl AnalyzerRule for ResolveVersions {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_down_with_subqueries(|node| match &node {
            LogicalPlan::Extension(extension) => {
                match extension.node.as_any().downcast_ref::<OpenVersion>() {
                    Some(open) => Ok(Transformed::yes(open.resolved(config)?)),
                    None => Ok(Transformed::no(node)),
                }
            }
            _ => Ok(Transformed::no(node)),
        })
        .map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "resolve_versions"
    }
}
