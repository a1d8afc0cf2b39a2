//! Nested columns of a file in the shape that the table has now: fields found by id, whatever they are called and in
//! whatever order the file has them; promoted, absent and dropped ones at every level.
//!
//! What lies below a NULL is NULL here. Files need not say so: a field that is required inside a struct that is not has some
//! value where the struct is NULL, and Arrow keeps it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, NullArray, StructArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ColumnarValue;
use iceberg::spec::Schema as IcebergSchema;

use super::schema::field_id;
use crate::rules::cast_floor;
use crate::variant::{is_variant, unshredded};

/// How an array of a file's type becomes one of the table's.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// It is one.
    Same,
    /// Its values are cast.
    Cast(DataType),
    /// A struct, field by field.
    Struct(Vec<Child>),
    /// A list, by its elements.
    List(FieldRef, Box<Shape>),
    /// A variant, shredded or not, whole.
    Variant(Fields),
    /// Nothing but NULL: of type unknown.
    Null,
    /// A map, by its keys and values.
    Map(FieldRef, Box<Shape>, Box<Shape>),
}

/// A field of a struct.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Child {
    field: FieldRef,
    from: Source,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// A field of the file's struct.
    File(usize, Shape),
    /// No field of the file: this value.
    Constant(ScalarValue),
}

/// What a plan needs to know of the table.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    /// Non-NULL initial defaults by field id.
    pub(super) defaults: &'a HashMap<i32, ScalarValue>,
    /// The schema that says which fields inside of others are required; of columns of the library's own there is none.
    pub(super) schema: Option<&'a IcebergSchema>,
    /// False where the ids of the file's fields are not in the file's own schema but were given by a name mapping.
    pub(super) own_ids: bool,
}

/// Plans how a file's field of type `from` is read as `to`.
///
/// # Errors
/// When the types have nothing to do with each other, or a required field is absent and has no default.
pub(super) fn plan(from: &Field, to: &Field, reading: Reading<'_>) -> Result<Shape> {
    // Equal nested types are equal arrays only where the ids in them are the file's own.
    if from.data_type() == to.data_type() && (reading.own_ids || !from.data_type().is_nested()) {
        return Ok(Shape::Same);
    }
    match (from.data_type(), to.data_type()) {
        (DataType::Struct(_), DataType::Struct(fields)) if is_variant(to) => {
            Ok(Shape::Variant(fields.clone()))
        }
        (_, DataType::Null) => Ok(Shape::Null),
        (DataType::Struct(from), DataType::Struct(to)) => {
            let by_id: HashMap<i32, usize> =
                from.iter().enumerate().filter_map(|(i, f)| Some((field_id(f)?, i))).collect();
            let mut children = Vec::with_capacity(to.len());
            for field in to {
                let id = field_id(field);
                let source = match id.and_then(|id| by_id.get(&id)) {
                    Some(&index) => Source::File(index, plan(&from[index], field, reading)?),
                    None => Source::Constant(inner_constant(field, id, reading)?),
                };
                children.push(Child { field: field.clone(), from: source });
            }
            Ok(Shape::Struct(children))
        }
        (DataType::List(from), DataType::List(to)) => {
            Ok(Shape::List(to.clone(), Box::new(plan(from, to, reading)?)))
        }
        (DataType::Map(from, _), DataType::Map(to, _)) => match (from.data_type(), to.data_type()) {
            (DataType::Struct(from), DataType::Struct(entries)) if from.len() == 2 && entries.len() == 2 => {
                let key = plan(&from[0], &entries[0], reading)?;
                let value = plan(&from[1], &entries[1], reading)?;
                Ok(Shape::Map(to.clone(), Box::new(key), Box::new(value)))
            }
            _ => exec_err!("a map without keys and values"),
        },
        (from, to) if !from.is_nested() && !to.is_nested() => Ok(Shape::Cast(to.clone())),
        (from, to) => exec_err!("the file has {from} where the table has {to}"),
    }
}

/// What a field inside of another reads as that a file does not have.
fn inner_constant(field: &Field, id: Option<i32>, reading: Reading<'_>) -> Result<ScalarValue> {
    let inner = reading.schema.zip(id).and_then(|(schema, id)| schema.field_by_id(id));
    let required = inner.is_some_and(|inner| inner.required);
    constant(&field.clone().with_nullable(field.is_nullable() && !required), id, reading.defaults)
}

