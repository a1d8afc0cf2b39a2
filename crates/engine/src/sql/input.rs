//! [`Input`]: the rows that a statement about the catalog writes.

use std::sync::Arc;

use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;

use crate::looks::Looks;

/// The rows that a command writes.
pub(super) struct Input {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) context: Arc<TaskContext>,
    /// The tables that they come from.
    pub(super) looks: Looks,
}
