//! Writers of deletion vectors and of position delete files: what they write is read back, by this library and by
//! libraries that know nothing of it.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use iceberg::puffin::PuffinReader;
use iceberg::spec::{DataContentType, DataFileFormat, Datum, Literal, Struct};
use icefield_core::ErrorKind;
use icefield_core::deletes::{
    DELETE_FILE_PATH_ID, DELETE_POS_ID, DeletionVectorWriter, PositionDeleteWriter, RoaringTreemap,
    load_deletion_vector,
};
use icefield_core::format::{ContentFile, FileRef, LiveFile};
use icefield_core::storage::Storage;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn data(path: &str, k: i32) -> FileRef {
    let partition = Struct::from_iter([Some(Literal::int(k))]);
    FileRef { path: path.to_string(), content_offset: None, spec_id: 3, partition }
}

fn listed(ContentFile { spec_id, file }: ContentFile) -> LiveFile {
    LiveFile { spec_id, file, snapshot_id: 1, sequence_number: 1, file_sequence_number: 1, exact: false }
}

#[tokio::test]
async fn vectors_of_many_files_share_a_puffin_file() {
    let storage = Storage::new();
    let far = 5_000_000_000;
    let rows: Vec<RoaringTreemap> = vec![
        [7].into_iter().collect(),
        (0..100_000).collect(),
        (0..70_000).map(|n| n * 3).chain([far, far + 1, i64::MAX as u64]).collect(),
    ];
    let mut writer = DeletionVectorWriter::new("memory://w/data/deletes.puffin");
    for (k, rows) in rows.iter().enumerate() {
        writer.add(&data(&format!("memory://w/data/{k}"), k as i32), rows.clone()).unwrap();
    }
    let length = writer.length() as u64;
    let entries = writer.finish(&storage).await.unwrap();

    let input = storage.file_io().new_input("memory://w/data/deletes.puffin").unwrap();
    let reader = PuffinReader::new(input);
    let blobs = reader.file_metadata().await.unwrap().blobs();
    assert_eq!((entries.len(), blobs.len()), (3, 3));
    let size = storage.read("memory://w/data/deletes.puffin").await.unwrap().len() as u64;
    for (k, ((entry, blob), rows)) in entries.into_iter().zip(blobs).zip(&rows).enumerate() {
        let (file, of) = (entry.file.clone(), format!("memory://w/data/{k}"));
        assert_eq!(file.content_type(), DataContentType::PositionDeletes);
        assert_eq!(file.file_format(), DataFileFormat::Puffin);
        assert_eq!(file.referenced_data_file().as_ref(), Some(&of));
        assert_eq!((entry.spec_id, file.partition()), (3, &data("", k as i32).partition));
        assert_eq!((file.record_count(), file.file_size_in_bytes()), (rows.len(), size));
        assert_eq!(file.content_offset(), Some(blob.offset() as i64));
        assert_eq!(file.content_size_in_bytes(), Some(blob.length() as i64));
        assert!(file.content_offset().unwrap() + file.content_size_in_bytes().unwrap() <= length as i64);

        assert_eq!((blob.blob_type(), blob.fields()), ("deletion-vector-v1", &[2_147_483_645][..]));
        assert_eq!((blob.snapshot_id(), blob.sequence_number()), (-1, -1));
        let properties = HashMap::from([
            ("referenced-data-file".to_string(), of),
            ("cardinality".to_string(), rows.len().to_string()),
        ]);
        assert_eq!(blob.properties(), &properties);
        let bytes = reader.blob(blob).await.unwrap();
        assert_eq!(bytes.data()[4..8], [0xd1, 0xd3, 0x39, 0x64]);

        assert_eq!(load_deletion_vector(&storage, &listed(entry)).await.unwrap(), *rows, "{k}");
    }
    // A run of rows takes bytes for its ends alone.
    assert!(blobs[1].length() < 200, "{}", blobs[1].length());
}

