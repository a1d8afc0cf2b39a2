//! Rows that are written in the place of those that match a filter must match it themselves: they could not be replaced by the
//! same overwrite again, and would be there twice after it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result as DfResult, ScalarValue, internal_err};
use datafusion::dataframe::DataFrame;
use datafusion::functions::expr_fn::{get_field, isnan, starts_with};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit,
};
use datafusion::prelude::ident;
use iceberg::spec::{Datum, Literal, PrimitiveType, Schema, Type};
use icefield_core::filter::{Filter, Test};
use icefield_core::format::write_default;
use icefield_core::{Error, Result, Table as CoreTable};

use crate::error::{from_datafusion, to_datafusion};
use crate::scan::scalar;

/// A filter as an expression on columns that `column` names, given the value of those that are absent.
fn expression(
    filter: &Filter,
    schema: &Schema,
    column: &mut dyn FnMut(&str, ScalarValue) -> Expr,
) -> Result<Expr> {
    let all = |filters: &[Filter], column: &mut dyn FnMut(&str, ScalarValue) -> Expr| {
        filters.iter().map(|filter| expression(filter, schema, column)).collect::<Result<Vec<_>>>()
    };
    Ok(match filter {
        Filter::True => lit(true),
        Filter::False => lit(false),
        Filter::And(filters) => conjunction(all(filters, column)?).unwrap_or_else(|| lit(true)),
        Filter::Or(filters) => disjunction(all(filters, column)?).unwrap_or_else(|| lit(false)),
        Filter::Not(filter) => !expression(filter, schema, column)?,
        Filter::Test(id, test) => {
            let (value, of) = tested(*id, schema, column)?;
            let of_type = |datum: &Datum| scalar(&of, datum.literal()).map(lit);
            let many = |data: &[Datum]| data.iter().map(of_type).collect::<Result<Vec<_>>>();
            match test {
                Test::IsNull => value.is_null(),
                Test::NotNull => value.is_not_null(),
                Test::IsNan => isnan(value),
                Test::NotNan => value.clone().is_null().or(!isnan(value)),
                Test::Eq(datum) => value.eq(of_type(datum)?),
                Test::NotEq(datum) => value.not_eq(of_type(datum)?),
                Test::Lt(datum) => value.lt(of_type(datum)?),
                Test::LtEq(datum) => value.lt_eq(of_type(datum)?),
                Test::Gt(datum) => value.gt(of_type(datum)?),
                Test::GtEq(datum) => value.gt_eq(of_type(datum)?),
                Test::In(data) => value.in_list(many(data)?, false),
                Test::NotIn(data) => value.in_list(many(data)?, true),
                Test::StartsWith(prefix) => starts_with(value, lit(prefix.as_str())),
                Test::NotStartsWith(prefix) => !starts_with(value, lit(prefix.as_str())),
            }
        }
    })
}

/// A column of a filter, fields of structs too, and its type.
fn tested(
    id: i32,
    schema: &Schema,
    column: &mut dyn FnMut(&str, ScalarValue) -> Expr,
) -> Result<(Expr, PrimitiveType)> {
    let unknown =
        || Error::invalid_input("the filter tests a column that the table lacks").with("field_id", id);
    let mut fields = schema.as_struct().fields();
    let mut found: Option<Expr> = None;
    loop {
        let next = fields.iter().find(|field| field.id == id || holds(&field.field_type, id));
        let field = next.ok_or_else(unknown)?;
        let expr = match found.take() {
            Some(parent) => get_field(parent, field.name.as_str()),
            None => {
                let default = match (&*field.field_type, write_default(field)?) {
                    (Type::Primitive(of), Some(Literal::Primitive(value))) => scalar(of, &value)?,
                    _ => ScalarValue::Null,
                };
                column(&field.name, default)
            }
        };
        match &*field.field_type {
            Type::Primitive(of) => return Ok((expr, of.clone())),
            Type::Struct(inner) => fields = inner.fields(),
            Type::List(_) | Type::Map(_) => return Err(unknown()),
        }
        found = Some(expr);
    }
}

fn holds(of: &Type, id: i32) -> bool {
    match of {
        Type::Struct(inner) => {
            inner.fields().iter().any(|field| field.id == id || holds(&field.field_type, id))
        }
        _ => false,
    }
}

/// The same rows, with an error in the place of the first that does not match. NULL is no match.
pub(super) fn require(frame: DataFrame, filter: &Filter, table: &CoreTable) -> Result<DataFrame> {
    let mut columns = Vec::new();
    let has = |name: &str| frame.schema().fields().iter().any(|field| field.name() == name);
    let mut column = |name: &str, default: ScalarValue| match has(name) {
        true => {
            if !columns.contains(&name.to_string()) {
                columns.push(name.to_string());
            }
            ident(name)
        }
        // A column that the rows lack has its default in them.
        false => lit(default),
    };
    let condition = expression(filter, table.schema(), &mut column)?;
    let require = Require {
        filter: condition.to_string(),
        table: table.ident().to_string(),
        columns: columns.clone(),
        signature: Signature::variadic_any(Volatility::Volatile),
    };
    let arguments = std::iter::once(condition).chain(columns.iter().map(ident)).collect();
    frame.filter(ScalarUDF::new_from_impl(require).call(arguments)).map_err(from_datafusion)
}

/// True for each row whose first argument is; an error that shows the others' values where it is not. Volatile, so that it is
/// evaluated where it stands, and once.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Require {
    filter: String,
    table: String,
    columns: Vec<String>,
    signature: Signature,
}

impl ScalarUDFImpl for Require {
    fn name(&self) -> &str {
        "matches_what_is_replaced"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<DfResult<Vec<ArrayRef>>>()?;
        let [matches, values @ ..] = &arrays[..] else { return internal_err!("a condition is an argument") };
        let matches = match matches.data_type() {
            DataType::Boolean => matches.as_boolean().clone(),
            _ => BooleanArray::new_null(rows), // a condition that is NULL for all
        };
        let is_match = |row: usize| matches.is_valid(row) && matches.value(row);
        let Some(first) = (0..rows).find(|row| !is_match(*row)) else {
            return Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(vec![true; rows]))));
        };
        let others = (first..rows).filter(|row| !is_match(*row)).count();
        let options = FormatOptions::new().with_null("NULL");
        let shown = self.columns.iter().zip(values).map(|(name, values)| {
            let value = ArrayFormatter::try_new(values, &options).map(|shown| shown.value(first).to_string());
            format!("{name} = {}", value.unwrap_or_default())
        });
        let message = "rows do not match the filter whose rows they replace; filter them, or overwrite by a filter that they match";
        Err(to_datafusion(
            Error::invalid_input(message)
                .with("table", &self.table)
                .with("filter", &self.filter)
                .with("rows in the batch", others)
                .with("first", shown.collect::<Vec<_>>().join(", ")),
        ))
    }
}
