//! Every transform over every type that it takes: each row lies in the file of its partition, and every engine agrees.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use iceberg::spec::{FormatVersion, Literal, PrimitiveType, Transform, Type};
use iceberg::transform::create_transform_function;
use icefield_core::ErrorKind;
use icefield_core::evolve::{Term, bucket, identity};
use icefield_core::format::transform_array;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::write::WriteOptions;
use icefield_testkit::{Engine, Pick, Referee, content_hash, everything_schema};

use crate::write_support::{Lake, batch, content, data_files, longs, random, rows_of};

const TRANSFORMS: [Transform; 8] = [
    Transform::Identity,
    Transform::Bucket(7),
    Transform::Truncate(3),
    Transform::Year,
    Transform::Month,
    Transform::Day,
    Transform::Hour,
    Transform::Void,
];

#[tokio::test(flavor = "multi_thread")]
async fn every_transform_takes_every_type_that_it_may() {
    let lake = Lake::open().await;
    let schema = everything_schema(FormatVersion::V3);
    let (mut tables, mut refused, mut unsupported) = (Vec::new(), Vec::new(), Vec::new());
    for field in schema.as_struct().fields() {
        let Type::Primitive(of) = &*field.field_type else { continue };
        for transform in TRANSFORMS {
            if transform.result_type(&field.field_type).is_err() || field.name == "id" {
                continue;
            }
            let name =
                format!("transforms.{}_{}", field.name, tables.len() + refused.len() + unsupported.len());
            let batches = random(tables.len() as u64, &schema, 2, 14);
            let spec = [Term::new(field.name.clone(), transform)];
            let table = lake
                .session
                .create_table(&name, schema.clone())
                .format_version(3)
                .partition_by(spec)
                .await
                .unwrap();
            let source = table.core().schema().field_id_by_name(&field.name).unwrap();
            let report = match lake.frame(&batches).append_to(&lake.session, &name).await {
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    assert!(transform == Transform::Identity, "{error}");
                    unsupported.push(of.clone());
                    continue;
                }
                // The lowest values of a type have no truncated value in it.
                Err(error) if matches!(transform, Transform::Truncate(_)) => {
                    assert!(error.to_string().contains("does not fit its type"), "{error}");
                    refused.push((transform, of.clone()));
                    continue;
                }
                report => report.unwrap_or_else(|error| panic!("{transform} of {of}: {error}")),
            };
            let core = report.table.core();
            let expected = content_hash(&batches, core.schema());
            assert_eq!(content(core).await, expected, "{transform} of {of}");
            for file in data_files(core).await {
                assert_eq!(file.partition().fields().len(), 1);
                let value = file.partition()[0].clone();
                for rows in rows_of(core, &file).await {
                    let column = rows.column_by_name(&field.name).unwrap();
                    let mine = transform_array(transform, column).unwrap();
                    for row in 0..rows.num_rows() {
                        assert_eq!(mine.is_null(row), value.is_none(), "{transform} of {of}");
                    }
                }
                // The bound of a file with one value says what the value is, in iceberg's own arithmetic.
                let (low, high) = (file.lower_bounds().get(&source), file.upper_bounds().get(&source));
                let exact = !matches!(of, PrimitiveType::String | PrimitiveType::Binary);
                let broken = matches!(of, PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs);
                if let (Some(low), Some(high), true) =
                    (low, high, exact && !broken && transform != Transform::Void)
                    && low == high
                    && let Some(made) =
                        create_transform_function(&transform).unwrap().transform_literal(low).unwrap()
                {
                    assert_eq!(
                        value,
                        Some(Literal::Primitive(made.literal().clone())),
                        "{transform} of {low}"
                    );
                }
            }
            tables.push((name, expected));
        }
    }
    assert!(tables.len() > 70 && refused.len() < 4, "{}, {refused:?}", tables.len());
    use PrimitiveType as P;
    assert_eq!(unsupported, [P::Uuid, P::TimestampNs, P::TimestamptzNs]);
    // Every engine would take minutes for all of them: the reference implementation reads each twelfth.
    let java = Referee::with_engines(&[Engine::Java]);
    for (name, expected) in tables.iter().step_by(12) {
        let table = lake.session.table(name).await.unwrap();
        let _ = java.check(table.core().metadata_location(), Pick::Current, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_beyond_the_open_files_are_clustered_first() {
    let lake = Lake::open().await;
    let schema = everything_schema(FormatVersion::V2);
    let spec = [Term::new("id", Transform::Identity)];
    let created = lake.session.create_table("many.ids", schema).partition_by(spec);
    let table = created.property("write.distribution-mode", "none").await.unwrap();
    let batches = random(3, table.core().schema(), 3, 60);
    let options = WriteOptions::new().max_open_files(10);
    let write = lake.frame(&batches).append_to(&lake.session, "many.ids").write_options(options);
    let report = write.await.unwrap();
    assert_eq!(report.files, 180);
    assert_eq!(content(report.table.core()).await, content_hash(&batches, table.core().schema()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sorted_tables_have_sorted_files_that_say_so() {
    use icefield_engine::ops::partitioning::{asc, bucket, desc};
    let lake = Lake::open().await;
    let schema = everything_schema(FormatVersion::V2);
    let orders = [
        ("range", vec![asc("t_int"), desc("id")], false),
        ("hash", vec![asc("t_int"), desc("id")], true),
        ("none", vec![asc("t_int"), desc("id")], true),
    ];
    for (mode, order, partitioned) in orders {
        let name = format!("sorted.{mode}");
        let mut create = lake
            .session
            .create_table(&name, schema.clone())
            .sort_by(order)
            .property("write.distribution-mode", mode);
        if partitioned {
            create = create.partition_by([bucket("t_string", 4)]);
        }
        let table = create.await.unwrap();
        let batches = random(5, table.core().schema(), 4, 100);
        let report = lake.frame(&batches).append_to(&lake.session, &name).await.unwrap();
        assert_eq!(content(report.table.core()).await, content_hash(&batches, table.core().schema()));
        for file in data_files(report.table.core()).await {
            assert_eq!(file.sort_order_id(), Some(1), "{mode}");
            let rows = rows_of(report.table.core(), &file).await;
            let mut last: Option<(Option<i32>, i64)> = None;
            for batch in rows {
                let ints =
                    batch.column_by_name("t_int").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
                let ids = batch.column_by_name("id").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
                for (int, id) in ints.iter().zip(ids.values()) {
                    let now = (int, -*id);
                    assert!(last.is_none_or(|last| last <= now), "{mode}: {last:?} before {now:?}");
                    last = Some(now);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_closed_at_the_target_size() {
    let lake = Lake::open().await;
    let schema = everything_schema(FormatVersion::V2);
    let create =
        lake.session.create_table("rolled.t", schema).property("write.target-file-size-bytes", "200000");
    let table = create.await.unwrap();
    let batches = random(11, table.core().schema(), 20, 500);
    let report = lake.frame(&batches).append_to(&lake.session, "rolled.t").await.unwrap();
    let files = data_files(report.table.core()).await;
    assert!(files.len() > 3, "{} files", files.len());
    let sizes: HashMap<_, _> =
        files.iter().map(|file| (file.file_path(), file.file_size_in_bytes())).collect();
    assert_eq!(sizes.len(), files.len(), "file names repeat");
    assert!(sizes.values().all(|size| *size < 600_000), "{sizes:?}");
    assert_eq!(content(report.table.core()).await, content_hash(&batches, table.core().schema()));
}

#[tokio::test(flavor = "multi_thread")]
async fn little_memory_makes_smaller_row_groups_not_failures() {
    use icefield_engine::Session;
    use icefield_engine::ops::partitioning::bucket;
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().parallelism(2).memory_budget(4 << 20).open(folder.path()).await.unwrap();
    for mode in ["none", "hash"] {
        let name = format!("little.{mode}");
        let create = session.create_table(&name, everything_schema(FormatVersion::V2));
        let create = create.partition_by([bucket("id", 12)]).property("write.distribution-mode", mode);
        let table = create.await.unwrap();
        let batches = random(17, table.core().schema(), 40, 500);
        let frame = session.read_batches(batches.clone()).unwrap();
        let report = frame.append_to(&session, &name).await.unwrap();
        assert_eq!(
            content(report.table.core()).await,
            content_hash(&batches, table.core().schema()),
            "{name}"
        );
        let pool = &session.context().runtime_env().memory_pool;
        assert_eq!(pool.reserved(), 0, "{name} gave its memory back");
    }
}

/// Iceberg Java leaves a removed field of version 1 its column's name, which `iceberg` refuses to build.
#[tokio::test(flavor = "multi_thread")]
async fn a_v1_table_whose_void_field_has_its_columns_name_is_appended_to_and_evolved() {
    let lake = Lake::open().await;
    let rows = |ids: [i64; 2]| {
        let names = ids.map(|id| format!("name {id}"));
        batch(vec![("id", longs(ids)), ("name", Arc::new(StringArray::from(names.to_vec())))])
    };
    let first = lake.frame(&[rows([1, 2])]).append_to(&lake.session, "db.ours");
    let first = first.create_with(|t| t.format_version(1).partition_by([identity("name")])).await.unwrap();
    let table = first.table.update_spec().remove(identity("name")).await.unwrap();
    // As Java would have written it.
    let bytes = table.core().storage().read(table.core().metadata_location()).await.unwrap();
    let json = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(json.contains("\"name_1000\""), "{json}");
    let location = format!("{}/metadata/00007-java.metadata.json", table.core().metadata().location());
    table.core().storage().write(&location, json.replace("\"name_1000\"", "\"name\"")).await.unwrap();
    lake.session.catalog().drop_table(table.ident()).await.unwrap();
    let ident = icefield_core::catalog::parse_ident("db.java").unwrap();
    lake.session.catalog().register_table(&ident, &location).await.unwrap();

    lake.frame(&[rows([3, 4])]).append_to(&lake.session, "db.java").await.unwrap();
    let table = lake.session.table("db.java").await.unwrap();
    let table =
        table.update_schema().add_column("note", icefield_core::evolve::types::string()).await.unwrap();
    table.update_spec().add_field(bucket("id", 2)).await.unwrap();
    let report = lake.frame(&[rows([5, 6])]).append_to(&lake.session, "db.java").await.unwrap();

    let core = report.table.core();
    let voids: Vec<&str> = core
        .metadata()
        .partition_specs_iter()
        .flat_map(|spec| spec.fields())
        .filter(|field| field.transform == Transform::Void)
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(voids, ["name", "name"]);
    let read = report.table.dataframe().await.unwrap().collect().await.unwrap();
    let expected = content_hash(&read, core.schema());
    assert_eq!(expected.rows, 6);
    let java = Referee::with_engines(&[Engine::Java]);
    let _ = java.check(core.metadata_location(), Pick::Current, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_columns_of_any_name_are_read_by_every_engine() {
    let lake = Lake::open().await;
    for (number, column) in ["my col", "1été", "a.b/c=\"d\""].into_iter().enumerate() {
        let name = format!("names.t{number}");
        let texts = || Arc::new(StringArray::from(vec![Some("u"), Some("v/w"), None]));
        let rows = batch(vec![("id", longs([1, 2, 3])), (column, texts())]);
        let append = || lake.frame(std::slice::from_ref(&rows)).append_to(&lake.session, &name);
        append().create_with(|t| t.partition_by([identity(column)])).await.unwrap();
        let report = append().await.unwrap();
        assert_eq!(report.files, 3, "{column}");
        let core = report.table.core();
        let expected = content(core).await;
        assert_eq!(expected.rows, 6);
        let _ = Referee::new().check(core.metadata_location(), Pick::Current, &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dynamic_overwrite_replaces_an_unpartitioned_table_whole() {
    let lake = Lake::open().await;
    let rows = lake.frame(&[batch(vec![("id", longs([1, 2, 3]))])]);
    let partitioned =
        rows.append_to(&lake.session, "was.t").create_with(|t| t.partition_by([identity("id")]));
    partitioned.await.unwrap().table.update_spec().clear().await.unwrap();
    let row = lake.frame(&[batch(vec![("id", longs([9]))])]);
    row.clone().append_to(&lake.session, "was.t").await.unwrap();
    // Whatever spec its files are of.
    let report = row.overwrite(&lake.session, "was.t").dynamic_partitions().await.unwrap();
    assert_eq!(content(report.table.core()).await.rows, 1);
}
