//! The column `partition`: of the fields of all partition specs, by field id (Iceberg Java's `Partitioning.partitionType`).

use std::collections::{BTreeMap, HashMap};

use datafusion::common::ScalarValue;
use iceberg::spec::{Literal, NestedField, PrimitiveType, Struct, Transform, Type};
use icefield_core::format::{arrow_field, foreign_kind};
use icefield_core::{Result, Table};

use super::columns::{Column, Columns};
use crate::scan::scalar;

/// The fields of all specs together.
#[derive(Clone)]
pub(super) struct PartitionFields(Vec<PartitionField>);

#[derive(Clone)]
struct PartitionField {
    name: String,
    of: PrimitiveType,
    id: i32,
    transform: Transform,
    /// The field's place in the partition values of each spec that has it.
    places: HashMap<i32, usize>,
}

impl PartitionFields {
    /// The fields of all specs whose source columns the table still has. Names are those of the latest spec that has them.
    pub(super) fn new(table: &Table) -> Self {
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

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values of a partition, NULL for the fields that its spec has not.
    pub(super) fn values(&self, spec_id: i32, partition: &Struct) -> Result<Vec<Option<ScalarValue>>> {
        self.0.iter().map(|field| field.value(spec_id, partition)).collect()
    }

    /// The column, of what tells a row's spec and partition.
    pub(super) fn column<R: Send + Sync + 'static>(
        &self,
        partition: impl for<'a> Fn(&'a R) -> (i32, &'a Struct) + Clone + Send + Sync + 'static,
    ) -> Result<Column<R>> {
        let fields = self.0.iter().cloned().map(|field| {
            let partition = partition.clone();
            let nested = NestedField::optional(field.id, &field.name, Type::Primitive(field.of.clone()));
            let data_type = arrow_field(&nested)?.data_type().clone();
            Ok(Column::scalar(&field.name.clone(), data_type, move |row| {
                let (spec_id, values) = partition(row);
                field.value(spec_id, values)
            }))
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        Ok(Column::nested("partition", Columns::from(fields)).required())
    }
}

impl PartitionField {
    fn value(&self, spec_id: i32, partition: &Struct) -> Result<Option<ScalarValue>> {
        let place = self.places.get(&spec_id);
        match place.and_then(|place| partition.fields().get(*place)).and_then(Option::as_ref) {
            Some(Literal::Primitive(value)) => Ok(Some(scalar(&self.of, value)?)),
            _ => Ok(None),
        }
    }
}
