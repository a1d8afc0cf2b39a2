//! The metadata columns that a table's rows have beside its own (spec: "Reserved Field IDs", "Row Lineage").
//!
//! | column | what it is |
//! | --- | --- |
//! | `_file` | the location of the data file |
//! | `_pos` | the row's position in it, from 0 |
//! | `_spec_id` | the id of the file's partition spec |
//! | `_partition` | the file's partition: a struct of the fields of all specs, NULL where the file's has none. Not of a table that never was partitioned |
//! | `_deleted` | whether the row is deleted: where deleted rows are asked for |
//! | `_row_id` | version 3: the row's id, which it keeps when it is moved or updated |
//! | `_last_updated_sequence_number` | version 3: the sequence number of the commit that last changed the row |

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use datafusion::common::ScalarValue;
use icefield_core::format::LiveFile;
use icefield_core::{Error, Result, Table};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::partition::PartitionFields;
use super::positions::{POS_ID, pos_field};
use super::schema::{ReadSchema, field_id};

const FILE_ID: i32 = i32::MAX - 1;
const DELETED_ID: i32 = i32::MAX - 3;
const SPEC_ID: i32 = i32::MAX - 4;
const PARTITION_ID: i32 = i32::MAX - 5;
const DELETED: &str = "_deleted";
pub(super) const ROW_ID: i32 = i32::MAX - 107;
pub(super) const LAST_UPDATED_ID: i32 = i32::MAX - 108;
/// Not in the format: the constant that a file's row ids begin with.
pub(super) const FIRST_ROW_ID: i32 = -2;

/// Values that are the same for all rows of a file: by the file's location, then by field id.
pub(super) type Constants = HashMap<String, HashMap<i32, ScalarValue>>;

/// Whether a field id is one of those that the format reserves.
pub(super) fn is_metadata(id: i32) -> bool {
    id > i32::MAX - 200
}

/// Whether a metadata column is the same for all rows of a file.
pub(super) fn is_of_a_file(id: i32) -> bool {
    [FILE_ID, SPEC_ID, PARTITION_ID].contains(&id)
}

fn field(name: &str, of: DataType, id: i32, nullable: bool) -> Field {
    let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string())]);
    Field::new(name, of, nullable).with_metadata(id)
}

fn lineage() -> [Field; 2] {
    [
        field("_row_id", DataType::Int64, ROW_ID, true),
        field("_last_updated_sequence_number", DataType::Int64, LAST_UPDATED_ID, true),
    ]
}

/// A scan's schema with the metadata columns after its own. A column of the table that has the name of one wins.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a partition field of a type that can't be carried.
pub(super) fn with_metadata_columns(table: &Table, schema: &ReadSchema) -> Result<ReadSchema> {
    let partition = PartitionFields::new(table).arrow()?;
    let partition = (!partition.is_empty())
        .then(|| field("_partition", DataType::Struct(partition), PARTITION_ID, false));
    let columns = [
        field("_file", DataType::Utf8, FILE_ID, false),
        pos_field("_pos"),
        field("_spec_id", DataType::Int32, SPEC_ID, false),
    ];
    let own = schema.arrow.fields();
    let new = columns.into_iter().chain(partition).chain(lineage());
    Ok(extended(schema, new.filter(|column| own.find(column.name()).is_none())))
}

/// A scan's schema with the column `_deleted` after its own.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) when the table has a column of its name.
pub(super) fn with_deleted(table: &Table, schema: &ReadSchema) -> Result<ReadSchema> {
    if schema.arrow.fields().find(DELETED).is_some() {
        return Err(Error::unsupported(
            "a column of the table has the name that tells deleted rows from others; rename it to see them",
        )
        .with("table", table.ident())
        .with("column", DELETED));
    }
    Ok(extended(schema, [field(DELETED, DataType::Boolean, DELETED_ID, false)]))
}

/// A scan's schema with the columns that a rewrite keeps.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) when the table has columns of their names.
pub(super) fn with_lineage(table: &Table, schema: &ReadSchema) -> Result<ReadSchema> {
    for column in lineage() {
        if schema.arrow.fields().find(column.name()).is_some() {
            return Err(Error::unsupported(
                "a column of the table has the name of a row lineage column; rename it before compacting",
            )
            .with("table", table.ident())
            .with("column", column.name()));
        }
    }
    Ok(extended(schema, lineage()))
}

fn extended(schema: &ReadSchema, new: impl IntoIterator<Item = Field>) -> ReadSchema {
    let own = schema.arrow.fields().iter().map(|field| field.as_ref().clone());
    let arrow = Arc::new(ArrowSchema::new(own.chain(new).collect::<Vec<_>>()));
    let (iceberg, mapping) = (schema.iceberg.clone(), schema.mapping.clone());
    ReadSchema { iceberg, arrow, mapping, defaults: schema.defaults.clone() }
}

/// What a scan needs for the metadata columns among those that it uses.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// The files' values, by location.
    pub(super) constants: Constants,
    /// Whether rows' positions are asked for.
    pub(super) positions: bool,
}

impl Needed {
    /// What files need for the columns of a schema. Their rows are deleted ones or are not.
    ///
    /// # Errors
    /// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for a partition value that is not of its type.
    pub(super) fn new<'a>(
        table: &Table,
        schema: &ReadSchema,
        files: impl IntoIterator<Item = &'a LiveFile>,
        deleted: bool,
    ) -> Result<Self> {
        let ids = schema.arrow.fields().iter().filter_map(|field| field_id(field));
        let used: HashSet<i32> = ids.filter(|id| is_metadata(*id)).collect();
        if used.is_empty() {
            return Ok(Self::default());
        }
        let partition = match used.contains(&PARTITION_ID) {
            true => {
                let fields = PartitionFields::new(table);
                let arrow = fields.arrow()?;
                Some((fields, arrow))
            }
            false => None,
        };
        let constants = files.into_iter().map(|file| {
            let mut constants = constants(file);
            constants.insert(DELETED_ID, ScalarValue::Boolean(Some(deleted)));
            if let Some((fields, arrow)) = &partition {
                let value = fields.scalar(arrow, file.spec_id, file.file.partition());
                constants.insert(PARTITION_ID, value.map_err(|e| e.with("file", file.path()))?);
            }
            Ok((file.path().to_string(), constants))
        });
        let positions = used.contains(&POS_ID) || used.contains(&ROW_ID);
        Ok(Self { constants: constants.collect::<Result<_>>()?, positions })
    }
}

fn constants(file: &LiveFile) -> HashMap<i32, ScalarValue> {
    let first_row_id = file.file.first_row_id();
    // What was last updated before the table had row ids, nobody knows.
    let updated = first_row_id.map(|_| file.file_sequence_number);
    HashMap::from([
        (FILE_ID, ScalarValue::Utf8(Some(file.path().to_string()))),
        (SPEC_ID, ScalarValue::Int32(Some(file.spec_id))),
        (FIRST_ROW_ID, ScalarValue::Int64(first_row_id)),
        (LAST_UPDATED_ID, ScalarValue::Int64(updated)),
    ])
}
