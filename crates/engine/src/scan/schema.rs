//! [`ReadSchema`]: the columns that a scan produces, as Iceberg and as Arrow know them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema as ArrowSchema, SchemaRef};
use iceberg::spec::{
    DEFAULT_SCHEMA_NAME_MAPPING, DataFile, Literal, NameMapping, NestedField, NestedFieldRef, Schema, Type,
};
use icefield_core::format::{arrow_field, claims, initial_default};
use icefield_core::{Error, ErrorKind, Result, Table};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::value::scalar;
use crate::variant::is_variant;
use datafusion::common::ScalarValue;

/// The keys in a field's metadata that say of a column that can't be carried which part of it that is, and its type.
const UNCARRIED_COLUMN: &str = "icefield.uncarried-column";
const UNCARRIED_TYPE: &str = "icefield.uncarried-type";

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
    /// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for a name mapping that can't be parsed.
    pub(super) fn new(table: &Table, schema: &Arc<Schema>, views: bool) -> Result<Self> {
        let fields = schema.as_struct().fields().iter().map(|field| {
            let field = Arc::new(nullable_inside(&column(field)?));
            Ok(if views { with_view(&field) } else { field })
        });
        let arrow = Arc::new(ArrowSchema::new(fields.collect::<Result<Vec<_>>>()?));
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

    /// The same schema with the columns at these places alone.
    ///
    /// # Errors
    /// For a place that it does not have.
    pub(super) fn of_columns(&self, places: &[usize]) -> Result<Self> {
        let (iceberg, mapping) = (self.iceberg.clone(), self.mapping.clone());
        let arrow = Arc::new(self.arrow.project(places)?);
        Ok(Self { iceberg, arrow, mapping, defaults: self.defaults.clone() })
    }

    /// The ids of the floating-point columns of a file that may hold NaN: those whose NaNs nobody counted, too.
    pub(super) fn may_be_nan(&self, file: &DataFile) -> Vec<i32> {
        let floats = self.arrow.fields().iter().filter(|field| field.data_type().is_floating());
        let ids = floats.filter_map(|field| field_id(field));
        ids.filter(|id| claims::nan_count(file, *id) != Some(0)).collect()
    }
}

/// A column with everything inside it nullable: what is required there is NULL wherever something around it is, and Arrow
/// and DataFusion take a field that is not nullable for one that never is. Keys of maps are never NULL.
fn nullable_inside(field: &Field) -> Field {
    let inside = |field: &FieldRef| Arc::new(nullable_inside(field).with_nullable(true));
    let data_type = match field.data_type() {
        // Its parts are its own.
        DataType::Struct(_) if is_variant(field) => return field.clone(),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inside).collect()),
        DataType::List(element) => DataType::List(inside(element)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) => {
                let key = fields.iter().take(1).map(|key| Arc::new(nullable_inside(key)));
                let fields = key.chain(fields.iter().skip(1).map(inside)).collect();
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(fields));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => return field.clone(),
        },
        _ => return field.clone(),
    };
    field.clone().with_data_type(data_type)
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
        if let Type::Primitive(of) = field.field_type.as_ref()
            && let Some(Literal::Primitive(literal)) = initial_default(field)?
        {
            into.insert(field.id, scalar(of, &literal).map_err(|e| e.with("column", &field.name))?);
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

/// What a column is read as. One that can't be carried is there too, without values: it is an error where it is asked for.
fn column(field: &NestedField) -> Result<Field> {
    let error = match arrow_field(field) {
        Err(error) if error.kind() == ErrorKind::Unsupported => error,
        carried => return carried,
    };
    let value =
        |wanted: &str| error.context().find(|(key, _)| *key == wanted).map(|(_, value)| value.to_string());
    let metadata = HashMap::from([
        (PARQUET_FIELD_ID_META_KEY.to_string(), field.id.to_string()),
        (UNCARRIED_COLUMN.to_string(), value("column").unwrap_or_else(|| field.name.clone())),
        (UNCARRIED_TYPE.to_string(), value("type").unwrap_or_else(|| field.field_type.to_string())),
    ]);
    Ok(Field::new(&field.name, DataType::Null, true).with_metadata(metadata))
}

/// Refuses a column that can't be carried.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) naming the column and its type.
pub(super) fn require_carried(column: &Field) -> Result<()> {
    let Some(of) = column.metadata().get(UNCARRIED_TYPE) else { return Ok(()) };
    let name = column.metadata().get(UNCARRIED_COLUMN).unwrap_or(column.name());
    Err(Error::unsupported("the column's type can't be read; name the columns that are wanted, without it")
        .with("column", name)
        .with("type", of))
}

/// The field id in an Arrow field's metadata.
pub(super) fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}
