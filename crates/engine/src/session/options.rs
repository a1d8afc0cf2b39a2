//! [`SqlOptions`]: what a statement may do, and what it may take, when others than the service's own code write it.

use std::time::Duration;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{
    DdlStatement, LogicalPlan, Statement as PlanStatement, UserDefinedLogicalNode,
};
use icefield_core::{Error, Result};

use super::complexity;
use crate::error::from_datafusion;

/// How many operators a read-only statement may have unless it is said otherwise.
const COMPLEXITY: usize = 200;

/// Keys of what all of the session's queries share: its memory, its spill folder, its caches.
const RUNTIME_KEYS: &str = "datafusion.runtime";

/// What a statement given to [`Session::sql_with`](crate::Session::sql_with) may do, and how much memory and time it may take.
///
/// ```
/// use std::time::Duration;
///
/// use icefield_core::ErrorKind;
/// use icefield_engine::session::SqlOptions;
/// use icefield_engine::Session;
///
/// # #[tokio::main]
/// # async fn main() -> icefield_core::Result<()> {
/// let session = Session::builder().build()?;
/// // For statements that a service's users write.
/// let options =
///     SqlOptions::read_only().memory_limit(256 << 20).timeout(Duration::from_secs(30));
/// let frame = session.sql_with("SELECT 1 + 1", options.clone()).await?;
/// assert_eq!(frame.count().await.unwrap(), 1);
///
/// let refused = session.sql_with("COPY (SELECT 1) TO '/tmp/out.csv'", options).await;
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
/// # Ok(())
/// # }
/// ```
///
/// They say what a statement does, not which tables it sees: those are all of the session's.
#[derive(Debug, Clone)]
pub struct SqlOptions {
    ddl: bool,
    dml: bool,
    files: bool,
    settings: bool,
    complexity_limit: Option<usize>,
    pub(super) memory_limit: Option<usize>,
    pub(super) timeout: Option<Duration>,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SqlOptions {
    /// Everything is allowed, and nothing limited but by the session: what [`Session::sql`](crate::Session::sql) has.
    pub fn new() -> Self {
        Self {
            ddl: true,
            dml: true,
            files: true,
            settings: true,
            complexity_limit: None,
            memory_limit: None,
            timeout: None,
        }
    }

    /// Queries alone: `SELECT` and `VALUES`, `EXPLAIN` of them, `DESCRIBE` and `SHOW`, of 200 operators at most
    /// ([`complexity_limit`](Self::complexity_limit)).
    pub fn read_only() -> Self {
        Self {
            ddl: false,
            dml: false,
            files: false,
            settings: false,
            complexity_limit: Some(COMPLEXITY),
            memory_limit: None,
            timeout: None,
        }
    }

    /// Whether tables, namespaces, views and functions may be created and dropped.
    pub fn allow_ddl(mut self, allow: bool) -> Self {
        self.ddl = allow;
        self
    }

    /// Whether rows of tables may be written: `INSERT INTO`, `INSERT OVERWRITE`.
    pub fn allow_dml(mut self, allow: bool) -> Self {
        self.dml = allow;
        self
    }

    /// Whether files that are of no table may be named, anywhere in the session's stores: `COPY TO` and, where DDL is allowed,
    /// `CREATE EXTERNAL TABLE`.
    pub fn allow_files(mut self, allow: bool) -> Self {
        self.files = allow;
        self
    }

    /// Whether statements about the session itself may run: `SET` and `RESET`, which hold for all of its queries from then on,
    /// `PREPARE`, `EXECUTE` and `DEALLOCATE`. Keys of the session's budget (`datafusion.runtime.*`) can't be set at all.
    pub fn allow_settings(mut self, allow: bool) -> Self {
        self.settings = allow;
        self
    }

    /// How many operators the statement may have in all; a query, a common table and a part of a `UNION` count as two or three,
    /// a table that is joined as five. Lists of values (`IN`, `VALUES`) and of columns don't count; there may be 250 words, values
    /// and signs for each operator. What common tables are wherever they are named may be twenty times as much, and what columns are that
    /// are computed of each other. Planning a statement takes a
    /// thread's stack, and time that no timeout ends, by these: some thousands of `a OR b OR c ...` are too many for a stack
    /// of 2 MiB (in a debug build, some hundreds), and the process ends. What has more is [`InvalidInput`](icefield_core::ErrorKind::InvalidInput).
    pub fn complexity_limit(mut self, operators: usize) -> Self {
        self.complexity_limit = Some(operators);
        self
    }

    /// The most that the query may hold in memory, in bytes, of what the session has. What can spill, spills; what can't fails
    /// with [`ResourceExhausted`](icefield_core::ErrorKind::ResourceExhausted). It counts what operators hold, and a call of a
    /// function may make a quarter of it of a batch's rows, all calls together the whole. Planning the statement takes memory from
    /// the session's budget.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// How long planning the statement may take, and how long each run of what it gives, from its beginning to the last row
    /// taken. What takes longer fails with [`ResourceExhausted`](icefield_core::ErrorKind::ResourceExhausted), and its tasks
    /// end. A statement that writes may be done all the same. One call of a function is not interrupted.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Refuses, before it is parsed, a statement that is too complex.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput).
    pub(crate) fn check_complexity(&self, query: &str) -> Result<()> {
        complexity::check(query, self.complexity_limit.unwrap_or(usize::MAX))
    }

    /// Refuses a plan whose columns are computed of each other too many times.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput).
    pub(crate) fn check_plan_complexity(&self, plan: &LogicalPlan) -> Result<()> {
        complexity::check_plan(plan, self.complexity_limit.unwrap_or(usize::MAX))
    }

    /// Refuses a plan with anything in it that is not allowed, however deep. `is_command` tells nodes that change the catalog.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput).
    pub(crate) fn check_plan(
        &self,
        plan: &LogicalPlan,
        is_command: &dyn Fn(&dyn UserDefinedLogicalNode) -> bool,
    ) -> Result<()> {
        let mut refused = None;
        let visited = plan.apply_with_subqueries(|node| {
            let checked = match node {
                LogicalPlan::Extension(extension) if is_command(&*extension.node) => {
                    self.require(self.ddl, "a change of the catalog", "DDL")
                }
                node => self.check_node(node),
            };
            Ok(match checked {
                Ok(()) => TreeNodeRecursion::Continue,
                Err(error) => {
                    refused = Some(error);
                    TreeNodeRecursion::Stop
                }
            })
        });
        visited.map_err(from_datafusion)?;
        refused.map_or(Ok(()), Err)
    }

    fn check_node(&self, node: &LogicalPlan) -> Result<()> {
        match node {
            LogicalPlan::Ddl(ddl) => {
                if matches!(ddl, DdlStatement::CreateExternalTable(_)) {
                    self.require(self.files, ddl.name(), "naming files")?;
                }
                self.require(self.ddl, ddl.name(), "DDL")
            }
            LogicalPlan::Dml(dml) => self.require(self.dml, dml.op.name(), "DML"),
            LogicalPlan::Copy(_) => self.require(self.files, "COPY", "naming files"),
            LogicalPlan::Statement(statement) => {
                let key = match statement {
                    PlanStatement::SetVariable(set) => Some(&set.variable),
                    PlanStatement::ResetVariable(reset) => Some(&reset.variable),
                    _ => None,
                };
                if let Some(key) = key.filter(|key| is_runtime(key)) {
                    let message = "the memory, spill folder and caches of a session are set where it is built, for all of its \
                                   queries; see SessionBuilder, or SqlOptions for a limit of one query";
                    return Err(Error::invalid_input(message).with("key", key));
                }
                self.require(self.settings, statement.name(), "changing settings")
            }
            _ => Ok(()),
        }
    }

    fn require(&self, allowed: bool, what: &str, kind: &str) -> Result<()> {
        if allowed {
            return Ok(());
        }
        let message = format!("the statement is not allowed here: {kind} is switched off for it");
        Err(Error::invalid_input(message).with("statement", what))
    }
}

fn is_runtime(key: &str) -> bool {
    let key: String = key.chars().filter(|c| !matches!(c, '"' | '`' | '\'') && !c.is_whitespace()).collect();
    key.to_ascii_lowercase().starts_with(RUNTIME_KEYS)
}
