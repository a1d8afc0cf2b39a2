//! Creating tables, and what is said of a table that is created.

use std::collections::{HashMap, HashSet};
use std::future::IntoFuture;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef};
use futures::future::BoxFuture;
use iceberg::spec::{FormatVersion, NestedField, NestedFieldRef, Schema, SchemaRef};
use icefield_core::catalog::{NamespaceIdent, TableCreation, TableIdent, parse_ident};
use icefield_core::evolve::{PartitionTerm, SortTerm, check_property_values, partition_spec, sort_order};
use icefield_core::format::{iceberg_schema, parse_format_version};
use icefield_core::{Error, ErrorKind, Result, Table as CoreTable};

use crate::session::Session;
use crate::table::Table;

/// Properties of tables that are created here, unless the caller says otherwise. Each commit writes the whole metadata anew:
/// metadata files go with the commit that drops them from the table's log (RFC 0005).
const DEFAULTS: [(&str, &str); 2] = [
    ("write.metadata.delete-after-commit.enabled", "true"),
    // Iceberg's own default, said for whoever looks: readers that just looked at the catalog have that many commits' time.
    ("write.metadata.previous-versions-max", "100"),
];

/// The layout and properties of a table to be created.
///
/// Where the caller does not set them, the properties `write.metadata.delete-after-commit.enabled` is `true` and
/// `write.metadata.previous-versions-max` 100: of earlier metadata files the last 100 stay.
#[derive(Debug, Clone, Default)]
pub struct TableOptions {
    partition: Vec<PartitionTerm>,
    sort: Vec<SortTerm>,
    properties: HashMap<String, String>,
    format_version: Option<String>,
    location: Option<String>,
    identifier: Vec<String>,
}

macro_rules! table_options {
    ($builder:ty, |$this:ident| $options:expr) => {
        impl $builder {
            /// Partitions the table: `partition_by([month("date"), bucket("id", 16)])`.
            pub fn partition_by(mut self, terms: impl IntoIterator<Item = impl Into<PartitionTerm>>) -> Self {
                let $this = &mut self;
                $options.partition.extend(terms.into_iter().map(Into::into));
                self
            }

            /// Sorts the table's files: `sort_by([asc("city"), desc("price")])`.
            pub fn sort_by(mut self, terms: impl IntoIterator<Item = SortTerm>) -> Self {
                let $this = &mut self;
                $options.sort.extend(terms);
                self
            }

            /// Sets a table property.
            pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
                let $this = &mut self;
                $options.properties.insert(name.into(), value.into());
                self
            }

            /// Sets table properties.
            pub fn properties<N: Into<String>, V: Into<String>>(
                mut self,
                properties: impl IntoIterator<Item = (N, V)>,
            ) -> Self {
                let $this = &mut self;
                $options.properties.extend(properties.into_iter().map(|(n, v)| (n.into(), v.into())));
                self
            }

            /// The table format's version: 1, 2 (the default) or 3.
            pub fn format_version(mut self, version: u8) -> Self {
                let $this = &mut self;
                $options.format_version = Some(version.to_string());
                self
            }

            /// Where the table's files go, instead of the place that its namespace gives it.
            pub fn location(mut self, location: impl Into<String>) -> Self {
                let $this = &mut self;
                $options.location = Some(location.into());
                self
            }

            /// The columns that identify a row. They become required.
            pub fn identifier(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
                let $this = &mut self;
                $options.identifier.extend(columns.into_iter().map(Into::into));
                self
            }
        }
    };
}

table_options!(TableOptions, |this| this);
table_options!(CreateTable, |this| this.options);

impl TableOptions {
    /// A table without partitions, sort order and properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// The table format's version.
    pub(crate) fn version(&self) -> Result<FormatVersion> {
        let property = self.properties.get("format-version");
        match self.format_version.as_ref().or(property) {
            Some(version) => parse_format_version(version),
            None => Ok(FormatVersion::V2),
        }
    }

    pub(super) fn creation(&self, name: &str, schema: TableSchema) -> Result<TableCreation> {
        let version = self.version()?;
        let schema = match schema {
            TableSchema::Iceberg(schema) => Arc::unwrap_or_clone(schema),
            TableSchema::Arrow(schema) => {
                check_columns(&schema)?;
                iceberg_schema(&optional(&schema), version)?
            }
        };
        let schema = self.identified(schema)?;
        let spec = match &self.partition[..] {
            [] => None,
            terms => Some(partition_spec(&schema, terms.iter().cloned())?),
        };
        let order = match &self.sort[..] {
            [] => None,
            terms => Some(sort_order(&schema, terms.iter().cloned())?),
        };
        let mut properties = self.properties.clone();
        properties.remove("format-version");
        check_property_values(&properties)?;
        for (name, value) in DEFAULTS {
            properties.entry(name.to_string()).or_insert_with(|| value.to_string());
        }
        Ok(TableCreation {
            name: name.to_string(),
            location: self.location.clone(),
            schema,
            partition_spec: spec,
            sort_order: order,
            properties,
            format_version: version,
        })
    }

