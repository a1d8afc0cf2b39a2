//! The builder, and the run: list, stage every archive in parallel, merge.

use std::future::IntoFuture;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use icefield_core::storage::{Storage, join};
use icefield_core::{Clock, Result, SystemClock};

use crate::Pattern;
use crate::archive::RunCounts;
use crate::escape::past;
use crate::merge::{Merge, unreadable};
use crate::options::{BrokenArchive, Conversion, Csv, Limits, ManifestUse, Settings};
use crate::quarantine::Reason;
use crate::source;
use crate::staging::Staging;
use crate::table::Ingested;
use crate::work::{Fault, Worker};

type OnProgress = Arc<dyn Fn(&Progress) + Send + Sync>;

/// Brings archives of CSV and JSON lines into tables.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use icefield_core::storage::Storage;
/// use icefield_ingest::{Conversion, Ingest};
///
/// let storage = Storage::new();
/// storage.write("memory://drop/calendar_2024-06-22_1.csv", "id,price\n1,\"$5,150.00\"\n2,\n3\n").await?;
///
/// let ingested = Ingest::from_url("memory://drop")
///     .storage(storage)
///     .pattern("{table}_{date}_{batch}.csv")
///     .convert("calendar", "price", Conversion::Money { precision: 12, scale: 2 })
///     .await?;
///
/// let calendar = ingested.table("calendar").unwrap();
/// assert_eq!(calendar.rows(), 2);
/// assert_eq!(calendar.schema().field(0).data_type().to_string(), "Int64");
/// assert_eq!(ingested.quarantine.items()[0].raw.as_deref(), Some("3"));
/// # Ok(())
/// # }
/// ```
///
/// # What is all or nothing
///
/// A row is taken whole or set aside. A member is taken, less its bad rows, or set aside when it can't be read as a file of
/// its table. An archive is taken when it was read to its end, checksums included, or set aside with all that is in it
/// ([`BrokenArchive`] may keep what came before the break). None of these stops another: [`Ingest::run`] fails only when the
/// settings are wrong, a source can't be listed, or the staging folder can't be written.
///
/// # Staging
///
/// Each archive is read once, streamed, into Parquet files in the staging folder; a marker is written when they are
/// complete. A later run with the same settings and staging folder takes up marked archives without reading them, so that a
/// run that was stopped goes on where it was. An archive that changed (size or time of change) is read anew. Archives that
/// the store did not give, or that a limit of the run left out, are not marked: the next run tries them again. A temporary
/// staging folder, and all in it, is for its owner alone; permissions of a folder that is given are the caller's to set.
///
/// # What partners can do
///
/// Whoever may write to the drop's folder is not trusted, with names no more than with sizes: [`Limits`] bound what an archive,
/// and a run over all of them, takes of memory, time and the staging folder. On a local disk links are never followed, and pipes
/// and devices never opened ([`Reason::Link`], [`Reason::NotAFile`]). Tables have plain names, or those of [`Ingest::tables`].
/// Reports, details and logs show control characters, line ends, marks of direction and what is not seen as `\u{1b}`; `raw` has rows
/// as they came. A staging folder that is given is to be out of partners' reach.
///
/// # Memory
///
/// For each archive that is read at a time, at most about 32 MiB (a row group, the store's write buffer, what is read ahead),
/// eight times [`Limits::row_bytes`] (where there are such rows), [`Limits::archive_known_bytes`] and
/// [`Limits::archive_listed_bytes`]; for Zstandard the window that the archive asks for, up to 128 MiB, and as much again for a
/// member that is compressed within it; for a zip up to ten times its directory, which has up to 32 MiB. For the whole run
/// [`Limits::run_known_bytes`], of which honest files take some hundred bytes each, and [`Limits::listed_bytes`]; for each file of
/// the drop, [`Limits::run_archives`] at most, about a kilobyte; before archives are read, ten times [`Limits::manifest_bytes`] for a
/// moment.
///
/// # Cancel safety
///
/// Dropping the future stops reading soon after; staged archives stay staged, half-read ones leave files that no marker names.
#[derive(Clone)]
#[must_use = "an ingest does nothing until it is awaited"]
pub struct Ingest {
    sources: Vec<String>,
    storage: Storage,
    clock: Arc<dyn Clock>,
    staging: Option<String>,
    parallelism: Option<usize>,
    retries: u32,
    manifest_name: String,
    manifest_use: ManifestUse,
    patterns: Vec<String>,
    ignored: Vec<String>,
    progress: Option<OnProgress>,
    settings: Settings,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Archives that there are.
    pub archives: u64,
    /// Archives done with, whatever came of them.
    pub archives_done: u64,
    /// Their compressed bytes.
    pub bytes: u64,
    /// Compressed bytes read, or not needed to be.
    pub bytes_done: u64,
    /// Decompressed bytes, of the archives that were read.
    pub bytes_decompressed: u64,
    /// Rows taken from archives done with.
    pub rows: u64,
    /// Archives, members and rows set aside.
    pub quarantined: u64,
}

