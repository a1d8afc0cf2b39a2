//! Delete files of every kind, written as plainly as the specification allows, and a commit that adds them.
//!
//! What a test says of a delete file is what is written: nothing is checked, sorted or left out.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema};
use iceberg::TableUpdate;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, ManifestListWriter,
    ManifestWriterBuilder, Operation, Snapshot, SnapshotReference, SnapshotRetention, Struct, Summary,
};
use icefield_core::Table;
use icefield_core::catalog::{Catalog, CommitOutcome, CommitRequest, Expect};
use icefield_core::format::{ContentFile, LiveFile, load_manifest, load_manifest_list};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use roaring::RoaringTreemap;

/// A partition: the id of its spec and its value.
pub type Partition = (i32, Struct);

/// The partition of unpartitioned tables.
pub fn unpartitioned() -> Partition {
    (0, Struct::empty())
}

fn location(table: &Table, name: &str) -> String {
    format!("{}/data/{name}", table.metadata().location())
}

async fn write(table: &Table, location: &str, batch: &RecordBatch) -> u64 {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a Parquet schema");
    writer.write(batch).expect("rows");
    writer.close().expect("a footer");
    let size = bytes.len() as u64;
    table.storage().write(location, bytes).await.expect("written");
    size
}

fn builder(content: DataContentType, path: String, size: u64, rows: u64, of: &Partition) -> DataFileBuilder {
    let mut builder = DataFileBuilder::default();
    builder
        .content(content)
        .file_path(path)
        .file_format(DataFileFormat::Parquet)
        .partition(of.1.clone())
        .partition_spec_id(of.0)
        .record_count(rows)
        .file_size_in_bytes(size);
    builder
}

/// Writes a position delete file of these paths and positions, with the bounds of its paths.
pub async fn position_deletes(
    table: &Table,
    name: &str,
    partition: &Partition,
    rows: &[(&str, i64)],
) -> ContentFile {
    let field = |name: &str, of, id: i32| {
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string())]);
        Field::new(name, of, false).with_metadata(id)
    };
    let schema = ArrowSchema::new(vec![
        field("file_path", DataType::Utf8, 2_147_483_546),
        field("pos", DataType::Int64, 2_147_483_545),
    ]);
    let paths: StringArray = rows.iter().map(|(path, _)| Some(*path)).collect();
    let positions: Int64Array = rows.iter().map(|(_, position)| *position).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(paths), Arc::new(positions)];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).expect("two columns");
    let path = location(table, &format!("{name}.parquet"));
    let size = write(table, &path, &batch).await;
    let bound = |path: Option<&str>| path.map(|path| (2_147_483_546, Datum::string(path)));
    let file = builder(DataContentType::PositionDeletes, path, size, rows.len() as u64, partition)
        .lower_bounds(bound(rows.iter().map(|row| row.0).min()).into_iter().collect())
        .upper_bounds(bound(rows.iter().map(|row| row.0).max()).into_iter().collect())
        .build()
        .expect("a delete file");
    ContentFile { spec_id: partition.0, file }
}

/// Writes an equality delete file: each row of the batch is a key. Its fields have the ids that are given, nested ones by
/// their path (`"a.b"`); `keys` are the ids that are compared.
pub async fn equality_deletes(
    table: &Table,
    name: &str,
    partition: &Partition,
    keys: &[i32],
    ids: &[(&str, i32)],
    batch: &RecordBatch,
) -> ContentFile {
    let ids: HashMap<&str, i32> = ids.iter().copied().collect();
    let fields = with_ids(batch.schema().fields(), "", &ids);
    let schema = Arc::new(ArrowSchema::new(fields));
    let columns = batch.columns().iter().zip(schema.fields());
    let columns =
        columns.map(|(c, field)| arrow::compute::cast(c, field.data_type()).expect("the same type"));
    let batch = RecordBatch::try_new(schema.clone(), columns.collect()).expect("the same columns");
    let path = location(table, &format!("{name}.parquet"));
    let size = write(table, &path, &batch).await;
    let file = builder(DataContentType::EqualityDeletes, path, size, batch.num_rows() as u64, partition)
        .equality_ids(Some(keys.to_vec()))
        .build()
        .expect("a delete file");
    ContentFile { spec_id: partition.0, file }
}

