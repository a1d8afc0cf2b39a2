//! What counts and bounds say of whether an equality delete file holds a key of a data file.

use std::cmp::Ordering;

use iceberg::spec::{DataFile, PrimitiveType};

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
        let bounds = (below.upper_bounds().get(&id), above.lower_bounds().get(&id));
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
        match (file.value_counts().get(&id), file.null_value_counts().get(&id)) {
            // What is counted per value of a list says nothing of rows.
            (Some(values), _) if *values != file.record_count() => Self::Unknown,
            (_, Some(0)) => Self::None,
            (Some(values), Some(nulls)) if nulls >= values => Self::All,
            _ => Self::Unknown,
        }
    }
}
