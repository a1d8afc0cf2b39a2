//! What a table's properties say of its data files.
//!
//! Whoever may set a table's properties decides by them what memory its writers take. So each that sizes something has an end:
//! - **Row groups** end at 2 GiB, as Iceberg Java's (whose numbers have 32 bits) do. What is gathered for one is in the memory
//!   budget, which closes it earlier.
//! - **Pages and dictionaries** end at 1 GiB: their lengths in a file have 31 bits. Pages end after 1,024 rows at the earliest.
//! - **Bloom filters** take 1 MiB for a column unless the property says otherwise, and 64 MiB for a file.
//! - **Sizes of files** may be any: a file is sent as it is written. One is closed after a batch at the earliest.
//! - **Levels** of codecs are those that a codec has; pages are compressed one at a time.

use std::collections::HashMap;

use iceberg::spec::{Schema, TableMetadata, Type};
use icefield_core::config::Properties;
use icefield_core::{Error, Result};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{
    DEFAULT_BLOOM_FILTER_FPP, DEFAULT_BLOOM_FILTER_NDV, EnabledStatistics, WriterProperties,
    WriterPropertiesBuilder,
};
use parquet::schema::types::ColumnPath;

const ROW_GROUP_BYTES: &str = "write.parquet.row-group-size-bytes";
/// Rows of a row group where the table asks for no size: readers share work by row groups, and narrow rows are many to 128 MiB.
const ROW_GROUP_ROWS: usize = 1 << 20;
const BLOOM_ENABLED: &str = "write.parquet.bloom-filter-enabled.column.";
const BLOOM_FPP: &str = "write.parquet.bloom-filter-fpp.column.";
const BLOOM_NDV: &str = "write.parquet.bloom-filter-ndv.column.";
const BLOOM_MAX_BYTES: &str = "write.parquet.bloom-filter-max-bytes";

/// The most that a column's bloom filter takes unless the property says otherwise, in bytes: Iceberg Java's default.
const BLOOM_BYTES: u64 = 1 << 20;
/// The most that all bloom filters of a file take, in bytes: each open file holds them beside the memory budget's rows.
const BLOOM_BYTES_OF_FILE: u64 = 64 << 20;
/// The least that a bloom filter takes, in bytes.
const LEAST_BLOOM_BYTES: u64 = 32;

/// The most that a row group's size may be, in bytes.
const MAX_ROW_GROUP_BYTES: usize = i32::MAX as usize;
/// The most that a page's or a dictionary's size may be, in bytes: what is encoded last may make it twice that.
const MAX_PAGE_BYTES: usize = 1 << 30;

/// Characters of a text bound that a page or row group keeps: bounds longer than that are cut (upwards where they are
/// upper ones), which readers know from a flag beside them.
const STATISTICS_LENGTH: usize = 64;

/// How rows are dealt to writers (`write.distribution-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// Each writer takes what its part of the plan gives.
    None,
    /// Rows of one partition go to one writer.
    Hash,
    /// Rows are sorted as a whole: files hold ranges that do not overlap.
    Range,
}

/// A table's write settings.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Size in bytes at which a data file is closed and the next begun.
    pub(crate) target_file_size: u64,
    /// Encoded size in bytes at which a row group is closed.
    pub(crate) row_group_bytes: usize,
    /// Rows at which it is, whatever its bytes.
    pub(crate) row_group_rows: usize,
    pub(crate) distribution: Distribution,
    pub(crate) parquet: WriterProperties,
}

