//! Manifests that were written here, as they are read here and by the `iceberg` crate.

use iceberg::spec::{
    PrimitiveLiteral, SortOrder, TableMetadataBuilder, Transform, Type, UnboundPartitionField,
    UnboundPartitionSpec,
};

use super::*;
use crate::format::{ManifestWriter, partition::PartitionKey, value::datum};

const PRIMITIVES: [PrimitiveType; 20] = [
    PrimitiveType::Boolean,
    PrimitiveType::Int,
    PrimitiveType::Long,
    PrimitiveType::Float,
    PrimitiveType::Double,
    PrimitiveType::Decimal { precision: 9, scale: 2 },
    PrimitiveType::Decimal { precision: 38, scale: 0 },
    PrimitiveType::Decimal { precision: 9, scale: 2 },
    PrimitiveType::Date,
    PrimitiveType::Time,
    PrimitiveType::Timestamp,
    PrimitiveType::Timestamptz,
    PrimitiveType::TimestampNs,
    PrimitiveType::TimestamptzNs,
    PrimitiveType::String,
    PrimitiveType::Uuid,
    PrimitiveType::Fixed(3),
    PrimitiveType::Binary,
    PrimitiveType::Fixed(3),
    PrimitiveType::Uuid,
];

/// A table without snapshots, with a column of every type, partitioned by each of these columns in these ways.
fn metadata(version: FormatVersion, fields: &[(i32, Transform)], codec: &str) -> TableMetadata {
    let columns = PRIMITIVES
        .into_iter()
        .zip(1..)
        .map(|(of, id)| NestedField::optional(id, format!("column {id}"), Type::Primitive(of)).into());
    let schema = Schema::builder().with_fields(columns).build().unwrap();
    let fields = fields.iter().map(|(id, transform)| UnboundPartitionField {
        source_id: *id,
        field_id: None,
        name: format!("{transform} of {id}"),
        transform: *transform,
    });
    let spec = UnboundPartitionSpec::builder().add_partition_fields(fields).unwrap().build();
    let properties = HashMap::from([("write.manifest.compression-codec".to_string(), codec.to_string())]);
    let (order, location) = (SortOrder::unsorted_order(), "memory://w/t".to_string());
    let builder = TableMetadataBuilder::new(schema, spec, order, location, version, properties);
    builder.unwrap().build().unwrap().metadata
}

fn value(of: &PrimitiveType, rng: &mut StdRng) -> PrimitiveLiteral {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    let extreme = rng.random_range(0..4);
    match of {
        T::Boolean => L::Boolean(rng.random()),
        T::Int | T::Date => L::Int(*[i32::MIN, i32::MAX, -1, rng.random()].get(extreme).unwrap()),
        T::Float => L::Float([f32::NAN, -0.0, f32::NEG_INFINITY, rng.random()][extreme].into()),
        T::Double => L::Double([f64::NAN, -0.0, f64::MAX, rng.random()][extreme].into()),
        T::Decimal { precision, .. } => {
            let most = 10_i128.pow(*precision) - 1;
            L::Int128([most, -most, -1, rng.random_range(-most..=most)][extreme])
        }
        T::String => {
            L::String(["", "ü \u{1f9ca} |", "a/b", &rng.random::<u32>().to_string()][extreme].to_string())
        }
        T::Uuid => L::UInt128(rng.random()),
        T::Fixed(length) => L::Binary((0..*length).map(|_| rng.random()).collect()),
        T::Binary => L::Binary((0..rng.random_range(0..5)).map(|_| rng.random()).collect()),
        _ => L::Long([i64::MIN, i64::MAX, -1, rng.random()][extreme]),
    }
}

fn random_file(types: &PartitionTypes, deletes: bool, n: u64, rng: &mut StdRng) -> DataFile {
    let content = match (deletes, rng.random()) {
        (false, _) => DataContentType::Data,
        (true, true) => DataContentType::PositionDeletes,
        (true, false) => DataContentType::EqualityDeletes,
    };
    let partition: Vec<Option<Literal>> = types
        .types()
        .iter()
        .map(|of| rng.random_bool(0.8).then(|| Literal::Primitive(value(of.as_ref().unwrap(), rng))))
        .collect();
    let mut some =
        |ids: std::ops::RangeInclusive<i32>| -> Vec<i32> { ids.filter(|_| rng.random_bool(0.5)).collect() };
    let (sized, bounded) = (some(1..=20), some(1..=20));
    let counts = |ids: &[i32]| ids.iter().map(|id| (*id, n << id)).collect::<HashMap<_, _>>();
    let mut bounds = || -> HashMap<i32, Datum> {
        let bound = |id: &i32| {
            let of = &PRIMITIVES[*id as usize - 1];
            (*id, datum(of, &value(of, rng)).unwrap())
        };
        bounded.iter().map(bound).collect()
    };
    let (lower, upper) = (bounds(), bounds());
    let mut maybe = |p: f64| rng.random_bool(p);
    let is_vector = content == DataContentType::PositionDeletes && maybe(0.5);
    let mut builder = DataFileBuilder::default();
    builder
        .content(content)
        .file_path(format!("memory://w/t/data/{n}.file"))
        .file_format(if is_vector { DataFileFormat::Puffin } else { DataFileFormat::Orc })
        .partition(Struct::from_iter(partition))
        .record_count(n * 3)
        .file_size_in_bytes(n + 1)
        .column_sizes(counts(&sized))
        .value_counts(counts(&sized))
        .null_value_counts(counts(&bounded))
        .nan_value_counts(counts(&bounded))
        .lower_bounds(lower)
        .upper_bounds(upper)
        .key_metadata(maybe(0.3).then(|| vec![0, n as u8]))
        .split_offsets(maybe(0.7).then(|| vec![4, 1 << 40]))
        .partition_spec_id(0);
    if content == DataContentType::EqualityDeletes {
        builder.equality_ids(Some(vec![3, 1]));
    }
    if content == DataContentType::PositionDeletes {
        builder.referenced_data_file(maybe(0.5).then(|| format!("memory://w/t/data/{n}")));
    }
    if is_vector {
        builder.content_offset(Some(4)).content_size_in_bytes(Some(n as i64));
    }
    if maybe(0.5) {
        builder.sort_order_id(1);
    }
    builder.build().unwrap()
}

