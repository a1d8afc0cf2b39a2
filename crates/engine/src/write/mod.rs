//! Data files: rows of any plan or stream, made to fit a table, as Parquet files in the table's layout.
//!
//! [`write_data_files`] gives a typed list of the files that it wrote and publishes nothing: until a commit names them they
//! are unreachable. A write that fails deletes what it wrote; a write that is dropped leaves unreachable files, which orphan
//! removal finds; after a commit whose outcome is unknown nothing may be deleted: [`publish`](crate::publish) sees to that.
//!
//! Files of 8 MiB and more are uploaded in parts. Parts of a file that is never finished are in no listing, so orphan removal
//! can't find them: a write that fails or is dropped aborts its uploads, on the runtime that it ran on. When the process or
//! its runtime ends before that, parts stay in the store until a lifecycle rule of the bucket ends them.
//!
//! Rows are matched by name to the table's schema, dealt to writers by the table's distribution mode, sorted by its sort
//! order, routed to partitions, and encoded with the table's Parquet properties. There are as many writers as there are rows
//! for, and no more than the plan has partitions; all cores encode for whoever has rows. What the writers hold is in the
//! session's memory pool, where they are one consumer, rows and parts on their way included.

mod conform;
mod encode;
mod file;
mod keys;
pub(crate) mod lanes;
mod literal;
mod location;
mod nan;
mod options;
mod plan;
mod settings;
mod task;
mod upload;
mod written;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::FieldRef;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use iceberg::spec::{FormatVersion, NestedField, PrimitiveType, Schema, Type};
use icefield_core::format::{ContentFile, MetricsConfig, first_foreign, parquet_schema, primitive_text};
use icefield_core::{Error, Result, Table};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use conform::Conform;
use file::FileFormat;
use keys::Partitioning;
pub(crate) use literal::literal_at;
use location::Locations;
use plan::{Layout, Shares};
use settings::Settings;
use task::{Shared, TaskWriter};
use upload::PART;

pub use options::{Progress, WriteOptions, WriteProgress};
pub use written::WrittenFiles;

/// The names and field ids of a row's id and of the sequence number at which it was last updated (Iceberg spec, "Reserved
/// Field IDs"): columns of rows that are moved, not of new ones.
pub(crate) const LINEAGE: [(&str, i32); 2] =
    [("_row_id", 2_147_483_540), ("_last_updated_sequence_number", 2_147_483_539)];

/// Writes all rows of a plan as data files of a table: few rows by one writer, many by as many as the plan has partitions.
/// Every partition of the plan is read from the beginning.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) naming the column that does not fit, before anything is written
/// where types alone tell; [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a table with a column of type unknown,
/// variant, geometry or geography. After any error, the files written are deleted.
///
/// # Cancel safety
/// Dropped, it leaves at most unreachable files. Uploads in parts that have begun are aborted by tasks that are left to the
/// runtime.
pub async fn write_data_files(
    table: &Table,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    options: &WriteOptions,
) -> Result<WrittenFiles> {
    let writer = Writer::new(table, &plan.schema(), &context, options)?;
    let input = plan::execute(&plan, &context)?;
    writer.write(input).await
}

/// Writes all rows of some streams of one schema as data files of a table, as [`write_data_files`] does.
pub async fn write_streams(
    table: &Table,
    input: Vec<SendableRecordBatchStream>,
    context: Arc<TaskContext>,
    options: &WriteOptions,
) -> Result<WrittenFiles> {
    let Some(first) = input.first() else {
        return Ok(WrittenFiles::new(Vec::new(), table.storage().clone()));
    };
    let schema = first.schema();
    if let Some(other) = input.iter().find(|stream| stream.schema() != schema) {
        return Err(Error::invalid_input("the streams of one write have one schema")
            .with("first", &schema)
            .with("other", other.schema()));
    }
    Writer::new(table, &schema, &context, options)?.write(input).await
}

/// Refuses a table that has columns of types which are read, not written: unknown, variant, geometry, geography.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) naming a column and its type.
pub fn require_writable(table: &Table) -> Result<()> {
    let Some((column, of)) = first_foreign(table.schema()) else { return Ok(()) };
    let message = "a table with a column of this type is read, not written to; write with another engine";
    Err(Error::unsupported(message)
        .with("table", table.ident())
        .with("column", column)
        .with("type", primitive_text(&of)))
}

/// Checks that rows of `input` fit the table, as a write would, and writes nothing.
///
/// # Errors
/// As [`write_data_files`], for types.
pub fn check_fit(table: &Table, input: &arrow::datatypes::Schema) -> Result<()> {
    Conform::new(input, &file_schema(table, input)?).map(drop)
}

/// Whether a column of the input fits the table as it is.
pub(crate) fn column_fits(table: &Table, field: &FieldRef) -> bool {
    let schema = table.schema();
    let Some(known) = schema.as_struct().fields().iter().find(|known| known.name == *field.name()) else {
        return false;
    };
    let alone = Schema::builder().with_fields([known.clone()]).build();
    alone.is_ok_and(|alone| Conform::new(&arrow::datatypes::Schema::new(vec![field.clone()]), &alone).is_ok())
}

