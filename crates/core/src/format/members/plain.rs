//! Schemas as code has them that is built on `iceberg` alone: descriptions are text there, and carry nothing.

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, Schema, StructType, Type};

use super::{Hidden, INITIAL, MARK, WRITE, parts, set_parts};
use crate::error::{Error, Result};

/// A description that is this text, whatever is in it.
pub fn text_doc(text: &str) -> String {
    Hidden::default().within(Some(text)).unwrap_or_default()
}

/// True where no description of the schema is more than its text.
pub(crate) fn is_plain(schema: &Schema) -> bool {
    fn is_text(field: &NestedFieldRef) -> bool {
        let marked = field.doc.as_ref().is_some_and(|doc| doc.contains(MARK));
        !marked
            && match field.field_type.as_ref() {
                Type::Primitive(_) => true,
                Type::Struct(inner) => inner.fields().iter().all(is_text),
                Type::List(list) => is_text(&list.element_field),
                Type::Map(map) => is_text(&map.key_field) && is_text(&map.value_field),
            }
    }
    schema.as_struct().fields().iter().all(is_text)
}

/// The schema with descriptions that carry nothing.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) naming a column with a default that `iceberg` does not hold: whoever reads
/// and writes without it has other rows.
pub(crate) fn plain(schema: &Schema) -> Result<Schema> {
    each(schema, &|field| {
        let (doc, hidden) = Hidden::of(field.doc.as_deref());
        for (key, own) in [(INITIAL, &field.initial_default), (WRITE, &field.write_default)] {
            let default = hidden.member(key).filter(|default| own.is_none() && !default.is_null());
            if let Some(default) = default {
                return Err(Error::unsupported(
                    "the iceberg crate does not hold the default of a column; open the table through icefield",
                )
                .with("column", schema.name_by_field_id(field.id).unwrap_or(&field.name))
                .with("default", default));
            }
        }
        field.doc = doc;
        Ok(())
    })
}

/// The schema that was made of a [plain](plain()) one: its descriptions are text, and columns that are `known` by their ids keep
/// what they carry, but for what was changed of their defaults.
///
/// # Errors
/// As the schema's builder gives them.
pub(crate) fn carrying<'a>(
    schema: &Schema,
    known: impl Fn(i32) -> Option<&'a NestedFieldRef>,
) -> Result<Schema> {
    each(schema, &|field| {
        let Some(own) = known(field.id) else {
            field.doc = field.doc.as_deref().map(text_doc);
            return Ok(());
        };
        let mut parts = parts(own);
        parts.doc = field.doc.take();
        // A default that was not there to be seen was not changed.
        if field.initial_default != own.initial_default {
            parts.initial_default = field.initial_default.take();
        }
        if field.write_default != own.write_default {
            parts.write_default = field.write_default.take();
        }
        set_parts(field, parts);
        Ok(())
    })
}

/// The schema with each field changed, those within a field before it.
fn each(schema: &Schema, change: &impl Fn(&mut NestedField) -> Result<()>) -> Result<Schema> {
    let fields = schema.as_struct().fields().iter().map(|field| changed(field, change));
    let built =
        Schema::builder().with_schema_id(schema.schema_id()).with_fields(fields.collect::<Result<Vec<_>>>()?);
    let identifiers: Vec<i32> = schema.identifier_field_ids().collect();
    Ok(built.with_identifier_field_ids(identifiers).build()?)
}

fn changed(
    field: &NestedFieldRef,
    change: &impl Fn(&mut NestedField) -> Result<()>,
) -> Result<NestedFieldRef> {
    let mut field = field.as_ref().clone();
    *field.field_type = match *field.field_type {
        Type::Primitive(of) => Type::Primitive(of),
        Type::Struct(inner) => {
            let fields = inner.fields().iter().map(|field| changed(field, change));
            Type::Struct(StructType::new(fields.collect::<Result<_>>()?))
        }
        Type::List(list) => Type::List(ListType::new(changed(&list.element_field, change)?)),
        Type::Map(map) => {
            Type::Map(MapType::new(changed(&map.key_field, change)?, changed(&map.value_field, change)?))
        }
    };
    change(&mut field)?;
    Ok(field.into())
}
