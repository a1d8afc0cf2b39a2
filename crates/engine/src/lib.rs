//! DataFusion over Iceberg tables: scan, write, row-level changes, sessions.
