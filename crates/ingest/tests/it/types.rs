//! Columns united over files, types given and inferred, conversions.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use icefield_core::ErrorKind;
use icefield_ingest::{Conversion, Reason};

use crate::support::{Drop, columns, rows, set_aside, tar_gz};

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

#[tokio::test]
async fn files_with_other_columns_are_united_by_name() {
    let drop = Drop::new();
    drop.put("1.tar.gz", tar_gz(&[("calendar_2024-01-01_1.csv", b"id,available,price\n1,t,$5\n")])).await;
    drop.put("2.tar.gz", tar_gz(&[("calendar_2024-01-02_1.csv", b"id,available\n2,f\n")])).await;
    drop.put(
        "3.tar.gz",
        tar_gz(&[("calendar_2024-01-03_1.csv", b"id,available,price,currency\n3,t,$6,USD\n")]),
    )
    .await;
    drop.put("4.tar.gz", tar_gz(&[("calendar_2024-01-04_1.csv", b"price,id,is_available\n$7,4,t\n")])).await;
    drop.put("5.tar.gz", tar_gz(&[("calendar_2024-01-05_1.csv", b"id,available,price\n5,t,\n")])).await;
    let ingested = drop.ingest().alias("calendar", "is_available", "available").await.unwrap();
    assert_eq!(
        rows(&ingested, "calendar").await,
        ["1|t|$5|-", "2|f|-|-", "3|t|$6|USD", "4|t|$7|-", "5|t|-|-"]
    );
    let report = ingested.report.table("calendar").unwrap();
    assert_eq!(report.missing_fields, ["price"]);
    assert_eq!(report.additional_fields, ["currency"]);
    assert_eq!(report.headers.len(), 4);
    let most = ["1.tar.gz/calendar_2024-01-01_1.csv", "5.tar.gz/calendar_2024-01-05_1.csv"];
    assert_eq!(
        (report.headers[0].files, report.headers[0].names.as_slice()),
        (2, &most.map(String::from)[..])
    );
    let differing: Vec<&str> = report.headers[1..].iter().map(|header| header.names[0].as_str()).collect();
    let expected = [
        "2.tar.gz/calendar_2024-01-02_1.csv",
        "3.tar.gz/calendar_2024-01-03_1.csv",
        "4.tar.gz/calendar_2024-01-04_1.csv",
    ];
    assert_eq!(differing, expected);
    assert_eq!(report.columns[2].nulls, 2);
    assert_eq!(report.columns[3].null_ratio, 0.8);
    assert!(!report.header_consistent());
}

#[tokio::test]
async fn types_are_inferred_over_the_whole_table_and_not_the_first_file() {
    let drop = Drop::new();
    drop.put("1.tar.gz", tar_gz(&[("t_2024-01-01_1.csv", b"a,b,c,d,e\n1,1,2024-01-01,1,true\n")])).await;
    drop.put(
        "2.tar.gz",
        tar_gz(&[(
            "t_2024-01-01_2.csv",
            b"a,b,c,d,e\n2,2.5,2024-01-02 10:00:00,x,\n\"\",\"\",\"\",\"\",\"\"\n",
        )]),
    )
    .await;
    let ingested = drop.ingest().await.unwrap();
    let table = ingested.table("t").unwrap();
    let expected =
        named(&[("a", "Int64"), ("b", "Float64"), ("c", "Timestamp(µs)"), ("d", "Utf8"), ("e", "Boolean")]);
    assert_eq!(columns(table), expected);
    let expected = ["1|1.0|2024-01-01T00:00:00|1|true", "2|2.5|2024-01-02T10:00:00|x|-", "-|-|-||-"];
    assert_eq!(rows(&ingested, "t").await, expected);
    let nulls: Vec<u64> = ingested.report.table("t").unwrap().columns.iter().map(|c| c.nulls).collect();
    assert_eq!(nulls, [1, 1, 1, 0, 2]);
}

#[tokio::test]
async fn a_bad_row_has_no_say_in_a_columns_type() {
    let drop = Drop::new();
    let schema = Arc::new(Schema::new(vec![Field::new("d", DataType::Date32, true)]));
    drop.put("1.tar.gz", tar_gz(&[("t_2024-01-01_1.csv", b"n,d\n1,2024-01-01\nx,never\n2,\n")])).await;
    let ingested = drop.ingest().schema("t", schema).await.unwrap();
    assert_eq!(columns(ingested.table("t").unwrap()), named(&[("d", "Date32"), ("n", "Int64")]));
    assert_eq!(rows(&ingested, "t").await, ["2024-01-01|1", "-|2"]);
}

