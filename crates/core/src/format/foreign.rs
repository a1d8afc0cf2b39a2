//! Column types that `iceberg` does not know: `unknown`, `variant`, `geometry` and `geography` of format version 3, and what
//! later versions may bring.
//!
//! `iceberg` refuses a schema that has one. So where a schema's JSON is parsed each becomes a stand-in, a `fixed` of a length
//! that no value can have ([`hide`]), and where JSON is written it becomes itself again ([`show`]). A stand-in's number says
//! what it stands for: its kind, and a place in the process's list of the types' texts, of which there are few (a
//! geometry's names its reference system), a metadata file's ([`OfFile`]) fewer. So a schema carries all of it, wherever a column is moved, nested or renamed to,
//! and two stand-ins are equal where the types are.
//!
//! Whoever handles a `fixed` asks [`foreign_kind`] first: the values of these columns are no fixed bytes, and their bounds
//! can't be compared (a geometry's are points).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use arrow_schema::{DataType, Field, Fields};
use iceberg::spec::{NestedFieldRef, PrimitiveType, Schema, Type};
use serde_json::{Map, Value};

use super::members;
use crate::error::{Error, Result};

/// Lengths from here on are stand-ins.
const FIRST: u64 = 1 << 63;

/// The most types that a metadata file may have, and the longest text of one, of the format's kinds and of others, in bytes.
const MAX_OF_FILE: usize = 64;
const MAX_TEXT: usize = 4096;
const MAX_OTHER_TEXT: usize = 256;
/// The most that the texts of a process may take, of the format's kinds and of others, in bytes: metadata files from anywhere must
/// not fill memory, and types that somebody made up take no room from those that there are.
const MAX_TEXTS: usize = 16 << 20;
/// About what a text takes beside itself.
const PER_TEXT: usize = 128;

/// The name of Arrow's extension type of variants.
pub const VARIANT_EXTENSION: &str = "arrow.parquet.variant";
/// The name of GeoArrow's extension type of WKB.
const WKB_EXTENSION: &str = "geoarrow.wkb";

/// What kind of type a stand-in stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForeignKind {
    /// `unknown`: all NULL, and in no data file.
    Unknown,
    /// `variant`: values with their own types.
    Variant,
    /// `geometry`, of some reference system: WKB.
    Geometry,
    /// `geography`, of some reference system and edge algorithm: WKB.
    Geography,
    /// A type of which nothing is known but its text.
    Other,
}

const KINDS: [ForeignKind; 5] = [
    ForeignKind::Unknown,
    ForeignKind::Variant,
    ForeignKind::Geometry,
    ForeignKind::Geography,
    ForeignKind::Other,
];

impl ForeignKind {
    fn of(text: &str) -> Self {
        let name =
            text.split_once('(').filter(|_| text.ends_with(')')).map_or(text, |(name, _)| name.trim_end());
        match name {
            "unknown" if text == name => Self::Unknown,
            "variant" if text == name => Self::Variant,
            "geometry" => Self::Geometry,
            "geography" => Self::Geography,
            _ => Self::Other,
        }
    }
}

/// The types' texts by place, and the places by text.
#[derive(Default)]
struct Texts {
    texts: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
    /// Places taken by the format's own kinds and by the others.
    held: [usize; 2],
}

/// The types of one file that `iceberg` does not know.
#[derive(Debug, Default)]
pub(crate) struct OfFile {
    texts: HashSet<String>,
    /// True if all are to be known to the process already.
    no_new: bool,
}

impl OfFile {
    /// Those of a file that belongs to a table whose metadata is known.
    pub(crate) fn of_known_table() -> Self {
        Self { no_new: true, ..Self::default() }
    }

    /// Counts a type of the file.
    fn meet(&mut self, text: &str) -> Result<()> {
        if self.texts.contains(text) {
            return Ok(());
        }
        if self.texts.len() >= MAX_OF_FILE {
            let message = "the file has too many types of columns that are not known";
            return Err(Error::data_invalid(message).with("type", text).with("most", MAX_OF_FILE));
        }
        self.texts.insert(text.to_string());
        Ok(())
    }
}

static TEXTS: LazyLock<RwLock<Texts>> = LazyLock::new(RwLock::default);

/// The kind of a type that `iceberg` does not know; `None` of one that it does.
pub fn foreign_kind(of: &PrimitiveType) -> Option<ForeignKind> {
    let PrimitiveType::Fixed(length) = of else { return None };
    let kind = length.checked_sub(FIRST)? >> 32;
    Some(KINDS.get(usize::try_from(kind).ok()?).copied().unwrap_or(ForeignKind::Other))
}

