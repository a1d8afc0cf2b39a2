//! Avro schemas: what is needed to walk over values, and what Iceberg puts into them: field ids and logical types.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::PrimitiveType;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::format::source::broken;

/// How deep a schema may nest, named types put in their places.
const MAX_DEPTH: usize = 64;

/// How many types a schema may consist of, named types put in their places.
const MAX_TYPES: usize = 100_000;

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
    /// A fixed value with its length in front: see [`Schema::sized`].
    Sized(usize),
    Enum(Arc<Vec<String>>),
    Record(Arc<Vec<Field>>),
    Array(Arc<Inner>),
    /// Keys are strings.
    Map(Option<i32>, Arc<Inner>),
    Union(Arc<Vec<Schema>>),
    /// A type that stands for another one.
    Logical(Logical, Arc<Schema>),
}

/// A record's field.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::format) struct Field {
    pub(in crate::format) name: String,
    /// Iceberg's id, where there is one.
    pub(in crate::format) id: Option<i32>,
    pub(in crate::format) schema: Schema,
}

/// The elements of an array or the values of a map.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::format) struct Inner {
    pub(in crate::format) id: Option<i32>,
    pub(in crate::format) schema: Schema,
}

/// What values stand for. Only what fits the type is kept, as Avro has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::format) enum Logical {
    Date,
    TimeMillis,
    TimeMicros,
    Timestamp {
        unit: Unit,
        /// Whether it is an instant. Iceberg says so beside the type; without a word it is none.
        utc: bool,
    },
    Decimal {
        precision: u8,
        scale: i8,
    },
    Uuid,
    /// An array of records of a key and a value.
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::format) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Schema {
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        let json: Value =
            serde_json::from_slice(json).map_err(|e| broken("its schema is no JSON").with_source(e))?;
        Parser::default().parse(&json, 0)
    }

    /// The type that values are encoded as.
    pub(in crate::format) fn plain(&self) -> &Schema {
        match self {
            Self::Logical(_, schema) => schema,
            other => other,
        }
    }

    /// The schema of what is not null, of a union with null.
    fn present(&self) -> &Schema {
        match self {
            Self::Union(branches) => {
                branches.iter().find(|branch| !matches!(branch, Self::Null)).unwrap_or(self)
            }
            other => other,
        }
    }

    /// The schema of a record's field by its id.
    pub(in crate::format) fn field(&self, id: i32) -> Option<&Schema> {
        let Self::Record(fields) = self.present().plain() else { return None };
        fields.iter().find(|field| field.id == Some(id)).map(|field| &field.schema)
    }

    /// What values are in Iceberg, if they are no nested ones.
    pub(in crate::format) fn iceberg_type(&self) -> Option<PrimitiveType> {
        use PrimitiveType as T;
        Some(match self.present() {
            Self::Logical(logical, schema) => match logical {
                Logical::Date => T::Date,
                Logical::TimeMicros => T::Time,
                Logical::Timestamp { unit: Unit::Micros, utc } => {
                    if *utc {
                        T::Timestamptz
                    } else {
                        T::Timestamp
                    }
                }
                Logical::Timestamp { unit: Unit::Nanos, utc } => {
                    if *utc {
                        T::TimestamptzNs
                    } else {
                        T::TimestampNs
                    }
                }
                Logical::Decimal { precision, scale } => {
                    T::Decimal { precision: (*precision).into(), scale: u32::try_from(*scale).ok()? }
                }
                Logical::Uuid => T::Uuid,
                _ => return schema.iceberg_type(),
            },
            Self::Boolean => T::Boolean,
            Self::Int => T::Int,
            Self::Long => T::Long,
            Self::Float => T::Float,
            Self::Double => T::Double,
            Self::String => T::String,
            Self::Bytes => T::Binary,
            Self::Fixed(length) | Self::Sized(length) => T::Fixed(*length as u64),
            _ => return None,
        })
    }

    /// The schema of manifests in which Iceberg Java, from 1.8 on, writes fixed partition values with their lengths in front as
    /// if they were bytes. Decimals and UUIDs it writes as Avro has them. `None` where there are no fixed values.
    pub(in crate::format) fn sized(&self) -> Option<Self> {
        match self {
            Self::Fixed(size) => Some(Self::Sized(*size)),
            Self::Record(fields) => {
                let sized: Vec<_> = fields.iter().map(|field| field.schema.sized()).collect();
                sized.iter().any(Option::is_some).then(|| {
                    let fields = fields.iter().zip(sized).map(|(field, sized)| Field {
                        schema: sized.unwrap_or_else(|| field.schema.clone()),
                        ..field.clone()
                    });
                    Self::Record(Arc::new(fields.collect()))
                })
            }
            Self::Union(branches) => {
                let sized: Vec<_> = branches.iter().map(Self::sized).collect();
                sized.iter().any(Option::is_some).then(|| {
                    let branches = branches.iter().zip(sized);
                    let branches = branches.map(|(plain, sized)| sized.unwrap_or_else(|| plain.clone()));
                    Self::Union(Arc::new(branches.collect()))
                })
            }
            _ => None,
        }
    }

    /// Whether values may take no bytes at all.
    fn may_be_empty(&self) -> bool {
        match self {
            Self::Null | Self::Fixed(0) => true,
            Self::Record(fields) => fields.iter().all(|field| field.schema.may_be_empty()),
            Self::Logical(_, schema) => schema.may_be_empty(),
            _ => false,
        }
    }
}

