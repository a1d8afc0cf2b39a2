//! [`KEPT_TABLES`]: tables in Avro and ORC that Iceberg Java wrote once, in this crate's folder `tables`.

use std::path::{Path, PathBuf};

/// The tables, each with what Iceberg Java reads of it, as [`Content`](crate::Content) prints it: one with columns of every
/// type, one whose schema changed, with position deletes and equality deletes, and with a Parquet file at last.
pub const KEPT_TABLES: [(&str, &str); 4] = [
    ("avro_types", "rows=12 hash=1b8b81a01bbe7aa12df3db494d007c78"),
    ("avro_deletes", "rows=56 hash=e95c5554152481203682ffb1d087ecbe"),
    ("orc_types", "rows=12 hash=1b8b81a01bbe7aa12df3db494d007c78"),
    ("orc_deletes", "rows=56 hash=e95c5554152481203682ffb1d087ecbe"),
];

/// The folder in which the tables were, and still are by their metadata.
pub const KEPT_TABLES_WERE_AT: &str = "file:/tmp/icefield-tables/db";

/// The folder of a table.
pub fn kept_table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tables").join(name)
}
