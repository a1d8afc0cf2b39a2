mod bounded;
mod foreign;
mod others;
mod written;

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal,
    Manifest as TheirManifest, ManifestList, ManifestStatus, NestedField, PrimitiveType, Schema, Struct,
};
use iceberg::{NamespaceIdent, TableCreation};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::types::TableTypes;
use super::*;
use crate::catalog::{Catalog, MemoryCatalog};
use crate::commit::Transaction;
use crate::evolve::{bucket, day, identity, partition_spec, types};
use crate::format::{ContentFile, FileEntry, LiveFile};
use crate::{ErrorKind, Table};

/// A table with partition values of many types, three commits, removed files among them.
async fn table(version: FormatVersion) -> Table {
    let columns = [
        ("id", types::long()),
        ("n", types::int()),
        ("price", types::decimal(12, 2)),
        ("name", types::string()),
        ("seen", types::timestamp()),
        ("key", types::binary()),
        ("ok", types::boolean()),
        ("ratio", types::double()),
    ];
    let fields =
        columns.into_iter().zip(1..).map(|((name, of), id)| NestedField::optional(id, name, of).into());
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    let terms = [
        bucket("id", 4),
        identity("n"),
        identity("price"),
        identity("name"),
        day("seen"),
        identity("key"),
        identity("ok"),
        identity("ratio"),
    ];
    let spec = partition_spec(&schema, terms).unwrap();
    let catalog = MemoryCatalog::new("memory://w", Storage::new());
    let namespace = NamespaceIdent::new("db".to_string());
    catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
    let creation = TableCreation::builder()
        .name("t".to_string())
        .schema(schema)
        .partition_spec(spec)
        .format_version(version);
    let mut table = catalog.create_table(&namespace, creation.build()).await.unwrap();
    for round in 0..3 {
        let files = (0..5).map(|n| file(round * 5 + n)).collect();
        table = Transaction::new(&table).fast_append(files).commit(&catalog).await.unwrap().table;
    }
    let gone = ["memory://w/db/t/data/3.parquet", "memory://w/db/t/data/8.parquet"];
    Transaction::new(&table).delete_files(gone).commit(&catalog).await.unwrap().table
}

fn file(n: i64) -> ContentFile {
    let some = |value: Literal| (n % 4 != 0).then_some(value);
    let partition = [
        some(Literal::int((n % 4) as i32)),
        some(Literal::int(-7)),
        some(Literal::decimal(i128::from(-n) * 12_345)),
        some(Literal::string(format!("name | {n}"))),
        some(Literal::date(-1)),
        some(Literal::binary(vec![0, 255, n as u8])),
        some(Literal::bool(n % 2 == 0)),
        some(Literal::double(-0.5)),
    ];
    let bounds = HashMap::from([
        (1, Datum::long(n)),
        (
            3,
            Datum::try_from_bytes(&[0xff, n as u8], PrimitiveType::Decimal { precision: 12, scale: 2 })
                .unwrap(),
        ),
        (4, Datum::string("a name")),
        (5, Datum::timestamp_micros(-1)),
        (6, Datum::binary([1, 2])),
        (8, Datum::double(f64::NEG_INFINITY)),
    ]);
    let counts = |count: u64| HashMap::from([(1, count), (3, count), (4, count)]);
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("memory://w/db/t/data/{n}.parquet"))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter(partition))
        .record_count(n as u64 + 1)
        .file_size_in_bytes(1000)
        .column_sizes(counts(77))
        .value_counts(counts(n as u64))
        .null_value_counts(counts(1))
        .nan_value_counts(HashMap::from([(8, 2)]))
        .lower_bounds(bounds.clone())
        .upper_bounds(bounds)
        .split_offsets(Some(vec![4, 500]))
        .sort_order_id(0)
        .partition_spec_id(0)
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

/// A copy of a file's metadata with another first row id. (`DataFile`'s fields can't be set from outside.)
fn with_first_row_id(file: &DataFile, first_row_id: Option<i64>) -> DataFile {
    let mut builder = DataFileBuilder::default();
    builder
        .content(file.content_type())
        .file_path(file.file_path().to_string())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .first_row_id(first_row_id)
        .partition_spec_id(0)
        .referenced_data_file(file.referenced_data_file())
        .content_offset(file.content_offset())
        .content_size_in_bytes(file.content_size_in_bytes());
    if let Some(id) = file.sort_order_id() {
        builder.sort_order_id(id);
    }
    builder.build().unwrap()
}

