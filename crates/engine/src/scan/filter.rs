//! DataFusion's expressions as [`Filter`]s, for pruning.
//!
//! A translation may match more rows than its expression, never fewer: what has no translation is left out of an AND and
//! takes an OR with it. It may be negated only where it is exact.
//!
//! A comparison of a column's cast, or of a function that keeps its order, is one of the column with the ends of a range. Of
//! a field inside a struct nothing is said of NULL: writers do not agree on how to count it below a struct that is NULL.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Alias, Cast, InList, Like, ScalarFunction};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use iceberg::spec::{NestedFieldRef, PrimitiveType, Schema, Type};
use icefield_core::filter::{Filter, Test};
use icefield_core::format::{arrow_field, foreign_kind};

use super::value::datum;
use crate::rules::{Origin, origin, result_type, value_of};

/// A filter, and whether it matches just what its expression matches.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Translated {
    pub(super) filter: Filter,
    pub(super) exact: bool,
}

impl Translated {
    fn exact(filter: Filter) -> Option<Self> {
        Some(Self { filter, exact: true })
    }

    fn wider(filter: Filter) -> Option<Self> {
        Some(Self { filter, exact: false })
    }
}

/// The conjunction of expressions as a filter; what has no translation is left out.
pub(super) fn conjunction(exprs: &[Expr], schema: &Arc<Schema>) -> Filter {
    let mut filters: Vec<Filter> =
        exprs.iter().filter_map(|expr| Some(translate(expr, schema)?.filter)).collect();
    match filters.len() {
        0 => Filter::True,
        1 => filters.remove(0),
        _ => Filter::And(filters),
    }
}

/// An expression as a filter that matches just the same rows; `None` where there is none.
pub(crate) fn exact_filter(expr: &Expr, schema: &Schema) -> Option<Filter> {
    translate(expr, schema).filter(|translated| translated.exact).map(|translated| translated.filter)
}

/// One expression as a filter on the columns of `schema`.
pub(super) fn translate(expr: &Expr, schema: &Schema) -> Option<Translated> {
    match expr {
        Expr::Alias(alias) => translate(&alias.expr, schema),
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => Translated::exact(Filter::True),
        Expr::Literal(ScalarValue::Boolean(Some(false)), _) => Translated::exact(Filter::False),
        Expr::Column(_) => is_bool(expr, true, schema),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::Column(_) => is_bool(inner, false, schema),
            inner => negated(translate(inner, schema)?),
        },
        Expr::IsNull(inner) => test(inner, schema, |_| Some(Test::IsNull)),
        Expr::IsNotNull(inner) => test(inner, schema, |_| Some(Test::NotNull)),
        Expr::IsTrue(inner) => {
            // True where the inner one is true, and never unknown.
            translate(inner, schema).and_then(|inner| Translated::wider(inner.filter))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => binary(left, *op, right, schema),
        Expr::Between(Between { expr, negated: not, low, high }) => {
            let low = comparison(expr, Operator::GtEq, low, schema);
            let high = comparison(expr, Operator::LtEq, high, schema);
            let both = and(low, high)?;
            if *not { negated(both) } else { Some(both) }
        }
        Expr::InList(InList { expr, list, negated: not }) => in_list(expr, list, *not, schema),
        Expr::Like(like) => starts_like(like, schema),
        Expr::ScalarFunction(ScalarFunction { func, args }) => match (func.name(), args.as_slice()) {
            ("starts_with", [column, Expr::Literal(prefix, _)]) => {
                let prefix = prefix.try_as_str().flatten()?.to_string();
                string_test(column, schema, Test::StartsWith(prefix))
            }
            ("isnan", [column]) => test(column, schema, |of| {
                matches!(of, PrimitiveType::Float | PrimitiveType::Double).then_some(Test::IsNan)
            }),
            ("get_field", _) => is_bool(expr, true, schema),
            _ => None,
        },
        _ => None,
    }
}

fn negated(of: Translated) -> Option<Translated> {
    if of.exact { Translated::exact(Filter::Not(Box::new(of.filter))) } else { None }
}

fn and(left: Option<Translated>, right: Option<Translated>) -> Option<Translated> {
    match (left, right) {
        (Some(l), Some(r)) => {
            Some(Translated { filter: Filter::And(vec![l.filter, r.filter]), exact: l.exact && r.exact })
        }
        (Some(one), None) | (None, Some(one)) => Translated::wider(one.filter),
        (None, None) => None,
    }
}

fn binary(left: &Expr, op: Operator, right: &Expr, schema: &Schema) -> Option<Translated> {
    match op {
        Operator::And => and(translate(left, schema), translate(right, schema)),
        Operator::Or => {
            let (l, r) = (translate(left, schema)?, translate(right, schema)?);
            or(l, r)
        }
        _ => comparison(left, op, right, schema).or_else(|| comparison(right, op.swap()?, left, schema)),
    }
}