/// What a field that a file does not have reads as.
pub(super) fn constant(
    field: &Field,
    id: Option<i32>,
    defaults: &HashMap<i32, ScalarValue>,
) -> Result<ScalarValue> {
    match id.and_then(|id| defaults.get(&id)) {
        Some(value) => value.cast_to(field.data_type()),
        None if field.is_nullable() => ScalarValue::try_from(field.data_type()),
        None => exec_err!("the required field '{}' is not in the file and has no default", field.name()),
    }
}

impl Shape {
    pub(super) fn apply(&self, array: &ArrayRef) -> Result<ArrayRef> {
        self.below(array, None)
    }

    /// The array in this shape, NULL where `parents` are.
    fn below(&self, array: &ArrayRef, parents: Option<&NullBuffer>) -> Result<ArrayRef> {
        let nulls = || NullBuffer::union(array.nulls(), parents);
        Ok(match self {
            Self::Same => masked(array, parents)?,
            // What is no data must not fail.
            Self::Cast(to) => cast_floor(&masked(array, parents)?, to)?,
            Self::Struct(children) => {
                let (from, nulls) = (array.as_struct(), nulls());
                if children.is_empty() {
                    return Ok(Arc::new(StructArray::new_empty_fields(from.len(), nulls)));
                }
                let columns = children
                    .iter()
                    .map(|child| match &child.from {
                        Source::File(index, shape) => shape.below(from.column(*index), nulls.as_ref()),
                        Source::Constant(value) => {
                            masked(&value.to_array_of_size(from.len())?, nulls.as_ref())
                        }
                    })
                    .collect::<Result<Vec<_>>>()?;
                let fields = children.iter().map(|child| child.field.clone()).collect();
                Arc::new(StructArray::try_new(fields, columns, nulls)?)
            }
            Self::List(field, element) => {
                let from = array.as_list::<i32>();
                let values = element.apply(from.values())?;
                Arc::new(ListArray::try_new(field.clone(), from.offsets().clone(), values, nulls())?)
            }
            Self::Variant(fields) => masked(&unshredded(array, fields)?, parents)?,
            Self::Null => Arc::new(NullArray::new(array.len())),
            Self::Map(entries_field, key, value) => {
                let from = array.as_map();
                let columns = vec![key.apply(from.keys())?, value.apply(from.values())?];
                let DataType::Struct(fields) = entries_field.data_type() else {
                    return exec_err!("a map without keys and values");
                };
                let entries = StructArray::try_new(fields.clone(), columns, from.entries().nulls().cloned())?;
                let offsets = from.offsets().clone();
                Arc::new(MapArray::try_new(entries_field.clone(), offsets, entries, nulls(), false)?)
            }
        })
    }
}

/// An array that is NULL where `parents` are, too.
fn masked(array: &ArrayRef, parents: Option<&NullBuffer>) -> Result<ArrayRef> {
    let Some(parents) = parents.filter(|parents| parents.null_count() > 0) else { return Ok(array.clone()) };
    if array.data_type().is_null() {
        return Ok(array.clone());
    }
    let nulls = NullBuffer::union(array.nulls(), Some(parents));
    Ok(make_array(array.to_data().into_builder().nulls(nulls).build()?))
}

/// A nested column of a file, in the table's shape.
#[derive(Debug, Clone)]
pub(super) struct Reshaped {
    input: Arc<dyn PhysicalExpr>,
    shape: Arc<Shape>,
    field: FieldRef,
}

impl Reshaped {
    pub(super) fn new(input: Arc<dyn PhysicalExpr>, shape: Shape, field: FieldRef) -> Self {
        Self { input, shape: Arc::new(shape), field }
    }
}

impl PartialEq for Reshaped {
    fn eq(&self, other: &Self) -> bool {
        self.input.eq(&other.input) && self.shape == other.shape && self.field == other.field
    }
}

impl Eq for Reshaped {}

impl Hash for Reshaped {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.field.hash(state);
    }
}

impl fmt::Display for Reshaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reshape({})", self.input)
    }
}

impl PhysicalExpr for Reshaped {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.field.is_nullable())
    }

    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(self.field.clone())
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.input.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(self.shape.apply(&array)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                Ok(Arc::new(Self { input, shape: self.shape.clone(), field: self.field.clone() }))
            }
            _ => exec_err!("a reshaped column has one input"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt_sql(f)
    }
}
