//! Files into groups that are in order: within a group, no file begins before the one ahead of it has ended.
//!
//! Where a file begins and ends its statistics tell: bounds, which may be wider than the file, and whether there are NULLs,
//! which lie before or behind all bounds. A file of which one of these is not known is a group by itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Schema};
use arrow::row::{Row, RowConverter, SortField};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;

use super::OrderKey;
use crate::scan::split::{Piece, cut, share};

/// Up to so many groups are merged whatever the number of partitions: each holds a row group's columns in memory.
const MERGED_AT_LEAST: usize = 8;

/// The files, each whole, as groups in the order of `keys`; `None` when they overlap so much that it would take more groups
/// than there are partitions, and than [`MERGED_AT_LEAST`].
///
/// `few` asks for as few groups as there can be, for queries that want the first rows; otherwise groups are cut into runs of
/// about the same number of bytes until there are about as many as partitions.
pub(super) fn ordered_groups(
    files: &[PartitionedFile],
    keys: &[OrderKey],
    schema: &Schema,
    partitions: usize,
    few: bool,
) -> Result<Option<Vec<FileGroup>>> {
    let chains = chains(files, keys, schema)?;
    if chains.len() > partitions.max(MERGED_AT_LEAST) {
        return Ok(None);
    }
    let sizes: Vec<u64> = files.iter().map(|file| file.object_meta.size).collect();
    let runs = if few {
        chains.into_iter().map(|chain| whole(&chain, &sizes)).collect()
    } else {
        cut_up(&chains, &sizes, partitions)
    };
    let group = |run: Vec<Piece>| {
        let pieces = run.into_iter().filter_map(|piece| {
            let file = files.get(piece.file)?.clone();
            let is_whole = piece.start == 0 && piece.end == file.object_meta.size;
            Some(if is_whole { file } else { file.with_range(piece.start as i64, piece.end as i64) })
        });
        FileGroup::new(pieces.collect())
    };
    Ok(Some(runs.into_iter().map(group).collect()))
}

fn whole(chain: &[usize], sizes: &[u64]) -> Vec<Piece> {
    chain.iter().map(|file| Piece { file: *file, start: 0, end: sizes[*file] }).collect()
}

/// Cuts chains into runs, between files and, where they are large, inside them.
fn cut_up(chains: &[Vec<usize>], sizes: &[u64], partitions: usize) -> Vec<Vec<Piece>> {
    let share = share(sizes, partitions);
    let mut runs: Vec<Vec<Piece>> = Vec::new();
    for chain in chains {
        let mut load: Option<u64> = None;
        for file in chain {
            for piece in cut(*file, sizes[*file], None, share, partitions) {
                let bytes = piece.end - piece.start;
                load = Some(match load {
                    Some(load) if load.saturating_add(bytes / 2) <= share => load.saturating_add(bytes),
                    _ => {
                        runs.push(Vec::new());
                        bytes
                    }
                });
                let Some(run) = runs.last_mut() else { continue };
                match run.last_mut() {
                    // Two pieces of one file would look like two files of the same range.
                    Some(last) if last.file == piece.file => last.end = piece.end,
                    _ => run.push(piece),
                }
            }
        }
    }
    runs
}

