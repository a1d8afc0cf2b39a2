//! The types of what manifests hold: of columns' bounds, and of partition values.
//!
//! They are the table's to say, as in Iceberg Java: a manifest's own header may lack them, may have the schema of something
//! else, or one that a partition's source column had left by then.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{
    Literal, PartitionSpec, PartitionSpecRef, PrimitiveType, Schema, SchemaRef, Struct, TableMetadata,
    Transform, Type,
};

use super::widen::widen;
use crate::error::{Error, Result};
use crate::format::position_deletes::{DELETE_FILE_PATH_ID, DELETE_POS_ID};

/// The field id of a row's id.
const ROW_ID: i32 = 2_147_483_540;
/// The field id of the sequence number at which a row was last updated.
const LAST_UPDATED: i32 = 2_147_483_539;

/// A table's schemas and partition specs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct TableTypes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The current one first, then the newest.
    schemas: Vec<SchemaRef>,
    specs: HashMap<i32, PartitionSpecRef>,
}

impl TableTypes {
    pub(super) fn new(metadata: &TableMetadata) -> Self {
        let current = metadata.current_schema();
        let mut others: Vec<&SchemaRef> =
            metadata.schemas_iter().filter(|schema| schema.schema_id() != current.schema_id()).collect();
        others.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
        let schemas = std::iter::once(current).chain(others).cloned().collect();
        let specs = metadata.partition_specs_iter().map(|spec| (spec.spec_id(), spec.clone())).collect();
        Self(Arc::new(Inner { schemas, specs }))
    }

    pub(super) fn spec(&self, id: i32) -> Option<&PartitionSpecRef> {
        self.0.specs.get(&id)
    }

    /// The type of a column's bounds.
    pub(super) fn column(&self, id: i32) -> Option<PrimitiveType> {
        match id {
            DELETE_FILE_PATH_ID => return Some(PrimitiveType::String),
            DELETE_POS_ID | ROW_ID | LAST_UPDATED => return Some(PrimitiveType::Long),
            _ => {}
        }
        self.0.schemas.iter().find_map(|schema| primitive(schema, id))
    }

    /// A spec with the types of its values. Of what the table does not know the manifest is asked: the schema in its header,
    /// then the Avro types of its own columns, by field id.
    pub(super) fn partition(
        &self,
        spec: PartitionSpecRef,
        header: impl FnOnce() -> Option<Schema>,
        avro: impl Fn(i32) -> Option<PrimitiveType>,
    ) -> PartitionTypes {
        let schemas = &self.0.schemas;
        let typed = |schemas: &[SchemaRef]| -> Vec<Option<PrimitiveType>> {
            let of = |transform: Transform, source: i32| {
                // `iceberg` takes what it does not know for text. The manifest has values of some type.
                if transform == Transform::Unknown {
                    return None;
                }
                let source = schemas.iter().find_map(|schema| primitive(schema, source))?;
                transform.result_type(&Type::Primitive(source)).ok()?.as_primitive_type().cloned()
            };
            spec.fields().iter().map(|field| of(field.transform, field.source_id)).collect()
        };
        let has_sources = |schema: &&SchemaRef| spec.partition_type(schema).is_ok();
        let mut types = typed(schemas);
        let mut schema = schemas.iter().find(has_sources).cloned();
        let is_whole = |types: &[Option<PrimitiveType>]| types.iter().all(Option::is_some);
        if (!is_whole(&types) || schema.is_none())
            && let Some(header) = header().map(Arc::new)
        {
            let of_header = typed(std::slice::from_ref(&header));
            for (known, other) in types.iter_mut().zip(of_header) {
                *known = known.take().or(other);
            }
            schema = schema.or_else(|| Some(&header).filter(has_sources).cloned());
        }
        for (known, field) in types.iter_mut().zip(spec.fields()) {
            *known = known.take().or_else(|| avro(field.field_id));
        }
        let schema = schema.or_else(|| schemas.first().cloned());
        PartitionTypes { spec, schema, types }
    }
}

fn primitive(schema: &SchemaRef, id: i32) -> Option<PrimitiveType> {
    schema.field_by_id(id)?.field_type.as_primitive_type().cloned()
}

/// A partition spec with the types of its values: those of the table's current schema, and for a column that it lacks those
/// of the newest schema that had it. Those of a transform that is not known here are as the manifest has them.
#[derive(Debug, Clone)]
pub struct PartitionTypes {
    spec: PartitionSpecRef,
    schema: Option<SchemaRef>,
    types: Vec<Option<PrimitiveType>>,
}

impl PartitionTypes {
    /// The types of one of a table's specs.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the table has no such spec.
    pub fn new(metadata: &TableMetadata, spec_id: i32) -> Result<Self> {
        let types = TableTypes::new(metadata);
        let spec = types.spec(spec_id).cloned().ok_or_else(|| {
            Error::invalid_input("a file's partition spec is not one of the table's").with("spec", spec_id)
        })?;
        Ok(types.partition(spec, || None, |_| None))
    }

    /// The same types, with those of another reading of the spec where nothing is known here.
    pub fn or(mut self, other: &Self) -> Self {
        if self.spec.spec_id() == other.spec.spec_id() && self.types.len() == other.types.len() {
            let unknown = self.types.contains(&None);
            for (known, other) in self.types.iter_mut().zip(&other.types) {
                *known = known.take().or_else(|| other.clone());
            }
            if unknown && self.schema.as_ref().is_none_or(|s| self.spec.partition_type(s).is_err()) {
                self.schema = other.schema.clone().or(self.schema);
            }
        }
        self
    }

    /// The spec.
    pub fn spec(&self) -> &PartitionSpec {
        &self.spec
    }

    /// A schema that has the columns that the spec is over: the current one if it has them, or else the newest that has.
    /// Where none has them all, the current one; `None` where the table is not known.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    /// Whether a partition value is of these types, or of narrower ones.
    pub(crate) fn hold(&self, partition: &Struct) -> bool {
        let values = partition.fields();
        values.len() == self.types.len()
            && self.types.iter().zip(values).all(|(of, value)| match (of, value) {
                (_, None) => true,
                (Some(of), Some(Literal::Primitive(value))) => widen(value, of).is_some(),
                _ => false,
            })
    }

    /// The type of each field's values, in the spec's order; `None` where nobody knows it any more.
    pub fn types(&self) -> &[Option<PrimitiveType>] {
        &self.types
    }
}
