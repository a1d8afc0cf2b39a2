//! Archives to read, and results to compare.

use std::io::{Cursor, Write};

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use icefield_core::storage::Storage;
use icefield_ingest::{Ingest, Ingested, IngestedTable, Level, Reason};

/// A store of one test's own.
pub(crate) struct Drop {
    pub(crate) storage: Storage,
}

pub(crate) const PATTERN: &str = "{table}_{date}_{batch}.csv";

impl Drop {
    pub(crate) fn new() -> Self {
        Self { storage: Storage::new() }
    }

    pub(crate) async fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.storage.write(&format!("memory://drop/in/{name}"), bytes.into()).await.unwrap();
    }

    pub(crate) fn ingest(&self) -> Ingest {
        Ingest::from_url("memory://drop/in")
            .storage(self.storage.clone())
            .staging("memory://drop/staged")
            .pattern(PATTERN)
    }
}

pub(crate) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Raw: the library is given names that a careful writer refuses.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn tar_gz(members: &[(&str, &[u8])]) -> Vec<u8> {
    gz(&tar(members))
}

pub(crate) fn zst(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub(crate) async fn batches(table: &IngestedTable) -> Vec<RecordBatch> {
    table.read().try_collect().await.unwrap()
}

/// The rows as text, fields parted by `|`, NULL as `-`.
pub(crate) async fn rows(ingested: &Ingested, table: &str) -> Vec<String> {
    shown(&batches(ingested.table(table).unwrap()).await)
}

pub(crate) fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("-");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let fields: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            rows.push(fields.join("|"));
        }
    }
    rows
}

/// Level, archive, member, line and reason.
pub(crate) type SetAside = (Level, String, Option<String>, Option<u64>, Reason);

/// What was set aside.
pub(crate) fn set_aside(ingested: &Ingested) -> Vec<SetAside> {
    let name = |location: &str| location.rsplit('/').next().unwrap().to_string();
    ingested
        .quarantine
        .items()
        .iter()
        .map(|q| (q.level, name(&q.archive), q.member.clone(), q.line, q.reason))
        .collect()
}

pub(crate) fn columns(table: &IngestedTable) -> Vec<(String, String)> {
    table.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
}
