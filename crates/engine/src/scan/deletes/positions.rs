//! Rows chosen by their position in a data file, as deletes say: these are read once, whatever number of data files and
//! pieces of files want them, and kept for later scans as far as the session's caches go.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, in_list, lit};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use icefield_core::deletes::{
    DELETE_FILE_PATH_ID, DELETE_POS_ID, RoaringTreemap, is_vector, load_deletion_vector,
};
use icefield_core::format::{LiveFile, arrow_schema};
use icefield_core::{Error, Result, Table};
use tokio::sync::OnceCell;

use super::parts::{Part, Positions, identity};
use super::reader::DeleteReader;
use crate::error::from_datafusion;
use crate::scan::ScanCaches;
use crate::scan::plan::check_format;
use crate::scan::schema::ReadSchema;
use crate::scan::selection::{RowChoice, Selected};

/// Up to so many data files, their paths are given to the Parquet reader to prune a position delete file by.
const PATHS_TO_PRUNE_BY: usize = 16;

/// The rows of one data file that are read, by position.
pub(super) struct RowDeletes {
    path: String,
    skip: Vec<Source>,
    only: Option<Source>,
    reader: Arc<DeleteReader>,
    loaded: OnceCell<Arc<Selected>>,
}

impl fmt::Debug for RowDeletes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = || self.skip.iter().chain(&self.only);
        f.debug_struct("RowDeletes")
            .field("path", &self.path)
            .field("vectors", &sources().filter(|source| source.vector.is_some()).count())
            .field("files", &sources().map(|source| source.files.len()).sum::<usize>())
            .field("only", &self.only.is_some())
            .finish_non_exhaustive()
    }
}

/// Where positions are had from.
struct Source {
    vector: Option<LiveFile>,
    files: Vec<Arc<PositionFile>>,
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
    planned: Vec<Planned>,
}

struct Planned {
    path: String,
    skip: Vec<PlannedSource>,
    only: Option<PlannedSource>,
}

/// A vector, and places of position delete files.
type PlannedSource = (Option<LiveFile>, Vec<usize>);

impl Planner {
    pub(super) fn new(reader: Arc<DeleteReader>) -> Self {
        Self { reader, files: Vec::new(), by_path: HashMap::new(), planned: Vec::new() }
    }

    pub(super) fn add(&mut self, part: &Part<'_>) {
        let path = part.data.path();
        let skip = part.skip.iter().map(|positions| self.source(path, positions)).collect();
        let only = part.only.as_ref().map(|positions| self.source(path, positions));
        self.planned.push(Planned { path: path.to_string(), skip, only });
    }

    fn source(&mut self, path: &str, positions: &Positions<'_>) -> PlannedSource {
        let mut places = Vec::with_capacity(positions.files.len());
        for delete in &positions.files {
            let at = *self.by_path.entry(delete.path().to_string()).or_insert_with(|| {
                self.files.push(((*delete).clone(), HashSet::new()));
                self.files.len() - 1
            });
            if let Some((_, wanted)) = self.files.get_mut(at) {
                wanted.insert(path.to_string());
            }
            places.push(at);
        }
        (positions.vector.cloned(), places)
    }

    /// For each part, in the order in which they were added, the rows that are read of it.
    pub(super) fn finish(self) -> Vec<Option<Arc<dyn RowChoice>>> {
        let files = self.files.into_iter();
        let files: Vec<Arc<PositionFile>> = files
            .map(|(file, wanted)| Arc::new(PositionFile { file, wanted, loaded: OnceCell::new() }))
            .collect();
        let source = |(vector, places): PlannedSource| Source {
            vector,
            files: places.into_iter().filter_map(|at| files.get(at).cloned()).collect(),
        };
        let of_part = |Planned { path, skip, only }: Planned| {
            let skip: Vec<Source> = skip.into_iter().map(source).collect();
            let only = only.map(source);
            (only.is_some() || !skip.is_empty()).then(|| {
                let (reader, loaded) = (self.reader.clone(), OnceCell::new());
                Arc::new(RowDeletes { path, skip, only, reader, loaded }) as Arc<dyn RowChoice>
            })
        };
        self.planned.into_iter().map(of_part).collect()
    }
}

impl RowChoice for RowDeletes {
    /// The first caller reads the deletes, the others wait for it.
    fn selected(&self) -> BoxFuture<'_, Result<Arc<Selected>>> {
        async { self.loaded.get_or_try_init(|| self.load()).await.cloned() }.boxed()
    }
}

impl RowDeletes {
    async fn load(&self) -> Result<Arc<Selected>> {
        let skip = self.all(&self.skip).await?;
        let Some(only) = &self.only else { return Ok(Arc::new(Selected::Without(skip))) };
        let mut only = self.all(std::slice::from_ref(only)).await?;
        if !only.is_disjoint(&skip) {
            only = Arc::new(&*only - &*skip);
            self.reader.reserve(memory(&only))?;
        }
        Ok(Arc::new(Selected::Only(only)))
    }

