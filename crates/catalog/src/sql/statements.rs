//! The catalog's two tables and the statements on them, as Iceberg Java's `JdbcUtil` (V1) and PyIceberg's `SqlCatalog` have
//! them. Statements run unchanged on SQLite and PostgreSQL.

/// The tables' names.
pub(super) const TABLES: &str = "iceberg_tables";
pub(super) const NAMESPACES: &str = "iceberg_namespace_properties";

/// The property that keeps a namespace without properties in existence.
pub(super) const EXISTS: &str = "exists";

pub(super) const CREATE_TABLES: &str = "CREATE TABLE IF NOT EXISTS iceberg_tables (\
    catalog_name VARCHAR(255) NOT NULL, \
    table_namespace VARCHAR(255) NOT NULL, \
    table_name VARCHAR(255) NOT NULL, \
    metadata_location VARCHAR(1000), \
    previous_metadata_location VARCHAR(1000), \
    iceberg_type VARCHAR(5), \
    PRIMARY KEY (catalog_name, table_namespace, table_name))";

pub(super) const CREATE_NAMESPACES: &str = "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (\
    catalog_name VARCHAR(255) NOT NULL, \
    namespace VARCHAR(255) NOT NULL, \
    property_key VARCHAR(255) NOT NULL, \
    property_value VARCHAR(1000), \
    PRIMARY KEY (catalog_name, namespace, property_key))";

/// Whether a namespace exists: a row of it, or of one below it ($3 is its name and a dot), in either table. Not LIKE, which
/// ignores case on SQLite.
pub(super) const NAMESPACE_EXISTS: &str = "SELECT 'yes' WHERE EXISTS (\
    SELECT 1 FROM iceberg_namespace_properties WHERE catalog_name = $1 \
    AND (namespace = $2 OR substr(namespace, 1, length($3)) = $3)) \
    OR EXISTS (SELECT 1 FROM iceberg_tables WHERE catalog_name = $1 \
    AND (table_namespace = $2 OR substr(table_namespace, 1, length($3)) = $3))";

/// What is in a namespace: its tables and views, and rows of namespaces below it.
pub(super) const NAMESPACE_CONTENT: &str = "SELECT 'yes' WHERE EXISTS (\
    SELECT 1 FROM iceberg_namespace_properties WHERE catalog_name = $1 \
    AND substr(namespace, 1, length($3)) = $3) \
    OR EXISTS (SELECT 1 FROM iceberg_tables WHERE catalog_name = $1 \
    AND (table_namespace = $2 OR substr(table_namespace, 1, length($3)) = $3))";

/// Every namespace whose name begins with $2: all for the empty text.
pub(super) const LIST_NAMESPACES: &str = "SELECT namespace FROM iceberg_namespace_properties \
    WHERE catalog_name = $1 AND substr(namespace, 1, length($2)) = $2 \
    UNION SELECT table_namespace FROM iceberg_tables \
    WHERE catalog_name = $1 AND substr(table_namespace, 1, length($2)) = $2";

pub(super) const NAMESPACE_PROPERTIES: &str = "SELECT property_key, property_value \
    FROM iceberg_namespace_properties WHERE catalog_name = $1 AND namespace = $2";

pub(super) const SET_PROPERTY: &str = "INSERT INTO iceberg_namespace_properties \
    (catalog_name, namespace, property_key, property_value) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (catalog_name, namespace, property_key) DO UPDATE SET property_value = excluded.property_value";

pub(super) const REMOVE_PROPERTY: &str = "DELETE FROM iceberg_namespace_properties \
    WHERE catalog_name = $1 AND namespace = $2 AND property_key = $3";

pub(super) const DROP_NAMESPACE: &str =
    "DELETE FROM iceberg_namespace_properties WHERE catalog_name = $1 AND namespace = $2";

/// The tables whose pointers have a text ($2) in them. Databases have no other function for it in common.
pub(super) const POINTERS_WITH: &str = "SELECT table_namespace, table_name, metadata_location FROM iceberg_tables \
    WHERE catalog_name = $1 AND replace(metadata_location, $2, '') <> metadata_location";

/// The statements that mind `iceberg_type`, a column that tables of the V0 layout do not have.
#[derive(Debug)]
pub(super) struct Statements {
    /// A table's pointer.
    pub(super) pointer: String,
    /// The tables of a namespace.
    pub(super) list: String,
    /// A new pointer: $4.
    pub(super) insert: String,
    /// The compare-and-swap of a pointer: from $5 to $4.
    pub(super) swap: String,
    /// Changes nothing, and takes the lock of a table's row.
    pub(super) touch: String,
    /// A table's new namespace and name: $4 and $5.
    pub(super) rename: String,
    /// Takes a table out.
    pub(super) drop: String,
}

impl Statements {
    pub(super) fn new(has_type: bool) -> Self {
        // Views have rows in the same table.
        let kind = if has_type { " AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)" } else { "" };
        let (column, value) = if has_type { (", iceberg_type", ", 'TABLE'") } else { ("", "") };
        let this = format!("catalog_name = $1 AND table_namespace = $2 AND table_name = $3{kind}");
        Self {
            pointer: format!("SELECT metadata_location FROM iceberg_tables WHERE {this}"),
            list: format!(
                "SELECT table_name FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2{kind}"
            ),
            insert: format!(
                "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, \
                 previous_metadata_location{column}) VALUES ($1, $2, $3, $4, NULL{value})"
            ),
            swap: format!(
                "UPDATE iceberg_tables SET metadata_location = $4, previous_metadata_location = $5 \
                 WHERE {this} AND metadata_location = $5"
            ),
            touch: format!("UPDATE iceberg_tables SET metadata_location = metadata_location WHERE {this}"),
            rename: format!("UPDATE iceberg_tables SET table_namespace = $4, table_name = $5 WHERE {this}"),
            drop: format!("DELETE FROM iceberg_tables WHERE {this}"),
        }
    }
}