/// What is said of a file in an entry, without what versions before do not know.
fn in_version(file: &DataFile, version: FormatVersion, first_row_id: Option<i64>) -> DataFile {
    let mut file = with_first_row_id(file, first_row_id.filter(|_| version == FormatVersion::V3));
    if version < FormatVersion::V3 {
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
            .partition_spec_id(0)
            .referenced_data_file(file.referenced_data_file());
        if let Some(id) = file.sort_order_id() {
            builder.sort_order_id(id);
        }
        file = builder.build().unwrap();
    }
    file
}

/// Bits, where values compare alike though they differ: NaN and the zeros.
fn exactly(file: &DataFile) -> String {
    let mut pairs: Vec<String> = Vec::new();
    for bounds in [file.lower_bounds(), file.upper_bounds()] {
        let mut bounds: Vec<_> = bounds.iter().map(|(id, bound)| (*id, bound.to_bytes().unwrap())).collect();
        bounds.sort();
        pairs.push(format!("{bounds:?}"));
    }
    format!("{:?} {pairs:?}", PartitionKey::new(file.partition()))
}

#[test]
fn fixed_values_without_lengths_are_read_of_java_too() {
    let mut rng = StdRng::seed_from_u64(4);
    for count in [0, 1, 30] {
        let metadata = metadata(FormatVersion::V2, &[(17, Transform::Identity)], "gzip");
        let types = PartitionTypes::new(&metadata, 0).unwrap();
        let location = "memory://w/t/metadata/m.avro".to_string();
        let content = ManifestContentType::Data;
        let mut writer = ManifestWriter::new(&metadata, types.clone(), content, 77, location).unwrap();
        for n in 0..count {
            writer.add(&random_file(&types, false, n, &mut rng), Some(3), false).unwrap();
        }
        let (bytes, listed) = writer.finish().unwrap();
        // As writers before 1.8 left it.
        let of_java = super::others::with_header(&bytes, |header| {
            header.insert(b"iceberg.schema".to_vec(), b"{}".to_vec());
        });
        let [plain, of_java] = [bytes, of_java].map(|bytes| {
            let manifest = Manifest::parse(Bytes::from(bytes), Some(&metadata), listed.clone()).unwrap();
            manifest.content().unwrap().live
        });
        assert_eq!(of_java, plain);
        assert_eq!(plain.len() as u64, count);
    }
}

