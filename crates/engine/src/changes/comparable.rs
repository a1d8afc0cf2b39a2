//! [`comparable`]: values that can be sorted, of columns that can't be because there are maps in them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::Expr;

/// An expression, or where its type has maps in it the same with each map as the list of its entries, in their order.
pub(super) fn comparable(value: Expr, of: &DataType) -> Expr {
    if without_maps(of) == *of {
        return value;
    }
    ScalarUDF::from(Comparable { signature: Signature::any(1, Volatility::Immutable) }).call(vec![value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Comparable {
    signature: Signature,
}

impl ScalarUDFImpl for Comparable {
    fn name(&self) -> &str {
        "icefield_comparable"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, of: &[DataType]) -> Result<DataType> {
        Ok(of.first().map_or(DataType::Null, without_maps))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = datafusion::common::utils::take_function_args(self.name(), args.args)?;
        Ok(ColumnarValue::Array(lists(&value.into_array(args.number_rows)?)?))
    }
}

fn without_maps(of: &DataType) -> DataType {
    match of {
        DataType::Map(entries, _) => DataType::List(field_without_maps(entries)),
        DataType::List(element) => DataType::List(field_without_maps(element)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field_without_maps).collect()),
        other => other.clone(),
    }
}

fn field_without_maps(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), without_maps(field.data_type()), field.is_nullable()))
}

fn lists(array: &ArrayRef) -> Result<ArrayRef> {
    let of = without_maps(array.data_type());
    Ok(match (array.data_type(), of) {
        (DataType::Map(..), DataType::List(element)) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(ListArray::try_new(element, offsets, lists(&entries)?, nulls)?)
        }
        (DataType::List(_), DataType::List(element)) => {
            let list = array.as_list::<i32>();
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(ListArray::try_new(element, offsets, lists(list.values())?, nulls)?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => of_struct(array.as_struct(), fields)?,
        _ => array.clone(),
    })
}

fn of_struct(array: &StructArray, fields: Fields) -> Result<ArrayRef> {
    let columns = array.columns().iter().map(lists).collect::<Result<Vec<_>>>()?;
    let nulls = array.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, array.len())?))
}
