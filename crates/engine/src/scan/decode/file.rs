//! One file: its schema adapted to the scan's, its rows read, the deleted ones dropped.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result as DfResult, exec_datafusion_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_adapter::PhysicalExprAdapterFactory;
use futures::stream::{BoxStream, once};
use futures::{StreamExt, TryStreamExt};
use iceberg::spec::DataFileFormat;
use icefield_core::format::{ContentReader, Rows};
use icefield_core::storage::Storage;

use crate::error::{broken, in_file, to_datafusion};
use crate::scan::adapter::{FILE_KEY, FieldIdAdapterFactory};
use crate::scan::file::ScanFile;
use crate::scan::positions::{POS_COLUMN, pos_field};
use crate::scan::selection::{RowChoice, Selected};
use crate::scan::statistics::FileFacts;

/// How files become rows of a scan.
#[derive(Debug)]
pub(in crate::scan) struct Decoding {
    table: SchemaRef,
    /// What is produced: the columns of the table's schema at these places.
    pub(super) projection: Vec<usize>,
    pub(super) projected: SchemaRef,
    storage: Storage,
    adapters: Arc<FieldIdAdapterFactory>,
    facts: Arc<FileFacts>,
    /// Whether rows' positions are wanted.
    positions: bool,
}

/// A file, or the part of it that begins in a range of bytes.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    location: String,
    size: u64,
    format: DataFileFormat,
    range: Option<Range<u64>>,
    deletes: Option<Arc<dyn RowChoice>>,
    /// Which of the files it is that the scan's facts are of.
    place: usize,
}

impl Piece {
    pub(super) fn new(file: &ScanFile<'_>, range: Option<Range<u64>>) -> Self {
        Self {
            location: file.live.path().to_string(),
            size: file.live.file.file_size_in_bytes(),
            format: file.live.file.file_format(),
            range,
            deletes: file.deletes.rows.clone(),
            place: file.place,
        }
    }
}

impl Decoding {
    /// Produces the columns of `table` at the places of `projection`, which are all without one.
    pub(in crate::scan) fn new(
        table: &SchemaRef,
        projection: Option<&[usize]>,
        storage: &Storage,
        adapters: &Arc<FieldIdAdapterFactory>,
        facts: &Arc<FileFacts>,
        positions: bool,
    ) -> DfResult<Self> {
        let projection = projection.map_or_else(|| (0..table.fields().len()).collect(), <[usize]>::to_vec);
        let projected = Arc::new(table.project(&projection)?);
        let (table, storage) = (table.clone(), storage.clone());
        let (adapters, facts) = (adapters.clone(), facts.clone());
        Ok(Self { table, projection, projected, storage, adapters, facts, positions })
    }

    /// The rows of a file that are not deleted. Errors, and panics below, name the file.
    pub(super) fn rows(
        self: Arc<Self>,
        piece: Piece,
        batch_rows: usize,
    ) -> BoxStream<'static, DfResult<RecordBatch>> {
        let location = piece.location.clone();
        let rows = once(self.open(piece, batch_rows)).try_flatten();
        AssertUnwindSafe(rows)
            .catch_unwind()
            .map(move |batch| batch.unwrap_or_else(|_| Err(broken())).map_err(|e| in_file(&location, e)))
            .boxed()
    }

    async fn open(
        self: Arc<Self>,
        piece: Piece,
        batch_rows: usize,
    ) -> DfResult<BoxStream<'static, DfResult<RecordBatch>>> {
        let selected = match &piece.deletes {
            Some(deletes) => Some(deletes.selected().await.map_err(to_datafusion)?),
            None => None,
        };
        let reader = ContentReader::open(&self.storage, &piece.location, piece.size, piece.format).await;
        let reader = reader.map_err(to_datafusion)?;
        let adapted = Adapted::new(&self, &piece, reader.schema())?;
        let own = adapted.columns.clone();
        let rows = reader.rows(own, piece.range, batch_rows).map_err(to_datafusion)?;
        let rows = rows.map(move |rows| {
            let rows = rows.map_err(to_datafusion)?;
            adapted.apply(rows, selected.as_deref(), &self.projected)
        });
        // Those whose rows are all deleted.
        Ok(rows.try_filter(|batch| std::future::ready(batch.num_rows() > 0)).boxed())
    }
}

