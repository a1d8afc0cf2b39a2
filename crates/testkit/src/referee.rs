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
        let script = script();
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

/// The script that starts the engines. Its helpers lie beside it.
pub(crate) fn script() -> PathBuf {
    match std::env::var_os("ICEFIELD_REFEREE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/referee/referee"),
    }
}

/// Where the referee's engines and servers are installed.
pub(crate) fn home() -> Option<PathBuf> {
    let set = std::env::var_os("REFEREE_HOME").map(PathBuf::from);
    set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/referee")))
}

fn local_path(location: &str) -> String {
    let path = location.strip_prefix("file:").unwrap_or(location);
    format!("/{}", path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::RecordBatch;
    use iceberg::spec::{
        DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, Schema, SnapshotReference,
        SnapshotRetention, Struct,
    };
    use icefield_core::Table;
    use icefield_core::catalog::{Catalog, MemoryCatalog, NamespaceIdent, TableCreation};
    use icefield_core::commit::Transaction;
    use icefield_core::format::{ContentFile, parquet_schema};
    use icefield_core::storage::Storage;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_writer::ArrowWriterOptions;

    use super::*;
    use crate::{content_hash, everything_schema, random_batches, referee_schema};

    #[test]
    fn locations_of_every_form_become_paths() {
        for location in ["/a/b.json", "file:/a/b.json", "file:///a/b.json"] {
            assert_eq!(local_path(location), "/a/b.json");
        }
    }

    /// Appends batches as one Parquet file, without statistics.
    async fn append(catalog: &MemoryCatalog, table: &Table, batches: &[RecordBatch]) -> Table {
        let mut bytes = Vec::new();
        let parquet = parquet_schema(table.schema()).unwrap();
        let options = ArrowWriterOptions::new().with_parquet_schema(parquet);
        let mut writer = ArrowWriter::try_new_with_options(&mut bytes, batches[0].schema(), options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
        let path = format!("{}/data/{}.parquet", table.metadata().location(), catalog.clock().uuid());
        let size = bytes.len() as u64;
        catalog.storage().write(&path, bytes).await.unwrap();
        let file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(path)
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .record_count(batches.iter().map(|batch| batch.num_rows() as u64).sum())
            .file_size_in_bytes(size)
            .partition_spec_id(0)
            .build()
            .unwrap();
        let files = vec![ContentFile { spec_id: 0, file }];
        Transaction::new(table).append(files).commit(catalog).await.unwrap().table
    }

    async fn table(folder: &Path, version: FormatVersion, schema: &Schema) -> (MemoryCatalog, Table) {
        let warehouse = format!("file://{}", folder.display());
        let catalog = MemoryCatalog::new(warehouse, Storage::new());
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
        let creation = TableCreation::builder()
            .name("t".to_string())
            .schema(schema.clone())
            .format_version(version)
            .build();
        let table = catalog.create_table(&namespace, creation).await.unwrap();
        (catalog, table)
    }

    #[tokio::test]
    async fn every_engine_hashes_the_rows_as_this_crate_does() {
        let folder = tempfile::tempdir().unwrap();
        // v1 metadata has no tags.
        for version in [FormatVersion::V2, FormatVersion::V3] {
            let schema = referee_schema(version);
            let (catalog, t) = table(&folder.path().join(version.to_string()), version, &schema).await;
            let batches = random_batches(9, &schema, 2, 60);
            let first = append(&catalog, &t, &batches[..1]).await;
            let id = first.metadata().current_snapshot_id().unwrap();
            let tag = SnapshotReference::new(id, SnapshotRetention::Tag { max_ref_age_ms: None });
            let second = append(&catalog, &first, &batches[1..]).await;
            let t = Transaction::new(&second).set_ref("old", tag).commit(&catalog).await.unwrap().table;
            let (old, new) = (content_hash(&batches[..1], &schema), content_hash(&batches, &schema));
            let checks = [
                (Pick::Current, new),
                (Pick::Snapshot(id), old.clone()),
                (Pick::Ref("old".to_string()), old),
            ];
            for outcome in Referee::new().check_all(t.metadata_location(), &checks).await {
                println!("{version}: {outcome:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_reference_implementation_hashes_every_type_as_this_crate_does() {
        let folder = tempfile::tempdir().unwrap();
        for version in [FormatVersion::V2, FormatVersion::V3] {
            let schema = everything_schema(version);
            let (catalog, t) = table(&folder.path().join(version.to_string()), version, &schema).await;
            let batches = random_batches(5, &schema, 1, 80);
            let t = append(&catalog, &t, &batches).await;
            let content = content_hash(&batches, &schema);
            let java = Referee::with_engines(&[Engine::Java]);
            println!("{version}: {:?}", java.check(t.metadata_location(), Pick::Current, &content).await);
        }
    }

    #[tokio::test]
    #[should_panic(expected = "the referees do not read")]
    async fn another_content_is_a_disagreement() {
        let folder = tempfile::tempdir().unwrap();
        let schema = referee_schema(FormatVersion::V2);
        let (catalog, t) = table(folder.path(), FormatVersion::V2, &schema).await;
        let batches = random_batches(9, &schema, 1, 10);
        let t = append(&catalog, &t, &batches).await;
        let mut content = content_hash(&batches, &schema);
        content.rows += 1;
        let quick = Referee::with_engines(&[Engine::PyIceberg]);
        if let Outcome::Skipped(reason) = quick.check(t.metadata_location(), Pick::Current, &content).await {
            panic!("the referees do not read anything here: {reason}");
        }
    }
}
