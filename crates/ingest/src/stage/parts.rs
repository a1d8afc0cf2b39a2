//! Parts that small members share.
//!
//! A part costs more than a thousand rows do, so that an archive of many small members would be slow to stage and to read. A
//! member's rows stay in memory until it has ended, or has too many; what ended is put behind the rows of the members before it.
//! A part holds members of one table and header only, and begins anew with another header or a large member: a table's parts
//! keep the order of its members, and a header that a run refuses takes no rows of another with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use icefield_core::Error;
use icefield_core::storage::{Storage, join};
use tokio::runtime::Handle;

use super::outcome::StagedFile;
use super::part::PartWriter;
use crate::archive::{Failure, Watch};
use crate::columns::Column;
use crate::read::{Part, SOURCE};

/// Bytes of memory from which on a member has a part of its own.
const MEMBER_BYTES: usize = 256 << 10;
/// Bytes of memory of all rows that wait for a part.
const WAITING_BYTES: usize = 1 << 20;

/// A new part costs as much as so many rows do: buffers, encoders and a footer for each of its columns.
const PART_ROWS: u64 = 100;
/// Fields whose cost a new part has beside that: a file is made, written and put.
const PART_FIELDS: u64 = 16 << 10;

/// A member's rows: in memory as long as they are few, in a part of its own from then on.
#[derive(Default)]
pub(super) struct MemberRows {
    schema: Option<SchemaRef>,
    few: Vec<RecordBatch>,
    bytes: usize,
    own: Option<PartWriter>,
}

/// Rows of small members of one table, which become one part.
struct Waiting {
    /// The place of the first of the members among the archive's files: the part is listed there.
    file: usize,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

/// The parts of one archive.
pub(super) struct Parts<'a> {
    storage: &'a Storage,
    handle: &'a Handle,
    folder: &'a str,
    /// The archive's name, where rows are to tell where they are from.
    archive: Option<&'a str>,
    watch: Watch,
    next: usize,
    /// What waits for parts, by table.
    waiting: BTreeMap<String, Waiting>,
    /// Shared parts that were written, and the places of the files that they are listed at.
    written: Vec<(usize, Part)>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(
        storage: &'a Storage,
        handle: &'a Handle,
        folder: &'a str,
        archive: Option<&'a str>,
        watch: Watch,
    ) -> Self {
        let (waiting, written) = (BTreeMap::new(), Vec::new());
        Self { storage, handle, folder, archive, watch, next: 0, waiting, written }
    }

