//! The columns of a row group in progress, encoded on one task or on several.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use futures::future::try_join_all;
use icefield_core::{Error, Result};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};

/// Batches of fewer rows are encoded where they are: handing them over costs more.
const SHARED_ROWS: usize = 1024;

/// The encoders of a row group's columns, those of one field of the schema together.
#[derive(Default)]
pub(crate) struct ColumnEncoders {
    schema: Option<SchemaRef>,
    fields: Vec<Vec<ArrowColumnWriter>>,
}

impl ColumnEncoders {
    /// Encoders for batches of a schema from one writer for each leaf column, in order.
    pub(crate) fn new(schema: SchemaRef, writers: Vec<ArrowColumnWriter>) -> Self {
        let mut writers = writers.into_iter();
        let leaves = schema.fields().iter().map(|field| leaves(field.data_type()));
        let fields = leaves.map(|count| writers.by_ref().take(count).collect()).collect();
        Self { schema: Some(schema), fields }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn writers(&self) -> impl Iterator<Item = &ArrowColumnWriter> {
        self.fields.iter().flatten()
    }

    pub(crate) fn into_writers(self) -> impl Iterator<Item = ArrowColumnWriter> {
        self.fields.into_iter().flatten()
    }

    /// Encodes a batch on at most so many tasks. After an error, or dropped midway, the encoders are of no more use.
    pub(crate) async fn encode(&mut self, batch: &RecordBatch, tasks: usize) -> Result<()> {
        let Some(schema) = self.schema.clone() else {
            return Err(Error::internal("a row group is encoded before it has begun"));
        };
        let tasks = tasks.min(self.fields.len());
        if tasks < 2 || batch.num_rows() < SHARED_ROWS {
            for (at, (writers, array)) in self.fields.iter_mut().zip(batch.columns()).enumerate() {
                encode_field(&schema, at, array, writers)?;
            }
            return Ok(());
        }
        let fields = std::mem::take(&mut self.fields).into_iter().zip(batch.columns());
        let mut jobs: Vec<Job> = fields
            .enumerate()
            .map(|(at, (writers, array))| Job { at, writers, array: array.clone() })
            .collect();
        // The dearest column is taken first: the shorter ones fill what time is left.
        jobs.sort_by_key(Job::bytes);
        let queue = Arc::new(Mutex::new(jobs));
        let work = |queue: Arc<Mutex<Vec<Job>>>, schema: SchemaRef| async move {
            let mut done = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some(mut job) = next else { return Ok::<_, Error>(done) };
                encode_field(&schema, job.at, &job.array, &mut job.writers)?;
                done.push((job.at, job.writers));
            }
        };
        let others: Vec<_> =
            (1..tasks).map(|_| SpawnedTask::spawn(work(queue.clone(), schema.clone()))).collect();
        let mut done = work(queue, schema).await?;
        let ended = try_join_all(others).await;
        for other in ended.map_err(|e| Error::internal("an encoder ended abnormally").with_source(e))? {
            done.append(&mut other?);
        }
        done.sort_by_key(|(at, _)| *at);
        self.fields = done.into_iter().map(|(_, writers)| writers).collect();
        Ok(())
    }
}

/// A field's values to encode.
struct Job {
    at: usize,
    writers: Vec<ArrowColumnWriter>,
    array: ArrayRef,
}

impl Job {
    /// What the field's columns take so far: a guess at the work in them.
    fn bytes(&self) -> usize {
        self.writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }
}

fn encode_field(
    schema: &SchemaRef,
    at: usize,
    array: &ArrayRef,
    writers: &mut [ArrowColumnWriter],
) -> Result<()> {
    let field = schema.field(at);
    let leaves = compute_leaves(field, array)?;
    if leaves.len() != writers.len() {
        return Err(
            Error::internal("a column has other leaves than its Parquet schema").with("column", field.name())
        );
    }
    for (leaf, writer) in leaves.iter().zip(writers) {
        writer.write(leaf)?;
    }
    Ok(())
}

/// How many columns a type takes in a file.
fn leaves(of: &DataType) -> usize {
    match of {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::Map(element, _) => leaves(element.data_type()),
        _ => 1,
    }
}
