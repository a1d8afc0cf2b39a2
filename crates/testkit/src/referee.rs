//! [`Referee`]: other engines' reading of a table.
//!
//! The engines are started by a script that is not part of this repository: `ICEFIELD_REFEREE` names it, or it lies at
//! `../shared/referee/referee` beside the workspace. Its engines are installed under `REFEREE_HOME` (by default
//! `~/.cache/referee`). Where script or engines are missing, checks are skipped with a notice.

use std::path::{Path, PathBuf};
use std::sync::Once;

use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::content::Content;

/// At most this many referees run at once: each starts a Java virtual machine.
const AT_ONCE: u32 = 2;

static SLOTS: Semaphore = Semaphore::const_new(AT_ONCE as usize);
static NOTICE: Once = Once::new();

/// An engine that reads Iceberg tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Apache Iceberg Java, the reference implementation. Reads everything.
    Java,
    /// DuckDB. No branches and tags, no `timestamptz_ns`.
    DuckDb,
    /// PyIceberg. No equality deletes.
    PyIceberg,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Engine; 3] = [Engine::Java, Engine::DuckDb, Engine::PyIceberg];

    fn name(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::DuckDb => "duckdb",
            Self::PyIceberg => "pyiceberg",
        }
    }
}

/// Which snapshot the engines read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The current one.
    Current,
    /// One by its id.
    Snapshot(i64),
    /// The one that a branch or tag names.
    Ref(String),
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// These engines read what was expected.
    Agreed(Vec<Engine>),
    /// No engine was asked, for this reason.
    Skipped(String),
}

/// Asks engines what a table holds.
#[derive(Debug, Clone)]
pub struct Referee {
    engines: Vec<Engine>,
}

impl Default for Referee {
    fn default() -> Self {
        Self::new()
    }
}

impl Referee {
    /// Every engine.
    pub fn new() -> Self {
        Self::with_engines(&Engine::ALL)
    }

    /// These engines only: for tables with something that the others do not read.
    pub fn with_engines(engines: &[Engine]) -> Self {
        Self { engines: engines.to_vec() }
    }

    /// Checks that the engines read `expected` from the table of a metadata file, which lies on a local disk.
    ///
    /// # Panics
    /// When an engine fails or reads something else; the message holds all that the engines printed.
    pub async fn check(&self, metadata_location: &str, pick: Pick, expected: &Content) -> Outcome {
        let (script, engines) = match self.find() {
            Ok(found) => found,
            Err(reason) => {
                NOTICE.call_once(|| eprintln!("skipped: no referee engine checks the tables: {reason}"));
                return Outcome::Skipped(reason);
            }
        };
        let path = local_path(metadata_location);
        let names: Vec<_> = engines.iter().map(|engine| engine.name()).collect();
        let mut command = Command::new(&script);
        command.arg(&path).args(["--engines", &names.join(",")]);
        command.args(["--expect-rows", &expected.rows.to_string(), "--expect-hash", &expected.hash]);
        match &pick {
            Pick::Current => {}
            Pick::Snapshot(id) => drop(command.args(["--snapshot", &id.to_string()])),
            Pick::Ref(name) => drop(command.args(["--ref", name])),
        }
        let home = home();
        // The first check compiles the Java reader: nobody else starts one meanwhile.
        let alone = home.as_ref().is_some_and(|home| !home.join("classes/Referee.class").exists());
        let slots = SLOTS.acquire_many(if alone { AT_ONCE } else { 1 }).await;
        let output = command.kill_on_drop(true).output().await;
        drop(slots);
        let output =
            output.unwrap_or_else(|e| panic!("the referee {} does not start: {e}", script.display()));
        assert!(
            output.status.success(),
            "the referees do not read {expected} from {path} ({pick:?}):\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        Outcome::Agreed(engines)
    }

    /// As [`Referee::check`] for several picks of one table, as many at once as may run.
    pub async fn check_all(&self, metadata_location: &str, checks: &[(Pick, Content)]) -> Vec<Outcome> {
        let checks =
            checks.iter().map(|(pick, content)| self.check(metadata_location, pick.clone(), content));
        futures::future::join_all(checks).await
    }

    /// Whether there is anything to ask.
    pub fn is_available(&self) -> bool {
        self.find().is_ok()
    }

    fn find(&self) -> Result<(PathBuf, Vec<Engine>), String> {
        let script = match std::env::var_os("ICEFIELD_REFEREE") {
            Some(path) => PathBuf::from(path),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/referee/referee"),
        };
        if !script.is_file() {
            return Err(format!("{} is not there; ICEFIELD_REFEREE names the script", script.display()));
        }
        let home = home().ok_or("neither REFEREE_HOME nor HOME is set")?;
        let engines: Vec<_> = self
            .engines
            .iter()
            .copied()
            .filter(|engine| home.join(engine.name()).join("bin/python").exists())
            .collect();
        if engines.is_empty() {
            return Err(format!("none of {:?} is installed under {}", self.engines, home.display()));
        }
        Ok((script, engines))
    }
}

fn home() -> Option<PathBuf> {
    let set = std::env::var_os("REFEREE_HOME").map(PathBuf::from);
    set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/referee")))
}

fn local_path(location: &str) -> String {
    let path = location.strip_prefix("file:").unwrap_or(location);
    format!("/{}", path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_of_every_form_become_paths() {
        for location in ["/a/b.json", "file:/a/b.json", "file:///a/b.json"] {
            assert_eq!(local_path(location), "/a/b.json");
        }
    }
}
