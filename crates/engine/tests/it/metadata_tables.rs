//! Tables about tables: as Iceberg Java has them, in SQL and from code.

use std::collections::HashMap;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use arrow::util::display::array_value_to_string;
use icefield_core::ErrorKind;
use icefield_core::catalog::{NamespaceIdent, parse_ident};
use icefield_engine::ops::DataFrameExt;
use icefield_engine::{MetadataTable, Session, from_datafusion};
use icefield_testkit::{ReferenceTables, newest_metadata, spark_sql};
use serde_json::{Map, Value, json};

use crate::scan_support::{rows, session, session_for_all_places};

/// A table of three appends to partitions, `db.t`.
async fn written(session: &Session) {
    for ids in ["(1, 'a'), (2, 'b')", "(3, 'b')", "(4, NULL)"] {
        let query = format!("SELECT column1 AS id, column2 AS city FROM (VALUES {ids})");
        let frame = session.sql(&query).await.unwrap();
        let append = frame.append_to(session, "db.t").fast();
        append.create_with(|t| t.partition_by([icefield_core::evolve::identity("city")])).await.unwrap();
    }
}

#[tokio::test]
async fn every_metadata_table_is_found_in_sql_and_from_code() {
    let session = session();
    written(&session).await;
    let table = session.table("db.t").await.unwrap();
    let expected =
        HashMap::from([("snapshots", 3), ("history", 3), ("refs", 1), ("metadata_log_entries", 3)]);
    for about in MetadataTable::ALL {
        let by_name = rows(&session, &format!("SELECT count(*) FROM db.t${about}")).await;
        let quoted = rows(&session, &format!("SELECT count(*) FROM \"db\".\"t${about}\"")).await;
        let frame = table.metadata_table(about).unwrap();
        let all = frame.clone().collect().await.unwrap();
        assert!(
            all.iter().all(|batch| batch.schema().fields() == frame.schema().as_arrow().fields()),
            "{about}"
        );
        let count = all.iter().map(|batch| batch.num_rows()).sum::<usize>();
        assert_eq!((&by_name, &quoted), (&vec![count.to_string()], &vec![count.to_string()]), "{about}");
        if let Some(expected) = expected.get(about.as_str()) {
            assert_eq!(count, *expected, "{about}");
        }
    }
    assert_eq!(
        rows(&session, "SELECT partition.city, record_count, file_count FROM db.t$partitions ORDER BY 1")
            .await,
        ["a|1|1", "b|2|2", "NULL|1|1"]
    );
    assert_eq!(
        rows(
            &session,
            "SELECT readable_metrics['id']['lower_bound'], f.record_count FROM db.t$files f WHERE partition.city = 'b' ORDER BY 1"
        )
        .await,
        ["2|1", "3|1"]
    );
    assert_eq!(
        rows(
            &session,
            "SELECT count(*) FROM db.t$manifests JOIN db.t$snapshots s ON added_snapshot_id = s.snapshot_id"
        )
        .await,
        ["3"]
    );
    assert_eq!(rows(&session, "SELECT sum(record_count) FROM db.t$files LIMIT 1").await, ["4"]);
}

#[tokio::test]
async fn each_column_of_files_alone_is_what_it_is_beside_the_others() {
    let session = session();
    written(&session).await;
    let table = session.table("db.t").await.unwrap();
    for about in [MetadataTable::Files, MetadataTable::Entries] {
        let frame = table.metadata_table(about).unwrap();
        let text = |batches: Vec<arrow::array::RecordBatch>, column: usize| {
            let text = |array: &ArrayRef, row| array_value_to_string(array, row).unwrap();
            let all = batches.iter().flat_map(|batch| {
                (0..batch.num_rows()).map(move |row| text(batch.column(column), row)).collect::<Vec<_>>()
            });
            let mut all: Vec<String> = all.collect();
            all.sort();
            all
        };
        let whole = frame.clone().collect().await.unwrap();
        for (place, field) in frame.schema().fields().iter().enumerate() {
            let alone = frame.clone().select_columns(&[field.name()]).unwrap().collect().await.unwrap();
            assert_eq!(text(alone, 0), text(whole.clone(), place), "{about} {}", field.name());
        }
    }
}

#[tokio::test]
async fn a_metadata_table_of_a_snapshot_is_read_as_of_any() {
    let session = session();
    written(&session).await;
    let table = session.table("db.t").await.unwrap();
    let second = table.core().metadata().history()[1].snapshot_id;
    let earlier = table.as_of(second).unwrap();
    let count = |about: MetadataTable| {
        let query = format!("SELECT count(*) FROM db.t${about} FOR VERSION AS OF {second}");
        let session = session.clone();
        async move { rows(&session, &query).await }
    };
    assert_eq!(count(MetadataTable::Files).await, ["3"]);
    assert_eq!(count(MetadataTable::Manifests).await, ["2"]);
    assert_eq!(count(MetadataTable::Partitions).await, ["2"]);
    assert_eq!(earlier.metadata_table(MetadataTable::Entries).unwrap().count().await.unwrap(), 3);
    let refused = earlier.metadata_table(MetadataTable::Snapshots).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let query = format!("SELECT * FROM db.t$history FOR VERSION AS OF {second}");
    let refused = session.sql(&query).await.unwrap_err();
    assert!(refused.to_string().contains("all snapshots"), "{refused}");
}

