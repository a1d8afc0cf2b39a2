//! Errors across the border to DataFusion.

pub(crate) use icefield_core::datafusion::{broken, in_file};
pub use icefield_core::datafusion::{from_datafusion, to_datafusion};