    fn identified(&self, schema: Schema) -> Result<Schema> {
        if self.identifier.is_empty() {
            return Ok(schema);
        }
        let mut ids: Vec<i32> = schema.identifier_field_ids().collect();
        for column in &self.identifier {
            let id = schema.field_id_by_name(column).ok_or_else(|| {
                Error::invalid_input("the identifier names a column that the table lacks")
                    .with("column", column)
            })?;
            ids.push(id);
        }
        let fields: Vec<NestedFieldRef> = schema
            .as_struct()
            .fields()
            .iter()
            .map(|field| match ids.contains(&field.id) && !field.required {
                true => Arc::new(NestedField { required: true, ..field.as_ref().clone() }),
                false => field.clone(),
            })
            .collect();
        let made = Schema::builder()
            .with_schema_id(schema.schema_id())
            .with_fields(fields)
            .with_identifier_field_ids(ids)
            .build();
        made.map_err(|e| Error::invalid_input(e.message().to_string()).with_source(e))
    }
}

/// Refuses two columns of one name, and names that are empty.
fn check_names<'a>(parent: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        let full = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        if name.is_empty() {
            let message = "a column's name can't be empty; give it one, with an alias perhaps";
            return Err(Error::invalid_input(message).with("column", full));
        }
        if !seen.insert(name) {
            let message = "two columns have this name; give one another name, with an alias perhaps";
            return Err(Error::invalid_input(message).with("column", full));
        }
    }
    Ok(())
}

/// Refuses columns that no table can have: two of one name at a level, and empty names.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput).
pub(super) fn check_columns(columns: &ArrowSchema) -> Result<()> {
    check_arrow_names("", columns.fields())
}