/// The fewest chains of files such that each file of a chain begins where the one before has ended, or later.
fn chains(files: &[PartitionedFile], keys: &[OrderKey], schema: &Schema) -> Result<Vec<Vec<usize>>> {
    let mut known: Vec<usize> = Vec::new();
    let mut spans: Vec<Vec<(ScalarValue, ScalarValue)>> = vec![Vec::new(); keys.len()];
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let of_keys: Option<Vec<_>> = keys.iter().map(|key| span(file, key, schema)).collect();
        match of_keys {
            Some(of_keys) => {
                known.push(at);
                spans.iter_mut().zip(of_keys).for_each(|(column, span)| column.push(span));
            }
            None => chains.push(vec![at]),
        }
    }
    if known.is_empty() {
        return Ok(chains);
    }
    let fields = keys.iter().map(|key| {
        let of = schema.field(key.column).data_type().clone();
        SortField::new_with_options(of, key.options)
    });
    let converter = RowConverter::new(fields.collect())?;
    let rows = |side: fn(&(ScalarValue, ScalarValue)) -> &ScalarValue| {
        let columns = spans.iter().map(|column| ScalarValue::iter_to_array(column.iter().map(side).cloned()));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        Ok::<_, datafusion::common::DataFusionError>(converter.convert_columns(&columns)?)
    };
    let (first, last) = (rows(|span| &span.0)?, rows(|span| &span.1)?);
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by_key(|at| (first.row(*at), last.row(*at), *at));
    // The chain that ends first takes the next file, if any can.
    let mut ends: BinaryHeap<Reverse<(Row<'_>, usize)>> = BinaryHeap::new();
    for at in order {
        let fitting = match ends.peek() {
            Some(Reverse((end, chain))) if *end <= first.row(at) => Some(*chain),
            _ => None,
        };
        let chain = match fitting {
            Some(chain) => {
                ends.pop();
                chain
            }
            None => {
                chains.push(Vec::new());
                chains.len() - 1
            }
        };
        chains[chain].push(known[at]);
        ends.push(Reverse((last.row(at), chain)));
    }
    Ok(chains)
}

/// What comes before and behind all values of a key in a file, in the key's order.
fn span(file: &PartitionedFile, key: &OrderKey, schema: &Schema) -> Option<(ScalarValue, ScalarValue)> {
    let statistics = file.statistics.as_ref()?.column_statistics.get(key.column)?;
    let of = schema.fields().get(key.column)?.data_type();
    let (min, max) = (bound(&statistics.min_value, of)?, bound(&statistics.max_value, of)?);
    let (mut first, mut last) = if key.options.descending { (max, min) } else { (min, max) };
    if !is_null_free(statistics) {
        let null = ScalarValue::try_from(of).ok()?;
        *(if key.options.nulls_first { &mut first } else { &mut last }) = null;
    }
    Some((first, last))
}

fn bound(value: &Precision<ScalarValue>, of: &DataType) -> Option<ScalarValue> {
    value.get_value().filter(|value| !value.is_null() && value.data_type() == *of).cloned()
}

