//! DataFrames of files and batches that are not tables.

use arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::prelude::{CsvReadOptions, JsonReadOptions, ParquetReadOptions};
use icefield_core::Result;

use super::Session;
use crate::error::from_datafusion;

/// The endings of compressed files, and what they are compressed with.
const COMPRESSIONS: [(&str, FileCompressionType); 4] = [
    (".gz", FileCompressionType::GZIP),
    (".zst", FileCompressionType::ZSTD),
    (".bz2", FileCompressionType::BZIP2),
    (".xz", FileCompressionType::XZ),
];

impl Session {
    /// Reads CSV files with a header: a file, a folder or a pattern such as `rates/*.csv.gz`, local or by URL. Types are
    /// inferred from the first 1,000 rows, as DataFusion does it: `007` is the number 7. Quoted fields may hold line ends, so
    /// that one file is read by one core; where they do among those first rows, the types may not be found, and are to be
    /// given to [`Session::read_csv_with`].
    pub async fn read_csv(&self, path: &str) -> Result<DataFrame> {
        let (compression, extension) = form(path, ".csv");
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

    /// Reads files of JSON lines: a file, a folder or a pattern, local or by URL.
    pub async fn read_json(&self, path: &str) -> Result<DataFrame> {
        let default = if path.contains(".jsonl") { ".jsonl" } else { ".json" };
        let (compression, extension) = form(path, default);
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
}

/// The compression and extension of the files that a path names.
fn form(path: &str, default: &str) -> (FileCompressionType, String) {
    for (ending, compression) in COMPRESSIONS {
        if let Some(stem) = path.strip_suffix(ending) {
            let inner =
                stem.rfind('.').filter(|dot| !stem[*dot..].contains(['/', '*'])).map(|dot| &stem[dot..]);
            return (compression, format!("{}{ending}", inner.unwrap_or(default)));
        }
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rfind('.').map(|dot| &name[dot..]).filter(|e| !e.contains('*'));
    (FileCompressionType::UNCOMPRESSED, extension.unwrap_or(default).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_files_is_read_from_their_path() {
        let cases = [
            ("a/b.csv", FileCompressionType::UNCOMPRESSED, ".csv"),
            ("a/*.csv.gz", FileCompressionType::GZIP, ".csv.gz"),
            ("a/", FileCompressionType::UNCOMPRESSED, ".csv"),
            ("a.b/c", FileCompressionType::UNCOMPRESSED, ".csv"),
            ("a/data.tsv.zst", FileCompressionType::ZSTD, ".tsv.zst"),
            ("a/*.gz", FileCompressionType::GZIP, ".csv.gz"),
        ];
        for (path, compression, extension) in cases {
            assert_eq!(form(path, ".csv"), (compression, extension.to_string()), "{path}");
        }
    }
}
