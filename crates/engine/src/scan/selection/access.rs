//! Selected rows as what DataFusion's Parquet source reads of each row group.

use std::ops::Range;

use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::ParquetMetaData;

use super::rows::{Selected, between};

/// What is read of a file, by row group.
pub(super) fn access_plan(footer: &ParquetMetaData, selected: &Selected) -> ParquetAccessPlan {
    ParquetAccessPlan::new(row_groups(footer).map(|rows| access(rows, selected)).collect())
}

/// The rows of each row group.
pub(super) fn row_groups(footer: &ParquetMetaData) -> impl Iterator<Item = Range<u64>> {
    footer.row_groups().iter().scan(0_u64, |next, group| {
        let start = *next;
        *next = next.saturating_add(group.num_rows().max(0) as u64);
        Some(start..*next)
    })
}

fn access(rows: Range<u64>, selected: &Selected) -> RowGroupAccess {
    // Rows that are named are skipped or selected, those between them are not.
    let (named, skip) = selected.named();
    let count = named.range_cardinality(rows.clone());
    if (count == 0 && skip) || (count == rows.end - rows.start && !skip) {
        return RowGroupAccess::Scan;
    }
    if count == 0 || (count == rows.end - rows.start && skip) {
        return RowGroupAccess::Skip;
    }
    let run = |rows: u64, skip: bool| RowSelector { row_count: rows as usize, skip };
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = rows.start;
    for position in between(named, &rows) {
        if position > next {
            selectors.push(run(position - next, !skip));
        }
        match selectors.last_mut() {
            Some(last) if last.skip == skip => last.row_count += 1,
            _ => selectors.push(run(1, skip)),
        }
        next = position + 1;
    }
    if next < rows.end {
        selectors.push(run(rows.end - next, !skip));
    }
    RowGroupAccess::Selection(RowSelection::from(selectors))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use icefield_core::deletes::RoaringTreemap;

    use super::*;

    #[test]
    fn a_row_group_is_read_without_its_deleted_rows_or_just_these() {
        let named: Arc<RoaringTreemap> = Arc::new([3, 4, 9, 20, 21, 22].into_iter().collect());
        let (without, only) = (Selected::Without(named.clone()), Selected::Only(named));
        // What is read without the rows that are named, and what of these alone.
        let cases = [
            (0..3, vec![(3, true)]),
            (0..10, vec![(3, true), (2, false), (4, true), (1, false)]),
            (4..10, vec![(1, false), (4, true), (1, false)]),
            (9..12, vec![(1, false), (2, true)]),
            (20..23, vec![(3, false)]),
            (23..30, vec![(7, true)]),
        ];
        for (rows, runs) in cases {
            let expected = |skipped: bool| match runs.as_slice() {
                [(_, one)] if *one == skipped => RowGroupAccess::Skip,
                [_] => RowGroupAccess::Scan,
                runs => {
                    let selector = |(count, plain): &(usize, bool)| RowSelector {
                        row_count: *count,
                        skip: *plain == skipped,
                    };
                    RowGroupAccess::Selection(runs.iter().map(selector).collect::<Vec<_>>().into())
                }
            };
            assert_eq!(access(rows.clone(), &without), expected(false), "{rows:?}");
            assert_eq!(access(rows.clone(), &only), expected(true), "only, {rows:?}");
        }
        assert_eq!(access(30..30, &without), RowGroupAccess::Scan);
    }
}
