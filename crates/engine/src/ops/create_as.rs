//! Tables that appear, or are replaced, with the rows of a plan: `CREATE TABLE AS` and `CREATE OR REPLACE
//! TABLE`.

use std::sync::Arc;

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, Schema, SortOrder, StructType, TableMetadata, Type,
    UnboundPartitionField, UnboundPartitionSpec,
};
use iceberg::{TableRequirement, TableUpdate};
use icefield_core::catalog::{TableCreation, TableIdent};
use icefield_core::commit::{DeleteBy, Overwrite, Transaction};
use icefield_core::evolve::{MetadataChange, apply_updates};
use icefield_core::filter::Filter;
use icefield_core::table::MAIN_BRANCH;
use icefield_core::{Error, Result, Table as CoreTable};

use super::create::{self, IntoTableSchema, TableOptions, TableSchema};
use super::stage::require_bounded;
use crate::looks::Looks;
use crate::publish::publish;
use crate::session::Session;
use crate::write::{WriteOptions, WrittenFiles, check_fit, write_data_files};

/// The rows of a new table, and what they are run in.
pub(crate) type Rows = (Arc<dyn ExecutionPlan>, Arc<TaskContext>);

/// The columns of a table that replaces another.
pub(crate) enum Columns {
    Declared(Vec<NestedFieldRef>),
    OfRows(ArrowSchemaRef),
}

impl From<Vec<NestedFieldRef>> for Columns {
    fn from(fields: Vec<NestedFieldRef>) -> Self {
        Self::Declared(fields)
    }
}

impl From<ArrowSchemaRef> for Columns {
    fn from(schema: ArrowSchemaRef) -> Self {
        Self::OfRows(schema)
    }
}

/// Creates a table, which must be absent, in one commit with its rows: it appears whole or not at all. Its
/// namespace is created when it is absent.
///
/// # Errors
/// As [`Append`](super::Append).
pub(crate) async fn create_as(
    session: &Session,
    ident: &TableIdent,
    options: &TableOptions,
    (plan, context): Rows,
) -> Result<()> {
    let columns = plan.schema();
    create::check_columns(&columns)?;
    let table = create::new(session, ident, &columns, options).await?;
    let written = write(session, &table, (plan, context)).await?;
    let mut transaction = Transaction::new(&table).exact_files();
    if !written.files.is_empty() {
        transaction = transaction.append(written.files.clone());
    }
    publish(transaction, &**session.catalog(), &[&written]).await?;
    Ok(())
}

/// Replaces a table's columns, partitions, order and rows in one commit. `looks` are the tables that the rows come from:
/// what was committed to this one since is not replaced unseen. Its history stays, and so do the
/// properties that `options` do not set. The new columns have new field ids: files that are there are never
/// read as theirs.
///
/// # Errors
/// As [`Overwrite`](super::Overwrite); [`Conflict`](icefield_core::ErrorKind::Conflict) too where others changed the table
/// meanwhile.
pub(crate) async fn replace(
    session: &Session,
    ident: &TableIdent,
    columns: Columns,
    options: &TableOptions,
    rows: Option<Rows>,
    looks: &Looks,
) -> Result<()> {
    let table = session.catalog().load_table(ident).await?;
    let start = looks.start(&table, MAIN_BRANCH).await?;
    let schema = match columns {
        Columns::Declared(fields) => fields.into_table_schema()?,
        Columns::OfRows(schema) => TableSchema::Arrow(schema),
    };
    let replacement = Replacement::new(&table, options, schema)?;
    let change = replacement.change(table.metadata())?;
    let replaced = Arc::new(apply_updates(table.metadata(), &change.updates)?);
    let location = table.metadata_location().to_string();
    let target = CoreTable::new(ident.clone(), replaced, location, table.storage().clone());
    let written = match rows {
        Some(rows) => Some(write(session, &target, rows).await?),
        None => None,
    };
    let add = written.iter().flat_map(|written| written.files.clone()).collect::<Vec<_>>();
    let mut transaction =
        Transaction::new(&table).exact_files().change(move |metadata| replacement.change(metadata));
    if let Some(start) = start {
        transaction = transaction.based_on(start);
    }
    if table.metadata().current_snapshot().is_some() || !add.is_empty() {
        let delete = DeleteBy::Filter(Filter::True);
        transaction = transaction.overwrite(Overwrite { delete, add, reads: None });
    }
    publish(transaction, &**session.catalog(), &written.iter().collect::<Vec<_>>()).await?;
    Ok(())
}

async fn write(session: &Session, table: &CoreTable, (plan, context): Rows) -> Result<WrittenFiles> {
    check_fit(table, &plan.schema())?;
    require_bounded(&plan)?;
    let options = WriteOptions::new().clock(session.catalog().clock().clone());
    write_data_files(table, plan, context, &options).await
}

