//! [`Masked`]: the rows of a file with many scattered deletes, dropped from the batches of a scan that reads the file from one
//! end of its row groups to the other.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder};
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::access::row_groups;
use super::rows::Selected;
use crate::scan::morsel::Wrap;

/// Row groups of a file that are all read, and the rows that are wanted of them.
#[derive(Clone)]
pub(super) struct Masked {
    selected: Arc<Selected>,
    /// The positions of the rows that are still to come, in order.
    read: VecDeque<Range<u64>>,
}

impl Masked {
    /// How the row groups that begin in a range of the file's bytes are read; `None` where skipping rows costs less.
    pub(super) fn plan(
        footer: &ParquetMetaData,
        bytes: Option<Range<i64>>,
        selected: &Arc<Selected>,
    ) -> Option<(ParquetAccessPlan, Self)> {
        let begins = |group: &RowGroupMetaData| {
            let first = group.columns().first()?;
            Some(first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset()))
        };
        let is_read =
            |group| bytes.as_ref().is_none_or(|bytes| begins(group).is_some_and(|at| bytes.contains(&at)));
        let mut plan = ParquetAccessPlan::new_none(footer.num_row_groups());
        let mut read = Vec::new();
        for (at, (group, rows)) in footer.row_groups().iter().zip(row_groups(footer)).enumerate() {
            if is_read(group) && !rows.is_empty() {
                plan.set(at, RowGroupAccess::Scan);
                read.push(rows);
            }
        }
        selected.is_scattered(&read).then(|| (plan, Self { selected: selected.clone(), read: read.into() }))
    }

    /// The rows of the next batch that are left.
    fn apply(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut keep = BooleanBufferBuilder::new(batch.num_rows());
        while keep.len() < batch.num_rows() {
            let Some(rows) = self.read.pop_front() else { return mismatch() };
            let end = rows.end.min(rows.start + (batch.num_rows() - keep.len()) as u64);
            match self.selected.of(rows.start..end) {
                Some(kept) => keep.append_buffer(kept.values()),
                None => keep.append_n((end - rows.start) as usize, true),
            }
            if end < rows.end {
                self.read.push_front(end..rows.end);
            }
        }
        Ok(filter_record_batch(batch, &BooleanArray::new(keep.finish(), None))?)
    }
}

impl Wrap for Masked {
    fn rows(self, rows: BoxStream<'static, Result<RecordBatch>>) -> BoxStream<'static, Result<RecordBatch>> {
        let next = async |(mut masked, mut rows): (Self, BoxStream<'static, Result<RecordBatch>>)| {
            let left = match rows.next().await {
                Some(batch) => batch.and_then(|batch| masked.apply(&batch)),
                None if masked.read.is_empty() => return None,
                None => {
                    masked.read.clear();
                    mismatch()
                }
            };
            Some((left, (masked, rows)))
        };
        stream::unfold((self, rows.fuse().boxed()), next).boxed()
    }
}

/// The positions of rows are counted: no row may be skipped below, or said twice.
fn mismatch<T>() -> Result<T> {
    internal_err!("a file's rows are not those of its row groups")
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use icefield_core::deletes::RoaringTreemap;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    fn numbers(rows: impl IntoIterator<Item = u64>) -> RecordBatch {
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.into_iter().map(|row| row as i64)));
        RecordBatch::try_from_iter([("n", rows)]).unwrap()
    }

    /// The footer of a file of 1,000 rows in row groups of 100.
    fn footer() -> ParquetMetaData {
        let batch = numbers(0..1000);
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap()
    }

    fn every_fifth() -> Arc<Selected> {
        Arc::new(Selected::Without(Arc::new((0..1000).step_by(5).collect::<RoaringTreemap>())))
    }

    async fn left(masked: Masked, batches: Vec<RecordBatch>) -> Result<Vec<i64>> {
        let mut rows = masked.rows(stream::iter(batches.into_iter().map(Ok)).boxed());
        let mut found = Vec::new();
        while let Some(batch) = rows.next().await {
            found.extend_from_slice(batch?.column(0).as_primitive::<Int64Type>().values());
        }
        Ok(found)
    }

    #[tokio::test]
    async fn pieces_of_a_file_have_each_row_that_is_left_once_however_its_batches_are_cut() {
        let footer = footer();
        let begin = |at: usize| footer.row_group(at).column(0).dictionary_page_offset().unwrap();
        let pieces = [0..begin(3), begin(3)..begin(3) + 1, begin(3) + 1..begin(9), begin(9)..i64::MAX];
        for rows_a_batch in [7, 100, 250, 1000] {
            let mut found = Vec::new();
            for (piece, rows) in pieces.clone().into_iter().zip([0..300, 300..400, 400..900, 900..1000]) {
                let (_, masked) = Masked::plan(&footer, Some(piece), &every_fifth()).unwrap();
                let rows: Vec<u64> = rows.collect();
                let batches = rows.chunks(rows_a_batch).map(|rows| numbers(rows.iter().copied()));
                found.extend(left(masked, batches.collect()).await.unwrap());
            }
            assert_eq!(found, (0..1000).filter(|row| row % 5 != 0).collect::<Vec<_>>(), "{rows_a_batch}");
        }
    }

    #[tokio::test]
    async fn rows_that_were_skipped_below_or_come_twice_are_an_error() {
        let (plan, masked) = Masked::plan(&footer(), None, &every_fifth()).unwrap();
        assert_eq!(plan.row_group_indexes(), (0..10).collect::<Vec<_>>());
        for rows in [0..999, 0..1001] {
            let error = left(masked.clone(), vec![numbers(rows)]).await.unwrap_err();
            assert!(error.to_string().contains("not those of its row groups"), "{error}");
        }
    }

    #[test]
    fn few_or_long_runs_are_skipped_by_the_reader() {
        let is_masked = |rows: Selected| Masked::plan(&footer(), None, &Arc::new(rows)).is_some();
        let half: Arc<RoaringTreemap> = Arc::new((0..500).collect());
        let few: Arc<RoaringTreemap> = Arc::new((0..1000).step_by(100).collect());
        let many: Arc<RoaringTreemap> = Arc::new((0..1000).step_by(20).collect());
        assert!(!is_masked(Selected::Without(half.clone())) && !is_masked(Selected::Only(half)));
        assert!(!is_masked(Selected::Without(few.clone())) && !is_masked(Selected::Only(few)));
        assert!(is_masked(Selected::Without(many.clone())) && is_masked(Selected::Only(many)));
    }
}
