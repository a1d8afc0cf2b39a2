//! [`Footer`]: a Parquet file's footer as the session's cache has it.

use std::sync::Arc;

use bytes::Bytes;
use parquet::file::metadata::ParquetMetaData;

/// A file's footer in the session's cache. It is what the file says and nothing else: what a scan, a table or a manifest says
/// of the file is not to be in it.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) metadata: Arc<ParquetMetaData>,
    /// The bytes of the column of positions, in a footer that has it.
    pub(super) positions: Bytes,
}
