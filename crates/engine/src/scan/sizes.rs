//! How many bytes a column's values take once they are decoded, as joins and spilling operators hold them: an estimate from
//! the files' compressed sizes, by which the optimizer chooses the side of a join to keep in memory.

use arrow::datatypes::{DataType, Field};
use iceberg::spec::Type;
use icefield_core::format::LiveFile;

use super::metadata_columns::is_metadata;
use super::schema::{ReadSchema, field_id};

/// What a byte of compressed texts becomes: they are in dictionaries, and compressed again.
const OF_TEXTS: u64 = 4;
/// What a byte of compressed values of nested columns becomes.
const OF_NESTED: u64 = 3;
/// What each row takes of a text, short ones included.
const VIEW_BYTES: u64 = 16;

/// The bytes of a column in all rows of these files; `None` where files don't say how large it is in them.
pub(super) fn decoded_bytes<'a>(
    schema: &ReadSchema,
    field: &Field,
    rows: u64,
    files: impl IntoIterator<Item = &'a LiveFile>,
) -> Option<u64> {
    let of = field.data_type();
    if let Some(width) = of.primitive_width() {
        return Some(rows.saturating_mul(width as u64));
    }
    let id = field_id(field).filter(|id| !is_metadata(*id));
    match (of, id) {
        (DataType::Null, _) => Some(0),
        (DataType::Boolean, _) => Some(rows / 8),
        (DataType::FixedSizeBinary(width), _) => Some(rows.saturating_mul(u64::try_from(*width).ok()?)),
        (_, None) => None,
        (of, Some(id)) => {
            let mut leaves = Vec::new();
            collect_leaves(id, &schema.iceberg.field_by_id(id)?.field_type, &mut leaves);
            let mut stored = 0_u64;
            for live in files {
                let sizes = live.file.column_sizes();
                let mut of_file = leaves.iter().filter_map(|id| sizes.get(id)).peekable();
                // A column that was added later is in no older file, nor in its sizes: neither are those of who tells none.
                if of_file.peek().is_none() && sizes.is_empty() {
                    return None;
                }
                stored = of_file.fold(stored, |sum, size| sum.saturating_add(*size));
            }
            Some(match of.is_nested() {
                true => stored.saturating_mul(OF_NESTED),
                false => stored.saturating_mul(OF_TEXTS).max(rows.saturating_mul(VIEW_BYTES)),
            })
        }
    }
}

/// The ids of a column's primitive parts.
pub(super) fn collect_leaves(id: i32, of: &Type, into: &mut Vec<i32>) {
    match of {
        Type::Primitive(_) => into.push(id),
        Type::Struct(fields) => {
            fields.fields().iter().for_each(|field| collect_leaves(field.id, &field.field_type, into));
        }
        Type::List(list) => collect_leaves(list.element_field.id, &list.element_field.field_type, into),
        Type::Map(map) => {
            [&map.key_field, &map.value_field]
                .into_iter()
                .for_each(|field| collect_leaves(field.id, &field.field_type, into));
        }
    }
}
