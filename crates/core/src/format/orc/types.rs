//! The tree of an ORC file's types as Arrow fields, by Iceberg's mapping: what ORC has no type for is said by attributes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::proto::Type;
use crate::error::{Error, Result};
use crate::format::schema::{MAP_ENTRIES, UTC};
use crate::format::source::broken;

/// How deep types may nest.
const MAX_DEPTH: usize = 64;

/// The most bytes that values of a fixed size may have: each row takes as many, NULL too.
const MAX_FIXED: i32 = 1 << 20;

/// A column of a file, or what is inside one.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The place among the file's types, by which streams and encodings are found.
    pub(super) column: usize,
    pub(super) kind: Kind,
    pub(super) field: Arc<Field>,
    pub(super) children: Vec<Node>,
}

/// How a column's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Byte,
    /// Integers of 16 to 64 bits, dates and times.
    Integer,
    Float,
    Double,
    /// Texts and bytes.
    Bytes {
        /// Whether the spaces at a value's end are none of it.
        is_padded: bool,
    },
    Timestamp {
        /// Whether it is an instant. Others are told in the writer's time zone.
        utc: bool,
    },
    Decimal,
    List,
    Map,
    Struct,
}

impl Node {
    /// The places of this one and of all that is inside it.
    pub(super) fn columns(&self, into: &mut Vec<usize>) {
        into.push(self.column);
        self.children.iter().for_each(|child| child.columns(into));
    }
}

/// The columns of a file.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) naming the column, for what Iceberg has no type for.
pub(super) fn columns(types: &[Type]) -> Result<Vec<Node>> {
    let root = types.first().filter(|root| root.kind == STRUCT);
    let root = root.ok_or_else(|| broken("its rows are no structs"))?;
    children(types, root, 0, &mut vec![false; types.len()], 0, "")
}

const STRUCT: u64 = 12;

fn children(
    types: &[Type],
    of: &Type,
    at: usize,
    seen: &mut [bool],
    depth: usize,
    path: &str,
) -> Result<Vec<Node>> {
    let named = of.kind == STRUCT;
    if depth > MAX_DEPTH {
        return Err(broken("its types nest too deep"));
    }
    if named && of.names.len() != of.children.len() {
        return Err(broken("a struct of it has fields without names"));
    }
    let mut nodes = Vec::with_capacity(of.children.len().min(types.len()));
    for (place, child) in of.children.iter().enumerate() {
        let child = usize::try_from(*child).ok().filter(|child| *child > at);
        let unseen = child.and_then(|child| seen.get_mut(child)).filter(|seen| !**seen);
        let (Some(column), Some(seen_child)) = (child, unseen) else {
            return Err(broken("its types are no tree"));
        };
        *seen_child = true;
        let (Some(of_child), name) = (types.get(column), name(of, place)) else {
            return Err(broken("its types are no tree"));
        };
        // A column's errors name the column, whatever is inside it.
        let path = if path.is_empty() { name } else { path };
        nodes.push(node(types, of_child, column, name, seen, depth, path)?);
    }
    Ok(nodes)
}

fn name(of: &Type, place: usize) -> &str {
    match (of.kind, place) {
        (STRUCT, place) => of.names.get(place).map(String::as_str).unwrap_or_default(),
        (11, 0) => "key",
        (11, _) => "value",
        _ => "element",
    }
}

fn node(
    types: &[Type],
    of: &Type,
    column: usize,
    name: &str,
    seen: &mut [bool],
    depth: usize,
    path: &str,
) -> Result<Node> {
    let foreign = || {
        Error::unsupported("a column of the file is of a type that Iceberg does not have")
            .with("column", path)
            .with("type", of.kind)
    };
    let mut children = children(types, of, column, seen, depth + 1, path)?;
    let unit = match of.attribute("iceberg.timestamp-unit") {
        Some("NANOS") => TimeUnit::Nanosecond,
        _ => TimeUnit::Microsecond,
    };
    let bytes = Kind::Bytes { is_padded: false };
    let (kind, data_type) = match of.kind {
        0 => (Kind::Boolean, DataType::Boolean),
        1 => (Kind::Byte, DataType::Int32),
        2 | 3 => (Kind::Integer, DataType::Int32),
        4 if of.attribute("iceberg.long-type") == Some("TIME") => {
            (Kind::Integer, DataType::Time64(TimeUnit::Microsecond))
        }
        4 => (Kind::Integer, DataType::Int64),
        5 => (Kind::Float, DataType::Float32),
        6 => (Kind::Double, DataType::Float64),
        7 | 16 => (bytes, DataType::Utf8),
        17 => (Kind::Bytes { is_padded: true }, DataType::Utf8),
        8 => match of.attribute("iceberg.binary-type") {
            Some("UUID") => (bytes, DataType::FixedSizeBinary(16)),
            Some("FIXED") => {
                let length = of.attribute("iceberg.length").and_then(|length| length.parse().ok());
                let length = length.filter(|length| (1..=MAX_FIXED).contains(length)).ok_or_else(foreign)?;
                (bytes, DataType::FixedSizeBinary(length))
            }
            _ => (bytes, DataType::Binary),
        },
        9 => (Kind::Timestamp { utc: false }, DataType::Timestamp(unit, None)),
        18 => (Kind::Timestamp { utc: true }, DataType::Timestamp(unit, Some(UTC.into()))),
        10 => match children.as_slice() {
            [element] => (Kind::List, DataType::List(element.field.clone())),
            _ => return Err(broken("a list of it has not one type of elements")),
        },
        11 => match children.as_mut_slice() {
            [key, value] => {
                // Of files that Iceberg did not write nobody says so.
                key.field = Arc::new(key.field.as_ref().clone().with_nullable(false));
                let entries = Fields::from(vec![key.field.clone(), value.field.clone()]);
                let entries = Field::new(MAP_ENTRIES, DataType::Struct(entries), false);
                (Kind::Map, DataType::Map(Arc::new(entries), false))
            }
            _ => return Err(broken("a map of it has not two types")),
        },
        STRUCT if of.attribute("iceberg.struct-type").is_none() => {
            let fields = children.iter().map(|child| child.field.clone());
            (Kind::Struct, DataType::Struct(fields.collect()))
        }
        14 => match (u8::try_from(of.precision), i8::try_from(of.scale)) {
            (Ok(precision @ 1..=38), Ok(scale)) if scale as u8 <= precision => {
                (Kind::Decimal, DataType::Decimal128(precision, scale))
            }
            _ => return Err(foreign()),
        },
        15 => (Kind::Integer, DataType::Date32),
        _ => return Err(foreign()),
    };
    let field = Field::new(name, data_type, of.attribute("iceberg.required") != Some("true"));
    let field = match of.attribute("iceberg.id").and_then(|id| id.parse::<i32>().ok()) {
        Some(id) => {
            field.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string())]))
        }
        None => field,
    };
    Ok(Node { column, kind, field: Arc::new(field), children })
}
