//! Members of a column's JSON that `iceberg` does not hold: defaults whose type or value it can't keep (nanoseconds, instants
//! before 1970 with a fraction, long decimals), the text of those that it would write otherwise, and members that it does
//! not know.
//!
//! A column's description carries them, after a mark that no description has: where a schema's JSON is parsed they go
//! there ([`hide`]), and where JSON is written they become members again ([`show`]). So they stay with the column, wherever it
//! is moved, nested or renamed to. Whoever asks for a default asks [`initial_default`] or [`write_default`], and for a
//! description [`column_doc`].

mod plain;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use iceberg::spec::{Literal, NestedField, PrimitiveLiteral, PrimitiveType, Schema, Type};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

pub use plain::text_doc;
pub(crate) use plain::{carrying, is_plain, plain};

/// Stands before what a description carries.
const MARK: char = '\u{1f}';

const INITIAL: &str = "initial-default";
const WRITE: &str = "write-default";

/// The members of a column that `iceberg` reads and writes.
const KNOWN: [&str; 7] = ["id", "name", "required", "type", "doc", INITIAL, WRITE];

/// What a description carries, by these names.
const MEMBERS: &str = "members";
const TYPES: &str = "types";
const EMPTY: &str = "empty";

/// The default of rows that were written before the column was there.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) for a default that can't be read.
pub fn initial_default(field: &NestedField) -> Result<Option<Literal>> {
    default(field, &field.initial_default, INITIAL)
}

/// The default of rows that are written without the column.
///
/// # Errors
/// As [`initial_default`].
pub fn write_default(field: &NestedField) -> Result<Option<Literal>> {
    default(field, &field.write_default, WRITE)
}

/// A column's description.
pub fn column_doc(field: &NestedField) -> Option<&str> {
    let (doc, hidden) = split(field.doc.as_deref()?);
    let shown = !doc.is_empty() || hidden.is_none_or(|hidden| hidden.contains_key(EMPTY));
    shown.then_some(doc)
}

fn default(field: &NestedField, own: &Option<Literal>, key: &str) -> Result<Option<Literal>> {
    if let Some(own) = own {
        return Ok(Some(own.clone()));
    }
    let Some(value) = Hidden::of(field.doc.as_deref()).1.member(key).cloned() else { return Ok(None) };
    if value.is_null() {
        return Ok(None);
    }
    decode(&value, &field.field_type).map(Some).ok_or_else(|| {
        Error::unsupported("the column's default can't be read; name the columns that are wanted, without it")
            .with("column", &field.name)
            .with("default", value)
    })
}

/// What a description carries.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Hidden(Map<String, Value>);

impl Hidden {
    /// The description that users see, and what it carries.
    pub(crate) fn of(doc: Option<&str>) -> (Option<String>, Self) {
        let Some(doc) = doc else { return (None, Self::default()) };
        match split(doc) {
            (doc, None) => (Some(doc.to_string()), Self::default()),
            (doc, Some(hidden)) => {
                let shown = !doc.is_empty() || hidden.contains_key(EMPTY);
                (shown.then(|| doc.to_string()), Self(hidden))
            }
        }
    }

    /// A description that carries this.
    pub(crate) fn within(&self, doc: Option<&str>) -> Option<String> {
        let text = doc.unwrap_or_default();
        let mut hidden = self.0.clone();
        hidden.remove(EMPTY);
        if hidden.is_empty() && !text.contains(MARK) {
            return doc.map(str::to_string);
        }
        if doc == Some("") {
            hidden.insert(EMPTY.to_string(), true.into());
        }
        Some(format!("{text}{MARK}{}", Value::Object(hidden)))
    }

    fn member(&self, key: &str) -> Option<&Value> {
        self.0.get(MEMBERS)?.get(key)
    }

    fn members(&mut self) -> Option<&mut Map<String, Value>> {
        self.0.entry(MEMBERS).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
    }

