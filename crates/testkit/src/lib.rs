//! Shared test support: faulty stores, fake clocks, conformance suites, referee engines.
