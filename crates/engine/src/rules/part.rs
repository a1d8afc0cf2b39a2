//! `date_part` (and `extract`), and the times that have a literal year.

use std::sync::Arc;

use arrow::datatypes::DataType;
use chrono::{Datelike, NaiveDate};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::datetime::date_part;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};

use super::ticks::{Preimage, fixed_offset, per_day, per_second};

/// DataFusion's function under its own name. The years that DataFusion itself makes ranges of have NULL ends where the type
/// or the zone has no such time, and then nothing is found.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatePart {
    inner: Arc<ScalarUDF>,
}

impl DatePart {
    pub(super) fn new() -> Self {
        Self { inner: date_part() }
    }

    /// The times, in counts of their type, whose part is a value: of the year alone, the one part that never goes back.
    pub(crate) fn preimage_of(part: &Expr, of: &DataType, value: &ScalarValue) -> Option<Preimage> {
        let Expr::Literal(part, _) = part else { return None };
        let part = part.try_as_str()??.trim_matches(['\'', '"']).to_ascii_lowercase();
        let ScalarValue::Int32(Some(year)) = value else { return None };
        if !["year", "years", "yr", "yrs", "y"].contains(&part.as_str()) {
            return None;
        }
        let first_day = |year: i32| {
            let days = NaiveDate::from_ymd_opt(year, 1, 1)?.num_days_from_ce();
            Some(i128::from(days) - 719_163)
        };
        let (first, end) = (first_day(*year)?, first_day(year.checked_add(1)?)?);
        let (per_day, offset) = match of {
            DataType::Date32 => (1, 0),
            DataType::Timestamp(unit, zone) => {
                (per_day(*unit), fixed_offset(zone.as_deref())?.checked_mul(per_second(*unit))?)
            }
            _ => return None,
        };
        Some(Preimage { first: first * per_day - offset, end: end * per_day - offset })
    }
}

impl ScalarUDFImpl for DatePart {
    as_inner!();

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }
}
