//! Rows deleted by their position in a data file: read once, whatever number of data files and pieces of files want them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, in_list, lit};
use futures::TryStreamExt;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use icefield_core::deletes::{DELETE_FILE_PATH_ID, DELETE_POS_ID, RoaringTreemap, load_deletion_vector};
use icefield_core::format::{LiveFile, arrow_schema};
use icefield_core::{Error, Result};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::ParquetMetaData;
use tokio::sync::OnceCell;

use super::DeleteReader;
use crate::error::from_datafusion;
use crate::scan::schema::ReadSchema;

/// Up to so many data files, their paths are given to the Parquet reader to prune a position delete file by.
const PATHS_TO_PRUNE_BY: usize = 16;

/// The rows of one data file that are deleted by position.
pub(in crate::scan) struct RowDeletes {
    path: String,
    vector: Option<LiveFile>,
    files: Vec<Arc<PositionFile>>,
    reader: Arc<DeleteReader>,
    loaded: OnceCell<Arc<RoaringTreemap>>,
}

impl fmt::Debug for RowDeletes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowDeletes")
            .field("path", &self.path)
            .field("vector", &self.vector.is_some())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// A position delete file, and what the scan wants of it.
struct PositionFile {
    file: LiveFile,
    wanted: HashSet<String>,
    loaded: OnceCell<HashMap<String, Arc<RoaringTreemap>>>,
}

/// Collects what a scan's data files want.
pub(super) struct Planner {
    reader: Arc<DeleteReader>,
    files: Vec<(LiveFile, HashSet<String>)>,
    by_path: HashMap<String, usize>,
    planned: Vec<(String, Option<LiveFile>, Vec<usize>)>,
}

impl Planner {
    pub(super) fn new(reader: Arc<DeleteReader>) -> Self {
        Self { reader, files: Vec::new(), by_path: HashMap::new(), planned: Vec::new() }
    }

    pub(super) fn add<'a>(
        &mut self,
        data: &LiveFile,
        vector: Option<&LiveFile>,
        positions: impl Iterator<Item = &'a LiveFile>,
    ) {
        let mut of_file = Vec::new();
        for delete in positions {
            let at = *self.by_path.entry(delete.path().to_string()).or_insert_with(|| {
                self.files.push((delete.clone(), HashSet::new()));
                self.files.len() - 1
            });
            if let Some((_, wanted)) = self.files.get_mut(at) {
                wanted.insert(data.path().to_string());
            }
            of_file.push(at);
        }
        self.planned.push((data.path().to_string(), vector.cloned(), of_file));
    }

    /// For each data file, in the order in which they were added, its deleted rows.
    pub(super) fn finish(self) -> Vec<Option<Arc<RowDeletes>>> {
        let files = self.files.into_iter();
        let files: Vec<Arc<PositionFile>> = files
            .map(|(file, wanted)| Arc::new(PositionFile { file, wanted, loaded: OnceCell::new() }))
            .collect();
        let of_file = |(path, vector, at): (String, Option<LiveFile>, Vec<usize>)| {
            let files: Vec<_> = at.into_iter().filter_map(|at| files.get(at).cloned()).collect();
            (vector.is_some() || !files.is_empty()).then(|| {
                let (reader, loaded) = (self.reader.clone(), OnceCell::new());
                Arc::new(RowDeletes { path, vector, files, reader, loaded })
            })
        };
        self.planned.into_iter().map(of_file).collect()
    }
}

impl RowDeletes {
    /// The deleted positions. The first caller reads, the others wait for it.
    pub(super) async fn positions(&self) -> Result<Arc<RoaringTreemap>> {
        self.loaded.get_or_try_init(|| self.load()).await.cloned()
    }

    async fn load(&self) -> Result<Arc<RoaringTreemap>> {
        if let Some(vector) = &self.vector {
            let positions = load_deletion_vector(self.reader.table.storage(), vector).await?;
            self.reader.reserve(positions.serialized_size())?;
            return Ok(Arc::new(positions));
        }
        let mut found = Vec::new();
        for file in &self.files {
            let of_paths = file.loaded.get_or_try_init(|| file.load(&self.reader)).await?;
            found.extend(of_paths.get(&self.path).cloned());
        }
        if found.len() < 2 {
            return Ok(found.pop().unwrap_or_default());
        }
        let mut all = RoaringTreemap::new();
        found.iter().for_each(|positions| all |= &**positions);
        self.reader.reserve(all.serialized_size())?;
        Ok(Arc::new(all))
    }
}

impl PositionFile {
    async fn load(&self, reader: &DeleteReader) -> Result<HashMap<String, Arc<RoaringTreemap>>> {
        let about = |e: Error| e.with("delete file", self.file.path());
        let schema = read_schema()?;
        let mut found: HashMap<String, RoaringTreemap> = HashMap::new();
        let mut rows = reader.rows(&self.file, &schema, self.predicate(&schema)?)?;
        while let Some(batch) = rows.try_next().await.map_err(|e| about(from_datafusion(e)))? {
            self.collect(&batch, &mut found).map_err(about)?;
        }
        reader.reserve(found.values().map(RoaringTreemap::serialized_size).sum())?;
        Ok(found.into_iter().map(|(path, positions)| (path, Arc::new(positions))).collect())
    }

