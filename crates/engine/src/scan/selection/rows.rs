//! [`Selected`]: the rows of a data file that are read, by their position in it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder};
use futures::future::BoxFuture;
use icefield_core::Result;
use icefield_core::deletes::RoaringTreemap;

use crate::scan::split::total;

/// Runs of so many rows cost about as much by a mask as by a list of runs, as Parquet's own reader has it.
const SHORT_RUN: u64 = 32;

/// Says which rows of one data file are read, when the file is opened.
pub(in crate::scan) trait RowChoice: fmt::Debug + Send + Sync {
    /// The rows that are read.
    fn selected(&self) -> BoxFuture<'_, Result<Arc<Selected>>>;
}

/// Rows of a file, by position.
#[derive(Debug, PartialEq)]
pub(in crate::scan) enum Selected {
    /// All but these.
    Without(Arc<RoaringTreemap>),
    /// Just these.
    Only(Arc<RoaringTreemap>),
}

impl Selected {
    /// Which of a range of rows are read; `None` where all are.
    pub(in crate::scan) fn of(&self, rows: Range<u64>) -> Option<BooleanArray> {
        let (named, skip) = self.named();
        if skip && named.range_cardinality(rows.clone()) == 0 {
            return None;
        }
        let count = (rows.end - rows.start) as usize;
        let mut keep = BooleanBufferBuilder::new(count);
        keep.append_n(count, skip);
        for position in between(named, &rows) {
            keep.set_bit((position - rows.start) as usize, !skip);
        }
        Some(BooleanArray::new(keep.finish(), None))
    }

    /// Whether runs of rows that are all read, or all not, are shorter than [`SHORT_RUN`] on average: a mask then costs less than
    /// a list of runs.
    pub(super) fn is_scattered(&self, ranges: &[Range<u64>]) -> bool {
        let (named, _) = self.named();
        let rows = total(ranges.iter().map(|range| range.end - range.start));
        let mut runs = 0;
        for range in ranges {
            let mut next = None;
            for position in between(named, range) {
                runs += 2 * u64::from(next != Some(position));
                next = Some(position + 1);
            }
        }
        runs.saturating_mul(SHORT_RUN) > rows
    }

    /// Some rows, and whether they are those that are not read.
    pub(super) fn named(&self) -> (&RoaringTreemap, bool) {
        match self {
            Self::Without(named) => (named, true),
            Self::Only(named) => (named, false),
        }
    }
}

/// The positions in a range.
pub(super) fn between(positions: &RoaringTreemap, range: &Range<u64>) -> impl Iterator<Item = u64> {
    let mut from = positions.iter();
    from.advance_to(range.start);
    let end = range.end;
    from.take_while(move |position| *position < end)
}