fn comparison(of: &Expr, op: Operator, value: &Expr, schema: &Schema) -> Option<Translated> {
    let Expr::Literal(value, _) = value else { return None };
    compared(of, op, value, schema)
}

fn compared(of: &Expr, op: Operator, value: &ScalarValue, schema: &Schema) -> Option<Translated> {
    if place_of(of, schema).is_none() {
        return through(of, op, value, schema);
    }
    test(of, schema, |of| {
        let value = datum(value, of)?;
        Some(match op {
            Operator::Eq => Test::Eq(value),
            Operator::NotEq => Test::NotEq(value),
            Operator::Lt => Test::Lt(value),
            Operator::LtEq => Test::LtEq(value),
            Operator::Gt => Test::Gt(value),
            Operator::GtEq => Test::GtEq(value),
            _ => return None,
        })
    })
}

/// A comparison of what a cast or a function makes of a column, as one of the column.
fn through(of: &Expr, op: Operator, value: &ScalarValue, schema: &Schema) -> Option<Translated> {
    let Origin { of, from, range } = origin(of, value, |expr| type_of(expr, schema))?;
    // An end that is no value of the type is below all of them or above.
    let end = |op, count| match value_of(count, &from) {
        Some(value) => compared(of, op, &value, schema),
        None if (op == Operator::Lt) == (count > 0) => Translated::wider(Filter::True),
        None => Translated::wider(Filter::False),
    };
    let from_first = || end(Operator::GtEq, range.first);
    let before_end = || end(Operator::Lt, range.end);
    let before_first = || end(Operator::Lt, range.first);
    let from_end = || end(Operator::GtEq, range.end);
    match op {
        Operator::Eq => and(from_first(), before_end()),
        Operator::NotEq => or(before_first()?, from_end()?),
        Operator::Lt => before_first(),
        Operator::LtEq => before_end(),
        Operator::Gt => from_end(),
        Operator::GtEq => from_first(),
        _ => None,
    }
}

fn or(left: Translated, right: Translated) -> Option<Translated> {
    let filter = Filter::Or(vec![left.filter, right.filter]);
    Some(Translated { filter, exact: left.exact && right.exact })
}

fn in_list(of: &Expr, list: &[Expr], not: bool, schema: &Schema) -> Option<Translated> {
    let values: Option<Vec<&ScalarValue>> = list
        .iter()
        .map(|item| match item {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        })
        .collect();
    // A NULL among the values is never equal to anything, but makes every NOT IN unknown.
    let (nulls, values): (Vec<_>, Vec<_>) = values?.into_iter().partition(|value| value.is_null());
    let translated = if place_of(of, schema).is_some() {
        test(of, schema, |of| {
            let values = values.iter().map(|value| datum(value, of)).collect::<Option<Vec<_>>>()?;
            Some(if not { Test::NotIn(values) } else { Test::In(values) })
        })?
    } else {
        let op = if not { Operator::NotEq } else { Operator::Eq };
        let each = values.into_iter().map(|value| compared(of, op, value, schema));
        let each = each.collect::<Option<Vec<_>>>()?;
        let exact = each.iter().all(|one| one.exact) && !each.is_empty();
        let filters = each.into_iter().map(|one| one.filter).collect();
        Translated { filter: if not { Filter::And(filters) } else { Filter::Or(filters) }, exact }
    };
    if nulls.is_empty() { Some(translated) } else { Translated::wider(translated.filter) }
}

fn starts_like(like: &Like, schema: &Schema) -> Option<Translated> {
    let Expr::Literal(pattern, _) = like.pattern.as_ref() else { return None };
    let pattern = pattern.try_as_str().flatten()?;
    if like.case_insensitive || like.escape_char.is_some() || pattern.contains('\\') {
        return None;
    }
    let end = pattern.find(['%', '_']).unwrap_or(pattern.len());
    let (prefix, rest) = pattern.split_at(end);
    // Just a prefix, as opposed to a prefix and more.
    let whole = rest == "%";
    if prefix.is_empty() || rest.is_empty() || (like.negated && !whole) {
        return None;
    }
    let start = prefix.to_string();
    let starts = if like.negated { Test::NotStartsWith(start) } else { Test::StartsWith(start) };
    let translated = string_test(&like.expr, schema, starts)?;
    if whole { Some(translated) } else { Translated::wider(translated.filter) }
}

fn string_test(column: &Expr, schema: &Schema, of_string: Test) -> Option<Translated> {
    test(column, schema, |of| (*of == PrimitiveType::String).then_some(of_string))
}

fn is_bool(column: &Expr, value: bool, schema: &Schema) -> Option<Translated> {
    comparison(column, Operator::Eq, &Expr::Literal(ScalarValue::Boolean(Some(value)), None), schema)
}

