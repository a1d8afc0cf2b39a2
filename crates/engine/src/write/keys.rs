//! Which partition each row belongs to.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::HashMap;
use iceberg::spec::{PartitionSpec, PrimitiveType, Schema, Struct, Transform, Type};
use icefield_core::format::{Partitioner, transform_array};
use icefield_core::{Error, Result};

use super::literal::literal_at;
use super::location::short_folder;

/// A column of a batch: a position, then positions inside structs.
pub(crate) type Path = Vec<usize>;

/// The path of a field in batches whose columns are the schema's, and the field's type.
///
/// # Errors
/// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for a field that the schema lacks, or that is inside a list or map.
pub(crate) fn path_of(schema: &Schema, id: i32) -> Result<(Path, Type)> {
    fn find(fields: &[iceberg::spec::NestedFieldRef], id: i32, path: &mut Path) -> Option<Type> {
        for (at, field) in fields.iter().enumerate() {
            path.push(at);
            if field.id == id {
                return Some((*field.field_type).clone());
            }
            if let Type::Struct(inner) = &*field.field_type
                && let Some(found) = find(inner.fields(), id, path)
            {
                return Some(found);
            }
            path.pop();
        }
        None
    }
    let mut path = Vec::new();
    let found = find(schema.as_struct().fields(), id, &mut path);
    found.map(|of| (path, of)).ok_or_else(|| {
        Error::data_invalid(
            "a partition spec or sort order names a column that the schema lacks; change it, or add the column",
        )
        .with("field id", id)
    })
}

/// The array at a path, NULL where a struct on the way is.
pub(crate) fn array_at(columns: &[ArrayRef], path: &[usize]) -> Result<ArrayRef> {
    let lost = || Error::internal("a batch lacks a column of its schema");
    let (first, rest) = path.split_first().ok_or_else(lost)?;
    let mut array = columns.get(*first).ok_or_else(lost)?.clone();
    let mut nulls: Option<NullBuffer> = None;
    for at in rest {
        let parent = array.as_struct_opt().ok_or_else(lost)?;
        nulls = NullBuffer::union(nulls.as_ref(), parent.nulls());
        let child = parent.columns().get(*at).ok_or_else(lost)?.clone();
        array = child;
    }
    match nulls {
        Some(nulls) if nulls.null_count() > 0 => {
            let nulls = NullBuffer::union(array.nulls(), Some(&nulls));
            Ok(make_array(array.to_data().into_builder().nulls(nulls).build()?))
        }
        _ => Ok(array),
    }
}

/// A column that routing or sorting needs: a transform of a field.
#[derive(Debug, Clone)]
pub(crate) struct KeyColumn {
    pub(crate) path: Path,
    pub(crate) transform: Transform,
}

impl KeyColumn {
    /// The key's values of a batch's rows.
    pub(crate) fn of(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let array = array_at(columns, &self.path)?;
        Ok(one_nan(transform_array(self.transform, &array)?))
    }

    /// The key's type for a column of this type.
    pub(crate) fn data_type(&self, source: &DataType) -> Result<DataType> {
        let empty = arrow::array::new_empty_array(source);
        Ok(transform_array(self.transform, &empty)?.data_type().clone())
    }
}

/// NaN has many bit patterns; they are one partition.
fn one_nan(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            Arc::new(values.unary::<_, Float32Type>(|value| if value.is_nan() { f32::NAN } else { value }))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            Arc::new(values.unary::<_, Float64Type>(|value| if value.is_nan() { f64::NAN } else { value }))
        }
        _ => array,
    }
}

/// A partition's value and folder.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    pub(crate) values: Struct,
    /// `None` in a table without partitions.
    pub(crate) folder: Option<String>,
}

/// Whether `iceberg` writes manifests with partition values of this type, and reads them back: it fails to write a UUID and
/// to read nanoseconds. Better no write than a table that nobody can read.
fn in_manifests(of: &PrimitiveType) -> bool {
    !matches!(of, PrimitiveType::Uuid | PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs)
}

/// The partition spec of a write.
#[derive(Debug)]
pub(crate) struct Partitioning {
    spec: Arc<PartitionSpec>,
    paths: Partitioner,
    types: Vec<PrimitiveType>,
    /// One for each of the spec's fields.
    pub(crate) keys: Vec<KeyColumn>,
}