#[test]
fn random_manifests_come_back_as_they_were_written() {
    let (mut rng, mut read_by_theirs) = (StdRng::seed_from_u64(18), 0);
    for round in 0..60_i64 {
        let version = [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3][round as usize % 3];
        let codec = ["gzip", "zstd", "snappy", "uncompressed"][rng.random_range(0..4)];
        let mut fields = Vec::new();
        for (id, of) in (1..).zip(&PRIMITIVES) {
            let transforms = [
                Transform::Identity,
                Transform::Bucket(7),
                Transform::Truncate(2),
                Transform::Day,
                Transform::Hour,
                Transform::Void,
            ];
            let transform = transforms[rng.random_range(0..transforms.len())];
            let fits = transform.result_type(&Type::Primitive(of.clone())).is_ok();
            if fits && transform != Transform::Void && rng.random_bool(0.4) {
                fields.push((id, transform));
            }
        }
        let metadata = metadata(version, &fields, codec);
        let types = PartitionTypes::new(&metadata, 0).unwrap();
        let deletes = version > FormatVersion::V1 && rng.random_bool(0.4);
        let content = if deletes { ManifestContentType::Deletes } else { ManifestContentType::Data };
        let location = "memory://w/t/metadata/m.avro".to_string();
        let mut writer = ManifestWriter::new(&metadata, types.clone(), content, 77, location).unwrap();
        let (mut expected, mut row_id) = (Vec::new(), 1000);
        for n in 0..rng.random_range(1..60) {
            let file = random_file(&types, deletes, n, &mut rng);
            let (old, number) = (rng.random_range(1..70), rng.random_range(1..9));
            let own_id = (!deletes && rng.random()).then(|| rng.random_range(0..500));
            let live = |snapshot_id, sequence_number, file_sequence_number, first_row_id| LiveFile {
                spec_id: 0,
                file: in_version(&file, version, first_row_id),
                snapshot_id,
                sequence_number: if version == FormatVersion::V1 { 0 } else { sequence_number },
                file_sequence_number: if version == FormatVersion::V1 { 0 } else { file_sequence_number },
                exact: n % 3 == 0,
            };
            let mut given = |own: Option<i64>| {
                if own.is_some() || deletes {
                    return own;
                }
                let id = row_id;
                row_id += 3 * n as i64;
                Some(id)
            };
            match rng.random_range(0..4) {
                0 => {
                    writer.add(&file, None, n % 3 == 0).unwrap();
                    expected.push((ManifestStatus::Added, live(77, 9, 9, given(None))));
                }
                1 => {
                    writer.add(&file, Some(number), n % 3 == 0).unwrap();
                    expected.push((ManifestStatus::Added, live(77, number, 9, given(None))));
                }
                2 => {
                    writer.keep(&live(old, number, number + 1, own_id)).unwrap();
                    expected.push((ManifestStatus::Existing, live(old, number, number + 1, given(own_id))));
                }
                _ => {
                    writer.delete(&live(old, number, number + 1, own_id)).unwrap();
                    expected.push((ManifestStatus::Deleted, live(77, number, number + 1, own_id)));
                }
            }
        }
        let (bytes, mut listed) = writer.finish().unwrap();
        assert_eq!(listed.manifest_length, bytes.len() as i64);
        assert_eq!(listed.sequence_number, -1);
        let least = expected.iter().filter(|(status, _)| *status != ManifestStatus::Deleted);
        let known = |live: &LiveFile| live.sequence_number < 9;
        let least =
            least.map(|(_, live)| live).filter(|live| known(live)).map(|live| live.sequence_number).min();
        if version > FormatVersion::V1 {
            assert_eq!(listed.min_sequence_number, least.unwrap_or(-1), "{version}");
        }
        let of = |status: ManifestStatus| expected.iter().filter(move |(of, _)| *of == status);
        let rows = |status| of(status).map(|(_, live)| live.file.record_count()).sum::<u64>();
        assert_eq!(listed.added_files_count, Some(of(ManifestStatus::Added).count() as u32));
        assert_eq!(listed.existing_rows_count, Some(rows(ManifestStatus::Existing)));
        assert_eq!(listed.deleted_rows_count, Some(rows(ManifestStatus::Deleted)));

        listed.sequence_number = if version == FormatVersion::V1 { 0 } else { 9 };
        listed.first_row_id = (version == FormatVersion::V3 && !deletes).then_some(1000);
        // With the table's word and by its own header alone.
        for known in [Some(&metadata), None] {
            let manifest = Manifest::parse(Bytes::from(bytes.clone()), known, listed.clone()).unwrap();
            let mut found = Vec::new();
            let visit = |status, live| {
                found.push((status, live));
                Ok(())
            };
            manifest.files(&WantedStatistics::All, visit).unwrap();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                if known.is_some() {
                    assert_eq!(found, expected, "{version} {codec}");
                }
                assert_eq!(exactly(&found.1.file), exactly(&expected.1.file));
            }
            let mut refs = Vec::new();
            let visit = |status, file| {
                refs.push((status, file));
                Ok(())
            };
            manifest.entries(visit).unwrap();
            let whole = expected.iter().map(|(status, live)| (*status, FileEntry::from(live)));
            assert_eq!(refs, whole.collect::<Vec<_>>());
        }
        // `iceberg` reads no partition values in nanoseconds, and UUIDs as if they were texts.
        let unreadable = |of: &Option<PrimitiveType>| {
            use PrimitiveType as T;
            matches!(of, Some(T::TimestampNs | T::TimestamptzNs | T::Uuid))
        };
        if types.types().iter().any(unreadable) {
            continue;
        }
        // Nor does it follow a name to an Avro type that was defined before, as two decimals of one precision have.
        let named =
            |of: &&PrimitiveType| matches!(of, PrimitiveType::Decimal { .. } | PrimitiveType::Fixed(_));
        let mut defined = std::collections::HashSet::new();
        if !types.types().iter().flatten().filter(named).all(|of| defined.insert(of.to_string())) {
            continue;
        }
        read_by_theirs += 1;
        let (theirs, header) = TheirManifest::parse_avro(&bytes).unwrap().into_parts();
        assert_eq!((header.content(), *header.format_version()), (&content, version));
        assert_eq!(header.schema(), metadata.current_schema());
        for (theirs, (status, ours)) in theirs.iter().zip(&expected) {
            assert_eq!(theirs.status(), *status);
            let plain = with_first_row_id(&ours.file, theirs.data_file().first_row_id());
            assert_eq!(theirs.data_file(), &plain, "{version} {fields:?}");
        }
    }
    assert!(read_by_theirs > 10, "{read_by_theirs}");
}