    /// Takes rows of a member, in the columns' order.
    pub(super) fn put_rows(
        &mut self,
        file: &mut StagedFile,
        rows: &mut MemberRows,
        columns: &[Column],
        mut arrays: Vec<ArrayRef>,
    ) -> Result<(), Failure> {
        let count = arrays.first().map_or(0, |array| array.len());
        if let Some(archive) = self.archive {
            let source = source(archive, &file.member);
            arrays.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(source, count))));
        }
        let schema = rows.schema.get_or_insert_with(|| {
            let mut fields: Vec<_> = columns.iter().map(|column| column.field.clone()).collect();
            if self.archive.is_some() {
                fields.push(Field::new(SOURCE, DataType::Utf8, false).into());
            }
            Schema::new(fields).into()
        });
        let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(Error::from)?;
        file.rows += count as u64;
        match &mut rows.own {
            Some(own) => own.write(&batch),
            None => {
                rows.bytes += batch.get_array_memory_size();
                rows.few.push(batch);
                if rows.bytes > MEMBER_BYTES { self.begin_own(file, rows) } else { Ok(()) }
            }
        }
    }

    /// Gives the rows so far a part of their own: others of the member have more columns.
    pub(super) fn close_own(&mut self, file: &mut StagedFile, rows: &mut MemberRows) -> Result<(), Failure> {
        if !rows.few.is_empty() {
            self.begin_own(file, rows)?;
        }
        if let Some(own) = std::mem::take(rows).own {
            file.parts.push(own.close()?);
        }
        Ok(())
    }

    /// Ends the part of a member that has one.
    pub(super) fn close_many(&mut self, file: &mut StagedFile, rows: &mut MemberRows) -> Result<(), Failure> {
        if rows.own.is_some() { self.close_own(file, rows) } else { Ok(()) }
    }

    fn begin_own(&mut self, file: &StagedFile, rows: &mut MemberRows) -> Result<(), Failure> {
        let Some(schema) = &rows.schema else { return Ok(()) };
        self.write_waiting(&file.table)?;
        self.watch.put_fields(cost(schema))?;
        let mut own = self.open_part(schema.clone())?;
        for batch in std::mem::take(&mut rows.few) {
            own.write(&batch)?;
        }
        rows.own = Some(own);
        Ok(())
    }

    /// Takes the rows of a member that ended, which has this place among the archive's files.
    pub(super) fn share(&mut self, table: &str, at: usize, rows: MemberRows) -> Result<(), Failure> {
        let MemberRows { schema: Some(schema), few, bytes, own: None } = rows else { return Ok(()) };
        if few.is_empty() {
            return Ok(());
        }
        if self.waiting.get(table).is_some_and(|waiting| waiting.schema != schema) {
            self.write_waiting(table)?;
        }
        if !self.waiting.contains_key(table) {
            self.watch.put_fields(cost(&schema))?;
            let waiting = Waiting { file: at, schema, batches: Vec::new(), bytes: 0 };
            self.waiting.insert(table.to_string(), waiting);
        }
        if let Some(waiting) = self.waiting.get_mut(table) {
            waiting.batches.extend(few);
            waiting.bytes += bytes;
        }
        Ok(())
    }

    /// Writes what takes the most memory, once all that waits takes too much.
    pub(super) fn bound_waiting(&mut self) -> Result<(), Failure> {
        while self.waiting.values().map(|waiting| waiting.bytes).sum::<usize>() > WAITING_BYTES {
            let most = self.waiting.iter().max_by_key(|(_, waiting)| waiting.bytes);
            let Some(table) = most.map(|(table, _)| table.clone()) else { break };
            self.write_waiting(&table)?;
        }
        Ok(())
    }

    /// Writes all that waits.
    pub(super) fn write_all_waiting(&mut self) -> Result<(), Failure> {
        while let Some(table) = self.waiting.keys().next().cloned() {
            self.write_waiting(&table)?;
        }
        Ok(())
    }

    fn write_waiting(&mut self, table: &str) -> Result<(), Failure> {
        let Some(Waiting { file, schema, batches, .. }) = self.waiting.remove(table) else {
            return Ok(());
        };
        let mut writer = self.open_part(schema.clone())?;
        writer.write(&concat_batches(&schema, &batches).map_err(Error::from)?)?;
        self.written.push((file, writer.close()?));
        Ok(())
    }

    fn open_part(&mut self, schema: SchemaRef) -> Result<PartWriter, Failure> {
        let location = join(self.folder, &format!("{:05}.parquet", self.next));
        self.next += 1;
        Ok(PartWriter::open(self.storage, self.handle, location, schema)?)
    }

    /// The shared parts that were written since this was asked last, and the places of their files.
    pub(super) fn take_written(&mut self) -> Vec<(usize, Part)> {
        std::mem::take(&mut self.written)
    }

    /// Forgets what waits: no file of the archive is taken.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Deletes parts of what is not taken after all.
    pub(super) fn delete(&self, parts: Vec<Part>) -> Result<(), Failure> {
        for part in parts {
            self.handle.block_on(self.storage.delete(&part.location))?;
        }
        Ok(())
    }
}

/// An archive and its member, as `archive.tar.gz/member.csv`.
fn source(archive: &str, member: &str) -> String {
    if archive.starts_with(member) { archive.to_string() } else { format!("{archive}/{member}") }
}

/// What a new part costs, in fields.
fn cost(schema: &Schema) -> u64 {
    PART_FIELDS + PART_ROWS * schema.fields().len() as u64
}
