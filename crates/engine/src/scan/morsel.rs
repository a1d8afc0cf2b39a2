//! [`Wrapped`]: a part of reading a file whose errors and batches are changed on their way, whatever DataFusion splits it into.

use std::fmt;

use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner};
use futures::stream::BoxStream;

/// What is changed.
pub(super) trait Wrap: Clone + Send + Sync + 'static {
    /// What an error of planning becomes.
    fn error(&self, error: DataFusionError) -> DataFusionError {
        error
    }

    /// What the rows become.
    fn rows(self, rows: BoxStream<'static, Result<RecordBatch>>) -> BoxStream<'static, Result<RecordBatch>>;
}

/// Something, and what is changed of it.
pub(super) struct Wrapped<W, Inner: ?Sized> {
    pub(super) with: W,
    pub(super) inner: Box<Inner>,
}

impl<W, Inner: fmt::Debug + ?Sized> fmt::Debug for Wrapped<W, Inner> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<W: Wrap> MorselPlanner for Wrapped<W, dyn MorselPlanner> {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { with, inner } = *self;
        let Some(mut plan) = inner.plan().map_err(|e| with.error(e))? else { return Ok(None) };
        let planner =
            |with: &W, inner| Box::new(Wrapped { with: with.clone(), inner }) as Box<dyn MorselPlanner>;
        let morsels = plan.take_morsels().into_iter();
        let morsels = morsels.map(|inner| Box::new(Wrapped { with: with.clone(), inner }) as Box<dyn Morsel>);
        let planners = plan.take_ready_planners().into_iter().map(|inner| planner(&with, inner));
        let out = MorselPlan::new().with_morsels(morsels.collect()).with_planners(planners.collect());
        Ok(Some(match plan.take_pending_planner() {
            Some(pending) => out.with_pending_planner(async move {
                let inner = pending.await.map_err(|e| with.error(e))?;
                Ok(planner(&with, inner))
            }),
            None => out,
        }))
    }
}

impl<W: Wrap> Morsel for Wrapped<W, dyn Morsel> {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { with, inner } = *self;
        with.rows(inner.into_stream())
    }
}
