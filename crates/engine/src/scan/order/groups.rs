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

/// The files, each whole, as groups in the order of `keys`; `None` when they overlap so much that merging them would take
/// more groups than there are partitions, or than [`MERGED_AT_LEAST`].
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
        let mut load = share;
        for file in chain {
            for piece in cut(*file, sizes[*file], None, share, partitions) {
                let bytes = piece.end - piece.start;
                if load >= share {
                    runs.push(Vec::new());
                    load = 0;
                }
                load += bytes;
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
    order.sort_by(|a, b| (first.row(*a), last.row(*a), a).cmp(&(first.row(*b), last.row(*b), b)));
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
