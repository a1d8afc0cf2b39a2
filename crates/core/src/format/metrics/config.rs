//! Which metrics a table keeps of which column.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{Schema, StructType, TableMetadata, Transform, Type};

const DEFAULT_KEY: &str = "write.metadata.metrics.default";
const COLUMN_PREFIX: &str = "write.metadata.metrics.column.";
const MAX_INFERRED_KEY: &str = "write.metadata.metrics.max-inferred-column-defaults";
const MAX_INFERRED: usize = 100;
const DEFAULT: MetricsMode = MetricsMode::Truncate(16);

/// How much is kept of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsMode {
    /// Its size only.
    None,
    /// Its size and the counts of values, NULLs and NaNs.
    Counts,
    /// Counts and bounds, of which strings are cut to so many code points and binary values to so many bytes.
    Truncate(usize),
    /// Counts and bounds as whole as the Parquet footer has them: its writer may cut them, at 64 bytes by default.
    Full,
}

impl MetricsMode {
    /// The mode of a table property's value: `none`, `counts`, `truncate(16)` or `full`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "none" => Some(Self::None),
            "counts" => Some(Self::Counts),
            "full" => Some(Self::Full),
            _ => {
                let length = text.strip_prefix("truncate(")?.strip_suffix(')')?.trim().parse().ok()?;
                (length > 0).then_some(Self::Truncate(length))
            }
        }
    }
}

/// The metrics mode of every column, from a table's properties.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsConfig {
    default: MetricsMode,
    columns: HashMap<i32, MetricsMode>,
}

impl Default for MetricsConfig {
    /// `truncate(16)` for every column.
    fn default() -> Self {
        Self { default: DEFAULT, columns: HashMap::new() }
    }
}

impl MetricsConfig {
    /// The modes of a table's columns in its current schema: `write.metadata.metrics.column.*`, then, for the columns of the
    /// default sort order, at least bounds, then `write.metadata.metrics.default`. Without the last, the first 100 columns
    /// (`write.metadata.metrics.max-inferred-column-defaults`) have `truncate(16)` and further ones nothing. A value that
    /// can't be parsed counts as not given, with a warning in the log.
    pub fn from_table(metadata: &TableMetadata) -> Self {
        let sorted: Vec<i32> = metadata
            .default_sort_order()
            .fields
            .iter()
            .filter(|field| preserves_order(field.transform))
            .map(|field| field.source_id)
            .collect();
        Self::new(metadata.properties(), metadata.current_schema(), &sorted)
    }

    /// As [`from_table`](Self::from_table), of properties, a schema, and the columns that files are sorted by.
    pub fn new(properties: &HashMap<String, String>, schema: &Schema, sorted: &[i32]) -> Self {
        let mut columns = HashMap::new();
        let limit = match properties.get(MAX_INFERRED_KEY).map(|value| value.trim().parse()) {
            Some(Ok(limit)) => limit,
            Some(Err(_)) => {
                tracing::warn!(
                    "the table property {MAX_INFERRED_KEY} is not a number; {MAX_INFERRED} is used"
                );
                MAX_INFERRED
            }
            None => MAX_INFERRED,
        };
        let default = match properties.get(DEFAULT_KEY) {
            Some(text) => parse(DEFAULT_KEY, text, DEFAULT),
            None if schema.field_id_to_fields().len() <= limit => DEFAULT,
            None => {
                columns.extend(first_columns(schema, limit).into_iter().map(|id| (id, DEFAULT)));
                MetricsMode::None
            }
        };
        let of_sorted = match default {
            MetricsMode::None | MetricsMode::Counts => DEFAULT,
            other => other,
        };
        columns.extend(sorted.iter().map(|id| (*id, of_sorted)));
        for (key, text) in properties {
            let Some(name) = key.strip_prefix(COLUMN_PREFIX) else { continue };
            match schema.field_id_by_name(name) {
                Some(id) => {
                    columns.insert(id, parse(key, text, default));
                }
                None => tracing::warn!("the table property {key} names no column"),
            }
        }
        Self { default, columns }
    }

    /// One mode for all columns.
    pub fn all(mode: MetricsMode) -> Self {
        Self { default: mode, columns: HashMap::new() }
    }

    /// A column's mode.
    pub fn mode(&self, field_id: i32) -> MetricsMode {
        self.columns.get(&field_id).copied().unwrap_or(self.default)
    }
}

fn parse(key: &str, text: &str, otherwise: MetricsMode) -> MetricsMode {
    MetricsMode::parse(text).unwrap_or_else(|| {
        tracing::warn!("the table property {key} has a value that is no metrics mode: {text}");
        otherwise
    })
}

fn preserves_order(transform: Transform) -> bool {
    !matches!(transform, Transform::Bucket(_) | Transform::Void | Transform::Unknown)
}

/// The first so many primitive columns; those of a struct itself before those of structs inside it.
fn first_columns(schema: &Schema, limit: usize) -> HashSet<i32> {
    fn nested(of: &Type, limit: usize, into: &mut HashSet<i32>) {
        match of {
            Type::Primitive(_) => {}
            Type::Struct(fields) => walk(fields, limit, into),
            Type::List(list) => children([&list.element_field], limit, into),
            Type::Map(map) => children([&map.key_field, &map.value_field], limit, into),
        }
    }
    fn children<'a>(
        fields: impl IntoIterator<Item = &'a iceberg::spec::NestedFieldRef> + Clone,
        limit: usize,
        into: &mut HashSet<i32>,
    ) {
        for field in fields.clone() {
            if into.len() < limit && field.field_type.is_primitive() {
                into.insert(field.id);
            }
        }
        for field in fields {
            nested(&field.field_type, limit, into);
        }
    }
    fn walk(fields: &StructType, limit: usize, into: &mut HashSet<i32>) {
        children(fields.fields(), limit, into);
    }
    let mut into = HashSet::new();
    walk(schema.as_struct(), limit, &mut into);
    into
}
