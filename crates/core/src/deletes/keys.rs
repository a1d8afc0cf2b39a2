//! What counts and bounds say of whether an equality delete file holds a key of a data file.

use std::cmp::Ordering;

use iceberg::spec::{DataFile, PrimitiveType};

use crate::format::claims;
use crate::format::value::compare;

/// Whether a delete file may hold a key that a row of the data file has: false only if it holds none. NULL is a key.
pub(super) fn might_share_key(delete: &DataFile, data: &DataFile) -> bool {
    let ids = delete.equality_ids().unwrap_or_default();
    ids.into_iter().all(|id| might_share_value(delete, data, id))
}

fn might_share_value(delete: &DataFile, data: &DataFile, id: i32) -> bool {
    let (of_delete, of_data) = (Nulls::of(delete, id), Nulls::of(data, id));
    match (of_delete, of_data) {
        (Nulls::None, Nulls::All) | (Nulls::All, Nulls::None) => return false,
        (Nulls::None, _) | (_, Nulls::None) => {}
        _ => return true,
    }
    let apart = |below: &DataFile, above: &DataFile| {
        let bounds = (claims::bounds(below, id).1, claims::bounds(above, id).0);
        let (Some(upper), Some(lower)) = bounds else { return false };
        // NaN is a key too, and in no bounds.
        !matches!(upper.data_type(), PrimitiveType::Float | PrimitiveType::Double)
            && compare(upper, lower) == Some(Ordering::Less)
    };
    !apart(delete, data) && !apart(data, delete)
}

/// How many of a column's values are NULL.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Nulls {
    None,
    All,
    Unknown,
}

impl Nulls {
    fn of(file: &DataFile, id: i32) -> Self {
        match claims::null_count(file, id) {
            Some(0) => Self::None,
            Some(nulls) if nulls == file.record_count() => Self::All,
            _ => Self::Unknown,
        }
    }
}
