//! The duties of catalogs, as suites that each of them runs.
//!
//! [`contract`] is what every catalog keeps, [`mod@pointer`] what catalogs of pointers leave behind: files, logs,
//! locations. Each story works in namespaces of its own, so that one catalog can run them all, and again.
//! Stories panic with what was expected. [`contend`] and [`bump`] are the concurrent writers, for tests that
//! spread them over tasks and processes.

pub mod contract;
mod places;
pub mod pointer;
mod steps;

use std::sync::Arc;

use icefield_core::catalog::Catalog;

pub use steps::{assert_bumped, assert_bumped_once, bump, contend, creation, namespace, set_property};

/// Both suites: for catalogs that keep pointers.
pub async fn run(catalog: Arc<dyn Catalog>) {
    contract::run(catalog.clone()).await;
    pointer::run(catalog).await;
}
