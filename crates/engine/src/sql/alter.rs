//! `ALTER TABLE`: columns, partition fields, sort order, identifier fields, properties and names, in Spark's
//! grammar.

use std::fmt;

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;
use datafusion::sql::sqlparser::tokenizer::Token;
use iceberg::spec::{TableMetadata, Type};
use icefield_core::catalog::TableIdent;
use icefield_core::commit::Transaction;
use icefield_core::evolve::{
    LocationUpdate, MetadataEdit, NewColumn, PartitionTerm, PartitionUpdate, PropertiesUpdate, SchemaUpdate,
    SortOrderUpdate, SortTerm, Term, apply_all,
};
use icefield_core::{Clock, Error, Result};

use super::columns::{Column, default_value};
use super::cursor::Cursor;
use super::tables::parse_table;
use super::terms::{parse_sort_terms, parse_term};
use super::types::parse_type;
use crate::session::Session;

/// `ALTER TABLE a.t action`
#[derive(Debug, Clone)]
pub(super) struct AlterTable {
    ident: TableIdent,
    action: Action,
}

#[derive(Debug, Clone)]
enum Action {
    AddColumns(Vec<(Column, Option<Position>)>),
    DropColumns { columns: Vec<String>, if_exists: bool },
    RenameColumn { column: String, to: String },
    AlterColumn { column: String, change: ColumnChange },
    AddField(PartitionTerm),
    DropField(FieldRef),
    ReplaceField { field: FieldRef, with: PartitionTerm },
    WriteOrder { terms: Vec<SortTerm>, distribution: &'static str },
    SetIdentifier(Vec<String>),
    DropIdentifier(Vec<String>),
    SetProperties(Vec<(String, String)>),
    UnsetProperties { names: Vec<String>, if_exists: bool },
    SetLocation(String),
    Rename(TableIdent),
}

/// Where a column goes among those beside it.
#[derive(Debug, Clone)]
enum Position {
    First,
    After(String),
}

#[derive(Debug, Clone)]
enum ColumnChange {
    Type(Type),
    Doc(String),
    Move(Position),
    Require,
    Optional,
    Default(Option<Box<SqlExpr>>),
}

/// A partition field by its name or by its term.
#[derive(Debug, Clone)]
enum FieldRef {
    Name(String),
    Term(Term),
}

/// Reads a statement after `ALTER TABLE`.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput), and
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for branches and tags.
pub(super) fn parse(cursor: &mut Cursor<'_, '_>, session: &Session) -> Result<AlterTable> {
    let ident = parse_table(cursor, session)?;
    let action = parse_action(cursor, session, &ident)?;
    Ok(AlterTable { ident, action })
}

fn parse_action(cursor: &mut Cursor<'_, '_>, session: &Session, ident: &TableIdent) -> Result<Action> {
    if cursor.take(&["ADD", "PARTITION", "FIELD"]) {
        return Ok(Action::AddField(parse_named_term(cursor)?));
    }
    if cursor.take(&["DROP", "PARTITION", "FIELD"]) {
        return Ok(Action::DropField(parse_field(cursor)?));
    }
    if cursor.take(&["REPLACE", "PARTITION", "FIELD"]) {
        let field = parse_field(cursor)?;
        cursor.expect(&["WITH"])?;
        return Ok(Action::ReplaceField { field, with: parse_named_term(cursor)? });
    }
    if cursor.take(&["SET", "IDENTIFIER", "FIELDS"]) {
        return Ok(Action::SetIdentifier(cursor.list(Cursor::path)?));
    }
    if cursor.take(&["DROP", "IDENTIFIER", "FIELDS"]) {
        return Ok(Action::DropIdentifier(cursor.list(Cursor::path)?));
    }
    if cursor.take(&["SET", "TBLPROPERTIES"]) {
        return Ok(Action::SetProperties(cursor.properties()?));
    }
    if cursor.take(&["UNSET", "TBLPROPERTIES"]) {
        let if_exists = cursor.take(&["IF", "EXISTS"]);
        return Ok(Action::UnsetProperties { names: cursor.bracketed(Cursor::property_name)?, if_exists });
    }
    if cursor.take(&["SET", "LOCATION"]) {
        return Ok(Action::SetLocation(cursor.text()?));
    }
    if cursor.take(&["RENAME", "TO"]) {
        return parse_rename(cursor, session, ident);
    }
    if cursor.take(&["RENAME", "COLUMN"]) {
        let column = cursor.path()?;
        cursor.expect(&["TO"])?;
        return Ok(Action::RenameColumn { column, to: cursor.name()? });
    }
    if cursor.take(&["WRITE"]) {
        return parse_write_order(cursor);
    }
    let is_ref = ["CREATE", "REPLACE", "DROP"].iter().any(|verb| {
        ["BRANCH", "TAG"]
            .iter()
            .any(|of| cursor.is_next(&[verb, of]) || cursor.is_next(&[verb, "OR", "REPLACE", of]))
    });
    if is_ref {
        let message = "branches and tags are not made in SQL yet; see create_branch, create_tag and remove_ref of a table";
        return Err(Error::unsupported(message).with("table", ident));
    }
    if cursor.take(&["ADD", "COLUMN"]) || cursor.take(&["ADD", "COLUMNS"]) || cursor.take(&["ADD"]) {
        let columns = match cursor.is_token(&Token::LParen) {
            true => cursor.bracketed(parse_new_column)?,
            false => cursor.list(parse_new_column)?,
        };
        return Ok(Action::AddColumns(columns));
    }
    if cursor.take(&["DROP", "COLUMN"]) || cursor.take(&["DROP", "COLUMNS"]) {
        let if_exists = cursor.take(&["IF", "EXISTS"]);
        let columns = match cursor.is_token(&Token::LParen) {
            true => cursor.bracketed(Cursor::path)?,
            false => cursor.list(Cursor::path)?,
        };
        return Ok(Action::DropColumns { columns, if_exists });
    }
    if cursor.take(&["ALTER", "COLUMN"]) || cursor.take(&["CHANGE", "COLUMN"]) || cursor.take(&["ALTER"]) {
        let column = cursor.path()?;
        return Ok(Action::AlterColumn { column, change: parse_change(cursor)? });
    }
    cursor.wrong(
        "one of ADD, DROP, RENAME, ALTER COLUMN, ADD PARTITION FIELD, DROP PARTITION FIELD, REPLACE PARTITION FIELD, WRITE ORDERED \
         BY, SET IDENTIFIER FIELDS, SET TBLPROPERTIES, RENAME TO",
    )
}

fn parse_new_column(cursor: &mut Cursor<'_, '_>) -> Result<(Column, Option<Position>)> {
    let column = Column::parse(cursor)?;
    if column.is_key {
        let message = "a new column has no values to tell rows by; add it, give it values, and set it with SET IDENTIFIER FIELDS";
        return Err(Error::unsupported(message).with("column", column.path));
    }
    Ok((column, parse_position(cursor)?))
}

fn parse_position(cursor: &mut Cursor<'_, '_>) -> Result<Option<Position>> {
    Ok(if cursor.take(&["FIRST"]) {
        Some(Position::First)
    } else if cursor.take(&["AFTER"]) {
        Some(Position::After(cursor.name()?))
    } else {
        None
    })
}

fn parse_change(cursor: &mut Cursor<'_, '_>) -> Result<ColumnChange> {
    if cursor.take(&["TYPE"]) || cursor.take(&["SET", "DATA", "TYPE"]) {
        Ok(ColumnChange::Type(parse_type(cursor)?))
    } else if cursor.take(&["COMMENT"]) {
        Ok(ColumnChange::Doc(cursor.text()?))
    } else if cursor.take(&["SET", "NOT", "NULL"]) {
        Ok(ColumnChange::Require)
    } else if cursor.take(&["DROP", "NOT", "NULL"]) {
        Ok(ColumnChange::Optional)
    } else if cursor.take(&["SET", "DEFAULT"]) {
        Ok(ColumnChange::Default(Some(Box::new(cursor.expr()?))))
    } else if cursor.take(&["DROP", "DEFAULT"]) {
        Ok(ColumnChange::Default(None))
    } else {
        match parse_position(cursor)? {
            Some(position) => Ok(ColumnChange::Move(position)),
            None => cursor.wrong(
                "one of TYPE, COMMENT, FIRST, AFTER, SET NOT NULL, DROP NOT NULL, SET DEFAULT, DROP DEFAULT",
            ),
        }
    }
}

fn parse_named_term(cursor: &mut Cursor<'_, '_>) -> Result<PartitionTerm> {
    let term = parse_term(cursor)?;
    Ok(if cursor.take(&["AS"]) { term.named(cursor.name()?) } else { term.into() })
}

/// A name alone may be the field's, or the column's of an identity.
fn parse_field(cursor: &mut Cursor<'_, '_>) -> Result<FieldRef> {
    let term = parse_term(cursor)?;
    Ok(match term.transform {
        iceberg::spec::Transform::Identity => FieldRef::Name(term.column),
        _ => FieldRef::Term(term),
    })
}

/// `[LOCALLY] ORDERED BY terms`, `UNORDERED`, `DISTRIBUTED BY PARTITION [LOCALLY ORDERED BY terms]`, with the
/// distribution modes that Spark sets.
fn parse_write_order(cursor: &mut Cursor<'_, '_>) -> Result<Action> {
    let distributed = cursor.take(&["DISTRIBUTED", "BY", "PARTITION"]);
    let (terms, distribution) = if cursor.take(&["UNORDERED"]) {
        (Vec::new(), "none")
    } else if cursor.take(&["LOCALLY", "ORDERED", "BY"]) {
        (parse_sort_terms(cursor)?, "none")
    } else if cursor.take(&["ORDERED", "BY"]) {
        (parse_sort_terms(cursor)?, "range")
    } else if distributed {
        (Vec::new(), "hash")
    } else {
        return cursor.wrong("one of ORDERED BY, LOCALLY ORDERED BY, UNORDERED, DISTRIBUTED BY PARTITION");
    };
    Ok(Action::WriteOrder { terms, distribution: if distributed { "hash" } else { distribution } })
}

fn parse_rename(cursor: &mut Cursor<'_, '_>, session: &Session, ident: &TableIdent) -> Result<Action> {
    let name = cursor.object()?;
    if let [only] = &name.0[..]
        && let Some(name) = only.as_ident()
    {
        let name = match name.quote_style {
            Some(_) => name.value.clone(),
            None => name.value.to_lowercase(),
        };
        return Ok(Action::Rename(TableIdent::new(ident.namespace().clone(), name)));
    }
    match super::names::named_table(&name, session)? {
        Some(to) => Ok(Action::Rename(to)),
        None => {
            Err(Error::invalid_input("a table stays in its catalog").with("table", ident).with("to", name))
        }
    }
}

impl AlterTable {
    /// Changes the table, in one commit; after a lost race the change is worked out again.
    pub(super) async fn run(&self, session: &Session) -> Result<()> {
        if let Action::Rename(to) = &self.action {
            return session.catalog().rename_table(&self.ident, to).await;
        }
        let table = session.load(&self.ident).await?;
        let (action, state) = (self.action.clone(), session.context().state());
        let clock = session.catalog().clock().clone();
        let change =
            move |metadata: &TableMetadata| apply_all(metadata, &action.edits(metadata, &state, &*clock)?);
        Transaction::new(table.core()).change(change).commit(&**session.catalog()).await.map(drop)
    }
}

impl Action {
    fn edits(
        &self,
        metadata: &TableMetadata,
        state: &SessionState,
        clock: &dyn Clock,
    ) -> Result<Vec<MetadataEdit>> {
        let schema = SchemaUpdate::new();
        let edit: MetadataEdit = match self {
            Self::AddColumns(columns) => {
                let add = |update: SchemaUpdate, (column, position): &(Column, Option<Position>)| {
                    Ok::<_, Error>(update.add_column_with(new_column(
                        column,
                        position.as_ref(),
                        state,
                        clock,
                    )?))
                };
                columns.iter().try_fold(schema, add)?.into()
            }
            Self::DropColumns { columns, if_exists } => {
                let is_there =
                    |column: &&String| metadata.current_schema().field_id_by_name(column).is_some();
                let columns = columns.iter().filter(|column| !if_exists || is_there(column));
                columns.fold(schema, |update, column| update.drop_column(column)).into()
            }
            Self::RenameColumn { column, to } => schema.rename_column(column, to).into(),
            Self::AlterColumn { column, change } => {
                change.edit(schema, column, metadata, state, clock)?.into()
            }
            Self::AddField(term) => PartitionUpdate::new().add_field(term.clone()).into(),
            Self::DropField(field) => field.remove(PartitionUpdate::new(), metadata).into(),
            Self::ReplaceField { field, with } => {
                field.remove(PartitionUpdate::new(), metadata).add_field(with.clone()).into()
            }
            Self::WriteOrder { terms, distribution } => {
                let mode = PropertiesUpdate::new().set("write.distribution-mode", *distribution);
                return Ok(vec![SortOrderUpdate::new(terms.clone()).into(), mode.into()]);
            }
            Self::SetIdentifier(columns) => schema.set_identifier_fields(columns).into(),
            Self::DropIdentifier(columns) => {
                schema.set_identifier_fields(without_identifier(metadata, columns)?).into()
            }
            Self::SetProperties(properties) => PropertiesUpdate::new().set_all(properties.clone()).into(),
            Self::UnsetProperties { names, if_exists } => {
                let missing = names.iter().find(|name| !metadata.properties().contains_key(*name));
                if let Some(name) = missing.filter(|_| !if_exists) {
                    let message = "the table has no such property; SHOW TBLPROPERTIES lists those that it has, and IF EXISTS passes over others";
                    return Err(Error::invalid_input(message).with("property", name));
                }
                names.iter().fold(PropertiesUpdate::new(), |update, name| update.remove(name)).into()
            }
            Self::SetLocation(location) => LocationUpdate::to(location).into(),
            // The catalog does it.
            Self::Rename(_) => return Ok(Vec::new()),
        };
        Ok(vec![edit])
    }
}

/// The identifier fields without some of them.
fn without_identifier(metadata: &TableMetadata, columns: &[String]) -> Result<Vec<String>> {
    let schema = metadata.current_schema();
    let mut names: Vec<(i32, String)> = schema
        .identifier_field_ids()
        .filter_map(|id| Some((id, schema.name_by_field_id(id)?.to_string())))
        .collect();
    names.sort();
    for column in columns {
        let before = names.len();
        names.retain(|(_, name)| name != column);
        if names.len() == before {
            let message = "the column is no identifier field; DESCRIBE EXTENDED lists those that there are";
            return Err(Error::invalid_input(message).with("column", column));
        }
    }
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

fn new_column(
    column: &Column,
    position: Option<&Position>,
    state: &SessionState,
    clock: &dyn Clock,
) -> Result<NewColumn> {
    let (parent, name) = match column.path.rsplit_once('.') {
        Some((parent, name)) => (Some(parent), name),
        None => (None, column.path.as_str()),
    };
    let mut new = NewColumn::new(name, column.column_type.clone());
    if let Some(parent) = parent {
        new = new.inside(parent);
    }
    if let Some(doc) = &column.doc {
        new = new.doc(doc);
    }
    if column.required {
        new = new.required();
    }
    if let Some(value) = column.default_value(state, clock)? {
        new = new.default(value);
    }
    Ok(match position {
        Some(Position::First) => new.first(),
        Some(Position::After(other)) => new.after(other),
        None => new,
    })
}

impl ColumnChange {
    fn edit(
        &self,
        update: SchemaUpdate,
        column: &str,
        metadata: &TableMetadata,
        state: &SessionState,
        clock: &dyn Clock,
    ) -> Result<SchemaUpdate> {
        Ok(match self {
            Self::Type(of) => update.promote_column(column, of.clone()),
            Self::Doc(doc) => update.set_doc(column, doc),
            Self::Move(Position::First) => update.move_first(column),
            Self::Move(Position::After(other)) => update.move_after(column, beside(column, other)),
            Self::Require => update.require_column(column),
            Self::Optional => update.make_optional(column),
            Self::Default(None) => update.remove_write_default(column),
            Self::Default(Some(expr)) => {
                let field = metadata.current_schema().field_by_name(column).ok_or_else(|| {
                    Error::invalid_input("the table has no such column; DESCRIBE lists those that it has")
                        .with("column", column)
                })?;
                match default_value(expr, column, &field.field_type, state, clock)? {
                    Some(value) => update.set_write_default(column, value),
                    None => update.remove_write_default(column),
                }
            }
        })
    }
}

/// The path of a column beside another. Spark names it by its own name.
fn beside(column: &str, other: &str) -> String {
    match column.rsplit_once('.') {
        Some((parent, _)) => format!("{parent}.{other}"),
        None => other.to_string(),
    }
}

impl FieldRef {
    fn remove(&self, update: PartitionUpdate, metadata: &TableMetadata) -> PartitionUpdate {
        match self {
            Self::Term(term) => update.remove(term.clone()),
            Self::Name(name) => {
                let is_field =
                    metadata.default_partition_spec().fields().iter().any(|field| field.name == *name);
                match is_field {
                    true => update.remove_field(name),
                    false => update.remove(Term::from(name.as_str())),
                }
            }
        }
    }
}

impl fmt::Display for AlterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.action {
            Action::AddColumns(_) => "ADD COLUMNS",
            Action::DropColumns { .. } => "DROP COLUMNS",
            Action::RenameColumn { .. } => "RENAME COLUMN",
            Action::AlterColumn { .. } => "ALTER COLUMN",
            Action::AddField(_) => "ADD PARTITION FIELD",
            Action::DropField(_) => "DROP PARTITION FIELD",
            Action::ReplaceField { .. } => "REPLACE PARTITION FIELD",
            Action::WriteOrder { .. } => "WRITE ORDERED BY",
            Action::SetIdentifier(_) => "SET IDENTIFIER FIELDS",
            Action::DropIdentifier(_) => "DROP IDENTIFIER FIELDS",
            Action::SetProperties(_) => "SET TBLPROPERTIES",
            Action::UnsetProperties { .. } => "UNSET TBLPROPERTIES",
            Action::SetLocation(_) => "SET LOCATION",
            Action::Rename(_) => "RENAME TO",
        };
        write!(f, "ALTER TABLE {} {what}", self.ident)
    }
}
