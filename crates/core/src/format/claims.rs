//! What a file's manifest entry says of a column, as far as it can hold.
//!
//! Entries are written by many, and some are wrong in ways that show: bounds of which the lower one is above the upper one,
//! NaN for a bound, more NULLs than rows. What contradicts itself says nothing, here and for everyone who asks here: file
//! pruning, the files that an overwrite replaces whole, the scope of deletes, statistics.
//!
//! Counts are held against the file's rows, never against each other: writers differ in what they count as a value. All of
//! these are claims about columns outside of lists and maps, which have one value a row.

use std::cmp::Ordering;

use iceberg::spec::{DataFile, DataFileFormat, Datum, PrimitiveType};

use super::value::compare;

/// A column's bounds: at most, and at least, any value that is neither NULL nor NaN. They need not be values of the file.
pub fn bounds(file: &DataFile, id: i32) -> (Option<&Datum>, Option<&Datum>) {
    let (lower, upper) = (file.lower_bounds().get(&id), file.upper_bounds().get(&id));
    let of_orc = file.file_format() == DataFileFormat::Orc;
    let is_usable = |bound: &Datum| match bound.data_type() {
        // Iceberg Java (1.10) gives those of nanoseconds in ORC files in microseconds.
        PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => !of_orc,
        // Some writers let NaN into bounds, and then neither of the two is of use.
        _ => !bound.is_nan(),
    };
    match ([lower, upper].into_iter().flatten().all(is_usable), lower, upper) {
        (false, _, _) => (None, None),
        (true, Some(least), Some(most)) if is_contradiction(least, most) => (None, None),
        _ => (lower, upper),
    }
}

/// Whether a lower bound is above an upper one.
pub(crate) fn is_contradiction(lower: &Datum, upper: &Datum) -> bool {
    compare(lower, upper) == Some(Ordering::Greater)
}

/// How many rows have NULL in a column.
pub fn null_count(file: &DataFile, id: i32) -> Option<u64> {
    of_rows(file, file.null_value_counts().get(&id))
}

/// How many rows have NaN in a column.
pub fn nan_count(file: &DataFile, id: i32) -> Option<u64> {
    of_rows(file, file.nan_value_counts().get(&id))
}

/// A count of some of the file's rows.
fn of_rows(file: &DataFile, count: Option<&u64>) -> Option<u64> {
    count.copied().filter(|count| *count <= file.record_count())
}
