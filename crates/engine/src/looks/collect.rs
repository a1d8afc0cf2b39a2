//! The looks that a plan holds, found in its table scans.

use std::borrow::Cow;

use datafusion::catalog::TableProvider;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::DefaultTableSource;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use icefield_core::AsOf;

use super::{Look, Looks};
use crate::changes::FileRows;
use crate::provider::IcebergTable;
use crate::sql::OpenVersion;
use crate::transform::Cached;

/// The tables that a plan reads.
pub(crate) fn looks_of(plan: &LogicalPlan) -> DfResult<Looks> {
    let mut looks = Vec::new();
    collect(plan, &mut looks)?;
    Ok(looks.into_iter().collect())
}

fn collect(plan: &LogicalPlan, looks: &mut Vec<Look>) -> DfResult<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            collect_source(scan.source.as_ref(), looks)?;
        }
        if let LogicalPlan::Extension(extension) = node
            && let Some(open) = extension.node.as_any().downcast_ref::<OpenVersion>()
        {
            collect_provider(open.table(), looks)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn collect_source(source: &dyn TableSource, looks: &mut Vec<Look>) -> DfResult<()> {
    if let Some(source) = source.downcast_ref::<DefaultTableSource>() {
        collect_provider(source.table_provider.as_ref(), looks)?;
    }
    Ok(())
}

fn collect_provider(provider: &dyn TableProvider, looks: &mut Vec<Look>) -> DfResult<()> {
    if let Some(table) = provider.downcast_ref::<IcebergTable>() {
        looks.push(Look::new(table.table(), table.as_of(), table.catalog().cloned()));
    } else if let Some(rows) = provider.downcast_ref::<FileRows>() {
        looks.push(Look::new(rows.table(), &AsOf::Current, Some(rows.catalog().clone())));
    } else if let Some(cached) = provider.downcast_ref::<Cached>() {
        looks.extend(cached.looks().iter().cloned());
    } else if let Some(plan) = provider.get_logical_plan().map(Cow::into_owned) {
        collect(&plan, looks)?;
    }
    Ok(())
}
