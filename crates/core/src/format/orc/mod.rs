//! ORC files (specification v1), read stripe by stripe as Arrow.
//!
//! A file ends with a postscript, before it a footer: types and stripes. A stripe has streams for each column and, in its own
//! footer, where they are; of those only the wanted ones are fetched. They are kept compressed and decoded batch by batch.
//! - [`proto`] is the messages of footers, [`types`] the columns and Iceberg's ids,
//! - [`input`] decompresses streams, [`rle`] decodes integers and bits, [`columns`] makes arrays of them,
//! - [`room`] bounds what these may take.
//!
//! The crate for ORC loses Iceberg's ids, and panics, ends the process or gives wrong values on damaged files:
//! `docs/rfcs/0004-orc.md` has what was measured, and when this is to be deleted for a crate.
//!
//! No index and no statistics are read: whole files were pruned before. Values are the writer's, whatever calendar it names.

mod columns;
mod input;
mod proto;
mod rle;
mod room;
mod types;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema as ArrowSchema, SchemaRef};
use bytes::Bytes;

use super::source::{BATCH_BYTES, Rows, Source, broken};
use crate::error::{Error, Result};
use columns::{Column, PRESENT, Streams};
use input::{Codec, Input};
use proto::{Footer, PostScript, Stripe, StripeFooter};
use rle::Bits;
use room::Room;
use types::Node;

/// How much of a file's end is read at first, in bytes.
const TAIL_BYTES: u64 = 64 << 10;

/// The most that a footer may be, decompressed, in bytes.
const MAX_FOOTER_BYTES: usize = 64 << 20;

/// Streams that are so close to each other are fetched by one request, in bytes.
const GAP_BYTES: u64 = 64 << 10;

/// The place of the struct that a row is among the types.
const ROOT: usize = 0;

/// A stream, by its column and kind, and where it is.
type Located = ((usize, u64), Range<u64>);

#[derive(Debug)]
pub(super) struct OrcFile {
    source: Source,
    codec: Codec,
    nodes: Vec<Node>,
    schema: SchemaRef,
    /// The stripes that are not read yet, each with the position of its first row.
    stripes: VecDeque<(u64, Stripe)>,
    wanted: Vec<usize>,
    wanted_schema: SchemaRef,
    open: Open,
}

/// The stripe that is being read.
#[derive(Debug, Default)]
struct Open {
    columns: Vec<Column>,
    /// Which rows there are; without it, all.
    present: Option<Bits>,
    /// The position of the next row.
    next: u64,
    rows_left: u64,
    /// The most rows of a batch.
    batch_rows: u64,
}

impl OrcFile {
    pub(super) async fn open(source: Source) -> Result<Self> {
        let size = source.size();
        let mut tail = source.range(size.saturating_sub(TAIL_BYTES)..size).await?;
        let short = || broken("it is cut short");
        let length = usize::from(*tail.last().ok_or_else(short)?);
        let end = tail.len() - 1;
        let begin = end.checked_sub(length).ok_or_else(short)?;
        let postscript = PostScript::parse(tail.get(begin..end).unwrap_or_default())?;
        if !postscript.is_orc {
            return Err(broken("it is no ORC file"));
        }
        let codec = Codec::new(postscript.compression, postscript.block_size)?;
        let footer = if postscript.footer_length <= begin as u64 {
            tail.split_to(begin).split_off(begin - postscript.footer_length as usize)
        } else {
            let end = size - (length as u64 + 1);
            source.range(end.checked_sub(postscript.footer_length).ok_or_else(short)?..end).await?
        };
        let footer = Footer::parse(&Input::new(codec, footer).all(MAX_FOOTER_BYTES)?)?;
        if footer.is_encrypted {
            return Err(Error::unsupported(
                "the file is encrypted, which can't be read; rewrite it with the engine that wrote it",
            ));
        }
        let nodes = types::columns(&footer.types)?;
        let fields: Vec<_> = nodes.iter().map(|node| node.field.clone()).collect();
        let (mut first, mut end) = (0_u64, 0_u64);
        let mut stripes = VecDeque::with_capacity(footer.stripes.len());
        for stripe in footer.stripes {
            let rows = stripe.rows;
            // Those that overlap would make a file of more than it has.
            end = stripe.end().filter(|next| stripe.offset >= end && *next <= size).ok_or_else(outside)?;
            stripes.push_back((first, stripe));
            first = first.checked_add(rows).ok_or_else(|| broken("it has too many rows"))?;
        }
        if first != footer.rows {
            return Err(broken("its stripes have other rows than it says"));
        }
        Ok(Self {
            source,
            codec,
            nodes,
            schema: Arc::new(ArrowSchema::new(fields)),
            stripes,
            wanted: Vec::new(),
            wanted_schema: Arc::new(ArrowSchema::empty()),
            open: Open::default(),
        })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Chooses the columns, and the stripes that begin in a range of bytes.
    pub(super) fn select(&mut self, columns: &[usize], range: Option<Range<u64>>) -> Result<()> {
        self.wanted_schema = Arc::new(self.schema.project(columns)?);
        self.wanted = columns.to_vec();
        if let Some(range) = range {
            self.stripes.retain(|(_, stripe)| range.contains(&stripe.offset));
        }
        Ok(())
    }

    /// The next rows, `limit` at most; `None` at the end.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Option<Rows>> {
        while self.open.rows_left == 0 {
            let Some((first, stripe)) = self.stripes.pop_front() else { return Ok(None) };
            let (columns, present) =
                if self.wanted.is_empty() { (Vec::new(), None) } else { self.columns(&stripe).await? };
            // Rows that are large are read fewer at a time.
            let length = stripe.data_length.max(1);
            let batch_rows = stripe.rows.saturating_mul(BATCH_BYTES) / length;
            self.open =
                Open { columns, present, next: first, rows_left: stripe.rows, batch_rows: batch_rows.max(1) };
        }
        let open = &mut self.open;
        let rows = open.rows_left.min(open.batch_rows).min(limit as u64);
        let mut count = usize::try_from(rows).map_err(|_| Error::internal("a batch has too many rows"))?;
        let columns = loop {
            let before = open.columns.clone();
            let mut room = Room::for_batch();
            let read = open.columns.iter_mut().map(|column| column.read(count, None, &mut room));
            let read = read.collect::<Result<Vec<_>>>();
            if !room.is_exceeded() || count == 1 {
                break read?;
            }
            // Half of them may fit.
            open.columns = before;
            count /= 2;
            open.batch_rows = count as u64;
        };
        for _ in 0..count {
            if !open.present.as_mut().map_or(Ok(true), Bits::next)? {
                return Err(broken("a row of it is none"));
            }
        }
        let first = open.next;
        open.next = open.next.saturating_add(count as u64);
        open.rows_left -= count as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(self.wanted_schema.clone(), columns, &options);
        Ok(Some(Rows { first, batch: batch.map_err(|e| broken("its rows are incomplete").with_source(e))? }))
    }