/// What a table becomes.
#[derive(Debug)]
struct Replacement {
    creation: TableCreation,
    /// The last field id that the table had given: the new columns count from there.
    last_column_id: i32,
}

impl Replacement {
    fn new(table: &CoreTable, options: &TableOptions, schema: TableSchema) -> Result<Self> {
        let metadata = table.metadata();
        let version = metadata.format_version().max(options.version()?);
        let options = options.clone().format_version(version as u8);
        let creation = options.creation(table.ident().name(), schema)?;
        if creation.location.as_ref().is_some_and(|location| location != metadata.location()) {
            let message =
                "a table that is replaced stays where it is; leave LOCATION out, or drop the table first";
            return Err(Error::unsupported(message).with("table", table.ident()));
        }
        Ok(Self { creation, last_column_id: metadata.last_column_id() })
    }

    fn change(&self, metadata: &TableMetadata) -> Result<MetadataChange> {
        if metadata.last_column_id() != self.last_column_id {
            return Err(Error::conflict(
                "another commit changed the schema meanwhile; run the statement again",
            ));
        }
        let by = self.last_column_id;
        let TableCreation { schema, partition_spec, sort_order, properties, format_version, .. } =
            &self.creation;
        let mut updates = Vec::new();
        if *format_version > metadata.format_version() {
            updates.push(TableUpdate::UpgradeFormatVersion { format_version: *format_version });
        }
        let spec = partition_spec.clone().unwrap_or_default();
        let order = sort_order.clone().unwrap_or_else(SortOrder::unsorted_order);
        updates.extend([
            TableUpdate::AddSchema { schema: shifted_schema(schema, by)? },
            TableUpdate::SetCurrentSchema { schema_id: -1 },
            TableUpdate::AddSpec { spec: shifted_spec(&spec, by)? },
            TableUpdate::SetDefaultSpec { spec_id: -1 },
            TableUpdate::AddSortOrder { sort_order: shifted_order(&order, by, metadata) },
            TableUpdate::SetDefaultSortOrder { sort_order_id: -1 },
            TableUpdate::SetProperties { updates: properties.clone() },
        ]);
        // The mapping is of columns that are gone.
        let mapping = iceberg::spec::DEFAULT_SCHEMA_NAME_MAPPING.to_string();
        if metadata.properties().contains_key(&mapping) && !properties.contains_key(&mapping) {
            updates.push(TableUpdate::RemoveProperties { removals: vec![mapping] });
        }
        let requirements = vec![
            TableRequirement::UuidMatch { uuid: metadata.uuid() },
            TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id: self.last_column_id },
            TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() },
            TableRequirement::DefaultSpecIdMatch { default_spec_id: metadata.default_partition_spec_id() },
            TableRequirement::DefaultSortOrderIdMatch {
                default_sort_order_id: metadata.default_sort_order().order_id,
            },
        ];
        Ok(MetadataChange { updates, requirements })
    }
}

/// A schema whose field ids are all higher by a number.
fn shifted_schema(schema: &Schema, by: i32) -> Result<Schema> {
    let fields = schema.as_struct().fields().iter().map(|field| shifted(field, by));
    let identifier = schema.identifier_field_ids().map(|id| id + by);
    let made = Schema::builder().with_fields(fields).with_identifier_field_ids(identifier).build();
    made.map_err(|e| Error::invalid_input(e.message().to_string()).with_source(e))
}

fn shifted(field: &NestedField, by: i32) -> NestedFieldRef {
    let field_type = match &*field.field_type {
        Type::Primitive(primitive) => Type::Primitive(primitive.clone()),
        Type::Struct(fields) => {
            Type::Struct(StructType::new(fields.fields().iter().map(|field| shifted(field, by)).collect()))
        }
        Type::List(list) => Type::List(ListType::new(shifted(&list.element_field, by))),
        Type::Map(map) => Type::Map(MapType::new(shifted(&map.key_field, by), shifted(&map.value_field, by))),
    };
    Arc::new(NestedField { id: field.id + by, field_type: Box::new(field_type), ..field.clone() })
}

fn shifted_spec(spec: &UnboundPartitionSpec, by: i32) -> Result<UnboundPartitionSpec> {
    let fields = spec.fields().iter().map(|field| UnboundPartitionField {
        source_id: field.source_id + by,
        field_id: None,
        ..field.clone()
    });
    Ok(UnboundPartitionSpec::builder().add_partition_fields(fields)?.build())
}

fn shifted_order(order: &SortOrder, by: i32, metadata: &TableMetadata) -> SortOrder {
    let highest = metadata.sort_orders_iter().map(|order| order.order_id).max().unwrap_or(0);
    let fields: Vec<_> = order
        .fields
        .iter()
        .map(|field| iceberg::spec::SortField { source_id: field.source_id + by, ..field.clone() })
        .collect();
    let order_id = if fields.is_empty() { 0 } else { highest + 1 };
    SortOrder { order_id, fields }
}
