//! [`Provider`]: a table about a table as DataFusion's `TableProvider`.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use iceberg::spec::{ManifestContentType, ManifestFile, SnapshotRef};
use icefield_core::format::{ManifestReader, WantedStatistics, load_manifest_list};
use icefield_core::{AsOf, Error, Result, Table};

use super::columns::Columns;
use super::entries::{self, Entry};
use super::history;
use super::kind::MetadataTable;
use super::manifests::{self, Listed};
use super::partitions::{self, Gathered};
use super::position_deletes::{self, Reader};
use crate::error::to_datafusion;
use crate::scan::ScanCaches;

/// Rows of a batch at most.
const BATCH_ROWS: usize = 1024;
/// How many manifest lists are read at once, where those of all snapshots are asked for.
const LISTS_AT_ONCE: usize = 8;

/// A table about a table at a snapshot.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for one that is of no snapshot, and an earlier one.
pub(crate) fn metadata_provider(
    table: &Table,
    as_of: AsOf,
    caches: Arc<ScanCaches>,
    about: MetadataTable,
) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(Provider::new(table.clone(), as_of, caches, about)?))
}

#[derive(Debug)]
struct Provider {
    table: Table,
    caches: Arc<ScanCaches>,
    as_of: AsOf,
    about: MetadataTable,
    schema: SchemaRef,
}

/// What a plan is made of: its schema, and its partitions, each of which can be read again and again.
type Partitions = (SchemaRef, Vec<Source>);
type Source = Box<dyn Fn() -> BoxStream<'static, Result<RecordBatch>> + Send + Sync>;

impl Provider {
    fn new(table: Table, as_of: AsOf, caches: Arc<ScanCaches>, about: MetadataTable) -> Result<Self> {
        if as_of != AsOf::Current && !about.is_of_a_snapshot() {
            return Err(Error::invalid_input(
                "this metadata table tells of all snapshots; ask for it without a version or time",
            )
            .with("table", table.ident())
            .with("metadata_table", about));
        }
        let schema = match about {
            MetadataTable::Snapshots => history::snapshots().schema(),
            MetadataTable::History => history::history().schema(),
            MetadataTable::Refs => history::refs().schema(),
            MetadataTable::MetadataLogEntries => history::metadata_log().schema(),
            MetadataTable::Manifests => manifests::manifests(&table, false).schema(),
            MetadataTable::AllManifests => manifests::manifests(&table, true).schema(),
            MetadataTable::Partitions => partitions::partitions(&table)?.schema(),
            MetadataTable::PositionDeletes => position_deletes::position_deletes(&table)?.schema(),
            MetadataTable::Entries | MetadataTable::AllEntries => entries::entries(&table)?.schema(),
            MetadataTable::Files
            | MetadataTable::DataFiles
            | MetadataTable::DeleteFiles
            | MetadataTable::AllFiles
            | MetadataTable::AllDataFiles
            | MetadataTable::AllDeleteFiles => entries::files(&table)?.schema(),
        };
        Ok(Self { table, caches, as_of, about, schema })
    }

    async fn partitions(
        &self,
        projection: Option<&Vec<usize>>,
        context: Arc<TaskContext>,
    ) -> Result<Partitions> {
        let (table, target) = (&self.table, context.session_config().target_partitions());
        Ok(match self.about {
            MetadataTable::Snapshots => {
                at_hand(history::snapshots().project(projection), history::snapshot_rows(table))?
            }
            MetadataTable::History => {
                at_hand(history::history().project(projection), history::history_rows(table))?
            }
            MetadataTable::Refs => at_hand(history::refs().project(projection), table.references().to_vec())?,
            MetadataTable::MetadataLogEntries => {
                at_hand(history::metadata_log().project(projection), history::metadata_log_rows(table))?
            }
            MetadataTable::Manifests | MetadataTable::AllManifests => {
                let columns = manifests::manifests(table, self.about == MetadataTable::AllManifests);
                listed(table.clone(), self.snapshots()?, columns.project(projection))
            }
            MetadataTable::Partitions => {
                let columns = partitions::partitions(table)?.project(projection);
                gathered(table.clone(), self.manifests().await?, columns)
            }
            MetadataTable::PositionDeletes => {
                let columns = position_deletes::position_deletes(table)?.project(projection);
                let (table, caches) = (table.clone(), self.caches.clone());
                named(Reader { table, caches, context, columns }, self.manifests().await?, target)
            }
            MetadataTable::Entries | MetadataTable::AllEntries => {
                let columns = entries::entries(table)?.project(projection);
                read(table, self.manifests().await?, columns, true, target)
            }
            MetadataTable::Files
            | MetadataTable::DataFiles
            | MetadataTable::DeleteFiles
            | MetadataTable::AllFiles
            | MetadataTable::AllDataFiles
            | MetadataTable::AllDeleteFiles => {
                let columns = entries::files(table)?.project(projection);
                read(table, self.manifests().await?, columns, false, target)
            }
        })
    }

    /// The snapshots that are told of.
    fn snapshots(&self) -> Result<Vec<SnapshotRef>> {
        match self.about.is_of_a_snapshot() {
            true => Ok(self.table.snapshot_as_of(&self.as_of)?.into_iter().collect()),
            false => Ok(history::snapshot_rows(&self.table)),
        }
    }