    fn predicate(&self, schema: &ReadSchema) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        if self.wanted.len() > PATHS_TO_PRUNE_BY {
            return Ok(None);
        }
        let path = Arc::new(Column::new("file_path", 0));
        let wanted = self.wanted.iter().map(|path| lit(path.as_str())).collect();
        in_list(path, wanted, &false, &schema.arrow).map(Some).map_err(from_datafusion)
    }

    fn collect(&self, batch: &RecordBatch, found: &mut HashMap<String, RoaringTreemap>) -> Result<()> {
        let columns = (batch.columns().first(), batch.columns().get(1));
        let (Some(paths), Some(positions)) = columns else {
            return Err(Error::internal("a position delete file has two columns"));
        };
        let (Some(paths), Some(positions)) =
            (paths.as_string_opt::<i32>(), positions.as_primitive_opt::<Int64Type>())
        else {
            return Err(Error::internal("a position delete file's columns are of other types"));
        };
        // Rows are sorted by path: one look-up for a run of them.
        let mut at = 0;
        while at < batch.num_rows() {
            let path = paths.value(at);
            let end = (at + 1..batch.num_rows()).find(|row| paths.value(*row) != path);
            let end = end.unwrap_or(batch.num_rows());
            if self.wanted.contains(path) {
                let rows = found.entry(path.to_string()).or_default();
                for position in positions.values().iter().skip(at).take(end - at) {
                    let position = u64::try_from(*position).map_err(|_| {
                        Error::data_invalid(
                            "a position delete file has a position below 0; roll back to a snapshot without it",
                        )
                        .with("file", path)
                        .with("position", position)
                    })?;
                    rows.insert(position);
                }
            }
            at = end;
        }
        Ok(())
    }
}

/// The columns of a position delete file.
fn read_schema() -> Result<Arc<ReadSchema>> {
    let column = |id, name, of| NestedField::required(id, name, Type::Primitive(of)).into();
    let schema = Schema::builder()
        .with_fields([
            column(DELETE_FILE_PATH_ID, "file_path", PrimitiveType::String),
            column(DELETE_POS_ID, "pos", PrimitiveType::Long),
        ])
        .build()?;
    let arrow = arrow_schema(&schema)?;
    debug_assert_eq!(arrow.field(0).data_type(), &DataType::Utf8);
    Ok(Arc::new(ReadSchema { iceberg: Arc::new(schema), arrow, mapping: None, defaults: HashMap::new() }))
}

/// What is read of a file: everything but these rows.
pub(super) fn access_plan(footer: &ParquetMetaData, deleted: &RoaringTreemap) -> ParquetAccessPlan {
    let mut start = 0;
    let of_group = |rows: i64| {
        let rows = start..start + rows.max(0) as u64;
        start = rows.end;
        access(rows, deleted)
    };
    let groups = footer.row_groups().iter().map(|group| group.num_rows()).map(of_group);
    ParquetAccessPlan::new(groups.collect())
}

fn access(rows: Range<u64>, deleted: &RoaringTreemap) -> RowGroupAccess {
    let gone = deleted.range_cardinality(rows.clone());
    if gone == 0 {
        return RowGroupAccess::Scan;
    }
    if gone == rows.end - rows.start {
        return RowGroupAccess::Skip;
    }
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = rows.start;
    let mut positions = deleted.iter();
    positions.advance_to(rows.start);
    for position in positions.take_while(|position| *position < rows.end) {
        if position > next {
            selectors.push(RowSelector::select((position - next) as usize));
        }
        match selectors.last_mut() {
            Some(last) if last.skip => last.row_count += 1,
            _ => selectors.push(RowSelector::skip(1)),
        }
        next = position + 1;
    }
    if next < rows.end {
        selectors.push(RowSelector::select((rows.end - next) as usize));
    }
    RowGroupAccess::Selection(RowSelection::from(selectors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_group_is_read_without_its_deleted_rows() {
        let deleted: RoaringTreemap = [3, 4, 9, 20, 21, 22].into_iter().collect();
        let selection = |selectors: Vec<RowSelector>| RowGroupAccess::Selection(selectors.into());
        let (select, skip) = (RowSelector::select, RowSelector::skip);
        let cases = [
            (0..3, RowGroupAccess::Scan),
            (0..10, selection(vec![select(3), skip(2), select(4), skip(1)])),
            (4..10, selection(vec![skip(1), select(4), skip(1)])),
            (9..12, selection(vec![skip(1), select(2)])),
            (20..23, RowGroupAccess::Skip),
            (23..30, RowGroupAccess::Scan),
            (30..30, RowGroupAccess::Scan),
        ];
        for (rows, expected) in cases {
            assert_eq!(access(rows.clone(), &deleted), expected, "{rows:?}");
        }
    }
}
