//! NaN counts of floating point columns, which Parquet's statistics lack.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{ArrowPrimitiveType, Float32Type, Float64Type};
use iceberg::spec::{NestedFieldRef, PrimitiveType, Type};

/// Counts NaN by field id. Fields inside lists and maps have no such count (Iceberg's writers give none for repeated
/// fields).
#[derive(Debug, Clone)]
pub(crate) struct NanCounter {
    columns: Vec<Column>,
    counts: HashMap<i32, u64>,
}

/// A path of positions to a floating point column.
#[derive(Debug, Clone)]
struct Column {
    id: i32,
    path: Vec<usize>,
    double: bool,
}

impl NanCounter {
    /// A counter for rows of these fields, all counts 0.
    pub(crate) fn new(fields: &[NestedFieldRef]) -> Self {
        let mut columns = Vec::new();
        find(fields, &mut Vec::new(), &mut columns);
        let counts = columns.iter().map(|column| (column.id, 0)).collect();
        Self { columns, counts }
    }

    /// Adds a batch whose columns are the fields, in order.
    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        for column in &self.columns {
            let Some((first, rest)) = column.path.split_first() else { continue };
            let Some(array) = batch.columns().get(*first) else { continue };
            let count = count(array, rest, None, column.double);
            *self.counts.entry(column.id).or_default() += count;
        }
    }

    /// The counts by field id.
    pub(crate) fn counts(&self) -> &HashMap<i32, u64> {
        &self.counts
    }

    /// The same counter at 0.
    pub(crate) fn fresh(&self) -> Self {
        let counts = self.columns.iter().map(|column| (column.id, 0)).collect();
        Self { columns: self.columns.clone(), counts }
    }
}

fn find(fields: &[NestedFieldRef], path: &mut Vec<usize>, out: &mut Vec<Column>) {
    for (at, field) in fields.iter().enumerate() {
        path.push(at);
        match &*field.field_type {
            Type::Primitive(PrimitiveType::Float) => {
                out.push(Column { id: field.id, path: path.clone(), double: false });
            }
            Type::Primitive(PrimitiveType::Double) => {
                out.push(Column { id: field.id, path: path.clone(), double: true });
            }
            Type::Struct(inner) => find(inner.fields(), path, out),
            _ => {}
        }
        path.pop();
    }
}

fn count(array: &ArrayRef, path: &[usize], parents: Option<&NullBuffer>, double: bool) -> u64 {
    let nulls = NullBuffer::union(array.nulls(), parents);
    match path.split_first() {
        Some((at, rest)) => {
            let children = array.as_struct_opt().map(|array| array.columns()).unwrap_or_default();
            children.get(*at).map_or(0, |child| count(child, rest, nulls.as_ref(), double))
        }
        None if double => count_values::<Float64Type>(array, nulls.as_ref(), |value| value.is_nan()),
        None => count_values::<Float32Type>(array, nulls.as_ref(), |value| value.is_nan()),
    }
}

fn count_values<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
    is_nan: impl Fn(T::Native) -> bool,
) -> u64 {
    let Some(array) = array.as_primitive_opt::<T>() else { return 0 };
    let values = array.values();
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => values.iter().filter(|value| is_nan(**value)).count() as u64,
        Some(nulls) => {
            nulls.valid_indices().filter(|at| values.get(*at).is_some_and(|value| is_nan(*value))).count()
                as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array, StructArray};
    use arrow::datatypes::{DataType, Field, Fields, Schema};
    use iceberg::spec::{NestedField, StructType};

    use super::*;

    #[test]
    fn nan_is_counted_where_no_parent_is_null() {
        let float = Type::Primitive(PrimitiveType::Float);
        let inner = StructType::new(vec![NestedField::optional(3, "f", float).into()]);
        let fields: Vec<NestedFieldRef> = vec![
            NestedField::optional(1, "d", Type::Primitive(PrimitiveType::Double)).into(),
            NestedField::optional(2, "s", Type::Struct(inner)).into(),
        ];
        let doubles = Float64Array::from(vec![Some(f64::NAN), None, Some(-f64::NAN), Some(f64::INFINITY)]);
        let floats = Arc::new(Float32Array::from(vec![f32::NAN; 4])) as ArrayRef;
        let nulls = NullBuffer::from(vec![true, false, true, false]);
        let arrow = Fields::from(vec![Field::new("f", DataType::Float32, true)]);
        let nested = StructArray::new(arrow.clone(), vec![floats], Some(nulls));
        let schema = Schema::new(vec![
            Field::new("d", DataType::Float64, true),
            Field::new("s", DataType::Struct(arrow), true),
        ]);
        let batch =
            RecordBatch::try_new(Arc::new(schema), vec![Arc::new(doubles), Arc::new(nested)]).unwrap();
        let mut counter = NanCounter::new(&fields);
        counter.add(&batch);
        counter.add(&batch);
        assert_eq!(counter.counts(), &HashMap::from([(1, 4), (3, 4)]));
        assert_eq!(counter.fresh().counts(), &HashMap::from([(1, 0), (3, 0)]));
    }
}
