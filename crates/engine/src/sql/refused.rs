//! Statements that DataFusion would refuse without saying what to do.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use icefield_core::{Error, Result};

/// Refuses them before they are planned.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported), and
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput).
pub(super) fn refuse(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Explain(explain) => refuse(&explain.statement),
        Statement::Statement(statement) => refuse_sql(statement),
        _ => Ok(()),
    }
}

fn refuse_sql(statement: &SqlStatement) -> Result<()> {
    match statement {
        // The planner would put it into a query of its own, as it is.
        SqlStatement::ShowVariable { variable } if variable.iter().any(|part| part.value.contains('\'')) => {
            Err(Error::invalid_input("SHOW takes the name of a setting; SHOW ALL lists them"))
        }
        SqlStatement::Merge(_) => {
            let message =
                "MERGE is not there yet; overwrite the partitions that change with a DataFrame of their rows";
            Err(Error::unsupported(message))
        }
        SqlStatement::Call(_) => {
            let message = "CALL is not there yet; compact, expire and the like are functions of maintenance";
            Err(Error::unsupported(message))
        }
        SqlStatement::Prepare { statement, .. } => match &**statement {
            SqlStatement::CreateTable(_)
            | SqlStatement::Drop { .. }
            | SqlStatement::AlterTable(_)
            | SqlStatement::CreateSchema { .. } => {
                let message = "statements that change the catalog are not prepared; run them as they are";
                Err(Error::unsupported(message))
            }
            statement => refuse_sql(statement),
        },
        _ => Ok(()),
    }
}
