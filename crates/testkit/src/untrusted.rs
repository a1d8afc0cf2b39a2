//! What a reader does with bytes that nobody vouches for. Each function takes any bytes: it may find nothing in them, but must
//! not panic, hang, or take memory out of proportion to them. Fuzzers call these (see `fuzz/`), and a test of `core` on
//! every file of their corpus.

use futures::TryStreamExt;
use futures::executor::block_on;
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, ManifestContentType, ManifestFile, Struct,
};
use icefield_core::deletes::{load_deletion_vector, parse_deletion_vector};
use icefield_core::filter::{FileMatcher, Filter, Test};
use icefield_core::format::{
    ContentReader, LiveFile, Manifest, WantedStatistics, arrow_schema, human_partition_value,
    parse_manifest_list, parse_metadata,
};
use icefield_core::storage::Storage;
use icefield_core::{AsOf, Table};

use crate::deletes::deletion_vector_frame;

/// What reads a file of some kind.
pub type Read = fn(&[u8]);

/// A kind of file, by the name of its fuzz target and of its folder in the corpus.
pub const KINDS: [(&str, Read); 7] = [
    ("metadata", metadata),
    ("manifest_list", manifest_list),
    ("manifest", manifest),
    ("puffin", puffin),
    ("deletion_vector", deletion_vector),
    ("avro", avro),
    ("orc", orc),
];

/// A metadata file, and what a scan asks of a table before it reads anything else.
pub fn metadata(bytes: &[u8]) {
    let Ok(metadata) = parse_metadata(bytes) else { return };
    let name = "db.t".split('.').map(str::to_string);
    let ident = iceberg::TableIdent::from_strs(name).expect("a name");
    let table = Table::new(ident, metadata, "memory://w/m.json".to_string(), Storage::new());
    for schema in table.metadata().schemas_iter() {
        let _ = arrow_schema(schema);
    }
    for as_of in [AsOf::Current, AsOf::Timestamp(i64::MAX), AsOf::Ref("main".to_string())] {
        let _ = table.schema_as_of(&as_of);
    }
    for (name, _) in table.references() {
        let _ = table.schema_as_of(&AsOf::Ref(name.clone()));
    }
    for snapshot in table.metadata().snapshots() {
        let _ = table.ancestors(snapshot.snapshot_id()).count();
    }
    let columns = table.schema().as_struct().fields().iter().map(|field| field.id);
    let filter = Filter::And(columns.map(|id| Filter::Test(id, Test::NotNull)).collect());
    let _ = FileMatcher::new(&filter, table.metadata());
}

/// A manifest list.
pub fn manifest_list(bytes: &[u8]) {
    let _ = parse_manifest_list(bytes);
}

/// A manifest, of data files and of delete files.
pub fn manifest(bytes: &[u8]) {
    for content in [ManifestContentType::Data, ManifestContentType::Deletes] {
        let file = bytes::Bytes::copy_from_slice(bytes);
        let Ok(manifest) = Manifest::parse(file, None, listed(content)) else { continue };
        let _ = manifest.locations(drop);
        let _ = manifest.entries(|_, _| Ok(()));
        let _ = manifest.files(&WantedStatistics::of([1, 3]), |_, _| Ok(()));
        let Ok(manifest) = manifest.content() else { continue };
        for live in manifest.live.iter().chain(&manifest.deleted) {
            let fields = manifest.partition.spec().fields().iter().zip(manifest.partition.types());
            for ((field, of), value) in fields.zip(live.file.partition().fields()) {
                let Some(of) = of else { continue };
                let _ = human_partition_value(field.transform, of, value.as_ref());
            }
        }
    }
}

/// A Puffin file that a manifest's entry says to hold a deletion vector. The first 24 bytes are the entry's: where the
/// blob begins, its length and its number of rows, 8 bytes each, little-endian.
pub fn puffin(bytes: &[u8]) {
    const LOCATION: &str = "memory://w/deletes.puffin";
    let Some((entry, file)) = bytes.split_at_checked(24) else { return };
    let number = |at: usize| i64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes"));
    let storage = Storage::new();
    let entry = DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(LOCATION.to_string())
        .file_format(DataFileFormat::Puffin)
        .partition_spec_id(0)
        .partition(Struct::empty())
        .record_count(number(16).unsigned_abs())
        .file_size_in_bytes(file.len() as u64)
        .content_offset(Some(number(0)))
        .content_size_in_bytes(Some(number(8)))
        .build()
        .expect("an entry");
    let delete = LiveFile {
        spec_id: 0,
        file: entry,
        snapshot_id: 1,
        sequence_number: 1,
        file_sequence_number: 1,
        exact: false,
    };
    block_on(async {
        storage.write(LOCATION, file.to_vec()).await.expect("memory takes it");
        let _ = load_deletion_vector(&storage, &delete).await;
    });
}

/// A deletion vector: the bytes as its blob, and as the bitmap of a blob whose length and checksum fit.
pub fn deletion_vector(bytes: &[u8]) {
    let _ = parse_deletion_vector(bytes);
    if let Ok(vector) = parse_deletion_vector(&deletion_vector_frame(bytes)) {
        assert_eq!(vector.iter().take(1 << 16).count() as u64, vector.len().min(1 << 16));
    }
}

/// An Avro data or delete file.
pub fn avro(bytes: &[u8]) {
    rows(bytes, DataFileFormat::Avro);
}

/// An ORC data or delete file.
pub fn orc(bytes: &[u8]) {
    rows(bytes, DataFileFormat::Orc);
}

/// Every column of a file, all its rows. What can't be read is an error that names the file.
fn rows(bytes: &[u8], format: DataFileFormat) {
    const LOCATION: &str = "memory://w/data";
    let storage = Storage::new();
    let read = block_on(async {
        storage.write(LOCATION, bytes.to_vec()).await.expect("memory takes it");
        let reader = ContentReader::open(&storage, LOCATION, bytes.len() as u64, format).await?;
        let columns = (0..reader.schema().fields().len()).collect();
        let mut rows = reader.rows(columns, None, 1024)?;
        let mut next = 0;
        // A few bytes can stand for many rows.
        while let Some(some) = rows.try_next().await?.filter(|_| next < 1 << 16) {
            assert_eq!(some.first, next);
            next += some.batch.num_rows() as u64;
        }
        Ok::<_, icefield_core::Error>(())
    });
    if let Err(error) = read {
        assert!(error.to_string().contains(LOCATION), "{error}");
    }
}

/// A manifest as its list has it.
fn listed(content: ManifestContentType) -> ManifestFile {
    ManifestFile {
        manifest_path: "memory://w/manifest.avro".to_string(),
        manifest_length: 0,
        partition_spec_id: 0,
        content,
        sequence_number: 3,
        min_sequence_number: 1,
        added_snapshot_id: 7,
        added_files_count: None,
        existing_files_count: None,
        deleted_files_count: None,
        added_rows_count: None,
        existing_rows_count: None,
        deleted_rows_count: None,
        partitions: None,
        key_metadata: None,
        first_row_id: Some(0),
    }
}
