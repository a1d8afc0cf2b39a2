//! Comparisons of times, made exact before types are made equal.
//!
//! DataFusion compares times of two units in the coarser one, and times with dates and texts in nanoseconds, which begin in
//! 1677 and end in 2262. Here a literal goes into the unit of what it is compared with, and where it lies between two values
//! of that, into the comparison that has the same answer.

use std::str::FromStr;

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Utc};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, InList};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, Operator, cast, lit};

use super::ticks::{NANOS_PER_DAY, NANOS_PER_SECOND, fixed_offset, per_second, ticks, value_of};

/// A comparison of times as one that no coercion changes the meaning of.
pub(super) fn exactly(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let exact = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            compared(left, *op, right, schema)
        }
        Expr::Between(Between { expr, negated, low, high }) => between(expr, *negated, low, high, schema),
        Expr::InList(list) => among(list, schema),
        Expr::Cast(cast) => far_literal(cast),
        _ => None,
    };
    Ok(match exact {
        Some(exact) => Transformed::yes(exact),
        None => Transformed::no(expr),
    })
}

fn is_comparison(op: Operator) -> bool {
    use Operator as O;
    matches!(
        op,
        O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom
    )
}

fn compared(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    let swapped = || compared_to(right, op.swap()?, left, schema);
    compared_to(left, op, right, schema).or_else(swapped).or_else(|| of_one_unit(left, op, right, schema))
}

fn between(of: &Expr, negated: bool, low: &Expr, high: &Expr, schema: &DFSchema) -> Option<Expr> {
    let (from, to) = (compared(of, Operator::GtEq, low, schema), compared(of, Operator::LtEq, high, schema));
    if from.is_none() && to.is_none() {
        return None;
    }
    let binary = |op, end: &Expr| {
        Expr::BinaryExpr(BinaryExpr { left: Box::new(of.clone()), op, right: Box::new(end.clone()) })
    };
    let from = from.unwrap_or_else(|| binary(Operator::GtEq, low));
    let both = from.and(to.unwrap_or_else(|| binary(Operator::LtEq, high)));
    Some(if negated { Expr::Not(Box::new(both)) } else { both })
}

fn among(InList { expr, list, negated }: &InList, schema: &DFSchema) -> Option<Expr> {
    let exact: Vec<Option<Expr>> =
        list.iter().map(|item| compared(expr, Operator::Eq, item, schema)).collect();
    if exact.iter().all(Option::is_none) {
        return None;
    }
    let equal = exact.into_iter().zip(list).map(|(exact, item)| match exact {
        Some(exact) => exact,
        None => expr.as_ref().clone().eq(item.clone()),
    });
    let all: Vec<Expr> = equal.collect();
    // Literals of the list's own type are as good in a list, which is tested faster.
    let mut items = Vec::with_capacity(list.len());
    for one in &all {
        match one {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if left == expr => {
                items.push(right.as_ref().clone());
            }
            _ => break,
        }
    }
    if items.len() == all.len() {
        return Some(expr.as_ref().clone().in_list(items, *negated));
    }
    let any = all.into_iter().reduce(Expr::or)?;
    Some(if *negated { Expr::Not(Box::new(any)) } else { any })
}

/// A time that is written in the query.
struct Literal {
    /// Nanoseconds since 1970: of the clock where there is no zone, else of the instant.
    nanos: i128,
    kind: Kind,
}

enum Kind {
    Date,
    Time(Option<String>),
}

/// The comparison of an expression with a literal of another type.
fn compared_to(of: &Expr, op: Operator, literal: &Expr, schema: &DFSchema) -> Option<Expr> {
    if matches!(of, Expr::Literal(..)) {
        return None;
    }
    let to = of.get_type(schema).ok()?;
    let nanos_per_tick = match &to {
        DataType::Timestamp(unit, _) => NANOS_PER_SECOND / per_second(*unit),
        DataType::Date32 => NANOS_PER_DAY,
        _ => return None,
    };
    let nanos = nanos_as(literal, &to)?;
    let (below, rest) = (nanos.div_euclid(nanos_per_tick), nanos.rem_euclid(nanos_per_tick));
    let exact = value_of(below, &to).filter(|_| rest == 0);
    let test = |op, value: ScalarValue| {
        Expr::BinaryExpr(BinaryExpr { left: Box::new(of.clone()), op, right: Box::new(lit(value)) })
    };
    if let Some(value) = exact {
        return Some(test(op, value));
    }
    // Between two values of the type, or beyond all of them.
    let (above, under) = match (value_of(below, &to), below.is_negative()) {
        (Some(below), _) => (test(Operator::Gt, below.clone()), test(Operator::LtEq, below)),
        (None, true) => {
            let least = value_of(least(&to), &to)?;
            (test(Operator::GtEq, least.clone()), test(Operator::Lt, least))
        }
        (None, false) => {
            let greatest = value_of(greatest(&to), &to)?;
            (test(Operator::Gt, greatest.clone()), test(Operator::LtEq, greatest))
        }
    };
    Some(match op {
        Operator::Lt | Operator::LtEq => under,
        Operator::Gt | Operator::GtEq => above,
        Operator::Eq => above.and(under),
        Operator::NotEq => above.or(under),
        Operator::IsDistinctFrom => lit(true),
        Operator::IsNotDistinctFrom => lit(false),
        _ => return None,
    })
}

