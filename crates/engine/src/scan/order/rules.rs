//! Optimizer rules that make scans keep the order of their files where a plan wants it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, LexOrdering, LexRequirement, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::groups::{is_null_free, ordered_groups};
use super::{FileOrder, OrderKey};
use crate::scan::reader::FileLocation;
use crate::scan::source::NamedSource;

type Rules = Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>;

/// DataFusion's rules, and among them those that make ordered scans.
pub(crate) fn with_ordered_scans(mut rules: Rules) -> Rules {
    // Before distribution and sorting are enforced, by rules that find the order there.
    let before = rules.iter().position(|rule| rule.name() == "EnforceDistribution").unwrap_or(0);
    rules.insert(before, Arc::new(OrderedScans));
    let after =
        rules.iter().rposition(|rule| rule.name() == "LimitPushdown").map_or(rules.len(), |at| at + 1);
    rules.insert(after, Arc::new(KeepScanOrder));
    rules
}

/// Declares the order of a scan's files below a node that sorts, or that wants all rows in an order, and groups the files so
/// that it holds.
#[derive(Debug)]
struct OrderedScans;

impl PhysicalOptimizerRule for OrderedScans {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = config.execution.target_partitions;
        plan.transform_down(|node| {
            let Some((requirement, few)) = wanted(&node) else { return Ok(Transformed::no(node)) };
            let input = match node.children()[..] {
                [input] => input.clone(),
                _ => return Ok(Transformed::no(node)),
            };
            Ok(match ordered(&input, &requirement, partitions, few)? {
                Some(input) => Transformed::yes(node.with_new_children(vec![input])?),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "OrderedScans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The order that a node wants its one input in, and whether it wants the first rows alone. What wants rows distributed by
/// hash does not count: the order would be lost on the way.
fn wanted(node: &Arc<dyn ExecutionPlan>) -> Option<(LexRequirement, bool)> {
    if let Some(sort) = node.downcast_ref::<SortExec>() {
        return Some((sort.expr().clone().into(), sort.fetch().is_some()));
    }
    let distribution = node.required_input_distribution();
    let ordering = node.required_input_ordering();
    match (&distribution[..], &ordering[..]) {
        ([Distribution::SinglePartition], [Some(ordering)]) => Some((ordering.first().clone(), false)),
        _ => None,
    }
}

/// The same plan with an ordered scan, if it then meets the requirement.
fn ordered(
    plan: &Arc<dyn ExecutionPlan>,
    requirement: &LexRequirement,
    partitions: usize,
    few: bool,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let meets = |plan: &Arc<dyn ExecutionPlan>| {
        plan.equivalence_properties().ordering_satisfy_requirement(requirement.clone())
    };
    let Some((scan, order)) = scan_below(plan) else { return Ok(None) };
    if meets(plan)? {
        return Ok(None);
    }
    let Some(mut files) = whole_files(scan) else { return Ok(None) };
    let Some(source) = scan.file_source().downcast_ref::<NamedSource>() else { return Ok(None) };
    let columns: Vec<usize> = order.keys.iter().map(|key| key.column).collect();
    for file in &mut files {
        let place = file.extension::<FileLocation>().map(|at| at.place);
        file.statistics = place.and_then(|place| source.facts().of_columns(place, &columns));
    }
    // A file by itself is in order: with the first alone, how many keys the requirement takes.
    let one = || files.iter().take(1).map(|file| FileGroup::new(vec![file.clone()])).collect();
    for keys in (1..=order.keys.len()).filter_map(|length| order.keys.get(..length)) {
        for ordering in orderings(keys, scan, &files) {
            if !meets(&with_scan(plan, with_order(scan, one(), ordering.clone()))?)? {
                continue;
            }
            let schema = scan.file_source().table_schema().table_schema();
            let groups = ordered_groups(&files, keys, schema, partitions, few)?;
            let Some(groups) = groups else { return Ok(None) };
            let plan = with_scan(plan, with_order(scan, groups, ordering))?;
            // What DataFusion makes of the groups' statistics has the last word.
            return Ok(if meets(&plan)? { Some(plan) } else { None });
        }
    }
    Ok(None)
}

/// The scan that a plan's rows come from in the scan's order.
fn scan_below(mut plan: &Arc<dyn ExecutionPlan>) -> Option<(&FileScanConfig, &FileOrder)> {
    loop {
        if let Some(exec) = plan.downcast_ref::<DataSourceExec>() {
            let scan = exec.data_source().downcast_ref::<FileScanConfig>()?;
            let order = scan.file_source().downcast_ref::<NamedSource>()?.order()?;
            // A limit made it one partition.
            return scan.limit.is_none().then_some((scan, order));
        }
        match (&plan.children()[..], &plan.maintains_input_order()[..]) {
            ([input], [true]) => plan = input,
            _ => return None,
        }
    }
}

/// The plan with another scan at its end.
fn with_scan(plan: &Arc<dyn ExecutionPlan>, scan: FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
    match plan.children()[..] {
        [input] => plan.clone().with_new_children(vec![with_scan(input, scan)?]),
        _ => Ok(DataSourceExec::from_data_source(scan)),
    }
}

fn with_order(scan: &FileScanConfig, groups: Vec<FileGroup>, ordering: LexOrdering) -> FileScanConfig {
    let builder = FileScanConfigBuilder::from(scan.clone()).with_file_groups(groups);
    builder.with_output_ordering(vec![ordering]).build()
}

/// The files of a scan, each once and whole; none when the scan does not read all of each.
fn whole_files(scan: &FileScanConfig) -> Option<Vec<PartitionedFile>> {
    let mut files: Vec<(PartitionedFile, u64)> = Vec::new();
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    for piece in scan.file_groups.iter().flat_map(FileGroup::iter) {
        let location = piece.extension::<FileLocation>()?.location.clone();
        let bytes = match &piece.range {
            Some(range) => u64::try_from(range.end.checked_sub(range.start)?).ok()?,
            None => piece.object_meta.size,
        };
        let place = *places.entry(location).or_insert(files.len());
        match files.get_mut(place) {
            Some((_, read)) => *read = read.saturating_add(bytes),
            None => files.push((PartitionedFile { range: None, ..piece.clone() }, bytes)),
        }
    }
    let whole = files.iter().all(|(file, read)| file.object_meta.size == *read);
    whole.then(|| files.into_iter().map(|(file, _)| file).collect())
}

/// An order as DataFusion knows it, which takes it literally: columns without NULLs are in it whether NULLs come first or last,
/// which makes two of it.
fn orderings(keys: &[OrderKey], scan: &FileScanConfig, files: &[PartitionedFile]) -> Vec<LexOrdering> {
    let schema = scan.file_source().table_schema().table_schema();
    let ordering = |flip: bool| {
        LexOrdering::new(keys.iter().map(|key| {
            let OrderKey { column, options: SortOptions { descending, nulls_first } } = *key;
            let flipped = flip && has_no_nulls(files, column);
            let options = SortOptions { descending, nulls_first: nulls_first != flipped };
            let column = Arc::new(Column::new(schema.field(column).name(), column));
            PhysicalSortExpr { expr: column, options }
        }))
    };
    let (plain, flipped) = (ordering(false), ordering(true));
    let flipped = flipped.filter(|flipped| plain.as_ref() != Some(flipped));
    plain.into_iter().chain(flipped).collect()
}

fn has_no_nulls(files: &[PartitionedFile], column: usize) -> bool {
    files.iter().all(|file| {
        let columns = file.statistics.as_ref().map(|statistics| &statistics.column_statistics);
        columns.and_then(|columns| columns.get(column)).is_some_and(is_null_free)
    })
}

/// Mends what `LimitPushdown` does to ordered scans below a merge that has a limit: it lets their partitions take each other's
/// files again, and skip row groups that come first.
#[derive(Debug)]
struct KeepScanOrder;

impl PhysicalOptimizerRule for KeepScanOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let scan = node.downcast_ref::<DataSourceExec>();
            let scan = scan.and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>());
            let lost = scan.is_some_and(|scan| !scan.output_ordering.is_empty() && !scan.preserve_order);
            Ok(match lost.then(|| node.with_preserve_order(true)).flatten() {
                Some(kept) => Transformed::yes(kept),
                None => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "KeepScanOrder"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
