//! [`AvroFile`]: a data or delete file, read block by block as Arrow.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema as ArrowSchema, SchemaRef};
use bytes::Bytes;

use super::columns::{Column, field};
use super::reader::Reader;
use super::schema::{Field, Schema};
use super::{Codec, Container, MAX_BLOCK_BYTES, SYNC_BYTES};
use crate::error::{Error, ErrorKind, Result};
use crate::format::source::{BATCH_BYTES, Rows, Source, broken};

/// The most that a header may take, in bytes: a schema of many thousand columns.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Bounds a decompressed block to so many times its length, unless it has no more than any may have: a small file can't
/// fill memory. No codec that writers are given makes more of rows.
const MAX_RATIO: u64 = 1024;
const ANY_BLOCK_BYTES: u64 = 64 << 20;

/// The most that a block's two numbers take.
const BLOCK_HEAD_BYTES: u64 = 20;

#[derive(Debug)]
pub(in crate::format) struct AvroFile {
    source: Source,
    codec: Codec,
    sync: Bytes,
    fields: Arc<Vec<Field>>,
    schema: SchemaRef,
    /// The schema of the batches.
    wanted: SchemaRef,
    /// A decoder for each field that is wanted.
    columns: Vec<Option<Column>>,
    block: Block,
    /// The position of the next row.
    next: u64,
}

/// What is left of a block.
#[derive(Debug, Default)]
struct Block {
    bytes: Bytes,
    records: u64,
}

impl AvroFile {
    pub(in crate::format) async fn open(mut source: Source) -> Result<Self> {
        let mut length = source.left().min(4096);
        let (codec, sync, schema, header) = loop {
            let held = source.peek(length).await?;
            let tried = Container::open(held).map(|header| {
                let layout = header.layout;
                (layout.codec, Bytes::copy_from_slice(&layout.sync), layout.schema, layout.start)
            });
            match tried {
                Ok(header) => break header,
                Err(e) if e.kind() == ErrorKind::Unsupported => return Err(e),
                Err(e) => {
                    // It may be longer.
                    let held = held.len() as u64;
                    if source.left() == held || held > MAX_HEADER_BYTES {
                        return Err(e);
                    }
                    length = source.left().min(held * 2);
                }
            }
        };
        source.take(header);
        let Schema::Record(fields) = schema else {
            return Err(broken("its rows are no records"));
        };
        let arrow = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
        let schema: SchemaRef = Arc::new(ArrowSchema::new(arrow));
        let (wanted, block) = (Arc::new(ArrowSchema::empty()), Block::default());
        Ok(Self { source, codec, sync, fields, schema, wanted, columns: Vec::new(), block, next: 0 })
    }

    pub(in crate::format) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Chooses the columns. Of a range of bytes that does not begin at 0, another one has the rows.
    pub(in crate::format) fn select(&mut self, columns: &[usize], range: Option<Range<u64>>) -> Result<()> {
        self.wanted = Arc::new(self.schema.project(columns)?);
        let all = self.fields.iter().zip(self.schema.fields()).enumerate();
        let all = all.map(|(at, (field, arrow))| {
            columns.contains(&at).then(|| Column::new(&field.schema, arrow.data_type())).transpose()
        });
        self.columns = all.collect::<Result<_>>()?;
        if range.is_some_and(|range| range.start > 0) {
            self.source.take_all();
        }
        Ok(())
    }

    /// The next rows, `limit` at most; `None` at the file's end.
    pub(in crate::format) async fn next(&mut self, limit: usize) -> Result<Option<Rows>> {
        let (first, mut rows, mut bytes) = (self.next, 0_u64, 0_u64);
        while rows < limit as u64 && bytes < BATCH_BYTES {
            if self.block.records == 0 {
                if !self.block.bytes.is_empty() {
                    return Err(broken("bytes follow the records of a block"));
                }
                match self.next_block().await? {
                    Some(block) => self.block = block,
                    None => break,
                }
            } else if self.wanted.fields().is_empty() {
                let taken = self.block.records.min(limit as u64 - rows);
                self.block.records -= taken;
                rows += taken;
            } else {
                let (taken, read) = self.decode(limit as u64 - rows, BATCH_BYTES - bytes)?;
                rows += taken;
                bytes += read;
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        self.next = self.next.saturating_add(rows);
        let columns = self.columns.iter_mut().flatten().map(Column::take).collect::<Result<Vec<_>>>()?;
        let count = usize::try_from(rows).map_err(|_| Error::internal("a batch has too many rows"))?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(self.wanted.clone(), columns, &options);
        Ok(Some(Rows { first, batch: batch.map_err(|e| broken("its rows are incomplete").with_source(e))? }))
    }

    /// Decodes records of the block, `limit` at most, until they took so many bytes; gives how many, and their bytes.
    fn decode(&mut self, limit: u64, bytes: u64) -> Result<(u64, u64)> {
        let all = self.block.bytes.clone();
        let mut reader = Reader::new(&all);
        let mut taken = 0;
        while taken < limit && taken < self.block.records && ((all.len() - reader.left()) as u64) < bytes {
            // A record takes a byte at least, or a count could keep this busy for ever.
            if reader.is_at_end() {
                return Err(broken("a block has fewer records than it says"));
            }
            for (field, column) in self.fields.iter().zip(&mut self.columns) {
                match column {
                    Some(column) => column.read(&mut reader)?,
                    None => reader.skip(&field.schema, 0)?,
                }
            }
            taken += 1;
        }
        let read = all.len() - reader.left();
        self.block.bytes = all.slice(read..);
        self.block.records -= taken;
        Ok((taken, read as u64))
    }

    async fn next_block(&mut self) -> Result<Option<Block>> {
        let left = self.source.left();
        if left == 0 {
            return Ok(None);
        }
        let head = self.source.peek(left.min(BLOCK_HEAD_BYTES)).await?;
        let mut reader = Reader::new(head);
        let (records, length) = (reader.length()?, reader.length()?);
        let begin = head.len() - reader.left();
        if length as u64 > MAX_BLOCK_BYTES {
            return Err(broken("a block is too large"));
        }
        self.source.peek((begin + length + SYNC_BYTES) as u64).await?;
        self.source.take(begin);
        let compressed = self.source.take(length);
        if self.source.take(SYNC_BYTES) != self.sync {
            return Err(broken("a block does not end where it says"));
        }
        let records = records as u64;
        // A record takes a byte at least: no block has more, decompressed or not.
        if records > MAX_BLOCK_BYTES {
            return Err(broken("a block has fewer records than it says"));
        }
        if self.wanted.fields().is_empty() {
            return Ok(Some(Block { bytes: Bytes::new(), records }));
        }
        let bytes = match self.codec {
            Codec::Null => compressed,
            codec => {
                let most = (compressed.len() as u64).saturating_mul(MAX_RATIO);
                let most = most.clamp(ANY_BLOCK_BYTES, MAX_BLOCK_BYTES);
                let block = codec.decompress(&compressed, most)?;
                Bytes::from(block.ok_or_else(|| broken("a block is too large"))?.into_owned())
            }
        };
        Ok(Some(Block { bytes, records }))
    }
}