impl Settings {
    /// Reads the settings of a table.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) naming the property that has no such value.
    pub(crate) fn of(metadata: &TableMetadata) -> Result<Self> {
        let properties = Properties::new(metadata.properties());
        let format = properties.text("write.format.default").unwrap_or("parquet");
        if !format.eq_ignore_ascii_case("parquet") {
            let message = "data files are written as Parquet only; set write.format.default to parquet";
            return Err(Error::unsupported(message).with("write.format.default", format));
        }
        let row_group_bytes = positive(&properties, ROW_GROUP_BYTES, 128 << 20)?.min(MAX_ROW_GROUP_BYTES);
        // Who asks for a size gets it.
        let row_group_rows = properties.text(ROW_GROUP_BYTES).map_or(ROW_GROUP_ROWS, |_| usize::MAX);
        let page_bytes = positive(&properties, "write.parquet.page-size-bytes", 1 << 20)?;
        let dictionary_bytes = positive(&properties, "write.parquet.dict-size-bytes", 2 << 20)?;
        let page_rows = positive(&properties, "write.parquet.page-row-limit", 20_000)?;
        let mut parquet = WriterProperties::builder()
            .set_compression(codec(&properties)?)
            .set_max_row_group_bytes(None)
            .set_max_row_group_row_count(None)
            .set_data_page_size_limit(page_bytes.min(MAX_PAGE_BYTES))
            .set_data_page_row_count_limit(page_rows)
            .set_dictionary_page_size_limit(dictionary_bytes.min(MAX_PAGE_BYTES))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_statistics_truncate_length(Some(STATISTICS_LENGTH))
            .set_column_index_truncate_length(Some(STATISTICS_LENGTH));
        let schema = metadata.current_schema();
        let columns: Vec<(&str, i32)> = bloom_columns(metadata.properties(), schema).collect();
        let most = positive(&properties, BLOOM_MAX_BYTES, BLOOM_BYTES as usize)? as u64;
        let most = most.min(BLOOM_BYTES_OF_FILE / columns.len().max(1) as u64);
        for (column, id) in columns {
            parquet = bloom_filter(parquet, &properties, column, parquet_path(schema, id), most)?;
        }
        Ok(Self {
            target_file_size: positive(&properties, "write.target-file-size-bytes", 512 << 20)? as u64,
            row_group_bytes,
            row_group_rows,
            distribution: distribution(&properties, metadata)?,
            parquet: parquet.build(),
        })
    }
}

fn positive(properties: &Properties<'_>, name: &str, default: usize) -> Result<usize> {
    match properties.get_or(name, default)? {
        0 => Err(Error::invalid_input(format!("the table property {name} must be above 0"))),
        value => Ok(value),
    }
}

fn codec(properties: &Properties<'_>) -> Result<Compression> {
    const CODEC: &str = "write.parquet.compression-codec";
    const LEVEL: &str = "write.parquet.compression-level";
    let name = properties.text(CODEC).unwrap_or("zstd").to_ascii_lowercase();
    let level: Option<i32> = properties.get(LEVEL)?;
    let unsigned = |level: i32| u32::try_from(level).unwrap_or(u32::MAX);
    let codec = match name.as_str() {
        "uncompressed" | "none" => Ok(Compression::UNCOMPRESSED),
        "snappy" => Ok(Compression::SNAPPY),
        "lz4" | "lz4_raw" => Ok(Compression::LZ4_RAW),
        "gzip" => {
            level.map_or(Ok(GzipLevel::default()), |l| GzipLevel::try_new(unsigned(l))).map(Compression::GZIP)
        }
        "brotli" => level
            .map_or(Ok(BrotliLevel::default()), |l| BrotliLevel::try_new(unsigned(l)))
            .map(Compression::BROTLI),
        "zstd" => level.map_or(ZstdLevel::try_new(3), ZstdLevel::try_new).map(Compression::ZSTD),
        _ => {
            let message = format!(
                "the table property {CODEC} names no codec that is written; use zstd, snappy, gzip, lz4, brotli or uncompressed"
            );
            return Err(Error::invalid_input(message).with("value", name));
        }
    };
    codec.map_err(|e| {
        Error::invalid_input(format!("the table property {LEVEL} is no level of the codec {name}"))
            .with("value", level.unwrap_or_default())
            .with_source(e)
    })
}

