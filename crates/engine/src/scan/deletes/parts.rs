//! [`Part`]: which rows of a data file a scan reads, said by the delete files that leave them.

use std::collections::HashSet;

use icefield_core::deletes::{DeleteIndex, FileDeletes};
use icefield_core::format::LiveFile;

/// Delete files that apply to one data file.
#[derive(Debug, Clone, Default)]
pub(in crate::scan) struct Applied<'a> {
    pub(super) positions: Positions<'a>,
    pub(super) equality: Vec<&'a LiveFile>,
}

/// Those that delete rows by their position.
#[derive(Debug, Clone, Default)]
pub(super) struct Positions<'a> {
    /// The deletion vector. With it there are no `files`.
    pub(super) vector: Option<&'a LiveFile>,
    pub(super) files: Vec<&'a LiveFile>,
}

impl Positions<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.vector.is_none() && self.files.is_empty()
    }
}

impl<'a> Applied<'a> {
    /// What applies to a data file.
    pub(in crate::scan) fn to(data: &LiveFile, index: &DeleteIndex<&'a LiveFile>) -> Self {
        let FileDeletes { vector, positions, equality } = index.of(data);
        let files = positions.into_iter().copied().collect();
        Self {
            positions: Positions { vector: vector.copied(), files },
            equality: equality.into_iter().copied().collect(),
        }
    }

    /// What applies here and not there.
    pub(in crate::scan) fn without(&self, other: &Self) -> Self {
        let known: HashSet<_> = other.files().map(identity).collect();
        let is_new = |file: &&LiveFile| !known.contains(&identity(file));
        let positions = &self.positions;
        Self {
            positions: Positions {
                vector: positions.vector.filter(is_new),
                files: positions.files.iter().copied().filter(is_new).collect(),
            },
            equality: self.equality.iter().copied().filter(is_new).collect(),
        }
    }

    fn files(&self) -> impl Iterator<Item = &'a LiveFile> {
        let Positions { vector, files } = &self.positions;
        (*vector).into_iter().chain(files.iter().copied()).chain(self.equality.iter().copied())
    }
}

/// What tells a delete file from another: one Puffin file holds many deletion vectors.
pub(crate) fn identity(delete: &LiveFile) -> (&str, Option<i64>) {
    (delete.path(), delete.file.content_offset())
}

/// Rows of a data file.
#[derive(Debug, Clone)]
pub(in crate::scan) struct Part<'a> {
    pub(in crate::scan) data: &'a LiveFile,
    /// Rows at these positions are left out. None of them is empty.
    pub(super) skip: Vec<Positions<'a>>,
    /// With it only rows at these positions are read.
    pub(super) only: Option<Positions<'a>>,
    /// Rows with these keys are left out.
    pub(super) drop: Vec<&'a LiveFile>,
    /// With some, only rows with these keys are read.
    pub(super) pick: Vec<&'a LiveFile>,
}

impl<'a> Part<'a> {
    /// The rows that are not deleted.
    pub(in crate::scan) fn live(data: &'a LiveFile, deletes: Applied<'a>) -> Self {
        let skip = if deletes.positions.is_empty() { Vec::new() } else { vec![deletes.positions] };
        Self { data, skip, only: None, drop: deletes.equality, pick: Vec::new() }
    }

    /// Of the rows that `live` has, those at the positions that these delete.
    pub(in crate::scan) fn at_positions(mut self, deleted: &Applied<'a>) -> Option<Self> {
        if deleted.positions.is_empty() {
            return None;
        }
        self.only = Some(deleted.positions.clone());
        Some(self)
    }

    /// Of the rows that `live` has, those with the keys that these delete, unless
    /// [`at_positions`](Self::at_positions) has them.
    pub(in crate::scan) fn with_keys(mut self, deleted: &Applied<'a>) -> Option<Self> {
        if deleted.equality.is_empty() {
            return None;
        }
        if !deleted.positions.is_empty() {
            self.skip.push(deleted.positions.clone());
        }
        self.pick = deleted.equality.clone();
        Some(self)
    }

    pub(super) fn is_whole(&self) -> bool {
        let by_keys = [&self.drop, &self.pick];
        self.only.is_none() && self.skip.is_empty() && by_keys.iter().all(|keys| keys.is_empty())
    }

    /// How many rows are left out, where metadata tells.
    pub(super) fn deleted(&self) -> Option<u64> {
        match (self.skip.as_slice(), &self.only) {
            ([Positions { vector: Some(vector), .. }], None)
                if self.drop.is_empty() && self.pick.is_empty() =>
            {
                Some(vector.file.record_count())
            }
            _ => None,
        }
    }

    /// The delete files that are read for it, vectors aside.
    pub(super) fn delete_files(&self) -> impl Iterator<Item = &'a LiveFile> {
        let positions = self.skip.iter().chain(&self.only).flat_map(|positions| &positions.files);
        positions.chain(&self.drop).chain(&self.pick).copied()
    }
}
