//! What append and overwrite have in common: the table that is written to, created or evolved as asked, its new data files,
//! and the commit that publishes both.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema as ArrowSchema;
use datafusion::dataframe::DataFrame;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use iceberg::spec::TableMetadata;
use icefield_core::catalog::{TableIdent, parse_ident};
use icefield_core::commit::{Isolation, Transaction, is_applied};
use icefield_core::evolve::{MetadataChange, SchemaUpdate, apply_updates};
use icefield_core::filter::Filter;
use icefield_core::format::iceberg_schema;
use icefield_core::table::MAIN_BRANCH;
use icefield_core::{Clock, ConflictReason, Error, ErrorKind, Result, Table as CoreTable};
use tracing::Instrument;

use super::create::{self, TableOptions};
use super::filter::IntoFilter;
use super::matching::require;
use super::report::{Phases, WriteReport};
use crate::error::from_datafusion;
use crate::looks::{Looks, looks_of};
use crate::publish::publish;
use crate::session::Session;
use crate::table::Table;
use crate::write::{LINEAGE, Progress, WriteOptions, WrittenFiles, check_fit, write_data_files};

/// How often a write is begun at most: anew because another commit took the field ids that it had planned for its new
/// columns, or created the table that it was to create.
const ATTEMPTS: usize = 20;

/// How many columns a write adds at most, unless it says otherwise.
const MAX_NEW_COLUMNS: usize = 100;

/// Whether a write creates its table, in the commit that publishes its rows.
pub(super) enum Create {
    Never,
    /// Where it is absent.
    IfAbsent(TableOptions),
}

impl Create {
    /// Whether an error says that another writer has created the table, which is as good.
    fn lost_to_another(&self, error: &Error) -> bool {
        matches!(self, Self::IfAbsent(_)) && error.kind() == ErrorKind::AlreadyExists
    }
}

/// The table that is written to.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// By its dotted name.
    Named(String),
    Known(TableIdent),
}

impl Target {
    fn ident(&self) -> Result<TableIdent> {
        match self {
            Self::Named(name) => parse_ident(name),
            Self::Known(ident) => Ok(ident.clone()),
        }
    }
}

/// A write as its builder describes it.
pub(super) struct Spec {
    pub(super) frame: DataFrame,
    pub(super) session: Session,
    pub(super) target: Target,
    /// Whether rows of the table are replaced by those that are written.
    pub(super) replaces: bool,
    /// What the rows that are written must match.
    pub(super) filter: Option<Arc<dyn IntoFilter>>,
    pub(super) create: Create,
    pub(super) evolve: bool,
    /// How many columns may be added, those inside others counted.
    pub(super) max_new_columns: usize,
    pub(super) key: Option<String>,
    pub(super) branch: Option<String>,
    pub(super) isolation: Isolation,
    /// What the caller says that the rows were made from, beyond what their plan tells.
    pub(super) made_from: Looks,
    pub(super) summary: Vec<(String, String)>,
    pub(super) progress: Option<Progress>,
    pub(super) options: WriteOptions,
}

impl Spec {
    pub(super) fn new(frame: DataFrame, session: Session, target: Target) -> Self {
        Self {
            frame,
            session,
            target,
            replaces: false,
            filter: None,
            create: Create::Never,
            evolve: false,
            max_new_columns: MAX_NEW_COLUMNS,
            key: None,
            branch: None,
            isolation: Isolation::default(),
            made_from: Looks::default(),
            summary: Vec::new(),
            progress: None,
            options: WriteOptions::default(),
        }
    }
}

