//! Casts that lose something, kept whole.
//!
//! DataFusion moves a cast from a column onto the literal that it is compared with, and prunes through casts as if none
//! changed the order. That is right of casts that keep every value apart, and wrong of the others: `CAST(d AS DECIMAL(20,2)) =
//! 1.23` is not `d = 1.2300`. So a cast that may lose something becomes a function, which no rule looks into, and which says
//! itself which values it takes to a literal.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Date32Type, FieldRef, Int64Type};
use datafusion::common::format::DEFAULT_CAST_OPTIONS;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::ticks::{Map, Preimage, per_day, per_second, ticks, value_of};

/// A cast as a function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WholeCast {
    name: String,
    to: DataType,
    /// Whether what can't be cast is NULL, and not an error.
    tried: bool,
    signature: Signature,
}

impl WholeCast {
    fn new(to: DataType, tried: bool) -> Self {
        let name = format!("{}_to_{to}", if tried { "try_cast" } else { "cast" });
        Self { name, to, tried, signature: Signature::any(1, Volatility::Immutable) }
    }

    /// The type that is cast to.
    pub(crate) fn to(&self) -> &DataType {
        &self.to
    }

    /// What becomes a value, in counts of the type that is cast from.
    pub(crate) fn preimage_of(&self, from: &DataType, value: &ScalarValue) -> Option<Preimage> {
        // NULL is below nothing and above nothing.
        if self.tried && !Map::of_cast(from, &self.to)?.is_total() {
            return None;
        }
        preimage(from, &self.to, value)
    }
}

/// What a cast takes to a value, in counts of the type that is cast from.
pub(super) fn preimage(from: &DataType, to: &DataType, value: &ScalarValue) -> Option<Preimage> {
    if value.data_type() != *to {
        return None;
    }
    Map::of_cast(from, to)?.preimage(ticks(value)?)
}

/// A cast of an expression of type `from` as it is, or as a function where it has to be kept whole.
pub(super) fn kept_whole(expr: &Expr, from: &DataType, to: &DataType, tried: bool) -> Option<Expr> {
    if !loses(from, to) || matches!(expr, Expr::Literal(..)) {
        return None;
    }
    let function = ScalarUDF::new_from_impl(WholeCast::new(to.clone(), tried));
    Some(function.call(vec![expr.clone()]))
}

/// Whether DataFusion may take a comparison of such a cast for one of what is cast, and would be wrong.
fn loses(from: &DataType, to: &DataType) -> bool {
    let counted = |of: &DataType| {
        of.is_integer()
            || of.is_decimal()
            || matches!(of, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
    };
    match (from, to) {
        _ if from == to => false,
        // The time of a day, and what is not zero: neither is in the order of what it is made of.
        (DataType::Timestamp(..), DataType::Time32(_) | DataType::Time64(_)) => true,
        (from, DataType::Boolean) => from.is_numeric(),
        // A literal of the finer unit may lie between two of the coarser one.
        (DataType::Timestamp(unit, _), DataType::Timestamp(other, _)) if unit != other => true,
        (from, to) if counted(from) && counted(to) => !Map::of_cast(from, to).is_some_and(Map::keeps_all),
        _ => false,
    }
}

/// Whether a cast keeps all values apart, and in their order: DataFusion may move it.
pub(crate) fn keeps_all(from: &DataType, to: &DataType) -> bool {
    !loses(from, to)
}

/// A file's values in the table's type. What does not fit is an error; times are rounded down.
pub(crate) fn cast_floor(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..DEFAULT_CAST_OPTIONS };
    match (array.data_type(), to) {
        (DataType::Date32, DataType::Timestamp(unit, _)) => {
            Ok(cast_with_options(&within(array, per_day(*unit), false)?, to, &strict)?)
        }
        (DataType::Timestamp(from, _), DataType::Timestamp(unit, _))
            if per_second(*from) > per_second(*unit) =>
        {
            // Arrow cuts towards zero, which is up before 1970.
            let ticks = i64::try_from(per_second(*from) / per_second(*unit)).unwrap_or(1);
            let counts = cast_with_options(array, &DataType::Int64, &strict)?;
            let counts = counts.as_primitive::<Int64Type>();
            let floor: ArrayRef = Arc::new(counts.unary::<_, Int64Type>(|count| count.div_euclid(ticks)));
            Ok(cast_with_options(&floor, to, &strict)?)
        }
        _ => Ok(cast_with_options(array, to, &strict)?),
    }
}

impl ScalarUDFImpl for WholeCast {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [of] = args.arg_fields else { return internal_err!("a cast has one argument") };
        let nullable = self.tried || of.is_nullable();
        Ok(Arc::new(of.as_ref().clone().with_data_type(self.to.clone()).with_nullable(nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [of] = args.args.as_slice() else { return internal_err!("a cast has one argument") };
        let options = CastOptions { safe: self.tried, ..DEFAULT_CAST_OPTIONS };
        match (of, &self.to) {
            (ColumnarValue::Array(days), DataType::Timestamp(unit, _))
                if days.data_type() == &DataType::Date32 =>
            {
                // Arrow multiplies, and does not look whether the result is one.
                let days = within(days, per_day(*unit), self.tried)?;
                ColumnarValue::Array(days).cast_to(&self.to, Some(&options))
            }
            _ => of.cast_to(&self.to, Some(&options)),
        }
    }

    fn preimage(&self, args: &[Expr], value: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        let ([of], Expr::Literal(value, _)) = (args, value) else { return Ok(PreimageResult::None) };
        let from = info.get_data_type(of)?;
        Ok(match self.preimage_of(&from, value) {
            Some(preimage) => range(of, &from, preimage),
            None => PreimageResult::None,
        })
    }
}

/// A preimage as DataFusion wants it; none where its ends are no values of the type.
pub(super) fn range(of: &Expr, from: &DataType, preimage: Preimage) -> PreimageResult {
    let ends = (value_of(preimage.first, from), value_of(preimage.end, from));
    let (Some(first), Some(end)) = ends else { return PreimageResult::None };
    match Interval::try_new(first, end) {
        Ok(interval) => PreimageResult::Range { expr: of.clone(), interval: Box::new(interval) },
        Err(_) => PreimageResult::None,
    }
}

/// Days of which each has so many ticks that 64 bits hold them; the others are NULL where that is wanted.
fn within(days: &ArrayRef, ticks_per_day: i128, or_null: bool) -> Result<ArrayRef> {
    let fits = |day: i32| i64::try_from(i128::from(day) * ticks_per_day).is_ok();
    let array = days.as_primitive::<Date32Type>();
    match array.iter().flatten().find(|day| !fits(*day)) {
        None => Ok(days.clone()),
        Some(_) if or_null => {
            let kept: Date32Array = array.iter().map(|day| day.filter(|day| fits(*day))).collect();
            Ok(Arc::new(kept))
        }
        Some(day) => {
            exec_err!("Cast error: day {day} since 1970 is out of a timestamp's range; compare it as a date")
        }
    }
}
