//! [`configure`]: what this library asks of a DataFusion context, a session's own or a service's.

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

use crate::insert::ExactInserts;
use crate::rules;
use crate::scan::with_ordered_scans;
use crate::sql::ResolveVersions;
use crate::values::BoundedValues;
use crate::variant;

/// Gives a service's own DataFusion context the rules and functions of a [`Session`](crate::Session)'s: times, casts and
/// memberships are compared exactly, inserts lose nothing, what functions make of a batch is bounded, scans keep the order
/// of sorted files, and variants have their functions.
///
/// It replaces the builder's lists of analyzer and physical optimizer rules: add your own after it. Call it after
/// [`with_default_features`](SessionStateBuilder::with_default_features), whose functions of the same names it replaces,
/// and after the runtime is set, whose memory pool bounds the functions.
///
/// ```
/// use datafusion::execution::SessionStateBuilder;
/// use datafusion::prelude::SessionContext;
/// use icefield_engine::{Session, configure};
///
/// # #[tokio::main]
/// # async fn main() -> icefield_core::Result<()> {
/// let session = Session::builder().build()?;
/// session.sql("CREATE TABLE shop.orders AS SELECT 1 AS id").await?.collect().await?;
///
/// let state = configure(SessionStateBuilder::new().with_default_features()).build();
/// let context = SessionContext::new_with_state(state);
/// context.register_table("orders", session.table("shop.orders").await?.provider()?)?;
/// assert_eq!(context.sql("SELECT id FROM orders").await?.count().await?, 1);
/// # Ok(())
/// # }
/// ```
pub fn configure(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    let pool = builder.runtime_env().get_or_insert_default().memory_pool.clone();
    let functions = variant::functions().into_iter().chain(rules::functions()).map(Arc::new);
    builder.scalar_functions().get_or_insert_default().extend(functions);
    let mut analyzer = rules::analyzer_rules();
    analyzer.insert(0, Arc::new(ExactInserts));
    analyzer.insert(0, Arc::new(ResolveVersions));
    analyzer.push(Arc::new(BoundedValues::of_session(pool)));
    builder
        .with_analyzer_rules(analyzer)
        .with_physical_optimizer_rules(with_ordered_scans(PhysicalOptimizer::new().rules))
}