/// A primitive type as the format spells it, those that `iceberg` does not know too.
pub fn primitive_text(of: &PrimitiveType) -> String {
    match text(of) {
        Some(text) => text.to_string(),
        None => of.to_string(),
    }
}

fn text(of: &PrimitiveType) -> Option<Arc<str>> {
    let PrimitiveType::Fixed(length) = of else { return None };
    let place = length.checked_sub(FIRST)? & u64::from(u32::MAX);
    let known = TEXTS.read().unwrap_or_else(PoisonError::into_inner);
    known.texts.get(usize::try_from(place).ok()?).cloned()
}

/// What a kind's values are in Arrow; `None` for those that can't be carried.
pub(super) fn arrow_type(kind: ForeignKind) -> Option<DataType> {
    match kind {
        ForeignKind::Unknown => Some(DataType::Null),
        ForeignKind::Variant => Some(DataType::Struct(variant_fields())),
        ForeignKind::Geometry | ForeignKind::Geography => Some(DataType::Binary),
        ForeignKind::Other => None,
    }
}

/// The fields of a variant's struct in Arrow: the two binary parts of its encoding. All of the value is in them, nothing is
/// shredded into columns of its own.
pub fn variant_fields() -> Fields {
    let (metadata, value) = ("metadata", "value");
    Fields::from(vec![
        Field::new(metadata, DataType::Binary, false),
        Field::new(value, DataType::Binary, true),
    ])
}

/// What an Arrow field's metadata says of such a type: the name of an extension type, and that one's own metadata.
pub(super) fn extension(of: &PrimitiveType) -> Option<(&'static str, String)> {
    match foreign_kind(of)? {
        ForeignKind::Variant => Some((VARIANT_EXTENSION, String::new())),
        kind @ (ForeignKind::Geometry | ForeignKind::Geography) => {
            let text = text(of)?;
            let arguments = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            let mut arguments =
                arguments.unwrap_or_default().split(',').map(str::trim).filter(|a| !a.is_empty());
            let system = arguments.next().unwrap_or("OGC:CRS84");
            let mut json = Map::new();
            let (system, system_type) = match system.strip_prefix("srid:") {
                Some(id) => (id, "srid"),
                None => (system, "authority_code"),
            };
            // A PROJJSON text lies in a table property, which readers of a column don't have.
            if !system.starts_with("projjson:") {
                json.insert("crs".to_string(), system.into());
                json.insert("crs_type".to_string(), system_type.into());
            }
            if kind == ForeignKind::Geography {
                json.insert("edges".to_string(), arguments.next().unwrap_or("spherical").into());
            }
            Some((WKB_EXTENSION, Value::Object(json).to_string()))
        }
        ForeignKind::Unknown | ForeignKind::Other => None,
    }
}

/// The first column, by its full name, of a type that `iceberg` does not know, and that type.
pub fn first_foreign(schema: &Schema) -> Option<(String, PrimitiveType)> {
    fn search(fields: &[NestedFieldRef]) -> Option<(i32, &PrimitiveType)> {
        fields.iter().find_map(|field| match field.field_type.as_ref() {
            Type::Primitive(of) => foreign_kind(of).map(|_| (field.id, of)),
            Type::Struct(inner) => search(inner.fields()),
            Type::List(list) => search(std::slice::from_ref(&list.element_field)),
            Type::Map(map) => search(std::slice::from_ref(&map.key_field))
                .or_else(|| search(std::slice::from_ref(&map.value_field))),
        })
    }
    let (id, of) = search(schema.as_struct().fields())?;
    Some((schema.name_by_field_id(id).unwrap_or_default().to_string(), of.clone()))
}

