//! The SQL functions on variants, as Spark has them.
//!
//! | function | gives |
//! | --- | --- |
//! | `variant_get(v, '$.a.b[0]', 'type')` | the value at the path, as the type; NULL where there is none; an error where it is of another type |
//! | `variant_get(v, '$.a')` | the value at the path, as a variant |
//! | `try_variant_get(v, path, 'type')` | as `variant_get`, but NULL where the value is of another type |
//! | `variant_to_json(v)` | the value as JSON text |

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::compute::{CastOptions, cast};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use icefield_core::format::{UTC, VARIANT_EXTENSION, variant_fields};
use parquet_variant::{Variant, VariantPath};
use parquet_variant_compute::{GetOptions, VariantArray, variant_get, variant_to_json};

use super::{guarded, may_be_variant, unshredded};

/// The functions.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    vec![
        ScalarUDF::new_from_impl(VariantGet::new("variant_get", true)),
        ScalarUDF::new_from_impl(VariantGet::new("try_variant_get", false)),
        ScalarUDF::new_from_impl(VariantToJson::new()),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct VariantGet {
    name: &'static str,
    strict: bool,
    signature: Signature,
}

impl VariantGet {
    fn new(name: &'static str, strict: bool) -> Self {
        Self { name, strict, signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for VariantGet {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the arguments' values")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let (of, texts) = match (args.arg_fields, args.scalar_arguments) {
            ([of, _], [_, path]) => (of, [Some(*path), None]),
            ([of, _, _], [_, path, wanted]) => (of, [Some(*path), Some(*wanted)]),
            _ => return plan_err!("{} takes a variant, a path and, if wanted, a type", self.name),
        };
        require_variant(self.name, of.data_type())?;
        let [path, wanted] = texts.map(|text| text.map(|text| constant(self.name, text)).transpose());
        parse_path(path?.unwrap_or_default())?;
        let wanted = wanted?.map(parse_type).transpose()?.flatten();
        Ok(Arc::new(match wanted {
            Some(wanted) => Field::new(self.name, wanted, true),
            None => variant_field(self.name),
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [of, ColumnarValue::Scalar(path), ..] = args.args.as_slice() else {
            return exec_err!("{}'s path is a constant", self.name);
        };
        let path = parse_path(constant(self.name, Some(path))?)?;
        let whole = unshredded(&of.to_array(args.number_rows)?, &variant_fields())?;
        let to = args.return_field;
        let is_variant = super::is_variant(&to);
        let options = GetOptions::new_with_path(path)
            .with_as_type((!is_variant).then(|| to.clone()))
            .with_cast_options(CastOptions { safe: !self.strict, ..CastOptions::default() });
        let wanted = to.data_type();
        Ok(ColumnarValue::Array(match wanted {
            DataType::Struct(fields) if is_variant => {
                unshredded(&guarded(|| variant_get(&whole, options))?, fields)?
            }
            DataType::Float32 | DataType::Float64 => {
                let found = guarded(|| variant_get(&whole, options.with_as_type(None)))?;
                cast(&guarded(|| doubles(&found, self.strict))?, wanted)?
            }
            _ => guarded(|| variant_get(&whole, options))?,
        }))
    }
}

/// Numbers as floating point. JSON's fractions are decimals in a variant, which `variant_get` does not take for floats.
fn doubles(found: &ArrayRef, strict: bool) -> Result<ArrayRef, ArrowError> {
    let found = VariantArray::try_new(found)?;
    let value = |row: usize| {
        if found.is_null(row) {
            return Ok(None);
        }
        let value = found.try_value(row)?;
        let number = match &value {
            Variant::Null => return Ok(None),
            Variant::Decimal4(decimal) => decimal.to_string().parse().ok(),
            Variant::Decimal8(decimal) => decimal.to_string().parse().ok(),
            Variant::Decimal16(decimal) => decimal.to_string().parse().ok(),
            other => other.as_f64(),
        };
        match number {
            None if strict => {
                Err(ArrowError::CastError(format!("a variant's value is no number: {value:?}")))
            }
            number => Ok(number),
        }
    };
    let numbers = (0..found.len()).map(value).collect::<Result<Float64Array, ArrowError>>()?;
    Ok(Arc::new(numbers))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct VariantToJson {
    signature: Signature,
}

impl VariantToJson {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for VariantToJson {
    fn name(&self) -> &str {
        "variant_to_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, of: &[DataType]) -> Result<DataType> {
        for of in of {
            require_variant(self.name(), of)?;
        }
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [of] = args.args.as_slice() else { return exec_err!("{} takes a variant", self.name()) };
        let whole = unshredded(&of.to_array(args.number_rows)?, &variant_fields())?;
        Ok(ColumnarValue::Array(Arc::new(guarded(|| variant_to_json(&whole))?)))
    }
}

fn variant_field(name: &str) -> Field {
    let metadata = [("ARROW:extension:name", VARIANT_EXTENSION), ("ARROW:extension:metadata", "")];
    Field::new(name, DataType::Struct(variant_fields()), true)
        .with_metadata(metadata.map(|(key, value)| (key.to_string(), value.to_string())).into())
}

fn require_variant(function: &str, of: &DataType) -> Result<()> {
    if may_be_variant(of) { Ok(()) } else { plan_err!("{function} takes a variant, not {of}") }
}

fn constant<'a>(function: &str, text: Option<&'a ScalarValue>) -> Result<&'a str> {
    let text = text.and_then(|text| text.try_as_str().flatten());
    text.ok_or_else(|| plan_datafusion_err!("{function}'s path and type are constant texts"))
}

/// A path as Spark writes it: `$`, then `.name`, `['any name']` and `[0]`.
fn parse_path(text: &str) -> Result<VariantPath<'_>> {
    let steps = match text.strip_prefix('$') {
        Some(steps) if steps.starts_with('.') => &steps[1..],
        Some(steps) if steps.is_empty() || steps.starts_with('[') => steps,
        _ => return plan_err!("a variant's path begins with $, as in $.a.b[0]: '{text}'"),
    };
    if steps.is_empty() && text != "$" {
        return plan_err!("a variant's path ends with a name: '{text}'");
    }
    VariantPath::try_from(steps).map_err(|e| plan_datafusion_err!("'{text}' is no path into a variant: {e}"))
}

/// A type by its name in SQL; `None` for a variant.
fn parse_type(text: &str) -> Result<Option<DataType>> {
    let name = text.trim().to_ascii_lowercase();
    Ok(Some(match name.as_str() {
        "variant" => return Ok(None),
        "boolean" => DataType::Boolean,
        "tinyint" | "byte" => DataType::Int8,
        "smallint" | "short" => DataType::Int16,
        "int" | "integer" => DataType::Int32,
        "bigint" | "long" => DataType::Int64,
        "float" | "real" => DataType::Float32,
        "double" => DataType::Float64,
        "string" | "varchar" | "text" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => match decimal(&name) {
            Some(decimal) => decimal,
            None => {
                return plan_err!(
                    "'{text}' is no type that a variant's value is given as: boolean, tinyint, smallint, int, bigint, float, \
                     double, decimal(p, s), string, binary, date, timestamp, timestamp_ntz, variant"
                );
            }
        },
    }))
}

fn decimal(name: &str) -> Option<DataType> {
    let arguments = name.strip_prefix("decimal")?.trim().strip_prefix('(')?.strip_suffix(')')?;
    let (precision, scale) = arguments.split_once(',').unwrap_or((arguments, "0"));
    let (precision, scale): (u8, i8) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    let valid = (1..=38).contains(&precision) && scale >= 0 && scale as u8 <= precision;
    valid.then_some(DataType::Decimal128(precision, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_with_a_dollar() {
        for (text, steps) in [("$", 0), ("$.a", 1), ("$.a.b[0]", 3), ("$['a b'][1].c", 3), ("$[0]", 1)] {
            assert_eq!(parse_path(text).unwrap().len(), steps, "{text}");
        }
        for text in ["", "a", "$.", "$a", "$..a", "$.a.", "$.a[", "$.a]", "$é"] {
            assert!(parse_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn types_go_by_their_sql_names() {
        assert_eq!(parse_type("BIGINT").unwrap(), Some(DataType::Int64));
        assert_eq!(parse_type("decimal(9, 2)").unwrap(), Some(DataType::Decimal128(9, 2)));
        assert_eq!(parse_type("variant").unwrap(), None);
        for text in ["decimal(39, 2)", "decimal(2, 3)", "decimal", "list", ""] {
            assert!(parse_type(text).is_err(), "{text}");
        }
    }
}