    /// The manifests that are told of, each once.
    async fn manifests(&self) -> Result<Vec<ManifestFile>> {
        let wanted = match self.about {
            MetadataTable::DataFiles | MetadataTable::AllDataFiles => Some(ManifestContentType::Data),
            MetadataTable::DeleteFiles | MetadataTable::AllDeleteFiles | MetadataTable::PositionDeletes => {
                Some(ManifestContentType::Deletes)
            }
            _ => None,
        };
        let (mut seen, mut manifests) = (HashSet::new(), Vec::new());
        let mut lists = stream::iter(self.snapshots()?)
            .map(|snapshot| async move { load_manifest_list(self.table.storage(), &snapshot).await })
            .buffered(LISTS_AT_ONCE);
        while let Some(list) = lists.try_next().await? {
            for manifest in list {
                if wanted.is_none_or(|wanted| manifest.content == wanted)
                    && seen.insert(manifest.manifest_path.clone())
                {
                    manifests.push(manifest);
                }
            }
        }
        Ok(manifests)
    }
}

/// Rows that are in memory already.
fn at_hand<R>(columns: Columns<R>, rows: Vec<R>) -> Result<Partitions> {
    let batch = columns.batch(&rows)?;
    Ok((columns.schema(), vec![Box::new(move || stream::iter([Ok(batch.clone())]).boxed())]))
}

/// The manifests of snapshots, list by list.
fn listed(table: Table, snapshots: Vec<SnapshotRef>, columns: Columns<Listed>) -> Partitions {
    let schema = columns.schema();
    let source: Source = Box::new(move || {
        let (table, columns) = (table.clone(), columns.clone());
        let lists = stream::iter(snapshots.clone()).then(move |snapshot| {
            let (table, columns) = (table.clone(), columns.clone());
            async move {
                let list = load_manifest_list(table.storage(), &snapshot).await?;
                let snapshot_id = snapshot.snapshot_id();
                let rows: Vec<Listed> =
                    list.into_iter().map(|manifest| Listed { manifest, snapshot_id }).collect();
                columns.batch(&rows)
            }
        });
        lists.boxed()
    });
    (schema, vec![source])
}

/// The entries of manifests, manifest by manifest, in `target` partitions.
fn read(
    table: &Table,
    manifests: Vec<ManifestFile>,
    columns: Columns<Entry>,
    removed_too: bool,
    target: usize,
) -> Partitions {
    let schema = columns.schema();
    let (reader, statistics) =
        (ManifestReader::new(table.storage(), table.metadata()), entries::statistics(&schema));
    let sources = shares(manifests, target).into_iter().map(|share| {
        let (reader, statistics, columns) = (reader.clone(), statistics.clone(), columns.clone());
        let source: Source =
            Box::new(move || {
                let (reader, statistics, columns) = (reader.clone(), statistics.clone(), columns.clone());
                stream::iter(share.clone())
                    .then(move |manifest| {
                        let (reader, statistics) = (reader.clone(), statistics.clone());
                        async move { reader.open(&manifest).await?.content_with(&statistics) }
                    })
                    .map_ok(move |manifest| {
                        let columns = columns.clone();
                        let rows = Entry::all(Arc::new(manifest), removed_too);
                        let starts = (0..rows.len()).step_by(BATCH_ROWS);
                        stream::iter(starts.map(move |start| {
                            columns.batch(&rows[start..rows.len().min(start + BATCH_ROWS)])
                        }))
                    })
                    .try_flatten()
                    .boxed()
            });
        source
    });
    (schema, sources.collect())
}

/// The rows that manifests' position deletes name, manifest by manifest, in `target` partitions.
fn named(reader: Reader, manifests: Vec<ManifestFile>, target: usize) -> Partitions {
    let schema = reader.columns.schema();
    let sources = shares(manifests, target).into_iter().map(|share| {
        let reader = reader.clone();
        let source: Source = Box::new(move || {
            let reader = reader.clone();
            let manifests = stream::iter(share.clone());
            manifests.then(move |manifest| reader.clone().of_manifest(manifest)).try_flatten().boxed()
        });
        source
    });
    (schema, sources.collect())
}

/// Manifests in turn to at most `target` partitions.
fn shares(manifests: Vec<ManifestFile>, target: usize) -> Vec<Vec<ManifestFile>> {
    let mut shares: Vec<Vec<ManifestFile>> = vec![Vec::new(); target.clamp(1, manifests.len().max(1))];
    let count = shares.len();
    for (place, manifest) in manifests.into_iter().enumerate() {
        shares[place % count].push(manifest);
    }
    shares
}

/// The partitions of manifests' files, in memory once all are read.
fn gathered(
    table: Table,
    manifests: Vec<ManifestFile>,
    columns: Columns<partitions::Partition>,
) -> Partitions {
    let schema = columns.schema();
    let source: Source = Box::new(move || {
        let (table, manifests, columns) = (table.clone(), manifests.clone(), columns.clone());
        let batch = async move {
            let mut gathered = Gathered::new(table.clone());
            let reader = ManifestReader::new(table.storage(), table.metadata());
            let mut contents =
                reader.each(manifests, |manifest| manifest.content_with(&WantedStatistics::None));
            while let Some(content) = contents.try_next().await? {
                content.live.iter().try_for_each(|live| gathered.add(live))?;
            }
            columns.batch(&gathered.finish())
        };
        stream::once(batch).boxed()
    });
    (schema, vec![source])
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let (schema, sources) = self.partitions(projection, state.task_ctx()).await.map_err(to_datafusion)?;
        if sources.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let streams = sources.into_iter().map(|source| {
            Arc::new(Rows { about: self.about, schema: schema.clone(), source }) as Arc<dyn PartitionStream>
        });
        let exec = StreamingTableExec::try_new(schema.clone(), streams.collect(), None, [], false, limit)?;
        Ok(Arc::new(exec))
    }
}

struct Rows {
    about: MetadataTable,
    schema: SchemaRef,
    source: Source,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.about)
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = (self.source)().map_err(to_datafusion);
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}