/// The schema of the files: the table's, and the lineage columns when a rewrite brings them.
fn file_schema(table: &Table, input: &arrow::datatypes::Schema) -> Result<Schema> {
    let schema = table.schema();
    require_writable(table)?;
    let lineage: Vec<_> = LINEAGE
        .into_iter()
        .filter(|(name, _)| input.column_with_name(name).is_some() && schema.field_by_name(name).is_none())
        .map(|(name, id)| NestedField::optional(id, name, Type::Primitive(PrimitiveType::Long)).into())
        .collect();
    if lineage.is_empty() || table.metadata().format_version() < FormatVersion::V3 {
        return Ok(schema.as_ref().clone());
    }
    let fields = schema.as_struct().fields().iter().cloned().chain(lineage);
    Ok(Schema::builder().with_schema_id(schema.schema_id()).with_fields(fields).build()?)
}

/// How many parts of files may be on their way to the store at once: an eighth of the memory pool, 8 for each writer at most.
fn parts_at_once(context: &TaskContext, writers: usize) -> usize {
    plan::share_of(context, 8 * writers * PART, 2 * PART, 1) / PART
}

/// A write, planned.
struct Writer {
    shared: Arc<Shared>,
    conform: Conform,
    settings: Settings,
    writer_per_stream: bool,
}

impl Writer {
    fn new(
        table: &Table,
        input: &arrow::datatypes::Schema,
        context: &Arc<TaskContext>,
        options: &WriteOptions,
    ) -> Result<Self> {
        let metadata = table.metadata();
        let settings = Settings::of(metadata)?;
        let schema = file_schema(table, input)?;
        let conform = Conform::new(input, &schema)?;
        let spec = match options.spec_id {
            None => metadata.default_partition_spec().clone(),
            Some(id) => metadata.partition_spec_by_id(id).cloned().ok_or_else(|| {
                Error::invalid_input("the table has no such partition spec").with("spec", id)
            })?,
        };
        let partitioning = Arc::new(Partitioning::new(spec, &schema)?);
        let order = metadata.default_sort_order();
        let layout = Layout::new(conform.schema(), &schema, &partitioning, order)?;
        let tasks = context.session_config().target_partitions().max(1);
        let format = FileFormat {
            arrow: conform.schema().clone(),
            parquet: parquet_schema(&schema)?,
            properties: Arc::new(settings.parquet.clone()),
            row_group_bytes: settings.row_group_bytes,
            row_group_rows: settings.row_group_rows,
            nans: nan::NanCounter::new(schema.as_struct().fields()),
            cores: Arc::new(Semaphore::new(tasks)),
        };
        let shared = Shared {
            storage: table.storage().clone(),
            schema: table.schema().clone(),
            format: Arc::new(format),
            partitioning,
            locations: Locations::of(metadata, options.clock.uuid())?,
            metrics: MetricsConfig::from_table(metadata),
            // Readers take the id for a promise.
            sort_order_id: layout.is_sorted().then(|| i32::try_from(order.order_id).ok()).flatten(),
            layout: Arc::new(layout),
            target_file_size: options.target_file_size.unwrap_or(settings.target_file_size),
            max_open_files: options.max_open_files,
            context: context.clone(),
            progress: options.progress.clone(),
            so_far: Mutex::default(),
            closed: Mutex::default(),
            encoded: Arc::default(),
            parts: Arc::new(Semaphore::new(parts_at_once(context, tasks))),
            reservation: MemoryConsumer::new("data file writers")
                .with_can_spill(true)
                .register(context.memory_pool()),
            held: AtomicUsize::new(0),
            holding: AtomicUsize::new(0),
        };
        let writer_per_stream = options.writer_per_stream;
        Ok(Self { shared: Arc::new(shared), conform, settings, writer_per_stream })
    }

    async fn write(self, input: Vec<SendableRecordBatchStream>) -> Result<WrittenFiles> {
        let Self { shared, conform, settings, writer_per_stream } = self;
        let shares = Shares {
            distribution: settings.distribution,
            target_file_size: shared.target_file_size,
            row_group_bytes: settings.row_group_bytes,
            writer_per_stream,
            encoded: shared.encoded.clone(),
            reservation: &shared.reservation,
        };
        let dealt = plan::deal(input, conform, &shared.layout, shares, &shared.context)?;
        if !dealt.sorted && shared.sort_order_id.is_some() {
            return Err(Error::internal("the rows of a sorted table were not sorted"));
        }
        let writers = dealt.streams.len();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (task, stream) in dealt.streams.into_iter().enumerate() {
            let writer = TaskWriter::new(shared.clone(), task, writers)?;
            let (stopped, clustered) = (stopped.clone(), dealt.clustered);
            tasks.spawn(async move { (task, writer.run(stream, clustered, stopped).await) });
        }
        let mut files = Vec::new();
        let mut failure: Option<Error> = None;
        while let Some(ended) = tasks.join_next().await {
            let outcome = match ended {
                Ok((task, Ok(written))) => {
                    files.push((task, written));
                    continue;
                }
                Ok((_, Err(error))) => error,
                Err(error) => Error::internal("a writer's task ended abnormally").with_source(error),
            };
            failure.get_or_insert(outcome);
            // The others take back what they have begun; one that has ended does not listen.
            let _ = stop.send(true);
        }
        if let Some(error) = failure {
            let closed = std::mem::take(&mut *shared.closed.lock().unwrap_or_else(PoisonError::into_inner));
            shared.storage.discard(closed).await;
            return Err(error);
        }
        files.sort_by_key(|(task, _)| *task);
        let files: Vec<ContentFile> = files.into_iter().flat_map(|(_, files)| files).collect();
        Ok(WrittenFiles::new(files, shared.storage.clone()))
    }
}
