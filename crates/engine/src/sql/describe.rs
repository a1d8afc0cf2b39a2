//! A table in words: the rows of `DESCRIBE`, the properties of `SHOW TBLPROPERTIES`, the statement of `SHOW
//! CREATE TABLE`.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use iceberg::spec::{Literal, NestedField, NullOrder, SortDirection, TableMetadata, Type};
use icefield_core::Result;
use icefield_core::Table;
use icefield_core::format::{column_doc, write_default};

use super::terms::term_text;
use super::types::{quoted_name, quoted_text, type_text};
use crate::error::from_datafusion;
use crate::scan::scalar;

/// A row of `DESCRIBE`: name, type, comment.
type Row = [Option<String>; 3];

/// The properties of a table by name, its format version among them, as Spark shows it.
pub(super) fn properties(table: &Table) -> BTreeMap<String, String> {
    let metadata = table.metadata();
    let mut properties: BTreeMap<_, _> =
        metadata.properties().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    properties.insert("format-version".to_string(), (metadata.format_version() as u8).to_string());
    properties.insert("format".to_string(), "iceberg/parquet".to_string());
    if let Some(format) = metadata.properties().get("write.format.default") {
        properties.insert("format".to_string(), format!("iceberg/{format}"));
    }
    let snapshot = metadata.current_snapshot_id().map_or_else(|| "none".to_string(), |id| id.to_string());
    properties.insert("current-snapshot-id".to_string(), snapshot);
    properties
}

/// The columns of a table and its partition fields; extended, what else there is to know of it.
pub(super) fn rows(table: &Table, catalog: &str, extended: bool) -> Vec<Row> {
    let metadata = table.metadata();
    let row = |name: &str, value: String| [Some(name.to_string()), Some(value), Some(String::new())];
    let heading = |name: &str| row(name, String::new());
    let columns = table.schema().as_struct().fields().iter();
    let mut rows: Vec<Row> = columns
        .map(|field| {
            let doc = column_doc(field).map(str::to_string);
            [Some(field.name.clone()), Some(type_text(&field.field_type)), doc]
        })
        .collect();
    let terms = partition_terms(metadata);
    if !terms.is_empty() {
        rows.extend([heading(""), heading("# Partitioning")]);
        rows.extend(terms.into_iter().enumerate().map(|(at, term)| row(&format!("Part {at}"), term)));
    }
    if !extended {
        return rows;
    }
    rows.extend([heading(""), heading("# Detailed Table Information")]);
    rows.push(row("Name", format!("{catalog}.{}", table.ident())));
    rows.push(row("Type", "MANAGED".to_string()));
    if let Some(comment) = table.property("comment") {
        rows.push(row("Comment", comment.to_string()));
    }
    rows.push(row("Location", metadata.location().to_string()));
    rows.push(row("Provider", "iceberg".to_string()));
    let identifier = identifier(metadata);
    if !identifier.is_empty() {
        rows.push(row("Identifier Fields", identifier.join(", ")));
    }
    let order = sort_terms(metadata);
    if !order.is_empty() {
        rows.push(row("Sort Order", order.join(", ")));
    }
    let properties: Vec<String> =
        properties(table).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    rows.push(row("Table Properties", format!("[{}]", properties.join(","))));
    rows
}

/// The statement that creates such a table: all but its rows, its history and its place.
///
/// # Errors
/// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for a default that is not of its column's type.
pub(super) fn statement(table: &Table) -> Result<String> {
    let metadata = table.metadata();
    let mut columns = Vec::new();
    for field in table.schema().as_struct().fields() {
        columns.push(column(field)?);
    }
    let identifier = identifier(metadata);
    if !identifier.is_empty() {
        let names: Vec<String> = identifier.iter().map(|name| quoted_path(name)).collect();
        columns.push(format!("PRIMARY KEY ({})", names.join(", ")));
    }
    // As a query names it: one schema a namespace.
    let namespace = quoted_name(&table.ident().namespace().as_ref().join("."));
    let name = quoted_name(table.ident().name());
    let mut statement =
        format!("CREATE TABLE {namespace}.{name} (\n  {})\nUSING iceberg", columns.join(",\n  "));
    let terms = partition_terms(metadata);
    if !terms.is_empty() {
        statement.push_str(&format!("\nPARTITIONED BY ({})", terms.join(", ")));
    }
    let order = sort_terms(metadata);
    if !order.is_empty() {
        statement.push_str(&format!("\nWRITE ORDERED BY {}", order.join(", ")));
    }
    if let Some(comment) = table.property("comment") {
        statement.push_str(&format!("\nCOMMENT {}", quoted_text(comment)));
    }
    let mut properties: BTreeMap<&str, String> = BTreeMap::new();
    properties.insert("format-version", (metadata.format_version() as u8).to_string());
    let set = metadata.properties().iter().filter(|(name, _)| *name != "comment");
    properties.extend(set.map(|(name, value)| (name.as_str(), value.clone())));
    let properties: Vec<String> = properties
        .into_iter()
        .map(|(name, value)| format!("  {} = {}", quoted_text(name), quoted_text(&value)))
        .collect();
    statement.push_str(&format!("\nTBLPROPERTIES (\n{})", properties.join(",\n")));
    Ok(statement)
}

fn column(field: &NestedField) -> Result<String> {
    let mut column = format!("{} {}", quoted_name(&field.name), type_text(&field.field_type));
    if field.required {
        column.push_str(" NOT NULL");
    }
    if let (Type::Primitive(of), Some(Literal::Primitive(value))) =
        (&*field.field_type, write_default(field)?)
    {
        column.push_str(&format!(" DEFAULT {}", value_text(&scalar(of, &value)?)?));
    }
    if let Some(doc) = column_doc(field) {
        column.push_str(&format!(" COMMENT {}", quoted_text(doc)));
    }
    Ok(column)
}

fn value_text(value: &ScalarValue) -> Result<String> {
    let text = value.cast_to(&DataType::Utf8).map_err(from_datafusion)?.to_string();
    let of = value.data_type();
    Ok(if of.is_numeric() || of == DataType::Boolean { text } else { quoted_text(&text) })
}

fn quoted_path(path: &str) -> String {
    path.split('.').map(quoted_name).collect::<Vec<_>>().join(".")
}

fn partition_terms(metadata: &TableMetadata) -> Vec<String> {
    let fields = metadata.default_partition_spec().fields().iter();
    let term = |field: &iceberg::spec::PartitionField| {
        let column = metadata.current_schema().name_by_field_id(field.source_id).unwrap_or("?");
        term_text(column, field.transform)
    };
    fields.map(term).collect()
}

fn sort_terms(metadata: &TableMetadata) -> Vec<String> {
    let fields = metadata.default_sort_order().fields.iter();
    let term = |field: &iceberg::spec::SortField| {
        let column = metadata.current_schema().name_by_field_id(field.source_id).unwrap_or("?");
        let direction = if field.direction == SortDirection::Ascending { "ASC" } else { "DESC" };
        let nulls = if field.null_order == NullOrder::First { "NULLS FIRST" } else { "NULLS LAST" };
        format!("{} {direction} {nulls}", term_text(column, field.transform))
    };
    fields.map(term).collect()
}

fn identifier(metadata: &TableMetadata) -> Vec<String> {
    let schema = metadata.current_schema();
    let mut ids: Vec<i32> = schema.identifier_field_ids().collect();
    ids.sort_unstable();
    ids.into_iter().filter_map(|id| schema.name_by_field_id(id).map(str::to_string)).collect()
}
