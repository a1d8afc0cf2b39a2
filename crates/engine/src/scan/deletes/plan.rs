//! [`ScanDeletes`]: what deletes do to each file of a scan, decided from metadata alone.

use std::sync::Arc;

use datafusion::execution::TaskContext;
use icefield_core::deletes::DeleteIndex;
use icefield_core::format::LiveFile;
use icefield_core::{Result, Table};

use super::equality::{self, EqualityDeletes};
use super::parts::{Applied, Part};
use super::positions;
use super::reader::DeleteReader;
use crate::scan::ScanCaches;
use crate::scan::file::FileDeletes;
use crate::scan::plan::check_format;

/// The deletes of a scan, in the order of its parts.
#[derive(Debug, Default)]
pub(in crate::scan) struct ScanDeletes {
    pub(in crate::scan) files: Vec<FileDeletes>,
    /// The equality deletes that some of the files are subject to.
    pub(in crate::scan) equality: Option<Arc<EqualityDeletes>>,
}

impl ScanDeletes {
    /// Plans what leaves the rows of data files that are not deleted. Reads nothing.
    ///
    /// # Errors
    /// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for deletes that contradict the format,
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for delete files of a format that holds no rows.
    pub(in crate::scan) fn live<'a>(
        table: &Table,
        data: impl IntoIterator<Item = &'a LiveFile>,
        deletes: impl IntoIterator<Item = &'a LiveFile>,
        caches: &Arc<ScanCaches>,
        context: &Arc<TaskContext>,
    ) -> Result<Self> {
        let index = DeleteIndex::new(deletes, table.metadata())?;
        let data = data.into_iter();
        if index.is_empty() {
            return Ok(Self { files: data.map(|_| FileDeletes::default()).collect(), equality: None });
        }
        let parts: Vec<Part<'_>> = data.map(|file| Part::live(file, Applied::to(file, &index))).collect();
        Self::plan(table, &parts, caches, context)
    }

    /// Plans how the rows of each part are found. Reads nothing.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for delete files that are not Parquet.
    pub(in crate::scan) fn plan(
        table: &Table,
        parts: &[Part<'_>],
        caches: &Arc<ScanCaches>,
        context: &Arc<TaskContext>,
    ) -> Result<Self> {
        if parts.iter().all(Part::is_whole) {
            return Ok(Self { files: vec![FileDeletes::default(); parts.len()], equality: None });
        }
        let reader = Arc::new(DeleteReader::new(table, caches, context));
        let mut positions = positions::Planner::new(reader.clone());
        let mut equality = equality::Planner::new(table);
        let mut planned = Vec::with_capacity(parts.len());
        for part in parts {
            part.delete_files().try_for_each(check_format)?;
            let class = equality.class(part.data.sequence_number, &part.drop, &part.pick);
            planned.push((class?, part.deleted()));
            positions.add(part);
        }
        let files = positions.finish().into_iter().zip(planned);
        let files = files.map(|(rows, (class, count))| FileDeletes { rows, class, count }).collect();
        Ok(Self { files, equality: equality.finish(reader)?.map(Arc::new) })
    }
}