/// The builder methods that append and overwrite share.
macro_rules! write_methods {
    ($builder:ty) => {
        impl $builder {
            /// Creates the table, and its namespace, when it is absent: with the columns of these rows, all optional, and
            /// what `options` says. The table appears with its rows, in one commit. One that exists is left as it is. When
            /// another writer creates it at the same moment, an append writes its rows again, to that one; an overwrite
            /// conflicts, unless its isolation is [`Snapshot`](icefield_core::commit::Isolation::Snapshot).
            pub fn create_with(
                mut self,
                options: impl FnOnce($crate::ops::TableOptions) -> $crate::ops::TableOptions,
            ) -> Self {
                let options = options($crate::ops::TableOptions::default());
                self.spec.create = $crate::ops::stage::Create::IfAbsent(options);
                self
            }

            /// Adds columns that the table lacks and widens types (int to long, float to double, wider decimals), in the
            /// same commit as the rows. More than 100 new columns are refused, unless
            /// [`max_new_columns`](Self::max_new_columns) says otherwise: a table keeps what it once got, and all who use it pay
            /// for its columns.
            pub fn evolve_schema(mut self) -> Self {
                self.spec.evolve = true;
                self
            }

            /// How many columns [`evolve_schema`](Self::evolve_schema) adds at most (default: 100), fields inside structs,
            /// lists and maps counted. Rows that have more are
            /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput), before anything is written. 0 only widens types.
            pub fn max_new_columns(mut self, columns: usize) -> Self {
                self.spec.max_new_columns = columns;
                self
            }

            /// Names what is being written (a batch's id): a write whose key is in the branch's history does nothing, not
            /// even run the input.
            pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
                self.spec.key = Some(key.into());
                self
            }

            /// Writes to this branch, which must exist, instead of `main`.
            pub fn branch(mut self, branch: impl Into<String>) -> Self {
                self.spec.branch = Some(branch.into());
                self
            }

            /// Sets which concurrent commits the write tolerates.
            pub fn isolation(mut self, isolation: icefield_core::commit::Isolation) -> Self {
                self.spec.isolation = isolation;
                self
            }

            /// Adds a property to the snapshot's summary.
            pub fn summary(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
                self.spec.summary.push((name.into(), value.into()));
                self
            }

            /// Told of progress, from the writers' tasks: it must not block.
            pub fn on_progress(
                mut self,
                progress: impl Fn(&$crate::write::WriteProgress) + Send + Sync + 'static,
            ) -> Self {
                self.spec.progress = Some(std::sync::Arc::new(progress));
                self
            }

            /// How data files are written, beyond what the table's properties say.
            pub fn write_options(mut self, options: $crate::write::WriteOptions) -> Self {
                self.spec.options = options;
                self
            }
        }
    };
}
pub(super) use write_methods;

/// Adds an action to the transaction that publishes the files.
pub(super) type Act<'a> =
    dyn Fn(Transaction, &CoreTable, &WrittenFiles) -> Result<Option<Transaction>> + Send + Sync + 'a;

/// Runs a write: `act` says what its files do to the table, or that there is nothing to commit.
pub(super) async fn run(spec: Spec, act: &Act<'_>) -> Result<WriteReport> {
    let operation = if spec.replaces { "overwrite" } else { "append" };
    let ident = spec.target.ident()?;
    let span = tracing::info_span!("write", operation, table = %ident);
    let report = write(spec, &ident, act).instrument(span.clone()).await?;
    tracing::info!(parent: &span, %report, "written");
    Ok(report)
}