fn test(
    column: &Expr,
    schema: &Schema,
    of_type: impl FnOnce(&PrimitiveType) -> Option<Test>,
) -> Option<Translated> {
    let Place { field, inside } = place_of(column, schema)?;
    let Type::Primitive(of) = field.field_type.as_ref() else { return None };
    if foreign_kind(of).is_some() {
        return None;
    }
    let test = of_type(of)?;
    if !inside {
        return Translated::exact(Filter::Test(field.id, test));
    }
    match test {
        Test::IsNull | Test::NotNull => None,
        test => Translated::wider(Filter::Test(field.id, test)),
    }
}

/// A column, or a field inside of structs.
struct Place<'a> {
    field: &'a NestedFieldRef,
    inside: bool,
}

fn place_of<'a>(expr: &Expr, schema: &'a Schema) -> Option<Place<'a>> {
    let named = |fields: &'a [NestedFieldRef], name: &str| fields.iter().find(|field| field.name == name);
    match expr {
        Expr::Column(column) => {
            let field = named(schema.as_struct().fields(), &column.name)?;
            Some(Place { field, inside: false })
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "get_field" => {
            let (of, names) = args.split_first()?;
            let mut field = place_of(of, schema)?.field;
            for name in names {
                let (Expr::Literal(name, _), Type::Struct(inner)) = (name, field.field_type.as_ref()) else {
                    return None;
                };
                field = named(inner.fields(), name.try_as_str()??)?;
            }
            Some(Place { field, inside: true })
        }
        _ => None,
    }
}

/// The type of an expression that a filter can be seen through.
fn type_of(expr: &Expr, schema: &Schema) -> Option<DataType> {
    match expr {
        Expr::Alias(Alias { expr, .. }) => type_of(expr, schema),
        Expr::Cast(Cast { field, .. }) => Some(field.data_type().clone()),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() != "get_field" => {
            result_type(func, args, |expr| type_of(expr, schema))
        }
        _ => Some(arrow_field(place_of(expr, schema)?.field).ok()?.data_type().clone()),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};
    use iceberg::spec::{Datum, NestedField};

    use super::*;

    fn schema() -> Schema {
        Schema::builder()
            .with_fields(vec![
                NestedField::optional(1, "n", Type::Primitive(PrimitiveType::Int)).into(),
                NestedField::optional(2, "s", Type::Primitive(PrimitiveType::String)).into(),
                NestedField::optional(3, "b", Type::Primitive(PrimitiveType::Boolean)).into(),
            ])
            .build()
            .unwrap()
    }

    fn exact(filter: Filter) -> Option<Translated> {
        Some(Translated { filter, exact: true })
    }

    fn wider(filter: Filter) -> Option<Translated> {
        Some(Translated { filter, exact: false })
    }

    #[test]
    fn expressions_become_filters_that_match_no_fewer_rows() {
        let n = |test| Filter::Test(1, test);
        let s = |test| Filter::Test(2, test);
        let seven = || Datum::int(7);
        let opaque = || (col("n") + lit(1)).eq(lit(2));
        let cases = [
            (col("n").eq(lit(7)), exact(n(Test::Eq(seven())))),
            (lit(7_i64).lt(col("n")), exact(n(Test::Gt(seven())))),
            (col("n").gt(lit(5_000_000_000_i64)), None),
            (col("n").eq(lit(ScalarValue::Int32(None))), None),
            (opaque(), None),
            (col("n").eq(lit(7)).and(opaque()), wider(n(Test::Eq(seven())))),
            (col("n").eq(lit(7)).or(opaque()), None),
            (Expr::Not(Box::new(col("n").eq(lit(7)).and(opaque()))), None),
            (Expr::Not(Box::new(col("n").eq(lit(7)))), exact(Filter::Not(Box::new(n(Test::Eq(seven())))))),
            (col("b"), exact(Filter::Test(3, Test::Eq(Datum::bool(true))))),
            (Expr::Not(Box::new(col("b"))), exact(Filter::Test(3, Test::Eq(Datum::bool(false))))),
            (col("n").is_null(), exact(n(Test::IsNull))),
            (
                col("n").between(lit(7), lit(7)),
                exact(Filter::And(vec![n(Test::GtEq(seven())), n(Test::LtEq(seven()))])),
            ),
            (col("n").in_list(vec![lit(7)], true), exact(n(Test::NotIn(vec![seven()])))),
            (
                col("n").in_list(vec![lit(7), lit(ScalarValue::Int32(None))], false),
                wider(n(Test::In(vec![seven()]))),
            ),
            (col("s").like(lit("ab%")), exact(s(Test::StartsWith("ab".into())))),
            (col("s").like(lit("ab%c_")), wider(s(Test::StartsWith("ab".into())))),
            (col("s").not_like(lit("ab%c")), None),
            (col("s").not_like(lit("ab%")), exact(s(Test::NotStartsWith("ab".into())))),
            (col("s").like(lit("%ab")), None),
            (col("s").like(lit("a\\%%")), None),
            (col("s").like(lit("ab")), None),
            (col("s").ilike(lit("ab%")), None),
            (col("other").eq(lit(7)), None),
        ];
        for (expr, expected) in cases {
            assert_eq!(translate(&expr, &schema()), expected, "{expr}");
        }
    }
}