#[derive(Debug, Default)]
struct Parser {
    named: HashMap<String, Named>,
    /// How deep what was parsed goes.
    deepest: usize,
    /// How many types were parsed.
    types: usize,
}

#[derive(Debug, Clone)]
struct Named {
    schema: Schema,
    depth: usize,
    types: usize,
}

impl Parser {
    fn parse(&mut self, json: &Value, depth: usize) -> Result<Schema> {
        self.count(depth, 1)?;
        match json {
            Value::String(name) => {
                if let Some(schema) = primitive(name) {
                    return Ok(schema);
                }
                let named = self.named.get(name).cloned();
                let named = named.ok_or_else(|| broken("its schema names a type that it does not define"))?;
                self.count(depth + named.depth, named.types)?;
                Ok(named.schema)
            }
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.parse(branch, depth + 1));
                Ok(Schema::Union(Arc::new(branches.collect::<Result<_>>()?)))
            }
            Value::Object(object) => self.object(object, depth),
            _ => Err(broken("its schema is none")),
        }
    }

    fn count(&mut self, depth: usize, types: usize) -> Result<()> {
        self.deepest = self.deepest.max(depth);
        self.types += types;
        if depth > MAX_DEPTH {
            return Err(broken("its schema nests too deep"));
        }
        if self.types > MAX_TYPES {
            return Err(broken("its schema is too large"));
        }
        Ok(())
    }

    fn object(&mut self, object: &Map<String, Value>, depth: usize) -> Result<Schema> {
        let before = (std::mem::replace(&mut self.deepest, depth), self.types);
        let schema = with_logical(self.complex(object, depth)?, object);
        if let Some(name) = object.get("name").and_then(Value::as_str) {
            let (depth, types) = (self.deepest - depth, self.types - before.1);
            let named = Named { schema: schema.clone(), depth, types };
            if let Some(namespace) = object.get("namespace").and_then(Value::as_str) {
                self.named.insert(format!("{namespace}.{name}"), named.clone());
            }
            self.named.insert(name.to_string(), named);
        }
        self.deepest = self.deepest.max(before.0);
        Ok(schema)
    }

    fn complex(&mut self, object: &Map<String, Value>, depth: usize) -> Result<Schema> {
        let incomplete = || broken("its schema leaves something out");
        Ok(match object.get("type") {
            Some(Value::String(name)) => match name.as_str() {
                "record" => {
                    let fields = object.get("fields").and_then(Value::as_array).ok_or_else(incomplete)?;
                    let fields = fields.iter().map(|field| {
                        let name = field.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
                        let schema = self.parse(field.get("type").ok_or_else(incomplete)?, depth + 1)?;
                        Ok(Field { name, id: id(field.get("field-id")), schema })
                    });
                    Schema::Record(Arc::new(fields.collect::<Result<_>>()?))
                }
                "array" => {
                    let schema = self.parse(object.get("items").ok_or_else(incomplete)?, depth + 1)?;
                    // A count of them could keep a reader busy for ever.
                    if schema.may_be_empty() {
                        return Err(broken("its schema has lists of nothing"));
                    }
                    Schema::Array(Arc::new(Inner { id: id(object.get("element-id")), schema }))
                }
                "map" => {
                    let schema = self.parse(object.get("values").ok_or_else(incomplete)?, depth + 1)?;
                    let values = Inner { id: id(object.get("value-id")), schema };
                    Schema::Map(id(object.get("key-id")), Arc::new(values))
                }
                "enum" => {
                    let symbols = object.get("symbols").and_then(Value::as_array).into_iter().flatten();
                    let symbols = symbols.map(|symbol| symbol.as_str().unwrap_or_default().to_string());
                    Schema::Enum(Arc::new(symbols.collect()))
                }
                "fixed" => {
                    let size = object.get("size").and_then(Value::as_u64).ok_or_else(incomplete)?;
                    Schema::Fixed(usize::try_from(size).map_err(|_| incomplete())?)
                }
                name => self.parse(&Value::String(name.to_string()), depth + 1)?,
            },
            // A type inside a type: `{"type": {"type": ...}}`.
            Some(nested) => self.parse(nested, depth + 1)?,
            None => return Err(incomplete()),
        })
    }
}