    /// Decoders of the wanted columns of a stripe and of the rows that there are, their streams fetched.
    async fn columns(&self, stripe: &Stripe) -> Result<(Vec<Column>, Option<Bits>)> {
        let data = stripe.offset.checked_add(stripe.index_length).ok_or_else(outside)?;
        let end = data.checked_add(stripe.data_length).ok_or_else(outside)?;
        let footer = end..stripe.end().ok_or_else(outside)?;
        let footer = Input::new(self.codec, self.source.range(footer).await?).all(MAX_FOOTER_BYTES)?;
        let footer = StripeFooter::parse(&footer)?;
        let nodes: Vec<&Node> = self.wanted.iter().filter_map(|at| self.nodes.get(*at)).collect();
        let mut wanted = vec![ROOT];
        nodes.iter().for_each(|node| node.columns(&mut wanted));
        wanted.sort_unstable();
        let mut streams: Vec<Located> = Vec::new();
        let mut at = stripe.offset;
        for stream in &footer.streams {
            let next = at.checked_add(stream.length).filter(|next| *next <= end).ok_or_else(outside)?;
            // Those of the index come first.
            let column = usize::try_from(stream.column).ok();
            let column = column.filter(|column| at >= data && wanted.binary_search(column).is_ok());
            if let Some(column) = column {
                streams.push(((column, stream.kind), at..next));
            }
            at = next;
        }
        let bytes = self.fetch(streams).await?;
        let present = bytes.get(&(ROOT, PRESENT)).cloned();
        let present = present.map(|bytes| Bits::new(Input::new(self.codec, bytes)));
        let streams = Streams { codec: self.codec, footer, bytes };
        let mut room = Room::for_dictionaries();
        let columns = nodes.into_iter().map(|node| Column::new(node, &streams, &mut room));
        Ok((columns.collect::<Result<_>>()?, present))
    }

    /// Fetches streams, which are in the order in which they lie in the file, those that are close together at once.
    async fn fetch(&self, streams: Vec<Located>) -> Result<HashMap<(usize, u64), Bytes>> {
        let mut runs: Vec<(Range<u64>, Vec<Located>)> = Vec::new();
        for (key, range) in streams {
            match runs.last_mut() {
                Some((run, members)) if range.start <= run.end + GAP_BYTES => {
                    run.end = range.end;
                    members.push((key, range));
                }
                _ => runs.push((range.clone(), vec![(key, range)])),
            }
        }
        let fetched = runs.iter().map(|(run, _)| self.source.range(run.clone()));
        let fetched = futures::future::try_join_all(fetched).await?;
        let mut bytes = HashMap::new();
        for ((run, members), fetched) in runs.into_iter().zip(fetched) {
            for (key, range) in members {
                let (start, end) = (range.start - run.start, range.end - run.start);
                bytes.insert(key, fetched.slice(start as usize..end as usize));
            }
        }
        Ok(bytes)
    }
}

fn outside() -> Error {
    broken("a stripe of it lies outside of it, or where another one is")
}

#[cfg(test)]
mod tests;