fn check_arrow_names(parent: &str, fields: &Fields) -> Result<()> {
    check_names(parent, fields.iter().map(|field| field.name()))?;
    for field in fields {
        let path =
            if parent.is_empty() { field.name().clone() } else { format!("{parent}.{}", field.name()) };
        match field.data_type() {
            DataType::Struct(inner) => check_arrow_names(&path, inner)?,
            DataType::List(element) | DataType::LargeList(element) => {
                if let DataType::Struct(inner) = element.data_type() {
                    check_arrow_names(&path, inner)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Columns of a query's result are optional in the table made of it: that its first rows have no NULL says nothing of later
/// ones.
fn optional(schema: &ArrowSchema) -> ArrowSchema {
    fn fields(of: &Fields) -> Fields {
        of.iter().map(field).collect()
    }
    fn field(of: &FieldRef) -> FieldRef {
        let data_type = match of.data_type() {
            DataType::Struct(inner) => DataType::Struct(fields(inner)),
            DataType::List(element) => DataType::List(field(element)),
            DataType::LargeList(element) => DataType::LargeList(field(element)),
            other => other.clone(),
        };
        Arc::new(of.as_ref().clone().with_data_type(data_type).with_nullable(true))
    }
    ArrowSchema::new_with_metadata(fields(schema.fields()), schema.metadata().clone())
}

/// A new table's columns.
#[derive(Debug, Clone)]
pub enum TableSchema {
    /// As given.
    Iceberg(SchemaRef),
    /// From Arrow's types, all columns optional.
    Arrow(ArrowSchemaRef),
}

/// What a new table's columns can be made of.
pub trait IntoTableSchema {
    /// The columns.
    fn into_table_schema(self) -> Result<TableSchema>;
}

impl IntoTableSchema for Schema {
    fn into_table_schema(self) -> Result<TableSchema> {
        Ok(TableSchema::Iceberg(Arc::new(self)))
    }
}

/// All columns are optional; nested types are widened as [`iceberg_schema`] says.
impl IntoTableSchema for ArrowSchemaRef {
    fn into_table_schema(self) -> Result<TableSchema> {
        Ok(TableSchema::Arrow(self))
    }
}

/// Fields as the functions of [`types`](icefield_core::evolve::types) make them; their ids have no meaning.
impl<const N: usize> IntoTableSchema for [NestedFieldRef; N] {
    fn into_table_schema(self) -> Result<TableSchema> {
        self.to_vec().into_table_schema()
    }
}

impl IntoTableSchema for Vec<NestedFieldRef> {
    fn into_table_schema(self) -> Result<TableSchema> {
        check_names("", self.iter().map(|field| &field.name))?;
        let mut last = 0;
        let fields = fresh_ids(&self, &mut last);
        let schema = Schema::builder().with_fields(fields).build();
        schema.map_err(|e| Error::invalid_input(e.message().to_string()).with_source(e))?.into_table_schema()
    }
}

fn fresh_ids(fields: &[NestedFieldRef], last: &mut i32) -> Vec<NestedFieldRef> {
    use iceberg::spec::{ListType, MapType, StructType, Type};
    fn of(field: &NestedField, id: i32, last: &mut i32) -> NestedFieldRef {
        let field_type = match &*field.field_type {
            Type::Primitive(primitive) => Type::Primitive(primitive.clone()),
            Type::Struct(inner) => Type::Struct(StructType::new(fresh_ids(inner.fields(), last))),
            Type::List(list) => {
                *last += 1;
                Type::List(ListType::new(of(&list.element_field, *last, last)))
            }
            Type::Map(map) => {
                *last += 2;
                let (key, value) = (*last - 1, *last);
                Type::Map(MapType::new(of(&map.key_field, key, last), of(&map.value_field, value, last)))
            }
        };
        Arc::new(NestedField { id, field_type: Box::new(field_type), ..field.clone() })
    }
    let first = *last + 1;
    *last += fields.len() as i32;
    fields.iter().zip(first..).map(|(field, id)| of(field, id, last)).collect()
}

/// Creates a table. Its namespace is created when it is absent.
///
/// # Errors
/// [`AlreadyExists`](ErrorKind::AlreadyExists), unless [`if_absent`](Self::if_absent) was said.
#[must_use = "nothing happens before .await"]
#[derive(Debug)]
pub struct CreateTable {
    session: Session,
    name: String,
    schema: Result<TableSchema>,
    options: TableOptions,
    if_absent: bool,
}

impl CreateTable {
    /// Gives the table that exists when there is one, whatever its columns.
    pub fn if_absent(mut self) -> Self {
        self.if_absent = true;
        self
    }

    /// The layout and properties of the table, all at once.
    pub(crate) fn options(mut self, options: TableOptions) -> Self {
        self.options = options;
        self
    }
}

impl Session {
    /// Creates a table, named `namespace.table`, with the columns of an Iceberg or Arrow schema or of fields:
    /// `session.create_table("a.t", [required("id", long()), optional("name", string())])`.
    pub fn create_table(&self, name: impl Into<String>, schema: impl IntoTableSchema) -> CreateTable {
        CreateTable {
            session: self.clone(),
            name: name.into(),
            schema: schema.into_table_schema(),
            options: TableOptions::default(),
            if_absent: false,
        }
    }
}

impl IntoFuture for CreateTable {
    type Output = Result<Table>;
    type IntoFuture = BoxFuture<'static, Result<Table>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let ident = parse_ident(&self.name)?;
            let creation = self.options.creation(ident.name(), self.schema?)?;
            let (table, created) = create(&self.session, &ident, creation).await?;
            if !created && !self.if_absent {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "the table exists; load it, or choose another name",
                )
                .with("table", &ident));
            }
            Ok(Table::new(self.session, table))
        })
    }
}

/// An uncommitted table for rows of an Arrow schema, in a namespace that is created when it is absent.
pub(super) async fn new(
    session: &Session,
    ident: &TableIdent,
    rows: &ArrowSchema,
    options: &TableOptions,
) -> Result<CoreTable> {
    let creation = options.creation(ident.name(), TableSchema::Arrow(Arc::new(rows.clone())))?;
    create_namespaces(session, ident.namespace()).await?;
    session.catalog().stage_table(ident.namespace(), creation).await
}

/// Creates a table unless another did at the same moment: then that one is given.
async fn create(session: &Session, ident: &TableIdent, creation: TableCreation) -> Result<(CoreTable, bool)> {
    let catalog = session.catalog();
    create_namespaces(session, ident.namespace()).await?;
    match catalog.create_table(ident.namespace(), creation).await {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok((catalog.load_table(ident).await?, false)),
        created => Ok((created?, true)),
    }
}

async fn create_namespaces(session: &Session, namespace: &NamespaceIdent) -> Result<()> {
    let catalog = session.catalog();
    if catalog.namespace_exists(namespace).await? {
        return Ok(());
    }
    let parts = namespace.as_ref();
    for depth in 1..=parts.len() {
        let parent = NamespaceIdent::from_vec(parts.iter().take(depth).cloned().collect())?;
        match catalog.create_namespace(&parent, HashMap::new()).await {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