    fn insert(&mut self, key: &str, value: Value) {
        if let Some(members) = self.members() {
            members.insert(key.to_string(), value);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(members) = self.members() {
            members.remove(key);
            if members.is_empty() {
                self.0.remove(MEMBERS);
            }
        }
    }
}

fn split(doc: &str) -> (&str, Option<Map<String, Value>>) {
    // No other text looks like it: what comes from elsewhere gets a mark of its own behind what is in it.
    if let Some((text, hidden)) = doc.rsplit_once(MARK)
        && let Ok(Value::Object(hidden)) = serde_json::from_str(hidden)
        && hidden.keys().all(|key| [MEMBERS, TYPES, EMPTY].contains(&key.as_str()))
    {
        return (text, Some(hidden));
    }
    (doc, None)
}

/// A column in parts that can be changed: its description, its defaults, and what else its description carries.
pub(crate) struct Parts {
    pub(crate) doc: Option<String>,
    pub(crate) initial_default: Option<Literal>,
    pub(crate) write_default: Option<Literal>,
    pub(crate) hidden: Hidden,
}

/// A column's parts. A default that can't be read stays with what the description carries.
pub(crate) fn parts(field: &NestedField) -> Parts {
    let (doc, hidden) = Hidden::of(field.doc.as_deref());
    let initial_default = initial_default(field).ok().flatten();
    let write_default = write_default(field).ok().flatten();
    Parts { doc, initial_default, write_default, hidden }
}

/// Gives a column, whose type is set, its parts.
pub(crate) fn set_parts(field: &mut NestedField, parts: Parts) {
    let Parts { doc, initial_default, write_default, mut hidden } = parts;
    let of = field.field_type.as_ref();
    let mut held = |value: Option<Literal>, key: &str| {
        let Some(value) = value else {
            // What can't be read was not taken away.
            if hidden.member(key).is_some_and(|text| decode(text, of).is_some()) {
                hidden.remove(key);
            }
            return None;
        };
        if hidden.member(key).and_then(|text| decode(text, of)).as_ref() != Some(&value) {
            hidden.remove(key);
        }
        let is_held = is_held(&value, of);
        match encode(&value, of) {
            Some(text) if hidden.member(key).is_none() && !is_spelled(&value, of) => hidden.insert(key, text),
            _ => {}
        }
        is_held.then_some(value)
    };
    field.initial_default = held(initial_default, INITIAL);
    field.write_default = held(write_default, WRITE);
    field.doc = hidden.within(doc.as_deref());
}

/// The schema with each default where it can be kept.
///
/// # Errors
/// As the schema's builder gives them.
pub(crate) fn settled(schema: Schema) -> Result<Schema> {
    fn loose(field: &NestedField) -> bool {
        let defaults = [&field.initial_default, &field.write_default];
        defaults.into_iter().flatten().any(|value| !is_spelled(value, &field.field_type))
    }
    let fields = schema.as_struct().fields();
    // Defaults of nested fields come through `core::evolve`, which settles them.
    if !fields.iter().any(|field| loose(field)) {
        return Ok(schema);
    }
    let settle = |field: &iceberg::spec::NestedFieldRef| {
        let mut field = field.as_ref().clone();
        let parts = parts(&field);
        set_parts(&mut field, parts);
        field.into()
    };
    let fields: Vec<_> = fields.iter().map(settle).collect();
    let identifiers: Vec<i32> = schema.identifier_field_ids().collect();
    let built = Schema::builder().with_schema_id(schema.schema_id()).with_fields(fields);
    Ok(built.with_identifier_field_ids(identifiers).build()?)
}

/// What comes of a default in a metadata file.
pub(crate) enum KeptAs {
    /// The value.
    Itself,
    /// Another value, or none: JSON has no NaN, and its times have bounds.
    Other,
    /// Nothing: the value is none of the type.
    Nothing,
}

/// What comes of a default of this value in a metadata file.
pub(crate) fn kept_as(value: &Literal, of: &Type) -> KeptAs {
    use PrimitiveType as P;
    match encode(value, of) {
        Some(text) if decode(&text, of).as_ref() == Some(value) => KeptAs::Itself,
        Some(_) => KeptAs::Other,
        None => match (of, value) {
            (Type::Primitive(P::Float), Literal::Primitive(PrimitiveLiteral::Float(_)))
            | (Type::Primitive(P::Double), Literal::Primitive(PrimitiveLiteral::Double(_)))
            | (Type::Primitive(P::Date), Literal::Primitive(PrimitiveLiteral::Int(_)))
            | (
                Type::Primitive(P::Time | P::Timestamp | P::Timestamptz),
                Literal::Primitive(PrimitiveLiteral::Long(_)),
            ) => KeptAs::Other,
            _ => KeptAs::Nothing,
        },
    }
}

/// Moves what `iceberg` does not hold of a column's JSON into its description. Its type is as the file has it.
pub(super) fn hide(field: &mut Map<String, Value>) {
    let mut hidden = Hidden::default();
    let unknown: Vec<String> = field.keys().filter(|key| !KNOWN.contains(&key.as_str())).cloned().collect();
    for key in unknown {
        if let Some(value) = field.remove(&key) {
            hidden.insert(&key, value);
        }
    }
    if field.get("doc").is_some_and(|doc| !doc.is_string())
        && let Some(doc) = field.remove("doc")
    {
        hidden.insert("doc", doc);
    }
    for key in [INITIAL, WRITE] {
        let Some(value) = field.get(key) else { continue };
        let of = field.get("type").map(|of| match of {
            Value::String(text) => Value::String(text.to_ascii_lowercase()),
            of => of.clone(),
        });
        let of = of.and_then(|of| serde_json::from_value::<Type>(of).ok());
        let held = of.and_then(|of| {
            let literal = Literal::try_from_json(value.clone(), &of).ok().flatten()?;
            let is_held = is_held(&literal, &of) && matches!(of, Type::Primitive(_));
            is_held.then(|| literal.try_into_json(&of).ok())
        });
        match held {
            Some(Some(text)) if text == *value => {}
            Some(_) => hidden.insert(key, value.clone()),
            None => {
                let value = field.remove(key).unwrap_or_default();
                hidden.insert(key, value);
            }
        }
    }
    let mut types = Map::new();
    if let Some(of) = field.get_mut("type") {
        take_from_type(of, "", &mut types);
    }
    if !types.is_empty() {
        hidden.0.insert(TYPES.to_string(), Value::Object(types));
    }
    let doc = field.get("doc").and_then(Value::as_str);
    if let Some(doc) = hidden.within(doc).filter(|with| Some(with.as_str()) != doc) {
        field.insert("doc".to_string(), doc.into());
    }
}

/// Puts back what [`hide`] moved.
pub(super) fn show(field: &mut Map<String, Value>) {
    let Some(doc) = field.get("doc").and_then(Value::as_str) else { return };
    let (text, Some(mut hidden)) = split(doc) else { return };
    let text = text.to_string();
    if text.is_empty() && !hidden.contains_key(EMPTY) {
        field.remove("doc");
    } else {
        field.insert("doc".to_string(), text.into());
    }
    if let Some(Value::Object(members)) = hidden.remove(MEMBERS) {
        for (key, value) in members {
            if [INITIAL, WRITE].contains(&key.as_str()) {
                field.insert(key, value);
            } else {
                field.entry(key).or_insert(value);
            }
        }
    }
    if let Some(Value::Object(types)) = hidden.remove(TYPES) {
        for (path, members) in types {
            let within = path.split('/').filter(|step| !step.is_empty());
            let of = within.fold(field.get_mut("type"), |of, step| of?.get_mut(step));
            if let (Some(Value::Object(of)), Value::Object(members)) = (of, members) {
                members.into_iter().for_each(|(key, value)| {
                    of.entry(key).or_insert(value);
                });
            }
        }
    }
}

/// Takes members that `iceberg` does not know from the lists, maps and structs of a column's type, but not of the columns
/// in a struct, which have descriptions of their own.
fn take_from_type(of: &mut Value, path: &str, into: &mut Map<String, Value>) {
    let Value::Object(object) = of else { return };
    let (known, parts): (&[&str], &[&str]) = match object.get("type").and_then(Value::as_str) {
        Some("struct") => (&["type", "fields"], &[]),
        Some("list") => (&["type", "element-id", "element", "element-required"], &["element"]),
        Some("map") => (&["type", "key-id", "key", "value-id", "value", "value-required"], &["key", "value"]),
        _ => return,
    };
    let unknown: Vec<String> = object.keys().filter(|key| !known.contains(&key.as_str())).cloned().collect();
    if !unknown.is_empty() {
        let members = unknown.into_iter().filter_map(|key| object.remove_entry(&key)).collect();
        into.insert(path.to_string(), Value::Object(members));
    }
    for part in parts {
        if let Some(of) = object.get_mut(*part) {
            take_from_type(of, &format!("{path}/{part}"), into);
        }
    }
}

/// Tells whether `iceberg` holds this value, and writes it as what it reads again.
fn is_held(value: &Literal, of: &Type) -> bool {
    let Type::Primitive(primitive) = of else { return false };
    let dates = match (primitive, value) {
        (PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs, _) => return false,
        (PrimitiveType::Timestamptz, Literal::Primitive(PrimitiveLiteral::Long(micros))) => {
            *micros >= 0 || micros % 1_000_000 == 0
        }
        _ => true,
    };
    // Encoding comes first: iceberg panics at times out of range.
    dates
        && encode(value, of).is_some()
        && value
            .clone()
            .try_into_json(of)
            .and_then(|text| Literal::try_from_json(text, of))
            .ok()
            .flatten()
            .as_ref()
            == Some(value)
}

/// Tells whether `iceberg` holds this value and spells it as the format does: of small decimals it writes an exponent.
fn is_spelled(value: &Literal, of: &Type) -> bool {
    is_held(value, of) && value.clone().try_into_json(of).ok() == encode(value, of)
}

/// A default as the format spells it; `None` where the value is none of the type, or can't be spelled.
fn encode(value: &Literal, of: &Type) -> Option<Value> {
    const DAY_MICROS: i64 = 86_400_000_000;
    let Type::Primitive(primitive) = of else { return value.clone().try_into_json(of).ok() };
    let Literal::Primitive(literal) = value else { return None };
    let micros = |of: i64| DateTime::from_timestamp_micros(of);
    let nanos = |of: i64| Some(DateTime::from_timestamp_nanos(of));
    let text = |at: Option<DateTime<chrono::Utc>>, zone: &str| {
        Some(Value::String(format!("{}{zone}", at?.format("%Y-%m-%dT%H:%M:%S%.f"))))
    };
    match (primitive, literal) {
        (PrimitiveType::Timestamp, PrimitiveLiteral::Long(at)) => text(micros(*at), ""),
        (PrimitiveType::Timestamptz, PrimitiveLiteral::Long(at)) => text(micros(*at), "+00:00"),
        (PrimitiveType::TimestampNs, PrimitiveLiteral::Long(at)) => text(nanos(*at), ""),
        (PrimitiveType::TimestamptzNs, PrimitiveLiteral::Long(at)) => text(nanos(*at), "+00:00"),
        (PrimitiveType::Date, PrimitiveLiteral::Int(days)) => {
            let at = micros(i64::from(*days).checked_mul(DAY_MICROS)?)?;
            Some(Value::String(at.date_naive().to_string()))
        }
        (PrimitiveType::Time, PrimitiveLiteral::Long(at)) => {
            let seconds = u32::try_from(at.div_euclid(1_000_000)).ok()?;
            let nanos = u32::try_from(at.rem_euclid(1_000_000)).ok()? * 1_000;
            Some(Value::String(NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos)?.to_string()))
        }
        (PrimitiveType::Decimal { scale, .. }, PrimitiveLiteral::Int128(unscaled)) => {
            Some(Value::String(decimal_text(*unscaled, *scale)))
        }
        (PrimitiveType::Float, PrimitiveLiteral::Float(of)) if !of.0.is_finite() => None,
        (PrimitiveType::Double, PrimitiveLiteral::Double(of)) if !of.0.is_finite() => None,
        (PrimitiveType::Uuid, PrimitiveLiteral::UInt128(_)) => value.clone().try_into_json(of).ok(),
        (_, PrimitiveLiteral::UInt128(_) | PrimitiveLiteral::Int128(_)) => None,
        _ => value.clone().try_into_json(of).ok(),
    }
}