fn id(json: Option<&Value>) -> Option<i32> {
    json.and_then(Value::as_i64).and_then(|id| i32::try_from(id).ok())
}

fn with_logical(schema: Schema, object: &Map<String, Value>) -> Schema {
    match object.get("logicalType").and_then(Value::as_str).and_then(|name| logical(name, &schema, object)) {
        Some(logical) => Schema::Logical(logical, Arc::new(schema)),
        None => schema,
    }
}

fn logical(name: &str, schema: &Schema, object: &Map<String, Value>) -> Option<Logical> {
    let adjusted = match object.get("adjust-to-utc") {
        Some(Value::Bool(adjusted)) => *adjusted,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    let timestamp = |unit, utc| Logical::Timestamp { unit, utc };
    Some(match (name, schema) {
        ("date", Schema::Int) => Logical::Date,
        ("time-millis", Schema::Int) => Logical::TimeMillis,
        ("time-micros", Schema::Long) => Logical::TimeMicros,
        ("timestamp-millis", Schema::Long) => timestamp(Unit::Millis, adjusted),
        ("timestamp-micros", Schema::Long) => timestamp(Unit::Micros, adjusted),
        ("timestamp-nanos", Schema::Long) => timestamp(Unit::Nanos, adjusted),
        ("local-timestamp-millis", Schema::Long) => timestamp(Unit::Millis, false),
        ("local-timestamp-micros", Schema::Long) => timestamp(Unit::Micros, false),
        ("local-timestamp-nanos", Schema::Long) => timestamp(Unit::Nanos, false),
        ("decimal", Schema::Fixed(_) | Schema::Bytes) => {
            let precision = object.get("precision").and_then(Value::as_u64);
            let scale = object.get("scale").map_or(Some(0), Value::as_u64);
            let (precision, scale) = (u8::try_from(precision?).ok()?, u8::try_from(scale?).ok()?);
            let valid = (1..=38).contains(&precision) && scale <= precision;
            let scale = i8::try_from(scale).ok().filter(|_| valid)?;
            Logical::Decimal { precision, scale }
        }
        ("uuid", Schema::Fixed(16)) => Logical::Uuid,
        ("map", Schema::Array(entry)) => match entry.schema.plain() {
            Schema::Record(fields) if fields.len() == 2 => Logical::Map,
            _ => return None,
        },
        _ => return None,
    })
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