impl Ingest {
    /// An ingest of a folder's archives, those of its subfolders included, or of one file.
    ///
    /// Files whose names start with `_` or `.` are left alone; others that are no `.tar`, `.tar.gz`, `.tgz`, `.tar.zst`,
    /// `.zip`, or `.csv`, `.tsv`, `.jsonl`, `.ndjson` with or without `.gz` or `.zst` are quarantined.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self {
            sources: vec![url.into()],
            storage: Storage::new(),
            clock: SystemClock::shared(),
            staging: None,
            parallelism: None,
            retries: 3,
            manifest_name: "_manifest.json".into(),
            manifest_use: ManifestUse::default(),
            patterns: Vec::new(),
            ignored: Vec::new(),
            progress: None,
            settings: Settings::default(),
        }
    }

    /// Another folder or file.
    pub fn and_url(mut self, url: impl Into<String>) -> Self {
        self.sources.push(url.into());
        self
    }

    /// The stores to read from and to stage in.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }

    /// The source of time.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The folder for staged files. Without one it is a new folder in the system's temporary one, removed with the result.
    pub fn staging(mut self, url: impl Into<String>) -> Self {
        self.staging = Some(url.into());
        self
    }

    /// Which table a member goes to, by its name ([`Pattern`]). Several patterns are tried in the order in which they
    /// are given. Without any, a file goes to the table of its name less the suffix.
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// Members that may be left out in silence, such as `README*`.
    pub fn ignore(mut self, pattern: impl Into<String>) -> Self {
        self.ignored.push(pattern.into());
        self
    }

    /// One table for all members; where patterns are given, for all that match one.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.settings.table = Some(name.into());
        self
    }

    /// The tables that there may be. A file of another is quarantined, as it is without a list when its table's name is not made
    /// of letters, digits, underscores and single hyphens between them: a member's name chooses its table, and whoever sends it chooses that. Replaces an
    /// earlier list.
    pub fn tables(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.allowed = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// A table's columns and types. Files may have them in any order, lack some, and have others, whose types are inferred.
    /// A row with a value that does not parse, or without one where the field is not nullable, is quarantined.
    ///
    /// Booleans, integers, floats, `Decimal128`, `Date32`, `Time64` in microseconds, timestamps and `Utf8`.
    pub fn schema(mut self, table: impl Into<String>, schema: SchemaRef) -> Self {
        self.settings.tables.entry(table.into()).or_default().set_schema(schema);
        self
    }

    /// How a column's text becomes a value.
    pub fn convert(
        mut self,
        table: impl Into<String>,
        column: impl Into<String>,
        conversion: Conversion,
    ) -> Self {
        self.settings.tables.entry(table.into()).or_default().set_conversion(column.into(), conversion);
        self
    }

    /// Another name that files have for a column: a file's `from` is the table's `to`.
    pub fn alias(mut self, table: impl Into<String>, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.settings.tables.entry(table.into()).or_default().set_alias(from.into(), to.into());
        self
    }

    /// How CSV is written.
    pub fn csv(mut self, csv: Csv) -> Self {
        self.settings.csv = csv;
        self
    }

    /// The bounds on what an archive may hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// What is taken of an archive that can't be read to its end.
    pub fn broken_archives(mut self, broken: BrokenArchive) -> Self {
        self.settings.broken = broken;
        self
    }

    /// What manifests are for.
    pub fn manifest(mut self, manifest: ManifestUse) -> Self {
        self.manifest_use = manifest;
        self
    }

    /// The manifests' file name; `_manifest.json` by default.
    pub fn manifest_name(mut self, name: impl Into<String>) -> Self {
        self.manifest_name = name.into();
        self
    }

    /// Archives read at a time, a thread each. By default twice as many as there are processors.
    pub fn parallelism(mut self, archives: usize) -> Self {
        self.parallelism = Some(archives.max(1));
        self
    }

    /// How often an archive that the store fails to give is tried again. 3 by default; waits double from 100 ms.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Adds a column that names each row's archive and member, never NULL. Where files have a column of this name, theirs is
    /// taken, and may be NULL.
    pub fn source_column(mut self, name: impl Into<String>) -> Self {
        self.settings.source_column = Some(name.into());
        self
    }

    /// Called from time to time, and after each archive. It must not block.
    pub fn progress(mut self, call: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(call));
        self
    }

    /// Runs the ingest. So does awaiting the builder.
    ///
    /// # Errors
    /// [`icefield_core::ErrorKind::InvalidInput`] or [`icefield_core::ErrorKind::Unsupported`] for settings, [`icefield_core::ErrorKind::NotFound`] for a source with no
    /// files, and whatever the store says when a source can't be listed or the staging folder can't be written.
    pub async fn run(mut self) -> Result<Ingested> {
        let started = self.clock.now_ms();
        self.prepare()?;
        let staging = Arc::new(Staging::new(self.storage.clone(), self.staging.clone(), &*self.clock)?);
        let fingerprint = self.settings.fingerprint();
        // A staging folder that can't be written is no archive's fault.
        self.storage.write(&join(staging.location(), "_settings.txt"), fingerprint.clone()).await?;
        staging.keep_private(staging.location());
        let mut found = source::find(
            &self.storage,
            &self.sources,
            &self.manifest_name,
            self.manifest_use,
            &self.settings,
        )
        .await?;

        let archives = Arc::new(std::mem::take(&mut found.archives));
        let counts = Arc::new(RunCounts::default());
        let _cancel = CancelOnDrop(counts.clone());
        let mut merge = Merge::new(&self.settings.limits);
        let mut progress = Progress {
            archives: archives.len() as u64,
            bytes: archives.iter().fold(0, |bytes, archive| bytes.saturating_add(archive.entry.size)),
            ..Progress::default()
        };
        let mut reused_bytes = 0;
        let folders: Arc<Vec<String>> =
            Arc::new(archives.iter().map(|a| staging.folder(&a.entry, &fingerprint)).collect());
        let worker = Arc::new(Worker {
            settings: Arc::new(self.settings.clone()),
            storage: self.storage.clone(),
            clock: self.clock.clone(),
            retries: self.retries,
            counts: counts.clone(),
            staging: staging.clone(),
        });
        // An archive waits for its store now and then: twice as many as processors keep these busy.
        let twice = || 2 * std::thread::available_parallelism().map_or(2, NonZero::get);
        let parallelism = self.parallelism.unwrap_or_else(twice);
        // A job is made when its turn comes: there may be many.
        let job = {
            let (worker, archives, folders) = (worker.clone(), archives.clone(), folders.clone());
            move |at: usize| {
                let (worker, archives, folders) = (worker.clone(), archives.clone(), folders.clone());
                async move { (at, worker.archive(&archives[at], &folders[at]).await) }
            }
        };
        let mut done = futures::stream::iter(0..archives.len()).map(job).buffer_unordered(parallelism);
        loop {
            let tick = if self.progress.is_some() {
                self.clock.sleep(Duration::from_millis(200)).boxed()
            } else {
                futures::future::pending().boxed()
            };
            let next = tokio::select! {
                next = done.next() => Some(next),
                () = tick => None,
            };
            match next {
                None => {}
                Some(None) => break,
                Some(Some((at, outcome))) => {
                    let archive = &archives[at];
                    progress.archives_done += 1;
                    match outcome {
                        Ok((outcome, reused)) => {
                            reused_bytes += if reused { archive.entry.size } else { 0 };
                            merge.outcome(at, archive, outcome, reused);
                        }
                        Err(fault) => {
                            let (at_location, promised) =
                                (&archive.entry.location, archive.promised.as_ref());
                            let (reason, detail) = match fault {
                                Fault::Error(error) => (Reason::Unreadable, unreadable(&error)),
                                Fault::Run(detail) => (Reason::RunLimit, detail),
                            };
                            merge.not_read(at, at_location, promised, reason, detail);
                        }
                    }
                    progress.rows = merge.rows();
                    progress.quarantined = merge.quarantine.counts().values().sum();
                }
            }
            if let Some(call) = &self.progress {
                progress.bytes_done = reused_bytes + counts.bytes_in.load(Ordering::Relaxed);
                progress.bytes_decompressed = counts.bytes_out.load(Ordering::Relaxed);
                call(&progress);
            }
        }
        drop(done);

        let after = archives.len();
        for (i, (location, promised)) in found.missing.iter().enumerate() {
            let detail = "the manifest promises it, and it is not there".to_string();
            merge.not_read(after + i, location, Some(promised), Reason::Missing, detail);
        }
        for (i, entry) in found.unknown.iter().enumerate() {
            let detail = "no archive and no file of a kind that is known by its name".to_string();
            merge.not_read(
                after + found.missing.len() + i,
                &entry.location,
                None,
                Reason::UnknownFormat,
                detail,
            );
        }
        let before = after + found.missing.len() + found.unknown.len();
        for (i, (location, reason, detail)) in found.aside.iter().enumerate() {
            merge.not_read(before + i, location, None, *reason, detail.clone());
        }
        if found.left > 0 {
            let most = self.settings.limits.run_archives;
            let what = format!("{} files, or what is none, are left out", found.left);
            let at = before + found.aside.len();
            merge.not_read(
                at,
                &self.sources.join(", "),
                None,
                Reason::RunLimit,
                past(&what, "run_archives", most),
            );
        }
        merge.settle(&self.settings);
        merge.report.archives_expected = (after + found.missing.len()) as u64;
        merge.report.archives_unlisted = found.unlisted;
        merge.report.incomplete_folders = found.incomplete;
        merge.report.errors = found.errors;
        if !merge.own.is_empty() {
            let items = std::mem::take(&mut merge.own);
            let part = worker.quarantine(staging.location(), items).await?;
            merge.quarantine.parts.push(part);
            staging.keep_private(staging.location());
        }
        merge.report.elapsed_ms = u64::try_from(self.clock.now_ms() - started).unwrap_or(0);
        let (tables, quarantine, report) = merge.finish(&self.settings, &self.storage, &staging);
        drop(archives);
        Ok(Ingested { tables, quarantine, report, staging, folders: Arc::unwrap_or_clone(folders) })
    }

    fn prepare(&mut self) -> Result<()> {
        if self.patterns.is_empty() && self.settings.table.is_none() {
            self.patterns.push("{table}.{format}".into());
        }
        let parse =
            |patterns: &[String]| patterns.iter().map(|p| Pattern::parse(p)).collect::<Result<Vec<_>>>();
        self.settings.patterns = parse(&self.patterns)?;
        self.settings.ignored = parse(&self.ignored)?;
        self.settings.check()
    }
}

impl IntoFuture for Ingest {
    type Output = Result<Ingested>;
    type IntoFuture = BoxFuture<'static, Result<Ingested>>;

    fn into_future(self) -> Self::IntoFuture {
        self.run().boxed()
    }
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest")
            .field("sources", &self.sources)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Threads can't be stopped from outside: they look at this.
struct CancelOnDrop(Arc<RunCounts>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}