/// The value of a default's text; `None` for one that is none of the type.
fn decode(text: &Value, of: &Type) -> Option<Literal> {
    let at = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok();
    let literal = match (of, text) {
        (Type::Primitive(PrimitiveType::TimestampNs), Value::String(text)) => {
            PrimitiveLiteral::Long(at(text)?.and_utc().timestamp_nanos_opt()?)
        }
        (Type::Primitive(PrimitiveType::TimestamptzNs), Value::String(text)) => {
            PrimitiveLiteral::Long(at(text.strip_suffix("+00:00")?)?.and_utc().timestamp_nanos_opt()?)
        }
        (Type::Primitive(PrimitiveType::Decimal { scale, .. }), Value::String(text)) => {
            PrimitiveLiteral::Int128(decimal_of(text, *scale)?)
        }
        (Type::Primitive(PrimitiveType::Date), Value::String(text)) => {
            let epoch = NaiveDate::default();
            let days =
                NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.signed_duration_since(epoch).num_days();
            PrimitiveLiteral::Int(i32::try_from(days).ok()?)
        }
        _ => return Literal::try_from_json(text.clone(), of).ok().flatten(),
    };
    Some(Literal::Primitive(literal))
}

fn decimal_text(unscaled: i128, scale: u32) -> String {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let sign = if unscaled < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn decimal_of(text: &str, scale: u32) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > scale as usize || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits = format!("{whole}{fraction:0<width$}", width = scale as usize);
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let unscaled = digits.parse::<i128>().ok()?;
    Some(if negative { -unscaled } else { unscaled })
}

#[cfg(test)]
mod tests;