    /// The positions of sources together.
    async fn all(&self, sources: &[Source]) -> Result<Arc<RoaringTreemap>> {
        let mut found = Vec::new();
        for source in sources {
            if let Some(vector) = &source.vector {
                let load = || load_deletion_vector(self.reader.table.storage(), vector);
                let cache = &self.reader.caches.deletes;
                let positions = cache.get_or_load(&key(vector, &self.path), memory, load).await?;
                self.reader.reserve(memory(&positions))?;
                found.push(positions);
            }
            for file in &source.files {
                let of_paths = file.loaded.get_or_try_init(|| file.load(&self.reader)).await?;
                found.extend(of_paths.get(&self.path).cloned());
            }
        }
        if found.len() < 2 {
            return Ok(found.pop().unwrap_or_default());
        }
        let mut all = RoaringTreemap::new();
        found.iter().for_each(|positions| all |= &**positions);
        self.reader.reserve(memory(&all))?;
        Ok(Arc::new(all))
    }
}

/// What the session's caches know the rows by that a delete file deletes of a data file: with all that its entry says of where
/// they are and how many, which another table's entry may say otherwise.
fn key(delete: &LiveFile, data: &str) -> String {
    let ((path, offset), file) = (identity(delete), &delete.file);
    format!(
        "{path}\n{offset:?} {:?} {} {} {}\n{data}",
        file.content_size_in_bytes(),
        file.file_size_in_bytes(),
        file.record_count(),
        file.file_format(),
    )
}

/// About how many bytes positions take.
fn memory(positions: &RoaringTreemap) -> usize {
    size_of::<RoaringTreemap>() + positions.serialized_size()
}

impl PositionFile {
    async fn load(&self, reader: &DeleteReader) -> Result<HashMap<String, Arc<RoaringTreemap>>> {
        let cache = &reader.caches.deletes;
        let cached = self.wanted.iter().map(|path| Some((path.clone(), cache.get(&key(&self.file, path))?)));
        let found = match cached.collect::<Option<HashMap<_, _>>>() {
            Some(found) => found,
            None => self.read(reader).await?,
        };
        reader.reserve(found.values().map(|positions| memory(positions)).sum())?;
        Ok(found)
    }

    /// The positions of each data file that is wanted, none where the file has none.
    async fn read(&self, reader: &DeleteReader) -> Result<HashMap<String, Arc<RoaringTreemap>>> {
        let about = |e: Error| e.with("delete file", self.file.path());
        let schema = read_schema()?;
        let mut found: HashMap<String, RoaringTreemap> =
            self.wanted.iter().map(|path| (path.clone(), RoaringTreemap::new())).collect();
        let mut rows = reader.rows(&self.file, &schema, self.predicate(&schema)?)?;
        while let Some(batch) = rows.try_next().await.map_err(|e| about(from_datafusion(e)))? {
            self.collect(&batch, &mut found).map_err(about)?;
        }
        let shared = |(path, positions): (String, RoaringTreemap)| {
            let positions = Arc::new(positions);
            reader.caches.deletes.put(&key(&self.file, &path), positions.clone(), memory(&positions));
            (path, positions)
        };
        Ok(found.into_iter().map(shared).collect())
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
        let (paths, positions) = columns(batch)?;
        // Rows are sorted by path: one look-up for a run of them.
        let mut at = 0;
        while at < batch.num_rows() {
            let path = paths.value(at);
            let end = (at + 1..batch.num_rows()).find(|row| paths.value(*row) != path);
            let end = end.unwrap_or(batch.num_rows());
            if let Some(rows) = found.get_mut(path) {
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

/// A row that a delete file names.
#[derive(Debug, Clone)]
pub(crate) struct NamedRow {
    /// The data file's location.
    pub(crate) path: Arc<str>,
    pub(crate) position: i64,
}

/// How many rows of a deletion vector are handed over at once.
const ROWS_AT_ONCE: usize = 8192;

/// The rows that a position delete file or a deletion vector names, as it has them.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a file that is neither Parquet nor a vector.
pub(crate) async fn named_rows(
    table: &Table,
    caches: &Arc<ScanCaches>,
    context: &Arc<TaskContext>,
    file: &LiveFile,
) -> Result<BoxStream<'static, Result<Vec<NamedRow>>>> {
    if is_vector(&file.file) {
        let positions = load_deletion_vector(table.storage(), file).await?;
        let path: Arc<str> = file.file.referenced_data_file().unwrap_or_default().into();
        let rows = positions.into_iter().map(move |at| NamedRow { path: path.clone(), position: at as i64 });
        return Ok(stream::iter(rows).chunks(ROWS_AT_ONCE).map(Ok).boxed());
    }
    check_format(file)?;
    let batches = DeleteReader::new(table, caches, context).rows(file, &read_schema()?, None)?;
    Ok(batches.map(|batch| rows_of(&batch.map_err(from_datafusion)?)).boxed())
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<NamedRow>> {
    let (paths, positions) = columns(batch)?;
    let rows = paths.iter().zip(positions.values());
    Ok(rows.map(|(path, at)| NamedRow { path: path.unwrap_or_default().into(), position: *at }).collect())
}

/// The columns of a position delete file's rows.
fn columns(batch: &RecordBatch) -> Result<(&StringArray, &Int64Array)> {
    let columns = (batch.columns().first(), batch.columns().get(1));
    let (Some(paths), Some(positions)) = columns else {
        return Err(Error::internal("a position delete file has two columns"));
    };
    match (paths.as_string_opt::<i32>(), positions.as_primitive_opt::<Int64Type>()) {
        (Some(paths), Some(positions)) => Ok((paths, positions)),
        _ => Err(Error::internal("a position delete file's columns are of other types")),
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
