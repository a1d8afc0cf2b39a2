//! [`Bounded`]: a function that makes no more than it may. [`Joined`]: the operator `||` as a function.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{Result, ScalarValue, human_readable_size, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};

use super::size::{self, Size};

/// So much is made without a look at the pool, in bytes.
const FREE: usize = 1 << 20;

/// A function of DataFusion's under its own name, of bounded values.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: Arc<ScalarUDF>,
    signature: Signature,
    size: Size,
    /// The bytes that the values of a batch's rows may take.
    room: usize,
    pool: Arc<dyn MemoryPool>,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.signature == other.signature && self.room == other.room
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut inner = DefaultHasher::new();
        self.inner.hash(&mut inner);
        (inner.finish(), self.room).hash(state);
    }
}

impl Bounded {
    /// `folds`: whether a call of constants may become one when it is planned.
    pub(super) fn new(
        inner: Arc<ScalarUDF>,
        size: Size,
        room: usize,
        folds: bool,
        pool: Arc<dyn MemoryPool>,
    ) -> Self {
        let mut signature = inner.signature().clone();
        if !folds {
            signature.volatility = Volatility::Volatile;
        }
        Self { inner, signature, size, room, pool }
    }

    pub(super) fn inner(&self) -> &Arc<ScalarUDF> {
        &self.inner
    }

    fn refused(&self, bytes: usize) -> DataFusionError {
        DataFusionError::ResourcesExhausted(format!(
            "{} would make values of {} where there is memory for {} (SqlOptions::memory_limit, or the session's budget); ask for \
             shorter values",
            self.name(),
            human_readable_size(bytes),
            human_readable_size(self.room),
        ))
    }

    /// The value that all rows have, which may be copied for each of them.
    fn constant(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (rows, most) = (args.number_rows, self.size.of(&args.args, 1));
        if most > self.room {
            return Err(self.refused(most));
        }
        let value = match self.inner.invoke_with_args(ScalarFunctionArgs { number_rows: 1, ..args })? {
            ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0)?,
            ColumnarValue::Scalar(value) => value,
        };
        let value = ColumnarValue::Scalar(value);
        match size::of_value(&value, rows) {
            copied if copied > self.room => Err(self.refused(copied)),
            _ => Ok(value),
        }
    }

    /// The values of rows that could be too large together, a piece at a time.
    fn in_pieces(&self, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (mut values, mut made): (Vec<ArrayRef>, usize) = (Vec::new(), 0);
        let mut open = vec![(0, args.number_rows)];
        while let Some((from, rows)) = open.pop() {
            let piece: Vec<ColumnarValue> =
                args.args.iter().map(|arg| size::slice(arg, from, rows)).collect();
            let most = self.size.of(&piece, rows);
            if most > self.room {
                if rows < 2 {
                    return Err(self.refused(most));
                }
                let half = rows / 2;
                open.extend([(from + half, rows - half), (from, half)]);
                continue;
            }
            let piece = ScalarFunctionArgs { args: piece, number_rows: rows, ..args.clone() };
            let array = self.inner.invoke_with_args(piece)?.into_array(rows)?;
            made += size::of_array(&array);
            if made > self.room {
                return Err(self.refused(made));
            }
            values.push(array);
        }
        let values: Vec<&dyn arrow::array::Array> = values.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&values)?))
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            return self.constant(args);
        }
        let most = self.size.of(&args.args, args.number_rows);
        if most <= FREE.min(self.room) {
            return self.inner.invoke_with_args(args);
        }
        let memory = MemoryConsumer::new(format!("values of {}", self.name())).register(&self.pool);
        memory.try_grow(most.min(self.room))?;
        if most <= self.room { self.inner.invoke_with_args(args) } else { self.in_pieces(&args) }
    }
}

/// The operator `||` of texts.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Joined {
    signature: Signature,
}

impl Joined {
    pub(super) fn new() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }

    /// True for these types: those of lists are functions already.
    pub(super) fn takes(left: &DataType, right: &DataType) -> bool {
        left == right && matches!(left, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    }
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, _] = types else { return internal_err!("two texts are joined at a time") };
        Ok(left.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let fields: Vec<FieldRef> =
            args.arg_fields.iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
        let columns: Vec<ArrayRef> =
            args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        let column = |at| Arc::new(Column::new("", at)) as Arc<dyn PhysicalExpr>;
        BinaryExpr::new(column(0), Operator::StringConcat, column(1)).evaluate(&batch)
    }
}
