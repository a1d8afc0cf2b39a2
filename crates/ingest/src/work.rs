//! One archive's way through a run: read on a thread, staged, marked; tried again, or set aside.

use std::sync::Arc;
use std::time::Duration;

use icefield_core::storage::{Storage, join};
use icefield_core::{Backoff, Clock, Error, ErrorKind, Result};
use object_store::ObjectStoreExt;
use tokio::runtime::Handle;

use crate::archive::{Download, Failure, Format, Ranges, RunCounts, Watch, walk, walk_zip};
use crate::escape::plain;
use crate::options::Settings;
use crate::quarantine::Reason;
use crate::source::Archive;
use crate::stage::{self, Outcome, Stager};
use crate::staging::Staging;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(100));

/// What reads a run's archives.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) storage: Storage,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retries: u32,
    pub(crate) counts: Arc<RunCounts>,
    pub(crate) staging: Arc<Staging>,
}

impl Worker {
    /// An archive's outcome, and whether an earlier run had it.
    pub(crate) async fn archive(&self, archive: &Archive, folder: &str) -> Result<(Outcome, bool), Fault> {
        let mut tries = 0;
        loop {
            match self.once(archive, folder).await {
                Err(Fault::Error(error)) if tries < self.retries && error.is_retryable() => {
                    let (name, why) = (plain(&archive.entry.location), plain(&error.to_string()));
                    tracing::warn!(archive = name, error = why, tries, "an archive is read again");
                    tries += 1;
                    self.clock.sleep(BACKOFF.wait(tries, &*self.clock)).await;
                }
                other => return other,
            }
        }
    }

    async fn once(&self, archive: &Archive, folder: &str) -> Result<(Outcome, bool), Fault> {
        if let Some(outcome) =
            stage::marker(&self.storage, folder, &archive.entry.location, &self.settings.limits).await?
        {
            return Ok((outcome, true));
        }
        let job = Job {
            settings: self.settings.clone(),
            storage: self.storage.clone(),
            folder: folder.to_string(),
            archive: archive.clone(),
            watch: self.watch(archive),
            handle: Handle::current(),
            _staging: self.staging.clone(),
        };
        let outcome = match self.on_thread(job.clone(), Job::run).await? {
            Some(outcome) => outcome?,
            // It would the next time: one archive must not hold a drop back for ever.
            None => match self.on_thread(job, Job::panicked).await? {
                Some(outcome) => outcome?,
                None => return Err(Error::internal("setting the archive aside panicked").into()),
            },
        };
        if !archive.format.has_checksums() || outcome.broken.is_some() {
            self.check_unchanged(archive).await?;
        }
        stage::mark(&self.storage, folder, &outcome).await?;
        self.staging.keep_private(folder);
        Ok((outcome, false))
    }

    fn watch(&self, archive: &Archive) -> Watch {
        let size = (archive.format == Format::Zip).then_some(archive.entry.size);
        Watch::new(self.counts.clone(), &self.settings.limits, size)
    }

    /// What a job's work gives; `None` when it panics.
    async fn on_thread<T: Send + 'static>(&self, job: Job, work: fn(Job) -> T) -> Result<Option<T>, Fault> {
        match tokio::task::spawn_blocking(move || work(job)).await {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.is_panic() => Ok(None),
            Err(error) => Err(Error::new(ErrorKind::Io, "the run was dropped").with_source(error).into()),
        }
    }

    /// Fails when the archive is another one by now: what was read may be the beginning of one and the end of the other.
    async fn check_unchanged(&self, archive: &Archive) -> Result<()> {
        let location = &archive.entry.location;
        if let Some(local) = archive.local.clone() {
            let entry = archive.entry.clone();
            let opened = tokio::task::spawn_blocking(move || local.open(&entry).map(drop)).await;
            let opened =
                opened.map_err(|e| Error::internal("looking at the file panicked").with_source(e))?;
            return match opened {
                // It was one when it was opened, or was set aside as what it is.
                Ok(()) | Err(Failure::Archive(..)) => Ok(()),
                Err(Failure::Storage(error)) => Err(error),
                Err(other) => Err(Error::internal(other.to_string())),
            };
        }
        let at = self.storage.resolve(location)?;
        let now = at.store.head(&at.path).await?;
        if (now.size, now.last_modified.timestamp_millis()) == (archive.entry.size, archive.entry.modified_ms)
        {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, "the file changed while it was read; run again").with("file", location))
    }

    /// Writes entries of the quarantine that belong to no archive that was read.
    pub(crate) async fn quarantine(
        &self,
        folder: &str,
        items: Vec<crate::Quarantined>,
    ) -> Result<crate::Part> {
        let (storage, location, handle) =
            (self.storage.clone(), join(folder, "_quarantine.parquet"), Handle::current());
        let staging = self.staging.clone();
        let write = move || {
            let _keep = staging;
            stage::quarantine_file(&storage, &handle, location, &items)
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|e| Error::internal("writing the quarantine panicked").with_source(e))?
    }
}

/// Why there is no outcome.
pub(crate) enum Fault {
    /// The store, or the machine.
    Error(Error),
    /// A limit of the run.
    Run(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// One archive, on its thread.
#[derive(Clone)]
struct Job {
    settings: Arc<Settings>,
    storage: Storage,
    folder: String,
    archive: Archive,
    watch: Watch,
    handle: Handle,
    /// A thread outlives a run that is dropped: a temporary folder goes when the last one has ended.
    _staging: Arc<Staging>,
}

impl Job {
    fn stager(&self) -> Stager<'_> {
        let Self { settings, storage, folder, archive, watch, handle, .. } = self;
        Stager::new(settings, storage, handle, folder, &archive.entry.location, watch.clone())
    }

    fn run(self) -> Result<Outcome, Fault> {
        let mut stager = self.stager();
        let outcome = match self.walk(&mut stager) {
            Ok(()) => stager.complete(),
            Err(Failure::Archive(reason, detail)) => stager.broken(reason, detail),
            Err(failure) => Err(failure),
        };
        outcome.map_err(Fault::from)
    }

    fn walk(&self, stager: &mut Stager<'_>) -> Result<(), Failure> {
        let Self { settings, storage, archive, watch, handle, .. } = self;
        let (location, size, limits) = (&archive.entry.location, archive.entry.size, &settings.limits);
        let local = archive.local.as_ref().map(|local| local.open(&archive.entry)).transpose()?;
        match (archive.format, local) {
            (Format::Zip, local) => {
                walk_zip(Ranges::new(storage, location, local, size, watch.clone(), handle), limits, stager)
            }
            (format, local) => {
                let source = match local {
                    Some(file) => Download::local(file, location, size, watch.clone()),
                    None => Download::start(storage, location, size, watch.clone(), handle),
                };
                walk(format, icefield_core::storage::file_name(location), source, limits, stager)
            }
        }
    }

    /// The outcome of an archive that made its reading panic.
    fn panicked(self) -> Result<Outcome, Fault> {
        let detail =
            "reading it ended in a panic, which is a fault of the library; please report it".to_string();
        self.stager().broken(Reason::Corrupt, detail).map_err(Fault::from)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Storage(error) => Self::Error(error),
            Failure::Run(detail) => Self::Run(detail),
            Failure::Cancelled => Self::Error(Error::new(ErrorKind::Io, "the run was dropped")),
            other => Self::Error(Error::internal(other.to_string())),
        }
    }
}