#[tokio::test]
async fn a_table_without_snapshots_has_metadata_tables_too() {
    let session = session();
    let column = icefield_core::evolve::types::optional("id", icefield_core::evolve::types::long());
    let table = session.create_table("db.t", [column]).await.unwrap();
    for about in MetadataTable::ALL {
        let expected = if about == MetadataTable::MetadataLogEntries { 1 } else { 0 };
        assert_eq!(table.metadata_table(about).unwrap().count().await.unwrap(), expected, "{about}");
    }
}

#[tokio::test]
async fn a_table_with_a_dollar_in_its_name_is_itself() {
    let session = session();
    written(&session).await;
    let frame = session.sql("SELECT 7 AS x").await.unwrap();
    frame.append_to(&session, "db.t$files").create_with(|t| t).await.unwrap();
    assert_eq!(rows(&session, "SELECT x FROM db.t$files").await, ["7"]);
    assert_eq!(rows(&session, "SELECT count(*) FROM \"db\".\"t$files$snapshots\"").await, ["1"]);
    assert_eq!(rows(&session, "SELECT count(*) FROM db.t$data_files").await, ["4"]);
    for unknown in ["db.t$nothing", "db.u$files"] {
        let error = session.sql(&format!("SELECT * FROM {unknown}")).await.unwrap_err();
        assert!(error.to_string().contains("not found"), "{error}");
    }
    let tables = rows(
        &session,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'db' ORDER BY 1",
    );
    assert_eq!(tables.await, ["t", "t$files"]);
}

#[tokio::test]
async fn a_manifest_that_is_gone_is_an_error_that_names_it() {
    let session = session();
    written(&session).await;
    let table = session.table("db.t").await.unwrap();
    let manifests = rows(&session, "SELECT path FROM db.t$manifests").await;
    table.core().storage().delete(&manifests[0]).await.unwrap();
    for about in [MetadataTable::Files, MetadataTable::AllEntries, MetadataTable::Partitions] {
        let error = from_datafusion(table.metadata_table(about).unwrap().collect().await.unwrap_err());
        assert!(error.to_string().contains(&manifests[0]), "{error}");
    }
    assert_eq!(table.metadata_table(MetadataTable::Snapshots).unwrap().count().await.unwrap(), 3);
}

#[tokio::test]
async fn columns_types_and_rows_are_those_of_the_reference_implementation() {
    let Some(tables) = ReferenceTables::find() else { return };
    // Spark fails on the position deletes of a table with a map.
    let all = MetadataTable::ALL.into_iter().filter(|about| *about != MetadataTable::PositionDeletes);
    let all: Vec<MetadataTable> = all.collect();
    agree_with_spark(tables.warehouse(), &["v2cow", "v2mor", "v2eq", "v3dv"], &all).await;
}

#[tokio::test]
async fn position_deletes_are_those_of_the_reference_implementation() {
    let folder = tempfile::tempdir().unwrap();
    let script = |(name, version): (&str, u8)| {
        format!(
            "create table l.db.{name} (id bigint, v string, p int) using iceberg partitioned by (p)
               tblproperties('format-version'='{version}', 'write.delete.mode'='merge-on-read');
             insert into l.db.{name} select id, concat('v', id), cast(id % 3 as int) from range(0, 60);
             delete from l.db.{name} where id % 7 = 3;
             alter table l.db.{name} add partition field bucket(2, id);
             insert into l.db.{name} select id, concat('v', id), cast(id % 3 as int) from range(60, 90);
             delete from l.db.{name} where id % 11 = 1"
        )
    };
    let script = [("mor", 2), ("dv", 3)].map(script).join(";");
    if spark_sql(folder.path(), &format!("create namespace l.db; {script}")).is_none() {
        return;
    }
    agree_with_spark(folder.path(), &["mor", "dv"], &[MetadataTable::PositionDeletes]).await;
}