/// Whether a column is known to hold no NULL.
pub(super) fn is_null_free(statistics: &ColumnStatistics) -> bool {
    statistics.null_count == Precision::Exact(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::compute::SortOptions;
    use arrow::datatypes::Field;
    use datafusion::common::Statistics;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn schema() -> Schema {
        Schema::new(vec![Field::new("k", DataType::Int64, true)])
    }

    fn key(descending: bool, nulls_first: bool) -> OrderKey {
        OrderKey { column: 0, options: SortOptions { descending, nulls_first } }
    }

    /// A file of these bounds and this many NULLs.
    fn file(bounds: Option<(i64, i64)>, nulls: Option<usize>, size: u64) -> PartitionedFile {
        let bound = |value: Option<i64>| match value {
            Some(value) => Precision::Exact(ScalarValue::Int64(Some(value))),
            None => Precision::Absent,
        };
        let mut column = ColumnStatistics::new_unknown();
        column.min_value = bound(bounds.map(|bounds| bounds.0));
        column.max_value = bound(bounds.map(|bounds| bounds.1));
        column.null_count = nulls.map_or(Precision::Absent, Precision::Exact);
        let mut file = PartitionedFile::new(format!("{bounds:?}"), size);
        let statistics = Statistics {
            num_rows: Precision::Exact(10),
            total_byte_size: Precision::Absent,
            column_statistics: vec![column],
        };
        file.statistics = Some(Arc::new(statistics));
        file
    }

    #[test]
    fn a_chain_never_goes_back_and_there_are_as_few_as_can_be() {
        let known = |min, max| file(Some((min, max)), Some(0), 1);
        let nulls = |min, max| file(Some((min, max)), Some(1), 1);
        let unknown = |min, max| file(Some((min, max)), None, 1);
        let (up, down) = (key(false, true), key(true, false));
        let last = key(false, false);
        let cases: Vec<(Vec<PartitionedFile>, OrderKey, Vec<Vec<usize>>)> = vec![
            (vec![known(20, 30), known(0, 9), known(10, 19)], up, vec![vec![1, 2, 0]]),
            (vec![known(20, 30), known(0, 9), known(10, 19)], down, vec![vec![0, 2, 1]]),
            // One value at a border is in order; one beyond it is not.
            (vec![known(0, 10), known(10, 20)], up, vec![vec![0, 1]]),
            (vec![known(0, 10), known(9, 20)], up, vec![vec![0], vec![1]]),
            (vec![known(0, 5), known(3, 8), known(6, 9), known(9, 9)], up, vec![vec![0, 2], vec![1, 3]]),
            // NULLs come first of all: only a chain's first file may have some.
            (vec![nulls(0, 5), known(6, 8)], up, vec![vec![0, 1]]),
            (vec![known(0, 5), nulls(6, 8)], up, vec![vec![1], vec![0]]),
            (vec![known(0, 5), nulls(6, 8)], last, vec![vec![0, 1]]),
            (vec![nulls(0, 5), known(6, 8)], last, vec![vec![0], vec![1]]),
            (vec![known(0, 5), unknown(6, 8)], up, vec![vec![1], vec![0]]),
            // Nothing is known of where it lies.
            (vec![known(0, 5), file(None, Some(10), 1), known(6, 8)], up, vec![vec![1], vec![0, 2]]),
        ];
        for (files, key, expected) in cases {
            assert_eq!(chains(&files, &[key], &schema()).unwrap(), expected, "{files:?} by {key:?}");
        }
    }

    #[test]
    fn groups_cover_every_file_once_and_hold_a_file_in_one_piece() {
        let files: Vec<PartitionedFile> = (0..4)
            .map(|n| file(Some((n * 10, n * 10 + 9)), Some(0), [1, 100, 3, 60][n as usize] * MIB))
            .collect();
        for (partitions, few, count) in [(4, false, 4), (2, false, 2), (1, false, 1), (4, true, 1)] {
            let groups =
                ordered_groups(&files, &[key(false, true)], &schema(), partitions, few).unwrap().unwrap();
            assert_eq!(groups.len(), count, "{partitions} partitions");
            let mut pieces = Vec::new();
            for group in &groups {
                let of: Vec<_> = group.iter().map(|file| file.object_meta.location.clone()).collect();
                assert!(of.windows(2).all(|pair| pair[0] != pair[1]), "{of:?}");
                pieces.extend(group.iter().map(|file| match &file.range {
                    Some(range) => (file.object_meta.location.clone(), range.start as u64, range.end as u64),
                    None => (file.object_meta.location.clone(), 0, file.object_meta.size),
                }));
            }
            for file in &files {
                let of = pieces.iter().filter(|piece| piece.0 == file.object_meta.location);
                let end = of.fold(0, |at, piece| {
                    assert_eq!(piece.1, at);
                    piece.2
                });
                assert_eq!(end, file.object_meta.size);
            }
        }
    }

    #[test]
    fn files_that_all_overlap_are_merged_up_to_a_bound() {
        let overlapping = |count: i64| -> Vec<PartitionedFile> {
            (0..count).map(|n| file(Some((n, n + 1000)), Some(0), 1)).collect()
        };
        let groups = |count, partitions| {
            let groups =
                ordered_groups(&overlapping(count), &[key(false, true)], &schema(), partitions, true);
            groups.unwrap().map(|groups| groups.len())
        };
        assert_eq!(groups(8, 2), Some(8));
        assert_eq!(groups(9, 2), None);
        assert_eq!(groups(16, 16), Some(16));
        assert_eq!(groups(17, 16), None);
    }
}
