//! Row lineage through a rewrite (v3, "Row Lineage"): a row keeps its `_row_id` and the sequence number at which it was
//! last updated, both of which it has by its place in a file, or from the file itself once it has been rewritten.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Int64Type, Schema as ArrowSchema, SchemaRef};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, StreamExt, TryStreamExt};
use iceberg::spec::{FormatVersion, NestedField, PrimitiveType, Schema, Type};
use icefield_core::format::LiveFile;
use icefield_core::{Error, Result, Table};
use icefield_engine::scan::{ScanCaches, scan_files};
use icefield_engine::to_datafusion;

/// The reserved columns, in the order in which they follow a table's own.
const ROW_ID: (&str, i32) = ("_row_id", 2_147_483_540);
const LAST_UPDATED: (&str, i32) = ("_last_updated_sequence_number", 2_147_483_539);

/// Whether rows of the table have lineage to keep.
pub(super) fn has_lineage(table: &Table) -> bool {
    table.metadata().format_version() >= FormatVersion::V3
}

/// The table with the reserved columns as if they were its own: what its files are read by.
fn with_lineage(table: &Table) -> Result<Table> {
    let metadata = table.metadata();
    let mut fields = table.schema().as_struct().fields().to_vec();
    for (name, id) in [ROW_ID, LAST_UPDATED] {
        if table.schema().field_by_name(name).is_some() {
            return Err(Error::unsupported(
                "a column of the table has the name of a row lineage column; rename it before compacting",
            )
            .with("table", table.ident())
            .with("column", name));
        }
        fields.push(NestedField::optional(id, name, Type::Primitive(PrimitiveType::Long)).into());
    }
    let schema = Schema::builder().with_fields(fields).build()?;
    let builder = metadata.clone().into_builder(None);
    let built = builder.add_schema(schema)?.set_current_schema(-1)?.build()?;
    let location = table.metadata_location().to_string();
    Ok(Table::new(table.ident().clone(), Arc::new(built.metadata), location, table.storage().clone()))
}

/// The rows of the files with their lineage, in `streams` streams of about the same size.
pub(super) fn scan(
    table: &Table,
    files: &[LiveFile],
    caches: &Arc<ScanCaches>,
    context: &Arc<TaskContext>,
    streams: usize,
) -> Result<Vec<SendableRecordBatchStream>> {
    let table = with_lineage(table)?;
    let mut shares: Vec<(u64, Vec<SendableRecordBatchStream>)> = Vec::new();
    shares.resize_with(streams.clamp(1, files.len().max(1)), Default::default);
    for file in files {
        let stream = scan_file(&table, file, caches, context)?;
        if let Some(least) = shares.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            least.0 += file.file.file_size_in_bytes();
            least.1.push(stream);
        }
    }
    let chained = shares.into_iter().filter_map(|(_, files)| {
        let schema = files.first()?.schema();
        let rows = stream::iter(files).flatten();
        Some(Box::pin(RecordBatchStreamAdapter::new(schema, rows)) as SendableRecordBatchStream)
    });
    Ok(chained.collect())
}

/// The rows of one file, in its order, so that each row's position is known.
fn scan_file(
    table: &Table,
    file: &LiveFile,
    caches: &Arc<ScanCaches>,
    context: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let plan = scan_files(table, std::slice::from_ref(file), &[], caches, context, 1)?;
    let schema = plan.schema();
    let fill = Fill {
        first_row_id: file.file.first_row_id(),
        sequence_number: file.file_sequence_number,
        row_id: schema.index_of(ROW_ID.0)?,
        last_updated: schema.index_of(LAST_UPDATED.0)?,
    };
    let streams: Vec<SendableRecordBatchStream> = (0..plan.properties().partitioning.partition_count())
        .map(|at| plan.execute(at, context.clone()))
        .collect::<Result<_, _>>()
        .map_err(icefield_engine::from_datafusion)?;
    let schema = nullable(&schema, &[fill.row_id, fill.last_updated]);
    let out = schema.clone();
    let mut position = 0;
    let rows = stream::iter(streams).flatten().and_then(move |batch| {
        let filled = fill.apply(&batch, position, &out).map_err(to_datafusion);
        position += batch.num_rows() as i64;
        std::future::ready(filled)
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

fn nullable(schema: &SchemaRef, columns: &[usize]) -> SchemaRef {
    let fields: Vec<Arc<Field>> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(at, field)| match columns.contains(&at) {
            true => Arc::new(field.as_ref().clone().with_nullable(true)),
            false => field.clone(),
        })
        .collect();
    Arc::new(ArrowSchema::new_with_metadata(fields, schema.metadata().clone()))
}

/// What a file's rows inherit where they have no value of their own.
#[derive(Debug, Clone, Copy)]
struct Fill {
    first_row_id: Option<i64>,
    sequence_number: i64,
    row_id: usize,
    last_updated: usize,
}

impl Fill {
    fn apply(&self, batch: &RecordBatch, position: i64, schema: &SchemaRef) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        let inherited_id = |row: usize| self.first_row_id.map(|first| first + position + row as i64);
        replace(&mut columns, self.row_id, inherited_id)?;
        replace(&mut columns, self.last_updated, |_| Some(self.sequence_number))?;
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

fn replace(columns: &mut [ArrayRef], at: usize, inherited: impl Fn(usize) -> Option<i64>) -> Result<()> {
    let missing = || Error::internal("a lineage column is not in the batch");
    let column = columns.get_mut(at).ok_or_else(missing)?;
    let own = column.as_primitive_opt::<Int64Type>().ok_or_else(missing)?;
    let filled: Int64Array = (0..own.len())
        .map(|row| if own.is_valid(row) { Some(own.value(row)) } else { inherited(row) })
        .collect();
    *column = Arc::new(filled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_own_lineage_or_that_of_its_place() {
        let long = |name: &str| Field::new(name, arrow::datatypes::DataType::Int64, true);
        let schema: SchemaRef = Arc::new(ArrowSchema::new(vec![long(ROW_ID.0), long(LAST_UPDATED.0)]));
        let own = |values: [Option<i64>; 3]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![own([None, Some(7), None]), own([Some(2), None, None])],
        )
        .unwrap();
        let fill = Fill { first_row_id: Some(100), sequence_number: 9, row_id: 0, last_updated: 1 };
        let filled = fill.apply(&batch, 10, &schema).unwrap();
        let column = |at: usize| filled.column(at).as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
        assert_eq!(column(0), [Some(110), Some(7), Some(112)]);
        assert_eq!(column(1), [Some(2), Some(9), Some(9)]);
        // A file from before the upgrade to version 3 has no row ids: its rows get them from the commit.
        let none = Fill { first_row_id: None, ..fill }.apply(&batch, 0, &schema).unwrap();
        assert_eq!(none.column(0).null_count(), 2);
    }
}