fn least(of: &DataType) -> i128 {
    if *of == DataType::Date32 { i32::MIN.into() } else { i64::MIN.into() }
}

fn greatest(of: &DataType) -> i128 {
    if *of == DataType::Date32 { i32::MAX.into() } else { i64::MAX.into() }
}

/// The nanoseconds that a literal is in the clock, or of the instants, of a type; `None` where it is none of another type.
fn nanos_as(literal: &Expr, to: &DataType) -> Option<i128> {
    let zone = match to {
        DataType::Timestamp(_, zone) => zone.as_deref(),
        _ => None,
    };
    if let Expr::Literal(text, _) = literal
        && let Some(Some(text)) = text.try_as_str()
    {
        // DataFusion reads texts as dates where they are compared with dates.
        return if *to == DataType::Date32 { None } else { parsed(text, zone) };
    }
    let Literal { nanos, kind } = literal_time(literal)?;
    if of_type(literal).is_some_and(|of| of == *to) {
        return None;
    }
    let offset = |zone: &str| Some(fixed_offset(Some(zone))? * NANOS_PER_SECOND);
    match (kind, zone) {
        // A date is one in Greenwich, for DataFusion, whatever it is compared with.
        (Kind::Date, _) | (Kind::Time(None), None) | (Kind::Time(Some(_)), Some(_)) => Some(nanos),
        (Kind::Time(None), Some(zone)) => Some(nanos - offset(zone)?),
        (Kind::Time(Some(zone)), None) => Some(nanos + offset(&zone)?),
    }
}

fn of_type(literal: &Expr) -> Option<DataType> {
    match literal {
        Expr::Literal(value, _) => Some(value.data_type()),
        Expr::Cast(Cast { field, .. }) => Some(field.data_type().clone()),
        _ => None,
    }
}

fn literal_time(expr: &Expr) -> Option<Literal> {
    match expr {
        Expr::Literal(value, _) => time_of(value),
        Expr::Cast(Cast { expr, field }) => {
            let Expr::Literal(text, _) = expr.as_ref() else { return None };
            let text = text.try_as_str()??;
            match field.data_type() {
                DataType::Timestamp(unit, zone) => {
                    let nanos = parsed(text, zone.as_deref())?;
                    let tick = NANOS_PER_SECOND / per_second(*unit);
                    let kind = Kind::Time(zone.as_deref().map(str::to_string));
                    Some(Literal { nanos: nanos.div_euclid(tick) * tick, kind })
                }
                DataType::Date32 => {
                    time_of(&ScalarValue::Utf8(Some(text.to_string())).cast_to(&DataType::Date32).ok()?)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn time_of(value: &ScalarValue) -> Option<Literal> {
    match value.data_type() {
        DataType::Timestamp(unit, zone) => {
            let nanos = ticks(value)? * (NANOS_PER_SECOND / per_second(unit));
            Some(Literal { nanos, kind: Kind::Time(zone.as_deref().map(str::to_string)) })
        }
        DataType::Date32 => Some(Literal { nanos: ticks(value)? * NANOS_PER_DAY, kind: Kind::Date }),
        _ => None,
    }
}

/// The nanoseconds since 1970 of a text, in a zone where it names none, read as Arrow's cast does.
fn parsed(text: &str, zone: Option<&str>) -> Option<i128> {
    let zone = Tz::from_str(zone.unwrap_or("UTC")).ok()?;
    let time: DateTime<Utc> = string_to_datetime(&zone, text).ok()?.with_timezone(&Utc);
    Some(i128::from(time.timestamp()) * NANOS_PER_SECOND + i128::from(time.timestamp_subsec_nanos()))
}

/// Two times in the finer of their units, a date in that of the time.
fn of_one_unit(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    let (of_left, of_right) = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
    let (to_left, to_right) = match (&of_left, &of_right) {
        (DataType::Timestamp(a, one), DataType::Timestamp(b, other)) if a != b => {
            let unit: TimeUnit = if per_second(*a) > per_second(*b) { *a } else { *b };
            (DataType::Timestamp(unit, one.clone()), DataType::Timestamp(unit, other.clone()))
        }
        (DataType::Timestamp(unit, _), DataType::Date32)
        | (DataType::Date32, DataType::Timestamp(unit, _)) => {
            (DataType::Timestamp(*unit, None), DataType::Timestamp(*unit, None))
        }
        _ => return None,
    };
    let as_type = |expr: &Expr, of: DataType, to: DataType| {
        if of == to { expr.clone() } else { cast(expr.clone(), to) }
    };
    Some(Expr::BinaryExpr(BinaryExpr {
        left: Box::new(as_type(left, of_left, to_left)),
        op,
        right: Box::new(as_type(right, of_right, to_right)),
    }))
}

/// A timestamp before 1677 or after 2262 that is written as one of nanoseconds, in microseconds: it would be an error.
fn far_literal(Cast { expr, field }: &Cast) -> Option<Expr> {
    let (Expr::Literal(text, _), DataType::Timestamp(TimeUnit::Nanosecond, zone)) =
        (expr.as_ref(), field.data_type())
    else {
        return None;
    };
    let nanos = parsed(text.try_as_str()??, zone.as_deref())?;
    if i64::try_from(nanos).is_ok() {
        return None;
    }
    value_of(nanos.div_euclid(1_000), &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())).map(lit)
}
