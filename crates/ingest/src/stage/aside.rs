//! What is set aside of one archive: counted, the first of each level listed, all of it written to a file.

use std::collections::BTreeMap;

use icefield_core::storage::{Storage, join};
use tokio::runtime::Handle;

use super::part::PartWriter;
use crate::archive::Failure;
use crate::escape;
use crate::quarantine::{self, Level, Quarantine, Quarantined, Reason};
use crate::read::Part;

/// Members and rows that a marker lists itself, beside the quarantine's file. The run keeps the first 10,000 of all archives.
const LISTED_MEMBERS: usize = 1000;
const LISTED_ROWS: usize = 100;
/// Entries of the quarantine that wait in memory, and their bytes.
const WAITING: usize = 1024;
const WAITING_BYTES: usize = 1 << 20;

/// Where an archive's quarantine is written.
pub(super) struct Place<'a> {
    pub(super) storage: &'a Storage,
    pub(super) handle: &'a Handle,
    pub(super) folder: &'a str,
}

pub(super) struct Aside {
    counts: BTreeMap<(Level, Reason), u64>,
    listed: Vec<Quarantined>,
    listed_of: BTreeMap<Level, usize>,
    /// Bytes that may still be listed.
    listed_left: usize,
    waiting: Vec<Quarantined>,
    waiting_bytes: usize,
    writer: Option<PartWriter>,
}

/// All that was set aside, once it is written.
pub(super) struct Written {
    pub(super) counts: Vec<(Level, Reason, u64)>,
    pub(super) listed: Vec<Quarantined>,
    pub(super) part: Option<Part>,
}

impl Aside {
    /// With a list of at most so many bytes.
    pub(super) fn new(listed_bytes: usize) -> Self {
        Self {
            counts: BTreeMap::new(),
            listed: Vec::new(),
            listed_of: BTreeMap::new(),
            listed_left: listed_bytes,
            waiting: Vec::new(),
            waiting_bytes: 0,
            writer: None,
        }
    }

    pub(super) fn put(&mut self, place: &Place<'_>, mut item: Quarantined) -> Result<(), Failure> {
        item.detail = escape::detail(item.detail);
        let bytes = item.bytes();
        *self.counts.entry((item.level, item.reason)).or_default() += 1;
        // A flood of bad rows does not keep members out of the list.
        let most = match item.level {
            Level::Archive => usize::MAX,
            Level::Member => LISTED_MEMBERS,
            Level::Row => LISTED_ROWS,
        };
        let listed = self.listed_of.entry(item.level).or_default();
        // An archive's own entry is one, and is told whatever else is.
        if *listed < most && (bytes <= self.listed_left || item.level == Level::Archive) {
            *listed += 1;
            self.listed_left = self.listed_left.saturating_sub(bytes);
            self.listed.push(item.clone());
        }
        self.waiting_bytes += bytes;
        self.waiting.push(item);
        if self.waiting.len() >= WAITING || self.waiting_bytes >= WAITING_BYTES {
            self.flush(place)?;
        }
        Ok(())
    }

    fn flush(&mut self, place: &Place<'_>) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let batch = quarantine::batch(&self.waiting)?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let location = join(place.folder, "quarantine.parquet");
                let writer = PartWriter::open(place.storage, place.handle, location, Quarantine::schema())?;
                self.writer.insert(writer)
            }
        };
        writer.write(&batch)
    }

    pub(super) fn close(mut self, place: &Place<'_>) -> Result<Written, Failure> {
        self.flush(place)?;
        let part = self.writer.take().map(PartWriter::close).transpose()?;
        let counts = self.counts.into_iter().map(|((level, reason), n)| (level, reason, n)).collect();
        Ok(Written { counts, listed: self.listed, part })
    }
}