#[tokio::test]
async fn given_types_and_conversions_send_what_does_not_parse_to_quarantine() {
    let drop = Drop::new();
    let text = b"id,price,day,at,ok\n1,\"$5,150.00\",22/06/2024,2024-06-22 10:00,t\n2,free,22/06/2024,,f\n3,($3.5),31/02/2024,,f\n,1,,,\n4,,,2024-06-22 10:00:00.123456,maybe\n5,12 EUR,01/01/1969,1969-12-31 23:59:59.999999,no\n";
    drop.put("1.tar.gz", tar_gz(&[("t_2024-01-01_1.csv", text)])).await;
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int32, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("note", DataType::Utf8, true),
    ]);
    let ingested = drop
        .ingest()
        .schema("t", schema.into())
        .convert("t", "price", Conversion::Money { precision: 9, scale: 2 })
        .convert("t", "day", Conversion::Date { format: "%d/%m/%Y".into() })
        .await
        .unwrap();
    let expected = [
        ("id", "Int32"),
        ("at", "Timestamp(µs)"),
        ("ok", "Boolean"),
        ("note", "Utf8"),
        ("price", "Decimal128(9, 2)"),
        ("day", "Date32"),
    ];
    assert_eq!(columns(ingested.table("t").unwrap()), named(&expected));
    let expected = [
        "1|2024-06-22T10:00:00|true|-|5150.00|2024-06-22",
        "5|1969-12-31T23:59:59.999999|false|-|12.00|1969-01-01",
    ];
    assert_eq!(rows(&ingested, "t").await, expected);
    let bad: Vec<_> =
        ingested.quarantine.items().iter().map(|q| (q.line.unwrap(), q.detail.as_str())).collect();
    let expected = [
        (3, "\"free\" in column \"price\" is no Decimal128(9, 2)"),
        (4, "\"31/02/2024\" in column \"day\" is no Date32"),
        (5, "the required column \"id\" is empty"),
        (6, "\"maybe\" in column \"ok\" is no Boolean"),
    ];
    assert_eq!(bad, expected);
    let missing = &ingested.report.table("t").unwrap().missing_fields;
    assert_eq!(missing, &["note"], "a given column that no file has");
}

#[tokio::test]
async fn a_file_without_a_required_column_is_set_aside_alone() {
    let drop = Drop::new();
    drop.put(
        "1.tar.gz",
        tar_gz(&[("t_2024-01-01_1.csv", b"id,n\n1,1\n"), ("t_2024-01-01_2.csv", b"n\n2\n")]),
    )
    .await;
    let schema = Schema::new(vec![Field::new("id", DataType::Int32, false)]);
    let ingested = drop.ingest().schema("t", schema.into()).await.unwrap();
    assert_eq!(rows(&ingested, "t").await, ["1|1"]);
    assert_eq!(set_aside(&ingested)[0].4, Reason::MissingColumn);
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused_before_anything_is_read() {
    let drop = Drop::new();
    drop.put("a.csv", "id\n1\n").await;
    let nested = Schema::new(vec![Field::new_list("l", Field::new_list_field(DataType::Int8, true), true)]);
    let error = drop.ingest().schema("t", nested.into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let money = Conversion::Money { precision: 9, scale: 2 };
    let schema = Schema::new(vec![Field::new("p", DataType::Int32, true)]);
    let error = drop.ingest().schema("t", schema.into()).convert("t", "p", money).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let wide = Conversion::Money { precision: 39, scale: 2 };
    assert_eq!(drop.ingest().convert("t", "p", wide).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(drop.ingest().pattern("{date}.csv").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let format = Conversion::Date { format: "%d/%Q/%Y".into() };
    let error = drop.ingest().convert("t", "p", format).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("%d/%Q/%Y"), "{error}");
    let nothing = icefield_ingest::Ingest::from_url("memory://drop/nowhere").storage(drop.storage.clone());
    assert_eq!(nothing.await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn json_lines_without_a_required_key_are_set_aside_whenever_the_key_comes() {
    let drop = Drop::new();
    drop.put("t_2024-01-01_1.jsonl", "{\"n\": 1}\n{\"n\": 2, \"id\": 7}\n{\"n\": 3}\n{\"id\": 8}\n").await;
    drop.put("t_2024-01-01_2.jsonl", "{\"n\": 9}\n").await;
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, false)]));
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").schema("t", schema).await.unwrap();
    assert_eq!(rows(&ingested, "t").await, ["7|2", "8|-"]);
    assert!(!ingested.table("t").unwrap().schema().field(0).is_nullable());
    let aside: Vec<_> =
        set_aside(&ingested).into_iter().map(|aside| (aside.1, aside.3.unwrap(), aside.4)).collect();
    let one = "t_2024-01-01_1.jsonl".to_string();
    let two = "t_2024-01-01_2.jsonl".to_string();
    let null = Reason::NullValue;
    assert_eq!(aside, [(one.clone(), 1, null), (one, 3, null), (two, 1, null)]);
    let report = ingested.report.table("t").unwrap();
    assert_eq!((report.rows, report.rows_quarantined), (2, 3));
}

#[tokio::test]
async fn a_column_without_a_name_is_called_by_its_place() {
    let drop = Drop::new();
    drop.put("t_2024-01-01_1.csv", "id,\" \"\n1,a\n").await;
    drop.put("u_2024-01-01_1.jsonl", "{\"id\": 1, \"\": \"b\"}\n").await;
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").await.unwrap();
    for (table, row) in [("t", "1|a"), ("u", "1|b")] {
        assert_eq!(rows(&ingested, table).await, [row]);
        assert_eq!(ingested.table(table).unwrap().schema().field(1).name(), "column_2");
    }
}
