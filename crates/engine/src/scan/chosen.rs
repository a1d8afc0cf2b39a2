//! Plans over chosen files of a table, and over chosen rows of them: those that are not deleted, and those that are.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::config::ConfigOptions;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use icefield_core::deletes::DeleteIndex;
use icefield_core::format::LiveFile;
use icefield_core::{Result, Table};

use super::ScanCaches;
use super::deletes::{Applied, EqualityDeleteExec, EqualityDeletes, Part, ScanDeletes};
use super::exec::ScanRequest;
use super::file::{FileDeletes, ScanFile};
use super::hidden_columns::CLASS_ID;
use super::metadata_columns::{Needed, with_lineage};
use super::order::FileOrder;
use super::plan::{PlannedFile, check_format};
use super::schema::ReadSchema;
use super::statistics::FileFacts;
use crate::error::from_datafusion;

/// How files of a table are scanned, whichever they are.
pub(super) struct FilesScan<'a> {
    pub(super) table: &'a Table,
    /// The columns, without the hidden ones of deletes.
    pub(super) schema: &'a Arc<ReadSchema>,
    pub(super) caches: &'a Arc<ScanCaches>,
    /// The columns to produce, by their place in the schema; all without.
    pub(super) projection: Option<&'a Vec<usize>>,
    pub(super) partitions: usize,
    pub(super) config: &'a ConfigOptions,
    pub(super) context: &'a Arc<TaskContext>,
}

impl FilesScan<'_> {
    /// The plan that reads files, with what deletes leave of each. `deleted` is the value of the column `_deleted`.
    pub(super) fn plan<'f>(
        &self,
        files: impl IntoIterator<Item = (&'f LiveFile, FileDeletes)>,
        equality: &Option<Arc<EqualityDeletes>>,
        limit: Option<usize>,
        deleted: bool,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (schema, mut projection) = self.used(equality)?;
        let (files, deletes): (Vec<&LiveFile>, Vec<FileDeletes>) = files.into_iter().unzip();
        let needed = Needed::new(self.table, &schema, files.iter().copied(), deleted)?;
        let facts = FileFacts::new(self.table, &schema, &files, self.context.memory_pool())?;
        let equality = equality.as_ref().filter(|_| !files.is_empty());
        let mut constants = needed.constants;
        if let Some(equality) = equality {
            for (file, deletes) in files.iter().zip(&deletes) {
                let class = ScalarValue::Int32(Some(deletes.class.unwrap_or(-1)));
                constants.entry(file.path().to_string()).or_default().insert(CLASS_ID, class);
            }
            let columns = schema.arrow.fields().len();
            projection.extend(columns - equality.hidden()..columns);
        }
        let request = ScanRequest {
            schema: &schema,
            storage: self.table.storage(),
            caches: self.caches,
            projection: Some(projection),
            limit,
            partitions: self.partitions,
            predicate: None,
            constants,
            positions: needed.positions,
            order: FileOrder::of(self.table, &schema, files.iter().copied()),
            facts: Arc::new(facts),
        };
        let files = files.into_iter().zip(deletes).enumerate();
        let files = files.map(|(place, (live, deletes))| ScanFile { live, place, deletes });
        let scan = request.plan(&files.collect::<Vec<_>>(), self.config)?;
        Ok(match equality {
            Some(equality) => {
                Arc::new(EqualityDeleteExec::try_new(scan, equality.clone()).map_err(from_datafusion)?)
            }
            None => scan,
        })
    }

    /// The columns that are produced, then the hidden ones of deletes, and the place of each produced column among these: what
    /// nobody asks for takes no memory in any file's facts.
    fn used(&self, equality: &Option<Arc<EqualityDeletes>>) -> Result<(Arc<ReadSchema>, Vec<usize>)> {
        let visible = self.schema.arrow.fields().len();
        let mut places: Vec<usize> = match self.projection {
            Some(projection) => projection.clone(),
            None => (0..visible).collect(),
        };
        places.sort_unstable();
        places.dedup();
        let produced = self.projection.into_iter().flatten();
        let projection = match self.projection {
            Some(_) => produced.filter_map(|place| places.binary_search(place).ok()).collect(),
            None => (0..visible).collect(),
        };
        let used = self.schema.of_columns(&places)?;
        let used = match equality {
            Some(equality) => equality.extend(&used),
            None => used,
        };
        Ok((Arc::new(used), projection))
    }

    /// The plan that reads parts of files: each group is a scan of its own, in which no file is there twice.
    fn plan_parts<const GROUPS: usize>(
        &self,
        groups: [(Vec<Part<'_>>, bool); GROUPS],
        context: &Arc<TaskContext>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<Part<'_>> = groups.iter().flat_map(|(parts, _)| parts).cloned().collect();
        let ScanDeletes { files, equality } = ScanDeletes::plan(self.table, &all, self.caches, context)?;
        let mut files = files.into_iter();
        let mut plans = Vec::with_capacity(GROUPS);
        for (parts, deleted) in &groups {
            let of_group = parts.iter().map(|part| part.data).zip(files.by_ref());
            let of_group: Vec<_> = of_group.collect();
            if !of_group.is_empty() {
                plans.push(self.plan(of_group, &equality, None, *deleted)?);
            }
        }
        match plans.is_empty() {
            true => self.plan([], &None, None, false),
            false => UnionExec::try_new(plans).map_err(from_datafusion),
        }
    }
}

/// A plan that reads files' rows whether they are deleted or not.
pub(super) fn deleted_too(
    scan: &FilesScan<'_>,
    data: &[PlannedFile],
    deletes: &[PlannedFile],
    context: &Arc<TaskContext>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let index = DeleteIndex::new(deletes.iter().map(|file| &**file), scan.table.metadata())?;
    let (mut live, mut at_positions, mut with_keys) = (Vec::new(), Vec::new(), Vec::new());
    for file in data {
        let deletes = Applied::to(file, &index);
        let all = Part::live(file, Applied::default());
        at_positions.extend(all.clone().at_positions(&deletes));
        with_keys.extend(all.with_keys(&deletes));
        live.push(Part::live(file, deletes));
    }
    scan.plan_parts([(live, false), (at_positions, true), (with_keys, true)], context)
}

/// A plan that reads the rows of these files of a table that are not deleted, in the table's current schema: what compaction
/// rewrites. `deletes` holds the delete files that may apply to them; with `lineage` the columns `_row_id` and
/// `_last_updated_sequence_number` follow the table's own. Files are spread over at most `partitions` partitions.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for files that are not Parquet and for columns that can't be
/// carried, [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for deletes that contradict the format.
pub fn scan_files(
    table: &Table,
    files: &[LiveFile],
    deletes: &[LiveFile],
    caches: &Arc<ScanCaches>,
    context: &Arc<TaskContext>,
    partitions: usize,
    lineage: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    files.iter().try_for_each(check_format)?;
    let mut schema = ReadSchema::new(table, table.schema(), caches.view_types())?;
    if lineage {
        schema = with_lineage(table, &schema)?;
    }
    let deletes = ScanDeletes::live(table, files, deletes, caches, context)?;
    let scan = FilesScan {
        table,
        schema: &Arc::new(schema),
        caches,
        projection: None,
        partitions,
        config: context.session_config().options(),
        context,
    };
    scan.plan(files.iter().zip(deletes.files), &deletes.equality, None, false)
}

/// Rows of files, as one state of a table has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChosenRows {
    /// Files whose rows are read that `deletes` leave.
    pub(crate) whole: Vec<PlannedFile>,
    /// Files of whose rows, those that `deletes` leave, only the ones are read that `deleted_by` deletes. None is among
    /// `whole`.
    pub(crate) touched: Vec<PlannedFile>,
    pub(crate) deletes: Arc<[PlannedFile]>,
    pub(crate) deleted_by: Arc<[PlannedFile]>,
}

