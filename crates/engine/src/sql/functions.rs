//! The table functions of the catalog's tables: `appends('db.t', from, to)`, rows that were appended between
//! two snapshots, `changes('db.t', from, to)`, every change of rows between them, and `table_at('db.t',
//! version)`, the table at a snapshot.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use icefield_core::catalog::parse_ident;
use icefield_core::{Error, Result};

use super::table_at::{self, snapshot};
use super::times::text;
use crate::changes::Start;
use crate::session::Session;
use crate::table::Table;

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
            Self::TableAt => table_at::TABLE_AT,
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
            Self::TableAt => table_at::USAGE,
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
                table.appends_provider(&start(&table, from)?, &snapshot(table.core(), to)?).await?
            }
            (Self::Changes, [from, to]) => {
                table.changes_between(start(&table, from)?, snapshot(table.core(), to)?)?.await?.into_view()
            }
            (Self::TableAt, [version]) => table_at::at(session.lookup(), table.core(), version)?,
            _ => return Err(wrong()),
        };
        let namespace = ident.namespace().as_ref().join(".");
        Ok((TableReference::partial(namespace, ident.name()), provider))
    }
}

fn start(table: &Table, value: &ScalarValue) -> Result<Start> {
    if value.is_null() {
        return Ok(Start::Beginning);
    }
    snapshot(table.core(), value).map(Start::After)
}
