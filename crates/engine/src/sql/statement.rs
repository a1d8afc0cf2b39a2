//! What is done with a statement before it is planned: some are refused with what to do instead, and tables are dropped without
//! being looked at.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{HiveDistributionStyle, ObjectType, Statement as SqlStatement};
use icefield_core::{Error, ErrorKind, Result};

use super::names::named_table;
use crate::session::Session;

/// Refuses what the planner would refuse without saying what to do.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported), and [`InvalidInput`](ErrorKind::InvalidInput).
pub(super) fn refuse(statement: &Statement) -> Result<()> {
    let message = match statement {
        Statement::Explain(explain) => return refuse(&explain.statement),
        Statement::Statement(statement) => match &**statement {
            // The planner would put it into a query of its own, as it is.
            SqlStatement::ShowVariable { variable }
                if variable.iter().any(|part| part.value.contains('\'')) =>
            {
                return Err(Error::invalid_input("SHOW takes the name of a setting; SHOW ALL lists them"));
            }
            SqlStatement::CreateTable(create)
                if !matches!(create.hive_distribution, HiveDistributionStyle::NONE)
                    || create.partition_by.is_some() =>
            {
                "PARTITIONED BY is not taken from SQL yet; create the table with session.create_table(...).partition_by(...), or \
                 with create_with(...) of an append"
            }
            SqlStatement::AlterTable(_) => {
                "ALTER TABLE is not there in SQL yet; change the table with its methods: update_schema(), update_spec(), \
                 set_properties(...), ..."
            }
            SqlStatement::Merge(_) => {
                "MERGE is not there yet; overwrite the partitions that change with a DataFrame of their rows"
            }
            SqlStatement::Drop { purge: true, object_type: ObjectType::Table, .. } => {
                "DROP TABLE ... PURGE is not there in SQL; purge the table with the maintenance function purge_table"
            }
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    Err(Error::unsupported(message))
}

impl Session {
    /// Drops the tables of the catalog that a `DROP TABLE` names, whatever state they are in; false for another statement, and
    /// for tables of the context.
    pub(super) async fn drop_tables(&self, statement: &Statement) -> Result<bool> {
        let Statement::Statement(statement) = statement else { return Ok(false) };
        let SqlStatement::Drop { object_type: ObjectType::Table, if_exists, names, .. } = &**statement else {
            return Ok(false);
        };
        let mut tables = Vec::new();
        for name in names {
            match named_table(name, self)? {
                Some(ident) => tables.push(ident),
                None => return Ok(false),
            }
        }
        for ident in &tables {
            match self.catalog().drop_table(ident).await {
                Err(e) if e.kind() == ErrorKind::NotFound && *if_exists => {}
                dropped => dropped?,
            }
        }
        Ok(!tables.is_empty())
    }
}
