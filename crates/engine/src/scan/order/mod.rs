//! The order in which a table's files hold their rows, and scans that keep it where a query asks for it.
//!
//! A file that was written sorted carries the id of the sort order that it was sorted by. It is believed of files that this
//! library's own writer sorted ([`LiveFile::exact`]). [`FileOrder`] is what the files of a
//! scan have in common; [`groups`] puts them into partitions that keep it; [`rules`] declares it where a sort or a window
//! above a scan wants it, so that the sort goes and at most a merge is left. It is declared for those queries alone:
//! DataFusion lets the partitions of an ordered scan take no files from each other, and groups its files less evenly.
//!
//! Only what Iceberg and Arrow order alike counts. They differ in floating point (NaN, the sign of zero) and, as engines
//! did, in uuids and bytes.

mod groups;
mod rules;

use std::collections::HashSet;

use arrow::compute::SortOptions;
use iceberg::spec::{NullOrder, PrimitiveType, SortDirection, SortOrder, Transform, Type};
use icefield_core::Table;
use icefield_core::format::LiveFile;

use super::schema::{ReadSchema, field_id};

pub(crate) use rules::with_ordered_scans;

/// The order that the rows of every file of a scan are in, the first key foremost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileOrder {
    keys: Vec<OrderKey>,
}

/// A column of the scan's schema, by its place, and how it is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OrderKey {
    column: usize,
    options: SortOptions,
}

impl FileOrder {
    /// The order that all of the files are in; none when there is a file that does not say how it is sorted, or of which
    /// nobody knows that it is: other writers stamp files with their table's order that are not in it.
    pub(super) fn of<'a>(
        table: &Table,
        schema: &ReadSchema,
        files: impl IntoIterator<Item = &'a LiveFile>,
    ) -> Option<Self> {
        let mut ids = HashSet::new();
        for live in files {
            ids.insert(live.file.sort_order_id().filter(|_| live.exact)?);
        }
        let mut common: Option<Vec<OrderKey>> = None;
        // The order with id 0 has no keys.
        for id in ids {
            let keys = keys(table.metadata().sort_order_by_id(i64::from(id))?, schema);
            common = Some(match common {
                None => keys,
                Some(common) => {
                    let pairs = common.into_iter().zip(keys).take_while(|(known, key)| known == key);
                    pairs.map(|(key, _)| key).collect()
                }
            });
        }
        common.filter(|keys| !keys.is_empty()).map(|keys| Self { keys })
    }
}

/// The longest prefix of a sort order that the columns of a scan show.
fn keys(order: &SortOrder, schema: &ReadSchema) -> Vec<OrderKey> {
    let mut keys: Vec<OrderKey> = Vec::new();
    for field in &order.fields {
        let column = schema.iceberg.as_struct().fields().iter().find(|column| column.id == field.source_id);
        let comparable = column.is_some_and(|column| match column.field_type.as_ref() {
            Type::Primitive(of) => is_ordered_alike(of),
            _ => false,
        });
        let place = schema.arrow.fields().iter().position(|of| field_id(of) == Some(field.source_id));
        let (Some(column), true, Transform::Identity) = (place, comparable, field.transform) else { break };
        if keys.iter().any(|key| key.column == column) {
            continue;
        }
        let options = SortOptions {
            descending: field.direction == SortDirection::Descending,
            nulls_first: field.null_order == NullOrder::First,
        };
        keys.push(OrderKey { column, options });
    }
    keys
}

/// Whether every engine sorts values of a type as Arrow does.
fn is_ordered_alike(of: &PrimitiveType) -> bool {
    use PrimitiveType as T;
    match of {
        T::Boolean | T::Int | T::Long | T::Decimal { .. } | T::Date | T::Time | T::String => true,
        T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs => true,
        T::Float | T::Double | T::Uuid | T::Fixed(_) | T::Binary => false,
    }
}