/// Puts stand-ins into a schema's JSON, at every level, and says whether it did. What else `iceberg` does not hold of its
/// columns goes into their descriptions: see [`members`].
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) past the most types that a file may have,
/// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) past those that a process knows.
pub(crate) fn hide(of: &mut Value, file: &mut OfFile) -> Result<bool> {
    match of {
        Value::String(text) => match stand_in(text, file)? {
            Some(stand_in) => {
                *of = Value::String(stand_in);
                Ok(true)
            }
            None => Ok(false),
        },
        Value::Object(object) => {
            let mut any = false;
            match object.get("type").and_then(Value::as_str) {
                Some("struct") => {
                    let fields = object.get_mut("fields").and_then(Value::as_array_mut);
                    for field in fields.into_iter().flatten().filter_map(Value::as_object_mut) {
                        any |= hide_field(field, file)?;
                    }
                }
                Some("list") => {
                    if let Some(element) = object.get_mut("element") {
                        any |= hide(element, file)?;
                    }
                }
                Some("map") => {
                    for part in ["key", "value"] {
                        if let Some(part) = object.get_mut(part) {
                            any |= hide(part, file)?;
                        }
                    }
                }
                _ => {}
            }
            Ok(any)
        }
        _ => Ok(false),
    }
}

fn hide_field(field: &mut Map<String, Value>, file: &mut OfFile) -> Result<bool> {
    members::hide(field);
    field.get_mut("type").map_or(Ok(false), |of| hide(of, file))
}

/// The stand-in of a type that `iceberg` does not know.
fn stand_in(text: &str, file: &mut OfFile) -> Result<Option<String>> {
    let known = |text: &str| {
        let known = serde_json::from_value::<PrimitiveType>(Value::String(text.to_string()));
        known.is_ok_and(|known| foreign_kind(&known).is_none())
    };
    if known(text) || text.is_empty() || text.len() > MAX_TEXT {
        return Ok(None);
    }
    // Iceberg Java reads types whatever their case.
    let lower = text.to_ascii_lowercase();
    if known(&lower) {
        return Ok(Some(lower));
    }
    let kind = ForeignKind::of(text);
    if kind == ForeignKind::Other && text.len() > MAX_OTHER_TEXT {
        return Ok(None);
    }
    file.meet(text)?;
    let place = place(text, kind, file.no_new)?;
    let kind = KINDS.iter().position(|other| *other == kind).unwrap_or(KINDS.len() - 1);
    let length = FIRST + ((kind as u64) << 32) + u64::from(place);
    Ok(Some(format!("fixed[{length}]")))
}

/// The place of a text, which is given when it is first seen.
fn place(text: &str, kind: ForeignKind, no_new: bool) -> Result<u32> {
    if let Some(place) = TEXTS.read().unwrap_or_else(PoisonError::into_inner).places.get(text) {
        return Ok(*place);
    }
    if no_new && !is_plain(text, kind) {
        return Err(Error::data_invalid("no metadata has this type of column").with("type", text));
    }
    TEXTS.write().unwrap_or_else(PoisonError::into_inner).place(text, kind)
}

/// True for the format's four types without arguments: those always have room.
fn is_plain(text: &str, kind: ForeignKind) -> bool {
    kind != ForeignKind::Other && !text.contains('(')
}

impl Texts {
    fn place(&mut self, text: &str, kind: ForeignKind) -> Result<u32> {
        if let Some(place) = self.places.get(text) {
            return Ok(*place);
        }
        let of_format = kind != ForeignKind::Other;
        let [known, others] = &mut self.held;
        let held = if of_format { known } else { others };
        let with = *held + text.len() + PER_TEXT;
        if with > MAX_TEXTS && !is_plain(text, kind) {
            return Err(Error::new(
                crate::ErrorKind::ResourceExhausted,
                "this process has met too many column types that it does not know; start it again",
            )
            .with("type", text));
        }
        *held = with;
        let (text, place) = (Arc::<str>::from(text), self.texts.len() as u32);
        self.texts.push(text.clone());
        self.places.insert(text, place);
        Ok(place)
    }
}

/// Puts types back in the place of their stand-ins, at every level of a schema's JSON.
pub(crate) fn show(of: &mut Value) {
    match of {
        Value::String(name) if name.starts_with("fixed[") => {
            let parsed = serde_json::from_value::<PrimitiveType>(Value::String(name.clone()));
            if let Some(text) = parsed.ok().as_ref().and_then(text) {
                *name = text.to_string();
            }
        }
        Value::Object(object) => match object.get("type").and_then(Value::as_str) {
            Some("struct") => {
                let fields = object.get_mut("fields").and_then(Value::as_array_mut);
                for field in fields.into_iter().flatten().filter_map(Value::as_object_mut) {
                    field.get_mut("type").into_iter().for_each(show);
                    members::show(field);
                }
            }
            Some("list") => object.get_mut("element").into_iter().for_each(show),
            Some("map") => {
                for part in ["key", "value"] {
                    object.get_mut(part).into_iter().for_each(show);
                }
            }
            _ => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests;