/// The table's manifest lists, and its manifests.
async fn metadata_files(table: &Table) -> (Vec<bytes::Bytes>, Vec<(ManifestFile, bytes::Bytes)>) {
    let (mut lists, mut manifests) = (Vec::new(), Vec::new());
    for snapshot in table.metadata().snapshots() {
        lists.push(table.storage().read(snapshot.manifest_list()).await.unwrap());
        for manifest in load_manifest_list(table.storage(), snapshot).await.unwrap() {
            let bytes = table.storage().read(&manifest.manifest_path).await.unwrap();
            manifests.push((manifest, bytes));
        }
    }
    (lists, manifests)
}

fn parse(bytes: &[u8], table: &Table, manifest: &ManifestFile) -> Result<ManifestContent> {
    Manifest::parse(Bytes::copy_from_slice(bytes), Some(table.metadata()), manifest.clone())?.content()
}

#[tokio::test]
async fn manifests_and_lists_are_read_as_the_iceberg_crate_reads_them() {
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let table = table(version).await;
        let (lists, manifests) = metadata_files(&table).await;
        for list in &lists {
            let theirs = ManifestList::parse_with_version(list, version).unwrap();
            assert_eq!(parse_manifest_list(list).unwrap(), theirs.entries());
        }
        let mut seen = 0;
        for (manifest, bytes) in &manifests {
            let (entries, metadata) = TheirManifest::parse_avro(bytes).unwrap().into_parts();
            let ours = parse(bytes, &table, manifest).unwrap();
            assert_eq!(ours.partition.schema(), Some(metadata.schema()));
            assert_eq!(ours.partition.spec(), metadata.partition_spec());
            let (live, deleted): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.is_alive());
            assert_eq!((ours.live.len(), ours.deleted.len()), (live.len(), deleted.len()));
            for (ours, theirs) in ours.live.iter().zip(live).chain(ours.deleted.iter().zip(deleted)) {
                // What is inherited, iceberg leaves to whoever reads the list.
                let plain = with_first_row_id(&ours.file, theirs.data_file().first_row_id());
                assert_eq!(&plain, theirs.data_file(), "{version}");
                assert_eq!(theirs.sequence_number().unwrap_or(ours.sequence_number), ours.sequence_number);
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen}");
        let rows: Vec<_> = manifests.iter().flat_map(|(m, b)| parse(b, &table, m).unwrap().live).collect();
        assert_eq!(rows.iter().all(|file| file.file.first_row_id().is_some()), version == FormatVersion::V3);
    }
}

#[tokio::test]
async fn mutated_manifests_and_lists_are_errors_or_other_values_and_never_a_panic() {
    let table = table(FormatVersion::V3).await;
    let (lists, manifests) = metadata_files(&table).await;
    let mut rng = StdRng::seed_from_u64(5);
    let mut refused = 0;
    for round in 0..20_000 {
        let (manifest, bytes) = &manifests[round % manifests.len()];
        let whole = if round % 3 == 0 { &lists[round % lists.len()] } else { bytes };
        let mut mutated = whole.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..mutated.len());
            match rng.random_range(0..6) {
                0 => mutated.truncate(at.max(1)),
                1 => mutated[at] = rng.random(),
                2 => mutated[at] = 0xff,
                3 => mutated[at] = 0,
                4 => mutated.insert(at, rng.random()),
                _ => mutated[at] ^= 1 << rng.random_range(0..8),
            }
        }
        let outcome = match round % 3 {
            0 => parse_manifest_list(&mutated).map(drop),
            _ => parse(&mutated, &table, manifest).map(drop),
        };
        if let Err(error) = outcome {
            assert!(!matches!(error.kind(), ErrorKind::Internal), "{error:?}");
            refused += 1;
        }
    }
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn a_partition_value_is_read_in_the_type_that_its_field_has() {
    assert!(matches!(types::uuid(), iceberg::spec::Type::Primitive(PrimitiveType::Uuid)));
    for (bytes, expected) in
        [(&[0xff, 0x85][..], Some(-123)), (&[0x7f], Some(127)), (&[], Some(0)), (&[1; 17], None)]
    {
        assert_eq!(crate::format::avro::unscaled(bytes), expected);
    }
}
