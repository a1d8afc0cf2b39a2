//! [`ReadSchema`]: the columns that a scan produces, as Iceberg and as Arrow know them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema as ArrowSchema, SchemaRef};
use iceberg::spec::{
    DEFAULT_SCHEMA_NAME_MAPPING, DataFile, Literal, NameMapping, NestedFieldRef, PrimitiveType, Schema, Type,
};
use icefield_core::format::arrow_schema;
use icefield_core::{Error, Result, Table};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::value::scalar;
use datafusion::common::ScalarValue;

/// The schema of a scan, and what is needed to find its columns in files.
#[derive(Debug)]
pub(super) struct ReadSchema {
    /// The table's schema at the snapshot that is read.
    pub(super) iceberg: Arc<Schema>,
    /// What the scan produces, with field ids.
    pub(super) arrow: SchemaRef,
    /// How columns of files without field ids are found.
    pub(super) mapping: Option<NameMapping>,
    /// Non-NULL initial defaults by field id, nested fields too.
    pub(super) defaults: HashMap<i32, ScalarValue>,
}

impl ReadSchema {
    /// The columns of a table in one of its schemas. `views` makes strings and binary columns view types, which
    /// DataFusion filters and groups faster.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a column that can't be carried,
    /// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for a name mapping that can't be parsed.
    pub(super) fn new(table: &Table, schema: &Arc<Schema>, views: bool) -> Result<Self> {
        let mut arrow = arrow_schema(schema)?;
        if views {
            arrow = Arc::new(ArrowSchema::new(arrow.fields().iter().map(with_view).collect::<Vec<_>>()));
        }
        let mapping = match table.property(DEFAULT_SCHEMA_NAME_MAPPING) {
            Some(json) => Some(serde_json::from_str(json).map_err(|e| {
                Error::data_invalid("the table's name mapping is not valid; correct the property")
                    .with("table", table.ident())
                    .with("property", DEFAULT_SCHEMA_NAME_MAPPING)
                    .with_source(e)
            })?),
            None => None,
        };
        let mut defaults = HashMap::new();
        collect_defaults(schema.as_struct().fields(), &mut defaults)?;
        Ok(Self { iceberg: schema.clone(), arrow, mapping, defaults })
    }

    /// The ids, joined by commas, of the floating-point columns of a file that may hold NaN: those whose NaNs nobody
    /// counted, too.
    pub(super) fn may_be_nan(&self, file: &DataFile) -> String {
        let float = |field: &&NestedFieldRef| match field.field_type.as_ref() {
            Type::Primitive(of) => matches!(of, PrimitiveType::Float | PrimitiveType::Double),
            _ => false,
        };
        let fields = self.iceberg.as_struct().fields().iter().filter(float);
        let ids = fields.map(|field| field.id).filter(|id| file.nan_value_counts().get(id) != Some(&0));
        ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
    }
}

fn with_view(field: &FieldRef) -> FieldRef {
    let view = match field.data_type() {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        _ => return field.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(view))
}

pub(super) fn collect_defaults(
    fields: &[NestedFieldRef],
    into: &mut HashMap<i32, ScalarValue>,
) -> Result<()> {
    for field in fields {
        if let Some(Literal::Primitive(literal)) = &field.initial_default
            && let Type::Primitive(of) = field.field_type.as_ref()
        {
            into.insert(field.id, scalar(of, literal).map_err(|e| e.with("column", &field.name))?);
        }
        match field.field_type.as_ref() {
            Type::Primitive(_) => {}
            Type::Struct(fields) => collect_defaults(fields.fields(), into)?,
            Type::List(list) => collect_defaults(std::slice::from_ref(&list.element_field), into)?,
            Type::Map(map) => {
                collect_defaults(&[map.key_field.clone(), map.value_field.clone()], into)?;
            }
        }
    }
    Ok(())
}

/// The field id in an Arrow field's metadata.
pub(super) fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}
