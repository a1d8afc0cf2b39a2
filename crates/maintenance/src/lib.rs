//! Maintenance of Iceberg tables: compaction, snapshot expiry, orphan files.
