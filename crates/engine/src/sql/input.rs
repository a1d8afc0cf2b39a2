//! [`Input`]: the rows that a statement about the catalog writes.

use std::sync::Arc;

use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;

/// The rows that a command writes.
pub(super) struct Input {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) context: Arc<TaskContext>,
}