/// Compares what Spark and we say of tables of a warehouse, now and at their first snapshots.
async fn agree_with_spark(warehouse: &Path, names: &[&str], tables: &[MetadataTable]) {
    let session = session_for_all_places();
    let namespace = NamespaceIdent::new("db".to_string());
    session.catalog().create_namespace(&namespace, HashMap::new()).await.unwrap();
    let (mut asked, mut statements) = (Vec::new(), Vec::new());
    for name in names {
        let metadata =
            format!("file:{}", newest_metadata(&warehouse.join("db").join(name)).unwrap().display());
        let ident = parse_ident(&format!("db.{name}")).unwrap();
        let core = session.catalog().register_table(&ident, &metadata).await.unwrap();
        let first = core.metadata().history()[0].snapshot_id;
        for about in tables {
            statements.push(format!("describe l.db.{name}.{about}"));
            statements.push(format!("select to_json(struct(*)) from l.db.{name}.{about}"));
            let mut ours = vec![format!("SELECT * FROM db.{name}${about}")];
            if about.is_of_a_snapshot() {
                statements.push(format!(
                    "select to_json(struct(*)) from l.db.{name}.{about} version as of {first}"
                ));
                ours.push(format!("SELECT * FROM db.{name}${about} VERSION AS OF {first}"));
            }
            asked.push(ours);
        }
    }
    let Some(answers) = spark_sql(warehouse, &statements.join(";")) else { return };
    assert_eq!(answers.len(), statements.len());
    let mut answers = answers.into_iter();
    for queries in asked {
        let described = answers.next().unwrap();
        let theirs = described.iter().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let theirs: Vec<String> = theirs
            .take_while(|cells| !cells[0].is_empty() && !cells[0].starts_with('#'))
            .map(|cells| format!("{} {}", cells[0], cells[1]))
            .collect();
        let frame = session.sql(&queries[0]).await.unwrap();
        let columns = frame.schema().as_arrow().fields().clone();
        let ours: Vec<String> = columns
            .iter()
            .map(|field| format!("{} {}", field.name(), spark_type(field.data_type())))
            .collect();
        assert_eq!(ours, theirs, "{}", queries[0]);
        for query in &queries {
            let mut theirs: Vec<String> = answers
                .next()
                .unwrap()
                .iter()
                .map(|line| plain(serde_json::from_str(line.trim()).unwrap()).to_string())
                .collect();
            let mut ours = Vec::new();
            for batch in session.sql(query).await.unwrap().collect().await.unwrap() {
                let batch: ArrayRef = std::sync::Arc::new(arrow::array::StructArray::from(batch));
                ours.extend((0..batch.len()).map(|row| plain(json_of(&batch, row)).to_string()));
            }
            ours.sort();
            theirs.sort();
            assert_eq!(ours.len(), theirs.len(), "{query}");
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours, theirs, "{query}");
            }
        }
    }
}

fn spark_type(of: &DataType) -> String {
    match of {
        DataType::Boolean => "boolean".to_string(),
        DataType::Int32 => "int".to_string(),
        DataType::Int64 => "bigint".to_string(),
        DataType::Float32 => "float".to_string(),
        DataType::Float64 => "double".to_string(),
        DataType::Date32 => "date".to_string(),
        DataType::Utf8 => "string".to_string(),
        DataType::Binary => "binary".to_string(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp".to_string(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_ntz".to_string(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::List(element) => format!("array<{}>", spark_type(element.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|f| format!("{}:{}", f.name(), spark_type(f.data_type())));
            format!("struct<{}>", fields.collect::<Vec<_>>().join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                format!("map<{},{}>", spark_type(fields[0].data_type()), spark_type(fields[1].data_type()))
            }
            other => panic!("a map of {other}"),
        },
        other => panic!("no metadata table has a column of type {other}"),
    }
}

/// A value as Spark's `to_json` has it: without what is NULL.
fn json_of(array: &ArrayRef, row: usize) -> Value {
    match array.data_type() {
        _ if array.is_null(row) => Value::Null,
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => json!(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            json!(array_value_to_string(array, row).unwrap().parse::<f64>().unwrap())
        }
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Binary => json!(base64(array.as_binary::<i32>().value(row))),
        DataType::Date32 => {
            json!(array.as_primitive::<Date32Type>().value_as_date(row).unwrap().to_string())
        }
        DataType::Timestamp(..) => {
            let time = array.as_primitive::<TimestampMicrosecondType>().value_as_datetime(row).unwrap();
            json!(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
        }
        DataType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            (0..elements.len()).map(|i| json_of(&elements, i)).collect()
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let values = columns.map(|(field, column)| (field.name().clone(), json_of(column, row)));
            Value::Object(values.filter(|(_, value)| !value.is_null()).collect())
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let key = |i| array_value_to_string(entries.column(0), i).unwrap();
            Value::Object((0..entries.len()).map(|i| (key(i), json_of(entries.column(1), i))).collect())
        }
        other => panic!("no metadata table has a column of type {other}"),
    }
}

/// Without what differs as the module says: maps that are empty in one reading and absent in the other, and the bytes of bounds
/// of a column that was dropped (5) or widened (1). Those of the widened one are compared in `readable_metrics`.
fn plain(mut row: Value) -> Value {
    const COUNTS: [&str; 4] = ["column_sizes", "value_counts", "null_value_counts", "nan_value_counts"];
    const BOUNDS: [&str; 2] = ["lower_bounds", "upper_bounds"];
    let reduce = |of: &mut Map<String, Value>| {
        for bounds in BOUNDS {
            if let Some(bounds) = of.get_mut(bounds).and_then(Value::as_object_mut) {
                bounds.retain(|id, _| id != "1" && id != "5");
            }
        }
        of.retain(|name, value| {
            !([&COUNTS[..], &BOUNDS].concat().contains(&name.as_str()) && *value == json!({}))
        });
    };
    if let Some(columns) = row.as_object_mut() {
        reduce(columns);
        columns.get_mut("data_file").and_then(Value::as_object_mut).map(reduce);
    }
    row
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            match digit <= chunk.len() {
                true => text.push(char::from(DIGITS[(group >> (18 - 6 * digit)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}
