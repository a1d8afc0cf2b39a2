//! Facts of logical plans that several rules ask for.

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Aggregate, LogicalPlan};

/// The columns that the expressions of a plan's node may name.
pub(super) fn schema_of_inputs(plan: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = plan {
        let columns = scan.source.schema();
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &columns)?);
    }
    Ok(schema)
}

/// The aggregate without groups whose one row a plan gives, if it does that.
pub(super) fn aggregate_of_all(mut plan: &LogicalPlan) -> Option<&Aggregate> {
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => return Some(aggregate),
            _ => return None,
        };
    }
}