impl Partitioning {
    pub(crate) fn new(spec: Arc<PartitionSpec>, schema: &Schema) -> Result<Self> {
        let paths = Partitioner::new(&spec, schema)?;
        let mut keys = Vec::with_capacity(spec.fields().len());
        let mut types = Vec::with_capacity(spec.fields().len());
        for field in spec.fields() {
            // A column that was dropped may stay behind in a void field of a version 1 table.
            let (path, source) = match path_of(schema, field.source_id) {
                Err(_) if field.transform == Transform::Void => (vec![], Type::Primitive(PrimitiveType::Int)),
                found => found?,
            };
            let result = field.transform.result_type(&source)?;
            let Type::Primitive(result) = result else {
                return Err(Error::data_invalid(
                    "a partition field is of a nested type; change the partition spec",
                )
                .with("field", &field.name));
            };
            if field.transform == Transform::Identity && !in_manifests(&result) {
                let message = "partition values of this type can't be written to manifests; partition by bucket or by a time transform instead";
                return Err(Error::unsupported(message).with("field", &field.name).with("type", result));
            }
            keys.push(KeyColumn { path, transform: field.transform });
            types.push(result);
        }
        Ok(Self { spec, paths, types, keys })
    }

    pub(crate) fn spec_id(&self) -> i32 {
        self.spec.spec_id()
    }

    pub(crate) fn is_unpartitioned(&self) -> bool {
        self.spec.is_unpartitioned()
    }

    /// The one partition of a table without partitions.
    pub(crate) fn whole(&self) -> Partition {
        Partition { values: self.types.iter().map(|_| None).collect(), folder: None }
    }

    /// The partition of a row, from its key values.
    fn partition(&self, keys: &[ArrayRef], row: usize) -> Result<Partition> {
        let mut values = Vec::with_capacity(self.keys.len());
        let mut at = 0;
        for (key, of) in self.keys.iter().zip(&self.types) {
            if key.transform == Transform::Void {
                values.push(None);
                continue;
            }
            let array = keys.get(at).ok_or_else(|| Error::internal("a partition key is lost"))?;
            values.push(literal_at(array, row, of)?);
            at += 1;
        }
        let values: Struct = values.into_iter().collect();
        let folder = Some(short_folder(&self.paths.path(&values)));
        Ok(Partition { values, folder })
    }
}

/// Numbers partitions in the order in which they are first seen.
pub(crate) struct PartitionIndex {
    partitioning: Arc<Partitioning>,
    converter: RowConverter,
    rows: Rows,
    known: HashMap<Box<[u8]>, u32>,
    partitions: Vec<Partition>,
}

impl PartitionIndex {
    /// For keys of these types, which are those of the spec's fields that are not void.
    pub(crate) fn new(partitioning: Arc<Partitioning>, types: &[DataType]) -> Result<Self> {
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let rows = converter.empty_rows(0, 0);
        Ok(Self { partitioning, converter, rows, known: HashMap::default(), partitions: Vec::new() })
    }

    /// The partition of each row, by number.
    pub(crate) fn assign(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        self.rows.clear();
        self.converter.append(&mut self.rows, keys)?;
        let mut assigned = Vec::with_capacity(rows);
        let mut last: Option<(usize, u32)> = None;
        for at in 0..rows {
            let row = self.rows.row(at);
            if let Some((before, number)) = last
                && self.rows.row(before) == row
            {
                assigned.push(number);
                continue;
            }
            let number = match self.known.get(row.as_ref()) {
                Some(number) => *number,
                None => {
                    let number = self.partitions.len() as u32;
                    self.partitions.push(self.partitioning.partition(keys, at)?);
                    self.known.insert(row.as_ref().into(), number);
                    number
                }
            };
            last = Some((at, number));
            assigned.push(number);
        }
        Ok(assigned)
    }

    /// A partition by number.
    pub(crate) fn get(&self, number: u32) -> Result<&Partition> {
        self.partitions
            .get(number as usize)
            .ok_or_else(|| Error::internal("a partition's number is not known").with("number", number))
    }

    /// How many were seen.
    pub(crate) fn len(&self) -> usize {
        self.partitions.len()
    }
}
