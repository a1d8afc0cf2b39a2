//! Filters on the metadata columns that are the same for all rows of a file: `_file`, `_spec_id` and `_partition`. They are
//! tested once a file, when a scan is planned.

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Schema as ArrowSchema;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue, exec_err};
use datafusion::logical_expr::Expr;
use icefield_core::{Result, Table};

use super::metadata_columns::{Needed, is_of_a_file};
use super::plan::PlannedFile;
use super::schema::{ReadSchema, field_id};
use crate::error::from_datafusion;

/// Drops the files that a filter excludes by such columns alone.
///
/// # Errors
/// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for a partition value that is not of its type.
pub(super) fn keep_matching(
    table: &Table,
    schema: &ReadSchema,
    state: &dyn Session,
    filters: &[Expr],
    entries: &mut Vec<PlannedFile>,
) -> Result<()> {
    for filter in filters {
        let columns = filter.column_refs();
        let columns = columns.iter().map(|column| schema.arrow.index_of(&column.name).ok());
        let Some(columns) = columns.collect::<Option<Vec<usize>>>() else { continue };
        let is_of_a_file = |at: &usize| field_id(schema.arrow.field(*at)).is_some_and(is_of_a_file);
        if columns.is_empty() || !columns.iter().all(is_of_a_file) || filter.is_volatile() {
            continue;
        }
        let rows = described(table, schema, &columns, entries)?;
        let passed = passing(state, filter, &rows).map_err(from_datafusion)?;
        let mut passed = passed.into_iter();
        entries.retain(|_| passed.next().unwrap_or(true));
    }
    Ok(())
}

/// The columns, with a row for each file.
fn described(
    table: &Table,
    schema: &ReadSchema,
    columns: &[usize],
    entries: &[PlannedFile],
) -> Result<RecordBatch> {
    let schema = schema.of_columns(columns)?;
    let arrow = schema.arrow.clone();
    if entries.is_empty() {
        return Ok(RecordBatch::new_empty(arrow));
    }
    let files = entries.iter().map(|entry| &**entry);
    let Needed { constants, .. } = Needed::new(table, &schema, files, false)?;
    let arrays = arrow.fields().iter().map(|field| {
        let id = field_id(field).unwrap_or_default();
        let value =
            |entry: &PlannedFile| constants.get(entry.path()).and_then(|of_file| of_file.get(&id)).cloned();
        ScalarValue::iter_to_array(entries.iter().filter_map(value)).map_err(from_datafusion)
    });
    Ok(RecordBatch::try_new(arrow.clone(), arrays.collect::<Result<_>>()?)?)
}

/// Which rows pass a filter.
fn passing(state: &dyn Session, filter: &Expr, rows: &RecordBatch) -> DfResult<Vec<bool>> {
    let bare = filter.clone().transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::from_name(column.name))),
            other => Transformed::no(other),
        })
    })?;
    let schema: &ArrowSchema = rows.schema_ref();
    let test = state.create_physical_expr(bare.data, &DFSchema::try_from(schema.clone())?)?;
    let found: ArrayRef = test.evaluate(rows)?.into_array(rows.num_rows())?;
    let Some(found) = found.as_boolean_opt() else {
        return exec_err!("a filter that is neither true nor false");
    };
    Ok(found.iter().map(|passed| passed == Some(true)).collect())
}