#[tokio::test]
async fn positions_come_sorted_with_the_whole_bounds_of_their_paths() {
    let storage = Storage::new();
    // Longer than the bounds that statistics have by default, and apart at the end alone.
    let path = |name: &str| format!("memory://w/data/{}/{name}.parquet", "long".repeat(40));
    let mut writer = PositionDeleteWriter::new("memory://w/data/both.parquet").unwrap();
    writer.add(&data(&path("a"), 1), &(0..20_000).map(|n| n * 2).collect()).unwrap();
    writer.add(&data(&path("b"), 1), &[3, 5_000_000_000].into_iter().collect()).unwrap();
    assert!(writer.length() > 0);
    let both = writer.finish(&storage).await.unwrap().unwrap();
    let mut writer = PositionDeleteWriter::new("memory://w/data/one.parquet").unwrap();
    writer.add(&data(&path("b"), 1), &[9].into_iter().collect()).unwrap();
    let one = writer.finish(&storage).await.unwrap().unwrap();

    let bytes = storage.read("memory://w/data/both.parquet").await.unwrap();
    assert_eq!((both.file.record_count(), both.file.file_size_in_bytes()), (20_002, bytes.len() as u64));
    assert_eq!((both.spec_id, both.file.partition()), (3, &data("", 1).partition));
    let text = |name: &str| Datum::string(path(name));
    for (file, lower, upper, of) in [(&both, "a", "b", None), (&one, "b", "b", Some(path("b")))] {
        assert_eq!(file.file.content_type(), DataContentType::PositionDeletes);
        assert_eq!(file.file.lower_bounds()[&DELETE_FILE_PATH_ID], text(lower));
        assert_eq!(file.file.upper_bounds()[&DELETE_FILE_PATH_ID], text(upper));
        assert_eq!(file.file.referenced_data_file(), of);
    }
    assert_eq!(both.file.upper_bounds()[&DELETE_POS_ID], Datum::long(5_000_000_000_i64));

    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let ids = reader.schema().fields().iter().map(|field| {
        (field.name().clone(), field.is_nullable(), field.metadata()[PARQUET_FIELD_ID_META_KEY].clone())
    });
    let expected = [("file_path", "2147483546"), ("pos", "2147483545")];
    let expected = expected.map(|(name, id)| (name.to_string(), false, id.to_string()));
    assert_eq!(ids.collect::<Vec<_>>(), expected);
    let mut rows: Vec<(String, i64)> = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let paths = batch.column(0).as_string::<i32>().iter().map(|path| path.unwrap().to_string());
        rows.extend(paths.zip(batch.column(1).as_primitive::<Int64Type>().values().iter().copied()));
    }
    assert!(rows.is_sorted());
    assert_eq!((rows.len(), rows[19_999].1, rows[20_001].1), (20_002, 39_998, 5_000_000_000));
}

#[tokio::test]
async fn what_no_delete_file_may_hold_is_refused_and_the_rest_is_written() {
    let storage = Storage::new();
    let rows = |rows: &[u64]| rows.iter().copied().collect::<RoaringTreemap>();
    let mut vectors = DeletionVectorWriter::new("memory://w/data/v.puffin");
    let mut positions = PositionDeleteWriter::new("memory://w/data/p.parquet").unwrap();
    vectors.add(&data("b", 1), rows(&[1])).unwrap();
    positions.add(&data("b", 1), &rows(&[1])).unwrap();
    for (what, of, rows) in [
        ("no row", data("c", 1), rows(&[])),
        ("a row that no file has", data("c", 1), rows(&[1 << 63])),
        ("a file that comes again", data("b", 1), rows(&[2])),
    ] {
        for error in [positions.add(&of, &rows).unwrap_err(), vectors.add(&of, rows).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
            assert!(error.context().any(|(key, value)| key == "data_file" && value == of.path), "{error}");
        }
    }
    for (what, of) in [("another partition", data("c", 2)), ("a path before others", data("a", 1))] {
        let error = positions.add(&of, &rows(&[1])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}");
    }
    assert_eq!(positions.finish(&storage).await.unwrap().unwrap().file.record_count(), 1);
    assert_eq!(vectors.finish(&storage).await.unwrap().len(), 1);

    // What nothing was added to leaves no file.
    assert!(DeletionVectorWriter::new("memory://w/data/none").finish(&storage).await.unwrap().is_empty());
    let none = PositionDeleteWriter::new("memory://w/data/none").unwrap();
    assert!(none.finish(&storage).await.unwrap().is_none());
    assert!(!storage.exists("memory://w/data/none").await.unwrap());
}