/// What makes a file's columns the scan's.
struct Adapted {
    /// The columns that are read, by their place in the file.
    columns: Vec<usize>,
    /// Those, and the positions where they are wanted.
    input: SchemaRef,
    positions: bool,
    /// For each column of the scan, an expression over the input.
    output: Vec<Arc<dyn PhysicalExpr>>,
}

impl Adapted {
    fn new(decoding: &Decoding, piece: &Piece, file: &SchemaRef) -> DfResult<Self> {
        let mut fields: Vec<Arc<Field>> = file.fields().iter().cloned().collect();
        if decoding.positions {
            fields.push(Arc::new(pos_field(POS_COLUMN)));
        }
        let metadata = [(FILE_KEY.to_string(), piece.location.clone())].into();
        let physical = Arc::new(ArrowSchema::new_with_metadata(fields, metadata));
        let adapter = decoding.adapters.create(decoding.table.clone(), physical.clone())?;
        let output = decoding.projection.iter().map(|at| {
            let field = decoding.table.field(*at);
            match decoding.facts.constant(piece.place, *at, field.data_type()) {
                Some(value) => Ok(Arc::new(Literal::new(value)) as Arc<dyn PhysicalExpr>),
                None => adapter.rewrite(Arc::new(Column::new(field.name(), *at))),
            }
        });
        let output = output.collect::<DfResult<Vec<_>>>()?;
        let used = output.iter().flat_map(collect_columns).map(|column| column.index());
        let used: Vec<usize> = used.collect::<BTreeSet<_>>().into_iter().collect();
        let output = output.into_iter().map(|expr| moved(expr, &used)).collect::<DfResult<_>>()?;
        let own = file.fields().len();
        Ok(Self {
            columns: used.iter().copied().filter(|at| *at < own).collect(),
            input: Arc::new(physical.project(&used)?),
            positions: used.last().is_some_and(|last| *last >= own),
            output,
        })
    }

    /// The rows of a batch that are left, as the scan has them.
    fn apply(&self, rows: Rows, selected: Option<&Selected>, projected: &SchemaRef) -> DfResult<RecordBatch> {
        let Rows { first, batch } = rows;
        let count = batch.num_rows();
        let positions = first..first.saturating_add(count as u64);
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        if self.positions {
            let positions = positions.clone().map(|position| position as i64);
            columns.push(Arc::new(Int64Array::from_iter_values(positions)));
        }
        let of = |count| RecordBatchOptions::new().with_row_count(Some(count));
        let mut input = RecordBatch::try_new_with_options(self.input.clone(), columns, &of(count))?;
        if let Some(keep) = selected.and_then(|selected| selected.of(positions)) {
            input = filter_record_batch(&input, &keep)?;
        }
        let count = input.num_rows();
        let output = self.output.iter().map(|expr| expr.evaluate(&input)?.into_array(count));
        let output = output.collect::<DfResult<Vec<_>>>()?;
        Ok(RecordBatch::try_new_with_options(projected.clone(), output, &of(count))?)
    }
}

/// The expression over the columns that are `used` alone.
fn moved(expr: Arc<dyn PhysicalExpr>, used: &[usize]) -> DfResult<Arc<dyn PhysicalExpr>> {
    let moved = expr.transform_up(|expr| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let at = used.binary_search(&column.index());
        let at = at.map_err(|_| exec_datafusion_err!("a column of the file is out of place"))?;
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), at));
        Ok::<_, DataFusionError>(Transformed::yes(column))
    })?;
    Ok(moved.data)
}
