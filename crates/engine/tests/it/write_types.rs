//! Every type, in every format version, as other engines read it.

use arrow::array::RecordBatch;
use iceberg::spec::{FormatVersion, PrimitiveType, Schema, Type};
use icefield_engine::ops::DataFrameExt;
use icefield_testkit::{Engine, Pick, Referee, content_hash, everything_schema, referee_schema};

use crate::write_support::{Lake, content, data_files, random, rows_of};

const VERSIONS: [(FormatVersion, u8); 3] =
    [(FormatVersion::V1, 1), (FormatVersion::V2, 2), (FormatVersion::V3, 3)];

#[tokio::test(flavor = "multi_thread")]
async fn every_engine_reads_every_type_in_every_version() {
    let lake = Lake::open().await;
    for (version, number) in VERSIONS {
        let name = format!("types.v{number}");
        let schema = referee_schema(version);
        let table = lake.session.create_table(&name, schema).format_version(number).await.unwrap();
        let batches = random(number.into(), table.core().schema(), 4, 300);
        let report = lake.frame(&batches).append_to(&lake.session, &name).await.unwrap();
        assert_eq!(report.rows, 1200);
        let expected = content_hash(&batches, table.core().schema());
        assert_eq!(content(report.table.core()).await, expected);
        let referee = Referee::with_engines(&[Engine::Java, Engine::DuckDb]);
        let _ = referee.check(report.table.core().metadata_location(), Pick::Current, &expected).await;

        // PyIceberg reads a NULL list or map of structs as an empty one.
        let name = format!("types.plain{number}");
        let plain = without(table.core().schema(), &["n_structs", "n_map_of_structs"]);
        let table = lake.session.create_table(&name, plain).format_version(number).await.unwrap();
        let batches = random(20 + u64::from(number), table.core().schema(), 2, 300);
        let report = lake.frame(&batches).append_to(&lake.session, &name).await.unwrap();
        let expected = content_hash(&batches, table.core().schema());
        let location = report.table.core().metadata_location();
        let _ = Referee::new().check(location, Pick::Current, &expected).await;
    }
}

fn without(schema: &Schema, columns: &[&str]) -> Schema {
    let fields = schema.as_struct().fields().iter().filter(|field| !columns.contains(&field.name.as_str()));
    Schema::builder().with_fields(fields.cloned()).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_some_engines_lack_are_read_by_the_reference_implementation() {
    let lake = Lake::open().await;
    for (version, number) in VERSIONS {
        let name = format!("types.everything{number}");
        let schema = everything_schema(version);
        let table = lake.session.create_table(&name, schema).format_version(number).await.unwrap();
        let batches = random(10 + u64::from(number), table.core().schema(), 2, 200);
        let report = lake.frame(&batches).append_to(&lake.session, &name).await.unwrap();
        let expected = content_hash(&batches, table.core().schema());
        assert_eq!(content(report.table.core()).await, expected);
        let java = Referee::with_engines(&[Engine::Java]);
        let _ = java.check(report.table.core().metadata_location(), Pick::Current, &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_nulls_and_nans_over_several_row_groups() {
    let lake = Lake::open().await;
    let schema = everything_schema(FormatVersion::V2);
    let created = lake.session.create_table("types.metrics", schema);
    let table = created.property("write.parquet.row-group-size-bytes", "20000").await.unwrap();
    let batches = random(7, table.core().schema(), 8, 500);
    let frame = lake.session.read_batches(batches.clone()).unwrap();
    let report = frame.append_to(&lake.session, "types.metrics").await.unwrap();
    let mut split = false;
    for file in data_files(report.table.core()).await {
        split |= file.split_offsets().is_some_and(|offsets| offsets.len() > 1);
        let rows = crate::write_support::rows_of(report.table.core(), &file).await;
        for field in table.core().schema().as_struct().fields() {
            let Type::Primitive(of) = &*field.field_type else { continue };
            let columns: Vec<_> =
                rows.iter().map(|batch| batch.column_by_name(&field.name).unwrap()).collect();
            let nulls: usize = columns.iter().map(|column| column.null_count()).sum();
            assert_eq!(file.null_value_counts().get(&field.id), Some(&(nulls as u64)), "{}", field.name);
            assert_eq!(file.value_counts().get(&field.id), Some(&file.record_count()), "{}", field.name);
            let is_float = matches!(of, PrimitiveType::Float | PrimitiveType::Double);
            assert_eq!(file.nan_value_counts().contains_key(&field.id), is_float, "{}", field.name);
        }
    }
    assert!(split, "no file has several row groups");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_name_their_columns_by_id_and_carry_no_arrow_schema() {
    let lake = Lake::open().await;
    let table = lake.session.create_table("types.ids", everything_schema(FormatVersion::V2)).await.unwrap();
    let batches = random(8, table.core().schema(), 1, 10);
    let report = lake.frame(&batches).append_to(&lake.session, "types.ids").await.unwrap();
    let files = data_files(report.table.core()).await;
    let bytes = report.table.core().storage().read(files[0].file_path()).await.unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let metadata = reader.metadata().file_metadata();
    assert!(metadata.key_value_metadata().is_none_or(|pairs| pairs.iter().all(|p| p.key != "ARROW:schema")));
    for column in metadata.schema_descr().columns() {
        let info = column.self_type().get_basic_info();
        assert!(info.has_id(), "{} has no field id", column.path());
        assert!(table.core().schema().field_by_id(info.id()).is_some(), "{}", column.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_stream_is_encoded_on_several_cores_into_one_file_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let session = icefield_engine::Session::builder().parallelism(8).open(folder.path()).await.unwrap();
    let schema = everything_schema(FormatVersion::V2);
    let table = session.create_table("types.together", schema).await.unwrap();
    let batches = random(31, table.core().schema(), 3, 4000);
    let input = session.read_batches(batches.clone()).unwrap();
    assert_eq!(
        input.clone().create_physical_plan().await.unwrap().properties().partitioning.partition_count(),
        1
    );
    let report = input.append_to(&session, "types.together").await.unwrap();

    let files = data_files(report.table.core()).await;
    assert_eq!(files.len(), 1);
    assert_eq!(content(report.table.core()).await, content_hash(&batches, table.core().schema()));
    let written = rows_of(report.table.core(), &files[0]).await;
    let first = |batches: &[RecordBatch]| {
        arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap().column(0).clone()
    };
    assert_eq!(&first(&written), &first(&batches));
}
