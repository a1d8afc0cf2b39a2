//! Avro schemas: what is needed to walk over values, and the field ids that Iceberg puts into them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::broken;
use crate::error::Result;

/// How deep a schema may nest.
const MAX_DEPTH: usize = 64;

/// A schema, references to named types resolved.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::format) enum Schema {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum,
    Record(Arc<Vec<Field>>),
    Array(Arc<Schema>),
    Map(Arc<Schema>),
    Union(Arc<Vec<Schema>>),
}

/// A record's field.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::format) struct Field {
    /// Iceberg's id, where there is one.
    pub(in crate::format) id: Option<i32>,
    pub(in crate::format) schema: Schema,
}

impl Schema {
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        let json: Value =
            serde_json::from_slice(json).map_err(|e| broken("its schema is no JSON").with_source(e))?;
        parse(&json, &mut HashMap::new(), 0)
    }
}

fn parse(json: &Value, named: &mut HashMap<String, Schema>, depth: usize) -> Result<Schema> {
    if depth > MAX_DEPTH {
        return Err(broken("its schema nests too deep"));
    }
    match json {
        Value::String(name) => primitive(name)
            .or_else(|| named.get(name).cloned())
            .ok_or_else(|| broken("its schema names a type that it does not define")),
        Value::Array(branches) => {
            let branches = branches.iter().map(|branch| parse(branch, named, depth + 1));
            Ok(Schema::Union(Arc::new(branches.collect::<Result<_>>()?)))
        }
        Value::Object(object) => parse_object(object, named, depth),
        _ => Err(broken("its schema is none")),
    }
}

fn parse_object(
    object: &Map<String, Value>,
    named: &mut HashMap<String, Schema>,
    depth: usize,
) -> Result<Schema> {
    let incomplete = || broken("its schema leaves something out");
    let inner = |key: &str, named: &mut HashMap<String, Schema>| {
        parse(object.get(key).ok_or_else(incomplete)?, named, depth + 1).map(Arc::new)
    };
    let schema = match object.get("type") {
        Some(Value::String(name)) => match name.as_str() {
            "record" => {
                let fields = object.get("fields").and_then(Value::as_array).ok_or_else(incomplete)?;
                let fields = fields.iter().map(|field| {
                    let id = field.get("field-id").and_then(Value::as_i64);
                    let schema = parse(field.get("type").ok_or_else(incomplete)?, named, depth + 1)?;
                    Ok(Field { id: id.and_then(|id| i32::try_from(id).ok()), schema })
                });
                Schema::Record(Arc::new(fields.collect::<Result<_>>()?))
            }
            "array" => Schema::Array(inner("items", named)?),
            "map" => Schema::Map(inner("values", named)?),
            "enum" => Schema::Enum,
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).ok_or_else(incomplete)?;
                Schema::Fixed(usize::try_from(size).map_err(|_| incomplete())?)
            }
            name => parse(&Value::String(name.to_string()), named, depth + 1)?,
        },
        // A type inside a type: `{"type": {"type": ...}}`.
        Some(nested) => parse(nested, named, depth + 1)?,
        None => return Err(incomplete()),
    };
    if let Some(name) = object.get("name").and_then(Value::as_str) {
        named.insert(name.to_string(), schema.clone());
        if let Some(namespace) = object.get("namespace").and_then(Value::as_str) {
            named.insert(format!("{namespace}.{name}"), schema.clone());
        }
    }
    Ok(schema)
}

fn primitive(name: &str) -> Option<Schema> {
    Some(match name {
        "null" => Schema::Null,
        "boolean" => Schema::Boolean,
        "int" => Schema::Int,
        "long" => Schema::Long,
        "float" => Schema::Float,
        "double" => Schema::Double,
        "bytes" => Schema::Bytes,
        "string" => Schema::String,
        _ => return None,
    })
}