fn with_ids(fields: &Fields, parent: &str, ids: &HashMap<&str, i32>) -> Fields {
    let with_id = |field: &Arc<Field>| {
        let path = format!("{parent}{}", field.name());
        let of = match field.data_type() {
            DataType::Struct(inner) => DataType::Struct(with_ids(inner, &format!("{path}."), ids)),
            other => other.clone(),
        };
        let id = ids.get(path.as_str()).unwrap_or_else(|| panic!("no id of {path}"));
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string())]);
        Field::new(field.name(), of, field.is_nullable()).with_metadata(id)
    };
    fields.iter().map(with_id).collect()
}

/// Writes one Puffin file with a deletion vector for each of these data files.
pub async fn deletion_vectors(
    table: &Table,
    name: &str,
    partition: &Partition,
    vectors: &[(&str, &[u64])],
) -> Vec<ContentFile> {
    let path = location(table, &format!("{name}.puffin"));
    let mut bytes = b"PFA1".to_vec();
    let mut blobs = Vec::new();
    for (data, rows) in vectors {
        let blob = deletion_vector_blob(&rows.iter().copied().collect());
        blobs.push((*data, rows.len() as u64, bytes.len() as i64, blob.len() as i64));
        bytes.extend(blob);
    }
    let described: Vec<String> = blobs
        .iter()
        .map(|(data, rows, offset, length)| {
            format!(
                r#"{{"type":"deletion-vector-v1","fields":[2147483645],"snapshot-id":-1,"sequence-number":-1,"offset":{offset},"length":{length},"properties":{{"referenced-data-file":"{data}","cardinality":"{rows}"}}}}"#
            )
        })
        .collect();
    let footer = format!(r#"{{"blobs":[{}],"properties":{{}}}}"#, described.join(","));
    bytes.extend(b"PFA1");
    bytes.extend(footer.as_bytes());
    bytes.extend((footer.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(b"PFA1");
    let size = bytes.len() as u64;
    table.storage().write(&path, bytes).await.expect("written");
    let file = |(data, rows, offset, length): (&str, u64, i64, i64)| {
        let file = builder(DataContentType::PositionDeletes, path.clone(), size, rows, partition)
            .file_format(DataFileFormat::Puffin)
            .referenced_data_file(Some(data.to_string()))
            .content_offset(Some(offset))
            .content_size_in_bytes(Some(length))
            .build()
            .expect("a deletion vector");
        ContentFile { spec_id: partition.0, file }
    };
    blobs.into_iter().map(file).collect()
}

/// The blob of a deletion vector.
pub fn deletion_vector_blob(rows: &RoaringTreemap) -> Vec<u8> {
    let mut bitmap = Vec::new();
    rows.serialize_into(&mut bitmap).expect("written to memory");
    deletion_vector_frame(&bitmap)
}

/// A blob of a deletion vector around these bytes.
pub(crate) fn deletion_vector_frame(bitmap: &[u8]) -> Vec<u8> {
    let body = [&[0xD1, 0xD3, 0x39, 0x64], bitmap].concat();
    [&(body.len() as u32).to_be_bytes(), &*body, &crc32(&body).to_be_bytes()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// What a snapshot changes without rewriting data files.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// Data files that come.
    pub data: Vec<ContentFile>,
    /// Delete files that come.
    pub deletes: Vec<ContentFile>,
    /// Delete files that go.
    pub gone: Vec<ContentFile>,
    /// What the snapshot says that it did, if not what follows from the files.
    pub operation: Option<Operation>,
}

/// Commits delete files to `main` as one snapshot, beside those that are there.
pub async fn commit_deletes(catalog: &dyn Catalog, table: &Table, files: Vec<ContentFile>) -> Table {
    commit_delta(catalog, table, Delta { deletes: files, ..Delta::default() }).await
}

/// Commits data files and delete files to `main` as one snapshot, as merge-on-read writers do.
pub async fn commit_delta(catalog: &dyn Catalog, table: &Table, delta: Delta) -> Table {
    let metadata = table.metadata();
    let parent = metadata.current_snapshot().expect("a table with rows");
    let number = metadata.next_sequence_number();
    // A branch that was rolled back has the parent again.
    let made = number.wrapping_add(metadata.snapshots().len() as i64);
    let id = parent.snapshot_id().wrapping_add(made).abs();
    let folder = format!("{}/metadata", metadata.location());
    let is_v3 = metadata.format_version() == FormatVersion::V3;
    let added_rows: u64 = delta.data.iter().map(|file| file.file.record_count()).sum();
    let of_files = if delta.data.is_empty() { Operation::Delete } else { Operation::Overwrite };
    let operation = delta.operation.unwrap_or(of_files);
    let new_manifest = |spec: i32, deletes: bool, name: String| {
        let output = table.storage().file_io().new_output(format!("{folder}/{name}-{id}-{spec}.avro"));
        let of = metadata.partition_spec_by_id(spec).expect("a spec of the table");
        let builder = ManifestWriterBuilder::new(
            output.expect("a location"),
            Some(id),
            metadata.current_schema().clone(),
            of.as_ref().clone(),
        );
        match (is_v3, deletes) {
            (true, true) => builder.build_v3_deletes(),
            (true, false) => builder.build_v3_data(),
            (false, true) => builder.build_v2_deletes(),
            (false, false) => builder.build_v2_data(),
        }
    };
    let mut manifests = Vec::new();
    let is_gone = |file: &DataFile| {
        let place = |file: &DataFile| (file.file_path().to_string(), file.content_offset());
        delta.gone.iter().any(|gone| place(&gone.file) == place(file))
    };
    let listed = load_manifest_list(table.storage(), parent).await.expect("a manifest list");
    for (at, manifest) in listed.into_iter().enumerate() {
        let content = load_manifest(table.storage(), table.metadata(), &manifest).await.expect("a manifest");
        if !content.live.iter().any(|live| is_gone(&live.file)) {
            manifests.push(manifest);
            continue;
        }
        let mut writer = new_manifest(manifest.partition_spec_id, true, format!("kept{at}"));
        for LiveFile { file, snapshot_id, sequence_number, file_sequence_number, .. } in content.live {
            let (of, of_file) = (sequence_number, Some(file_sequence_number));
            match is_gone(&file) {
                true => writer.add_delete_file(file, of, of_file).expect("an entry"),
                false => writer.add_existing_file(file, snapshot_id, of, of_file).expect("an entry"),
            }
        }
        manifests.push(writer.write_manifest_file().await.expect("a manifest"));
    }
    let mut groups: HashMap<(i32, bool), Vec<ContentFile>> = HashMap::new();
    let new = delta.data.into_iter().map(|file| (false, file));
    for (deletes, file) in new.chain(delta.deletes.into_iter().map(|file| (true, file))) {
        groups.entry((file.spec_id, deletes)).or_default().push(file);
    }
    for ((spec, deletes), files) in groups {
        let mut writer = new_manifest(spec, deletes, if deletes { "deletes" } else { "data" }.to_string());
        for file in files {
            writer.add_file(file.file, number).expect("an entry");
        }
        manifests.push(writer.write_manifest_file().await.expect("a manifest"));
    }
    let list = format!("{folder}/snap-{id}.avro");
    let output = table.storage().file_io().new_output(&list).expect("a location");
    let output = output.writer().await.expect("a writer");
    let (parent_id, rows) = (Some(parent.snapshot_id()), metadata.next_row_id());
    let mut writer = match is_v3 {
        true => ManifestListWriter::v3(output, id, parent_id, number, Some(rows)),
        false => ManifestListWriter::v2(output, id, parent_id, number),
    };
    writer.add_manifests(manifests.into_iter()).expect("manifests");
    writer.close().await.expect("written");
    let builder = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(parent_id)
        .with_sequence_number(number)
        .with_timestamp_ms(metadata.last_updated_ms() + 1)
        .with_manifest_list(list)
        .with_summary(Summary { operation, additional_properties: HashMap::new() })
        .with_schema_id(metadata.current_schema_id());
    let snapshot = match is_v3 {
        true => builder.with_row_range(rows, added_rows).build(),
        false => builder.build(),
    };
    let retention = SnapshotRetention::Branch {
        min_snapshots_to_keep: None,
        max_snapshot_age_ms: None,
        max_ref_age_ms: None,
    };
    let reference = SnapshotReference::new(id, retention);
    let request = CommitRequest {
        ident: table.ident().clone(),
        expect: Expect::Requirements(Vec::new()),
        updates: vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef { ref_name: "main".to_string(), reference },
        ],
    };
    match catalog.commit(vec![request]).await {
        CommitOutcome::Done(mut tables) => tables.remove(0),
        other => panic!("the deletes were not committed: {other:?}"),
    }
}
