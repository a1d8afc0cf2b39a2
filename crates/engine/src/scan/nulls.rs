//! Counts of NULLs that a footer lacks.
//!
//! DataFusion takes a chunk's missing count for zero where it prunes row groups, since old versions of its own writer left zeros
//! out. Of other writers it means that nobody counted, and `IS NULL` must find what they did not count.

use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::statistics::{Statistics, ValueStatistics};

/// A count that is neither zero nor that of any row group's rows: where it stands for what is not known, no test on NULLs is
/// decided by it, and bounds still serve.
const UNKNOWN: u64 = u64::MAX;

/// A row group whose columns have [`UNKNOWN`] for counts of NULLs that it lacks and that may not be zero.
pub(super) fn with_unknown_nulls(group: RowGroupMetaData) -> Result<RowGroupMetaData> {
    if !group.columns().iter().any(is_uncounted) {
        return Ok(group);
    }
    let mut builder = group.into_builder();
    let columns = builder.take_columns().into_iter().map(|column| {
        if !is_uncounted(&column) {
            return Ok(column);
        }
        let Some(statistics) = column.statistics().cloned() else { return Ok(column) };
        column.into_builder().set_statistics(uncounted(statistics)).build()
    });
    let columns = columns.collect::<Result<_>>()?;
    builder.set_column_metadata(columns).build()
}

fn is_uncounted(column: &ColumnChunkMetaData) -> bool {
    let may_have_nulls = column.column_descr().max_def_level() > 0;
    may_have_nulls && column.statistics().is_some_and(|statistics| statistics.null_count_opt().is_none())
}

fn uncounted(statistics: Statistics) -> Statistics {
    fn of<T: Clone>(old: &ValueStatistics<T>, deprecated: bool) -> ValueStatistics<T> {
        let (min, max) = (old.min_opt().cloned(), old.max_opt().cloned());
        ValueStatistics::new(min, max, old.distinct_count(), Some(UNKNOWN), deprecated)
            .with_min_is_exact(old.min_is_exact())
            .with_max_is_exact(old.max_is_exact())
            .with_backwards_compatible_min_max(old.is_min_max_backwards_compatible())
    }
    let deprecated = statistics.is_min_max_deprecated();
    match &statistics {
        Statistics::Boolean(old) => Statistics::Boolean(of(old, deprecated)),
        Statistics::Int32(old) => Statistics::Int32(of(old, deprecated)),
        Statistics::Int64(old) => Statistics::Int64(of(old, deprecated)),
        Statistics::Int96(old) => Statistics::Int96(of(old, deprecated)),
        Statistics::Float(old) => Statistics::Float(of(old, deprecated)),
        Statistics::Double(old) => Statistics::Double(of(old, deprecated)),
        Statistics::ByteArray(old) => Statistics::ByteArray(of(old, deprecated)),
        Statistics::FixedLenByteArray(old) => Statistics::FixedLenByteArray(of(old, deprecated)),
    }
}
