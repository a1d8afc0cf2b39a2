//! Tables with column types that the `iceberg` crate does not know, which Iceberg Java wrote (`data/foreign`, with their
//! generator): `variants`, with rows, and `shapes`, without.

use std::path::Path;

use icefield_core::storage::Storage;
use serde_json::Value;

/// Where the tables say that they are.
const PLACE: &str = "file:///tmp/lake/db";

/// A copy of one of the tables in a folder of its own.
#[derive(Debug)]
pub struct ForeignTable {
    folder: tempfile::TempDir,
    /// Finds the table's files, wherever they say that they are, in the folder.
    pub storage: Storage,
    /// The table's location.
    pub location: String,
    /// The location of its newest metadata file.
    pub metadata_location: String,
}

impl ForeignTable {
    /// Copies a table, `variants` or `shapes`, its metadata file as `change` makes it of what it is.
    ///
    /// # Panics
    /// When that can't be done.
    pub fn copy(name: &str, change: impl Fn(String) -> String) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/foreign").join(name);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let location = format!("{PLACE}/{name}");
        let mut metadata_location = String::new();
        for part in ["metadata", "data"] {
            std::fs::create_dir(folder.path().join(part)).expect("a folder of a part");
            for entry in std::fs::read_dir(from.join(part)).into_iter().flatten() {
                let entry = entry.expect("a file of the table");
                let (name, to) = (entry.file_name(), folder.path().join(part).join(entry.file_name()));
                if name.to_string_lossy().ends_with(".metadata.json") {
                    metadata_location = format!("{location}/metadata/{}", name.to_string_lossy());
                    let text = std::fs::read_to_string(entry.path()).expect("a metadata file");
                    std::fs::write(to, change(text)).expect("a copied metadata file");
                } else {
                    std::fs::copy(entry.path(), to).expect("a copied file");
                }
            }
        }
        let moved = (location.clone(), folder.path().display().to_string());
        let storage = Storage::new().with_mappings([moved]).expect("the folder is a location");
        Self { folder, storage, location, metadata_location }
    }

    /// A metadata file of the table as it was written, its schemas ordered by id.
    ///
    /// # Panics
    /// When there is none.
    pub fn json(&self, metadata_location: &str) -> Value {
        let name = metadata_location.rsplit('/').next().unwrap_or_default();
        let bytes = std::fs::read(self.folder.path().join("metadata").join(name)).expect("a metadata file");
        Self::parse(&bytes)
    }

    /// The JSON of a metadata file's bytes, its schemas ordered by id.
    ///
    /// # Panics
    /// When it is none.
    pub fn parse(metadata: &[u8]) -> Value {
        let mut json: Value = serde_json::from_slice(metadata).expect("JSON");
        if let Some(schemas) = json.get_mut("schemas").and_then(Value::as_array_mut) {
            schemas.sort_by_key(|schema| schema["schema-id"].as_i64());
        }
        json
    }

    /// How many files the table's folder has.
    pub fn files(&self) -> usize {
        let parts = ["metadata", "data"].into_iter();
        parts.map(|part| std::fs::read_dir(self.folder.path().join(part)).map_or(0, Iterator::count)).sum()
    }
}
