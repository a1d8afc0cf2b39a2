//! DataFrames of files and batches that are not tables.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::prelude::{CsvReadOptions, JsonReadOptions, ParquetReadOptions};
use futures::TryStreamExt;
use icefield_core::{Error, Result};

use super::Session;
use crate::error::from_datafusion;

/// The endings of compressed files, and what they are compressed with.
const COMPRESSIONS: [(&str, FileCompressionType); 4] = [
    (".gz", FileCompressionType::GZIP),
    (".zst", FileCompressionType::ZSTD),
    (".bz2", FileCompressionType::BZIP2),
    (".xz", FileCompressionType::XZ),
];

/// What files of a kind are called, uncompressed; the first where a path does not say.
const CSV: [&str; 1] = [".csv"];
const JSON: [&str; 2] = [".json", ".jsonl"];

impl Session {
    /// Reads CSV files with a header: a file, a folder or a pattern such as `rates/*.csv.gz`, local or by URL. Types are
    /// inferred from the first 1,000 rows, as DataFusion does it: `007` is the number 7. Quoted fields may hold line ends, so
    /// that one file is read by one core; where they do among those first rows, the types may not be found, and are to be
    /// given to [`Session::read_csv_with`].
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for a folder with files of several endings, such as `.csv`
    /// and `.csv.gz`: name one by a pattern.
    pub async fn read_csv(&self, path: &str) -> Result<DataFrame> {
        let (compression, extension) = self.form(path, &CSV).await?;
        let options = CsvReadOptions::new()
            .file_compression_type(compression)
            .file_extension(&extension)
            .newlines_in_values(true);
        self.read_csv_with(path, options).await
    }

    /// Reads CSV files with DataFusion's options: a schema, a delimiter, what stands for NULL.
    pub async fn read_csv_with(&self, path: &str, options: CsvReadOptions<'_>) -> Result<DataFrame> {
        self.context().read_csv(path, options).await.map_err(from_datafusion)
    }

    /// Reads files of JSON lines (`.json` or `.jsonl`): a file, a folder or a pattern, local or by URL.
    ///
    /// # Errors
    /// As [`read_csv`](Self::read_csv).
    pub async fn read_json(&self, path: &str) -> Result<DataFrame> {
        let (compression, extension) = self.form(path, &JSON).await?;
        let options =
            JsonReadOptions::default().file_compression_type(compression).file_extension(&extension);
        self.context().read_json(path, options).await.map_err(from_datafusion)
    }

    /// Reads Parquet files: a file, a folder or a pattern, local or by URL.
    pub async fn read_parquet(&self, path: &str) -> Result<DataFrame> {
        self.context().read_parquet(path, ParquetReadOptions::default()).await.map_err(from_datafusion)
    }

    /// A DataFrame of batches in memory.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when their schemas differ.
    pub fn read_batches(&self, batches: impl IntoIterator<Item = RecordBatch>) -> Result<DataFrame> {
        self.context().read_batches(batches).map_err(from_datafusion)
    }

    /// The compression and extension of the files that a path names or, where it does not say, of those in the folder that
    /// it is.
    async fn form(&self, path: &str, kinds: &[&str]) -> Result<(FileCompressionType, String)> {
        if let Some(form) = form(path) {
            return Ok(form);
        }
        let url = ListingTableUrl::parse(path).map_err(from_datafusion)?;
        let (state, runtime) = (self.context().state(), self.context().runtime_env());
        let store = runtime.object_store(&url).map_err(from_datafusion)?;
        let mut files = url.list_all_files(&state, &*store, "").await.map_err(from_datafusion)?;
        let mut endings = BTreeSet::new();
        while let Some(file) = files.try_next().await.map_err(from_datafusion)? {
            endings.extend(ending(file.location.as_ref(), kinds));
        }
        let mut endings = endings.into_iter();
        match (endings.next(), endings.next()) {
            (Some(one), Some(other)) => Err(Error::invalid_input(
                "the folder has files of several endings; name those to be read by a pattern such as folder/*.csv",
            )
            .with("folder", path)
            .with("endings", format!("{one}, {other}"))),
            (Some(one), None) => Ok((compression(&one).1, one)),
            _ => Ok((FileCompressionType::UNCOMPRESSED, kinds.first().copied().unwrap_or_default().into())),
        }
    }
}

/// A name without the ending of a compressed file, and what that says.
fn compression(name: &str) -> (&str, FileCompressionType) {
    let found = COMPRESSIONS.iter().find_map(|(ending, kind)| Some((name.strip_suffix(ending)?, *kind)));
    found.unwrap_or((name, FileCompressionType::UNCOMPRESSED))
}

/// The ending of a file that is of one of these kinds.
fn ending(location: &str, kinds: &[&str]) -> Option<String> {
    let stem = compression(location).0;
    let kind = kinds.iter().find(|kind| stem.ends_with(**kind))?;
    location.get(stem.len() - kind.len()..).map(str::to_string)
}

/// The compression and extension of the files that a path names; none where it names none.
fn form(path: &str) -> Option<(FileCompressionType, String)> {
    let (stem, compressed) = compression(path);
    let name = stem.rsplit('/').next().unwrap_or(stem);
    let dot = name.rfind('.').map(|dot| stem.len() - name.len() + dot);
    let from = dot.filter(|dot| path.get(*dot..).is_some_and(|end| !end.contains('*'))).unwrap_or(stem.len());
    let ending = path.get(from..)?;
    (!ending.is_empty()).then(|| (compressed, ending.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_files_is_read_from_their_path() {
        let cases = [
            ("a/b.csv", Some((FileCompressionType::UNCOMPRESSED, ".csv"))),
            ("a/*.csv.gz", Some((FileCompressionType::GZIP, ".csv.gz"))),
            ("a/", None),
            ("a.b/c", None),
            ("a/*.*", None),
            ("a/data.tsv.zst", Some((FileCompressionType::ZSTD, ".tsv.zst"))),
            ("a/*.gz", Some((FileCompressionType::GZIP, ".gz"))),
        ];
        for (path, expected) in cases {
            let expected = expected.map(|(compression, extension)| (compression, extension.to_string()));
            assert_eq!(form(path), expected, "{path}");
        }
        assert_eq!(ending("f/a.jsonl.zst", &JSON).as_deref(), Some(".jsonl.zst"));
        assert_eq!(ending("f/_SUCCESS", &JSON), None);
    }
}
