//! Columns in statements: `name TYPE NOT NULL DEFAULT 0 COMMENT 'text'`.

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;
use iceberg::spec::{Literal, NestedField, NestedFieldRef, Type};
use icefield_core::format::{arrow_field, text_doc};
use icefield_core::{Clock, Error, Result};

use super::constant::{Constant, constant};
use super::cursor::Cursor;
use super::types::parse_type;
use crate::error::from_datafusion;
use crate::write::literal_at;

const TAKES: &str = "a column's DEFAULT is a constant of its type";

/// A column as a statement declares it.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Its name, or its path inside others.
    pub(super) path: String,
    pub(super) column_type: Type,
    pub(super) required: bool,
    pub(super) doc: Option<String>,
    pub(super) default: Option<SqlExpr>,
    pub(super) is_key: bool,
}

impl Column {
    /// Reads a column.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for what no table keeps of it.
    pub(super) fn parse(cursor: &mut Cursor<'_, '_>) -> Result<Self> {
        let path = cursor.path()?;
        let column_type = parse_type(cursor).map_err(|e| e.with("column", &path))?;
        let mut column = Self { path, column_type, required: false, doc: None, default: None, is_key: false };
        loop {
            if cursor.take(&["NOT", "NULL"]) {
                column.required = true;
            } else if cursor.take(&["COMMENT"]) {
                column.doc = Some(cursor.text()?);
            } else if cursor.take(&["DEFAULT"]) {
                column.default = Some(cursor.expr()?);
            } else if cursor.take(&["PRIMARY", "KEY"]) {
                column.is_key = true;
            } else if cursor.is_next(&["UNIQUE"]) {
                return Err(unique());
            } else if let Some(word) =
                ["GENERATED", "CHECK", "REFERENCES", "COLLATE"].iter().find(|w| cursor.is_next(&[w]))
            {
                let message = format!("no table keeps {word} of a column; leave it out");
                return Err(Error::unsupported(message).with("column", column.path));
            } else if !cursor.take(&["NULL"]) {
                return Ok(column);
            }
        }
    }

    /// The column as a field of a new table.
    pub(super) fn field(&self, state: &SessionState, clock: &dyn Clock) -> Result<NestedFieldRef> {
        let field = NestedField::new(0, &self.path, self.column_type.clone(), self.required || self.is_key);
        let field = match &self.doc {
            Some(doc) => field.with_doc(text_doc(doc)),
            None => field,
        };
        Ok(Arc::new(match self.default_value(state, clock)? {
            Some(value) => field.with_initial_default(value.clone()).with_write_default(value),
            None => field,
        }))
    }

    /// The value of the column's default.
    pub(super) fn default_value(&self, state: &SessionState, clock: &dyn Clock) -> Result<Option<Literal>> {
        match &self.default {
            Some(expr) => default_value(expr, &self.path, &self.column_type, state, clock),
            None => Ok(None),
        }
    }
}

pub(super) fn unique() -> Error {
    Error::unsupported("no table keeps UNIQUE; leave it out, or declare a PRIMARY KEY")
}

/// The value of a default of a column's type; none for NULL.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what is no constant, and for one that the
/// type does not hold.
pub(super) fn default_value(
    expr: &SqlExpr,
    column: &str,
    of: &Type,
    state: &SessionState,
    clock: &dyn Clock,
) -> Result<Option<Literal>> {
    let wrong = || Error::invalid_input(TAKES).with("column", column).with("value", expr);
    let Constant::Value(value) = constant(expr, state, clock, TAKES)? else { return Err(wrong()) };
    if value.is_null() {
        return Ok(None);
    }
    let Type::Primitive(primitive) = of else {
        return Err(Error::unsupported("columns of nested types have no DEFAULT; leave it out")
            .with("column", column));
    };
    let arrow = arrow_field(&NestedField::optional(0, column, of.clone()))?;
    let typed = value.cast_to(arrow.data_type()).map_err(|e| wrong().with_source(from_datafusion(e)))?;
    let back = typed.cast_to(&value.data_type()).map_err(|e| wrong().with_source(from_datafusion(e)))?;
    let is_text = matches!(&value, v if super::times::text(v).is_some());
    if !is_text && back != value {
        return Err(wrong());
    }
    let array = typed.to_array().map_err(from_datafusion)?;
    literal_at(&array, 0, primitive)?.map(Some).ok_or_else(wrong)
}
