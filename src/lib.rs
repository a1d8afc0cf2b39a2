//! A lakehouse that a Rust service links.
