//! DataFrames of files and batches that are not tables.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::context::DataFilePaths;
use datafusion::prelude::{CsvReadOptions, JsonReadOptions, ParquetReadOptions};
use futures::TryStreamExt;
use icefield_core::{Error, ErrorKind, Result};
use object_store::ObjectMeta;

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
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) where no file is there, or fits the pattern;
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for a folder with files of several endings, such as `.csv`
    /// and `.csv.gz`: name one by a pattern.
    pub async fn read_csv(&self, path: &str) -> Result<DataFrame> {
        let files = self.files(path).await?;
        let (compression, extension) = self.form(path, &files.0, &CSV).await?;
        let options = CsvReadOptions::new()
            .file_compression_type(compression)
            .file_extension(&extension)
            .newlines_in_values(true);
        self.context().read_csv(files, options).await.map_err(|e| at(path, e))
    }

    /// Reads CSV files with DataFusion's options: a schema, a delimiter, what stands for NULL.
    pub async fn read_csv_with(&self, path: &str, options: CsvReadOptions<'_>) -> Result<DataFrame> {
        let files = self.files(path).await?;
        self.context().read_csv(files, options).await.map_err(|e| at(path, e))
    }

    /// Reads files of JSON lines (`.json` or `.jsonl`): a file, a folder or a pattern, local or by URL.
    ///
    /// # Errors
    /// As [`read_csv`](Self::read_csv).
    pub async fn read_json(&self, path: &str) -> Result<DataFrame> {
        let files = self.files(path).await?;
        let (compression, extension) = self.form(path, &files.0, &JSON).await?;
        let options =
            JsonReadOptions::default().file_compression_type(compression).file_extension(&extension);
        self.context().read_json(files, options).await.map_err(|e| at(path, e))
    }

    /// Reads Parquet files: a file, a folder or a pattern, local or by URL.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) where no file is there, or fits the pattern.
    pub async fn read_parquet(&self, path: &str) -> Result<DataFrame> {
        let files = self.files(path).await?;
        self.context().read_parquet(files, ParquetReadOptions::default()).await.map_err(|e| at(path, e))
    }

    /// A DataFrame of batches in memory.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when their schemas differ.
    pub fn read_batches(&self, batches: impl IntoIterator<Item = RecordBatch>) -> Result<DataFrame> {
        self.context().read_batches(batches).map_err(from_datafusion)
    }

    /// The files that a path means, of which there is one at least. A URL that names no file may be a folder's, as paths are.
    async fn files(&self, path: &str) -> Result<Files> {
        let nothing = || {
            let message = "no file is there; check the path, or what the pattern stands for";
            Error::not_found(message).with("path", path)
        };
        let url = parsed(path).map_err(|e| at(path, e))?;
        let first = self.first_file(&url).await.map_err(|e| at(path, e))?.ok_or_else(nothing)?;
        // What does not name the file that is there is the folder above it.
        match url.is_collection() || url.get_glob().is_some() || first.location == *url.prefix() {
            true => Ok(Files(url)),
            false => parsed(&format!("{path}/")).map(Files).map_err(|e| at(path, e)),
        }
    }

    async fn first_file(&self, url: &ListingTableUrl) -> DfResult<Option<ObjectMeta>> {
        let (state, runtime) = (self.context().state(), self.context().runtime_env());
        let store = runtime.object_store(url)?;
        let first = async { url.list_all_files(&state, &*store, "").await?.try_next().await };
        match first.await {
            Err(error) if store_kind(&error) == Some(ErrorKind::NotFound) => Ok(None),
            first => first,
        }
    }

    /// The compression and extension of the files that a path names or, where it does not say, of those in the folder that
    /// it is.
    async fn form(
        &self,
        path: &str,
        url: &ListingTableUrl,
        kinds: &[&str],
    ) -> Result<(FileCompressionType, String)> {
        if let Some(form) = form(path) {
            return Ok(form);
        }
        let (state, runtime) = (self.context().state(), self.context().runtime_env());
        let store = runtime.object_store(url).map_err(|e| at(path, e))?;
        let mut files = url.list_all_files(&state, &*store, "").await.map_err(|e| at(path, e))?;
        let mut endings = BTreeSet::new();
        while let Some(file) = files.try_next().await.map_err(|e| at(path, e))? {
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

/// Files to read, as DataFusion lists them.
struct Files(ListingTableUrl);

impl DataFilePaths for Files {
    fn to_urls(self) -> DfResult<Vec<ListingTableUrl>> {
        Ok(vec![self.0])
    }
}

/// A path or URL, which may end in a pattern.
fn parsed(path: &str) -> DfResult<ListingTableUrl> {
    // DataFusion takes patterns in paths only.
    let scheme = path.find("://").map(|at| at + "://".len());
    let pattern = path.find(['*', '?', '[']).filter(|at| scheme.is_some_and(|scheme| scheme <= *at));
    let folder = pattern.and_then(|at| path.get(..at)).and_then(|before| before.rfind('/')).map(|at| at + 1);
    match folder.and_then(|folder| path.split_at_checked(folder)) {
        Some((folder, pattern)) => ListingTableUrl::parse(folder)?.with_glob(pattern),
        None => ListingTableUrl::parse(path),
    }
}

/// An error with the path that was asked for.
fn at(path: &str, error: DataFusionError) -> Error {
    from_datafusion(error).with("path", path)
}

/// The kind of a store's own error.
fn store_kind(error: &DataFusionError) -> Option<ErrorKind> {
    match error.find_root() {
        DataFusionError::ObjectStore(error) => Some(ErrorKind::from(&**error)),
        _ => None,
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
