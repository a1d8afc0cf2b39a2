//! The table functions of the catalog's tables: `appends('db.t', from, to)`, rows that were appended between
//! two snapshots, `changes('db.t', from, to)`, every change of rows between them, and `table_at('db.t',
//! version)`, the table at a snapshot.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use icefield_core::catalog::parse_ident;
use icefield_core::{AsOf, Error, Result};

use super::plain::TABLE_AT;
use super::times::{text, time_of, whole};
use crate::changes::Start;
use crate::session::Session;
use crate::table::{IntoAsOf, Table};

/// A table function of the catalog's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Appends,
    Changes,
    TableAt,
}

impl Function {
    const ALL: [Self; 3] = [Self::Appends, Self::Changes, Self::TableAt];

    fn as_str(self) -> &'static str {
        match self {
            Self::Appends => "appends",
            Self::Changes => "changes",
            Self::TableAt => TABLE_AT,
        }
    }

    /// How it is called.
    pub(super) fn usage(self) -> &'static str {
        match self {
            Self::Appends => {
                "appends takes a table, the snapshot to begin after (NULL: from the beginning) and the last: \
                 appends('namespace.table', from, to), as constants"
            }
            Self::Changes => {
                "changes takes a table, the snapshot to begin after (NULL: from the beginning) and the last: \
                 changes('namespace.table', from, to), as constants"
            }
            Self::TableAt => {
                "table_at takes a table, and a snapshot id, branch, tag or time: table_at('namespace.table', 'tag'), as constants"
            }
        }
    }

    /// The function of a name.
    pub(super) fn of(name: &ObjectName) -> Option<Self> {
        match &name.0[..] {
            [ObjectNamePart::Identifier(Ident { value, quote_style: None, .. })] => {
                Self::ALL.into_iter().find(|function| value.eq_ignore_ascii_case(function.as_str()))
            }
            _ => None,
        }
    }

    /// The rows of a call, and the table's name.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for other arguments than the function takes;
    /// those of the operation on [`Table`].
    pub(super) async fn call(
        self,
        session: &Session,
        arguments: &[ScalarValue],
    ) -> Result<(TableReference, Arc<dyn TableProvider>)> {
        let wrong = || Error::invalid_input(self.usage());
        let (table, rest) = arguments.split_first().ok_or_else(wrong)?;
        let ident = parse_ident(text(table).ok_or_else(wrong)?)?;
        let table = session.load(&ident).await?;
        let provider = match (self, rest) {
            (Self::Appends, [from, to]) => {
                table.appends_provider(&start(&table, from)?, &argument(&table, to)?).await?
            }
            (Self::Changes, [from, to]) => {
                table.changes_between(start(&table, from)?, argument(&table, to)?)?.await?.into_view()
            }
            (Self::TableAt, [version]) => at(&table, version)?,
            _ => return Err(wrong()),
        };
        let namespace = ident.namespace().as_ref().join(".");
        Ok((TableReference::partial(namespace, ident.name()), provider))
    }
}

/// A table at the snapshot that `table_at`'s second argument says.
fn at(table: &Table, version: &ScalarValue) -> Result<Arc<dyn TableProvider>> {
    Ok(table.as_of(argument(table, version)?)?.provider()?)
}

fn start(table: &Table, value: &ScalarValue) -> Result<Start> {
    if value.is_null() {
        return Ok(Start::Beginning);
    }
    argument(table, value).map(Start::After)
}

/// The snapshot that an argument means: a snapshot id, though it be expired, or a branch, a tag or a time.
fn argument(table: &Table, value: &ScalarValue) -> Result<AsOf> {
    let core = table.core();
    let name = text(value).map(str::to_string).or_else(|| whole(value).map(|number| number.to_string()));
    let Some(name) = name else { return time_of(value) };
    match name.parse() {
        Ok(id) if core.metadata().snapshot_by_id(id).is_some() || core.reference(&name).is_none() => {
            Ok(AsOf::Snapshot(id))
        }
        _ => name.into_as_of(core),
    }
}
