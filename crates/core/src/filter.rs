//! Filters over a table's columns, by field id.