impl ChosenRows {
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.touched.is_empty()
    }

    /// A plan that reads the rows in the table's current schema.
    ///
    /// # Errors
    /// As [`scan_files`].
    pub(crate) fn plan(
        &self,
        table: &Table,
        caches: &Arc<ScanCaches>,
        context: &Arc<TaskContext>,
        partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (whole, touched) = (self.whole.iter(), self.touched.iter());
        whole.clone().chain(touched.clone()).try_for_each(|file| check_format(file))?;
        let index = |files| DeleteIndex::new(live(files), table.metadata());
        let (deletes, deleted_by) = (index(&self.deletes)?, index(&self.deleted_by)?);
        let mut parts: Vec<_> = whole.map(|file| Part::live(file, Applied::to(file, &deletes))).collect();
        let mut with_keys = Vec::new();
        for file in touched {
            let before = Applied::to(file, &deletes);
            // Rows that both delete are none of these: what is in both need not be read for them.
            let by = Applied::to(file, &deleted_by).without(&before);
            let left = Part::live(file, before);
            parts.extend(left.clone().at_positions(&by));
            with_keys.extend(left.with_keys(&by));
        }
        let scan = FilesScan {
            table,
            schema: &Arc::new(ReadSchema::new(table, table.schema(), caches.view_types())?),
            caches,
            projection: None,
            partitions,
            config: context.session_config().options(),
            context,
        };
        scan.plan_parts([(parts, false), (with_keys, false)], context)
    }
}

fn live(files: &[PlannedFile]) -> impl Iterator<Item = &LiveFile> {
    files.iter().map(|file| &**file)
}
