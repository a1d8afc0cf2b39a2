//! The fields of all partition specs of a table together, by field id (Iceberg Java's `Partitioning.partitionType`): what
//! a partition is, whichever spec it is of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::datatypes::{Field, Fields};
use datafusion::common::{Result as DfResult, ScalarValue};
use iceberg::spec::{Literal, NestedField, PrimitiveType, Struct, Transform, Type};
use icefield_core::format::{arrow_field, foreign_kind, human_partition_value};
use icefield_core::{Result, Table};

use super::value::scalar;
use crate::error::from_datafusion;

/// The fields of all specs together.
#[derive(Debug, Clone)]
pub(crate) struct PartitionFields(Vec<PartitionField>);

#[derive(Debug, Clone)]
pub(crate) struct PartitionField {
    name: String,
    of: PrimitiveType,
    id: i32,
    transform: Transform,
    /// The field's place in the partition values of each spec that has it.
    places: HashMap<i32, usize>,
}

impl PartitionFields {
    /// The fields of all specs whose source columns the table still has. Names are those of the latest spec that has them.
    pub(crate) fn new(table: &Table) -> Self {
        let metadata = table.metadata();
        let schema = table.schema();
        let mut specs: Vec<_> = metadata.partition_specs_iter().collect();
        specs.sort_by_key(|spec| std::cmp::Reverse(spec.spec_id()));
        let mut fields = BTreeMap::<i32, PartitionField>::new();
        for spec in specs {
            for (place, field) in spec.fields().iter().enumerate() {
                let source = schema.field_by_id(field.source_id).map(|source| source.field_type.as_ref());
                let result = source.and_then(|source| field.transform.result_type(source).ok());
                let Some(Type::Primitive(of)) = result else { continue };
                if foreign_kind(&of).is_some() {
                    continue;
                }
                let known = fields.entry(field.field_id).or_insert_with(|| PartitionField {
                    name: field.name.clone(),
                    of: of.clone(),
                    id: field.field_id,
                    transform: field.transform,
                    places: HashMap::new(),
                });
                // A field that was dropped from a version 1 table stays in later specs, as void.
                if known.transform == Transform::Void && field.transform != Transform::Void {
                    (known.of, known.transform) = (of, field.transform);
                }
                known.places.insert(spec.spec_id(), place);
            }
        }
        Self(fields.into_values().collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values of a partition, NULL for the fields that its spec has not.
    pub(crate) fn values(&self, spec_id: i32, partition: &Struct) -> Result<Vec<Option<ScalarValue>>> {
        self.0.iter().map(|field| field.value(spec_id, partition)).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PartitionField> {
        self.0.iter()
    }

    /// The fields of the struct that a partition is.
    pub(crate) fn arrow(&self) -> Result<Fields> {
        self.iter().map(|field| Ok(Arc::new(field.arrow()?))).collect()
    }

    /// A partition as a struct with these fields, those of [`arrow`](Self::arrow).
    pub(crate) fn scalar(&self, fields: &Fields, spec_id: i32, partition: &Struct) -> Result<ScalarValue> {
        let columns = self.values(spec_id, partition)?.into_iter().zip(fields).map(|(value, field)| {
            let null = || ScalarValue::try_from(field.data_type());
            value.map_or_else(null, Ok)?.to_array_of_size(1)
        });
        let columns: Vec<ArrayRef> = columns.collect::<DfResult<_>>().map_err(from_datafusion)?;
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields.clone(), columns, None)?)))
    }
}

impl PartitionField {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The field, which any partition may be without.
    pub(crate) fn arrow(&self) -> Result<Field> {
        arrow_field(&NestedField::optional(self.id, &self.name, Type::Primitive(self.of.clone())))
    }

    /// Its value in a partition.
    pub(crate) fn value(&self, spec_id: i32, partition: &Struct) -> Result<Option<ScalarValue>> {
        let place = self.places.get(&spec_id);
        match place.and_then(|place| partition.fields().get(*place)).and_then(Option::as_ref) {
            // Whose type only the files' manifests know.
            Some(value) if self.transform == Transform::Unknown => {
                let text = human_partition_value(self.transform, &self.of, Some(value));
                Ok(Some(ScalarValue::Utf8(Some(text))))
            }
            Some(Literal::Primitive(value)) => Ok(Some(scalar(&self.of, value)?)),
            _ => Ok(None),
        }
    }
}