/// The columns that have bloom filters, by name and id. One that was dropped since leaves its property behind: not this write's
/// mistake.
fn bloom_columns<'a>(
    properties: &'a HashMap<String, String>,
    schema: &'a Schema,
) -> impl Iterator<Item = (&'a str, i32)> {
    properties.iter().filter_map(|(name, value)| {
        let column = name.strip_prefix(BLOOM_ENABLED)?;
        let field = schema.field_by_name(column)?;
        let is_on = value.trim().eq_ignore_ascii_case("true");
        (is_on && matches!(*field.field_type, Type::Primitive(_))).then_some((column, field.id))
    })
}

fn bloom_filter(
    builder: WriterPropertiesBuilder,
    properties: &Properties<'_>,
    column: &str,
    path: ColumnPath,
    most_bytes: u64,
) -> Result<WriterPropertiesBuilder> {
    let fpp = properties.get_or(&format!("{BLOOM_FPP}{column}"), 0.01_f64.min(DEFAULT_BLOOM_FILTER_FPP))?;
    if !(fpp > 0.0 && fpp < 1.0) {
        let message = format!("the table property {BLOOM_FPP}{column} is a probability between 0 and 1");
        return Err(Error::invalid_input(message).with("value", fpp));
    }
    let ndv = properties.get_or(&format!("{BLOOM_NDV}{column}"), DEFAULT_BLOOM_FILTER_NDV)?;
    Ok(builder
        .set_column_bloom_filter_enabled(path.clone(), true)
        .set_column_bloom_filter_fpp(path.clone(), fpp)
        .set_column_bloom_filter_ndv(path, ndv.min(values_of(most_bytes, fpp))))
}

/// How many different values a bloom filter of at most so many bytes is made for. A filter's size is a power of two.
fn values_of(bytes: u64, fpp: f64) -> u64 {
    let bytes = if bytes.is_power_of_two() { bytes } else { bytes.next_power_of_two() / 2 };
    let bits = bytes.max(LEAST_BLOOM_BYTES) as f64 * 8.0;
    // m = -8 n / ln(1 - p^(1/8)), for n values, m bits and a probability of p.
    ((-bits * (1.0 - fpp.powf(0.125)).ln() / 8.0) as u64).max(1)
}

/// A column's path in the Parquet schema, where lists and maps have a level more than in Iceberg's.
fn parquet_path(schema: &Schema, id: i32) -> ColumnPath {
    fn find(field: &iceberg::spec::NestedField, id: i32, path: &mut Vec<String>) -> bool {
        let depth = path.len();
        path.push(field.name.clone());
        let found = field.id == id
            || match &*field.field_type {
                Type::Primitive(_) => false,
                Type::Struct(fields) => fields.fields().iter().any(|field| find(field, id, path)),
                Type::List(list) => {
                    path.push("list".to_string());
                    find(&list.element_field, id, path)
                }
                Type::Map(map) => {
                    path.push("key_value".to_string());
                    find(&map.key_field, id, path) || find(&map.value_field, id, path)
                }
            };
        if !found {
            path.truncate(depth);
        }
        found
    }
    let mut path = Vec::new();
    schema.as_struct().fields().iter().any(|field| find(field, id, &mut path));
    ColumnPath::new(path)
}

fn distribution(properties: &Properties<'_>, metadata: &TableMetadata) -> Result<Distribution> {
    const MODE: &str = "write.distribution-mode";
    match properties.text(MODE).map(str::to_ascii_lowercase).as_deref() {
        Some("none") => Ok(Distribution::None),
        Some("hash") => Ok(Distribution::Hash),
        Some("range") => Ok(Distribution::Range),
        Some(other) => {
            let message = format!("the table property {MODE} is none, hash or range");
            Err(Error::invalid_input(message).with("value", other))
        }
        // Iceberg's defaults: a sorted table is sorted as a whole, a partitioned one is dealt by partition.
        None if !metadata.default_sort_order().is_unsorted() => Ok(Distribution::Range),
        None if !metadata.default_partition_spec().is_unpartitioned() => Ok(Distribution::Hash),
        None => Ok(Distribution::None),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