async fn write(spec: Spec, ident: &TableIdent, act: &Act<'_>) -> Result<WriteReport> {
    let catalog = spec.session.catalog().clone();
    let clock = catalog.clock().clone();
    let mut timer = Timer::start(&*clock);
    let branch = spec.branch.as_deref().unwrap_or(MAIN_BRANCH);
    let mut options = spec.options.clone().clock(clock.clone());
    if let Some(progress) = &spec.progress {
        options = options.progress(progress.clone());
    }

    let columns = spec.frame.schema().as_arrow().clone();
    create::check_columns(&columns)?;
    let looks = looks_of(spec.frame.logical_plan()).map_err(from_datafusion)?.and(spec.made_from.clone());
    let mut lost_creation = None;
    for attempt in 1.. {
        let table = load_or_new(&spec, ident, &columns).await?;
        let created = table.is_new();
        // A name that is taken and is no table's is a view's.
        if let Some(error) = lost_creation.take().filter(|_| created) {
            return Err(error);
        }
        if let Some(key) = &spec.key
            && let Some(applied) = is_applied(table.metadata(), branch, key)
        {
            let snapshot_id = applied.map(|snapshot| snapshot.snapshot_id());
            return Ok(nothing(&spec, table, snapshot_id, true, created, timer.phases));
        }
        require_branch(&table, branch)?;
        require_new_rows(&table, &columns)?;
        // What is added conflicts with nothing, whatever it was made from.
        let start = if spec.replaces && !created { looks.start(&table, branch).await? } else { None };
        let evolution =
            if spec.evolve { Evolution::plan(&table, &columns, spec.max_new_columns)? } else { None };
        let target = evolution.as_ref().map_or(&table, |evolution| &evolution.table);
        check_fit(target, &columns)?;
        let context = Arc::new(spec.frame.task_ctx());
        let frame = match &spec.filter {
            Some(filter) => match filter.to_filter(&spec.session, target)? {
                // All match, or none is replaced.
                Filter::True | Filter::False => spec.frame.clone(),
                filter => require(spec.frame.clone(), &filter, target)?,
            },
            None => spec.frame.clone(),
        };
        let plan = frame.create_physical_plan().await.map_err(from_datafusion)?;
        require_bounded(&plan)?;
        timer.plan();

        let written = write_data_files(target, plan, context, &options).await?;
        timer.write();

        let mut transaction = Transaction::new(&table).isolation(spec.isolation).exact_files();
        if let Some(branch) = &spec.branch {
            transaction = transaction.on_branch(branch);
        }
        if let Some(start) = start {
            transaction = transaction.based_on(start);
        }
        for (name, value) in &spec.summary {
            transaction = transaction.summary(name, value);
        }
        if let Some(key) = &spec.key {
            transaction = transaction.idempotency_key(key);
        }
        let evolved = evolution.is_some();
        if let Some(evolution) = evolution {
            transaction = transaction.change(move |metadata| evolution.replay(metadata));
        }
        let transaction = match act(transaction, &table, &written) {
            Ok(Some(transaction)) => transaction,
            Ok(None) => {
                timer.commit();
                return Ok(nothing(&spec, table, None, false, created, timer.phases));
            }
            Err(error) => {
                written.discard().await;
                return Err(error);
            }
        };
        let committed = match publish(transaction, &*catalog, &[&written]).await {
            Ok(committed) => committed,
            Err(error) => {
                let lost = created && spec.create.lost_to_another(&error);
                if !lost && error.conflict_reason() != Some(ConflictReason::SchemaChanged) {
                    return Err(error);
                }
                // Begun anew, rows that others added meanwhile would be the base, and be replaced unseen.
                if spec.replaces && spec.isolation == Isolation::Serializable {
                    let message = "another commit created the table or changed its schema meanwhile; look at what it holds \
                                   now, and write again";
                    let reason = match lost {
                        true => ConflictReason::TableReplaced,
                        false => ConflictReason::SchemaChanged,
                    };
                    let conflict = Error::conflict(message).because(reason);
                    return Err(conflict.with("table", ident).with_source(error));
                }
                if attempt == ATTEMPTS {
                    return Err(error);
                }
                lost_creation = lost.then_some(error);
                continue;
            }
        };
        timer.commit();
        if committed.already_applied {
            return Ok(nothing(&spec, committed.table, committed.snapshot_id, true, created, timer.phases));
        }
        return Ok(WriteReport {
            table: Table::new(spec.session.clone(), committed.table),
            rows: written.rows,
            files: written.files.len() as u64,
            bytes: written.bytes,
            snapshot_id: committed.snapshot_id,
            already_applied: false,
            created,
            evolved,
            attempts: committed.attempts,
            elapsed: timer.phases,
        });
    }
    Err(Error::internal("a write ended without an outcome"))
}

/// The table that is written to, or the one that is to be.
async fn load_or_new(spec: &Spec, ident: &TableIdent, rows: &ArrowSchema) -> Result<CoreTable> {
    let load = || spec.session.catalog().load_table(ident);
    let options = match &spec.create {
        Create::IfAbsent(options) => Some(options),
        Create::Never => None,
    };
    let absent = match load().await {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        loaded => return loaded,
    };
    let Some(options) = options else {
        let message = "no such table; create it first, or say with create_with(...) what it is to be";
        return Err(Error::not_found(message).with("table", ident).with_source(absent));
    };
    match create::new(&spec.session, ident, rows, options).await {
        Err(error) if spec.create.lost_to_another(&error) => load().await,
        new => new,
    }
}

fn nothing(
    spec: &Spec,
    table: CoreTable,
    snapshot_id: Option<i64>,
    already_applied: bool,
    created: bool,
    elapsed: Phases,
) -> WriteReport {
    WriteReport {
        table: Table::new(spec.session.clone(), table),
        rows: 0,
        files: 0,
        bytes: 0,
        snapshot_id,
        already_applied,
        created,
        evolved: false,
        attempts: 0,
        elapsed,
    }
}

/// A branch that is missing is found before data is written, not after.
fn require_branch(table: &CoreTable, branch: &str) -> Result<()> {
    if branch == MAIN_BRANCH || table.metadata().snapshot_for_ref(branch).is_some() {
        return Ok(());
    }
    Err(Error::not_found("no such branch; create it first")
        .with("table", table.ident())
        .with("branch", branch))
}

/// Rows that are added get ids of their own: the ids of other rows, of this table or another, would be theirs twice.
fn require_new_rows(table: &CoreTable, columns: &ArrowSchema) -> Result<()> {
    let own = table.schema();
    let foreign = LINEAGE
        .iter()
        .find(|(name, _)| columns.column_with_name(name).is_some() && own.field_by_name(name).is_none());
    match foreign {
        None => Ok(()),
        Some((name, _)) => Err(Error::invalid_input(
            "rows that are written are new ones and get ids of their own; drop the column from the input, or rename it",
        )
        .with("table", table.ident())
        .with("column", name)),
    }
}

pub(super) fn require_bounded(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    if plan.boundedness().is_unbounded() {
        return Err(Error::invalid_input(
            "the input never ends; write it in batches, each with its idempotency key",
        ));
    }
    Ok(())
}

/// Columns to add and types to widen, and the table as it will be: its files are written with the ids of that.
struct Evolution {
    update: SchemaUpdate,
    table: CoreTable,
    /// Ids above this are the evolution's own.
    last_column_id: i32,
}

fn race(column: &str) -> Error {
    Error::conflict(
        "another commit changed the schema meanwhile, and the column has not the field id that it has in the files; write again",
    )
    .because(ConflictReason::SchemaChanged)
    .with("column", column)
}

impl Evolution {
    /// What has to change for the rows to fit; `None` when they do.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) where more than `most` columns would be new.
    fn plan(table: &CoreTable, rows: &ArrowSchema, most: usize) -> Result<Option<Self>> {
        let unfit: Vec<_> = rows.fields().iter().filter(|field| !fits(table, field)).cloned().collect();
        if unfit.is_empty() {
            return Ok(None);
        }
        let metadata = table.metadata();
        let schema = iceberg_schema(&ArrowSchema::new(unfit), metadata.format_version())?;
        let update = SchemaUpdate::new().union_by_name(schema);
        let change = update.apply(metadata)?;
        if change.is_empty() {
            return Ok(None);
        }
        let evolved = Arc::new(apply_updates(metadata, &change.updates)?);
        let new = evolved.last_column_id().saturating_sub(metadata.last_column_id());
        if usize::try_from(new).is_ok_and(|new| new > most) {
            let message = "the rows have more new columns than a write may add; see whether they are meant to be the table's, and \
                           if so raise the limit with max_new_columns(...)";
            let error = Error::invalid_input(message).with("table", table.ident());
            return Err(error.with("new columns", new).with("limit", most));
        }
        let (ident, location) = (table.ident().clone(), table.metadata_location().to_string());
        let evolved = CoreTable::new(ident, evolved, location, table.storage().clone());
        Ok(Some(Self { update, table: evolved, last_column_id: metadata.last_column_id() }))
    }

    /// The same change of the metadata of the moment, refused when it would give the new columns other ids than the files
    /// have.
    fn replay(&self, metadata: &TableMetadata) -> Result<MetadataChange> {
        let change = self.update.apply(metadata)?;
        let evolved = apply_updates(metadata, &change.updates)?;
        let planned = self.table.schema();
        for (id, name) in planned.field_id_to_name_map() {
            if *id <= self.last_column_id {
                // Dropped meanwhile, and added again, perhaps by this change: the files have its values under the old id.
                let now = evolved.current_schema().field_id_by_name(name);
                if now.is_some_and(|now| now != *id) {
                    return Err(race(name));
                }
                continue;
            }
            let same = evolved.current_schema().field_by_id(*id).is_some_and(|now| {
                evolved.current_schema().name_by_field_id(*id) == Some(name)
                    && planned.field_by_id(*id).is_some_and(|then| then.field_type == now.field_type)
            });
            if !same {
                return Err(race(name));
            }
        }
        Ok(change)
    }
}

fn fits(table: &CoreTable, field: &arrow::datatypes::FieldRef) -> bool {
    crate::write::column_fits(table, field)
}

/// Time by phase, by the catalog's clock.
struct Timer<'a> {
    clock: &'a dyn Clock,
    last: i64,
    phases: Phases,
}

impl<'a> Timer<'a> {
    fn start(clock: &'a dyn Clock) -> Self {
        Self { clock, last: clock.now_ms(), phases: Phases::default() }
    }

    fn lap(&mut self) -> Duration {
        let now = self.clock.now_ms();
        let lap = now - std::mem::replace(&mut self.last, now);
        Duration::from_millis(u64::try_from(lap).unwrap_or_default())
    }

    fn plan(&mut self) {
        let lap = self.lap();
        self.phases.plan += lap;
    }

    fn write(&mut self) {
        let lap = self.lap();
        self.phases.write += lap;
    }

    fn commit(&mut self) {
        let lap = self.lap();
        self.phases.commit += lap;
    }
}
