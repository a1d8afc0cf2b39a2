//! Rows that a service holds become DataFrames.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use datafusion::dataframe::DataFrame;
use icefield_core::{Error, ErrorKind};
use icefield_engine::Session;
use serde::Serialize;

fn session() -> Session {
    Session::builder().build().unwrap()
}

async fn shown(frame: DataFrame) -> String {
    pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string()
}

#[track_caller]
fn refused(outcome: icefield_core::Result<DataFrame>, why: &str) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let chain =
        format!("{error}: {}", std::error::Error::source(&error).map(|e| e.to_string()).unwrap_or_default());
    assert!(chain.contains(why), "{chain}");
    error
}

#[derive(Serialize)]
struct Stay {
    nights: u32,
    city: String,
    price: Option<f64>,
    day: String,
    tags: Vec<String>,
    guest: Guest,
}

#[derive(Serialize)]
struct Guest {
    name: String,
    adult: bool,
}

fn stay(nights: u32, price: Option<f64>) -> Stay {
    let guest = Guest { name: "Ada".into(), adult: true };
    let tags = vec!["sea".into()];
    Stay { nights, city: "Rome".into(), price, day: "2024-06-22".into(), tags, guest }
}

#[tokio::test]
async fn structs_become_columns_in_the_order_of_their_fields() {
    let rows = [stay(1, None), stay(u32::MAX, Some(80.5))];
    let frame = session().read_rows(&rows).unwrap();
    assert_eq!(
        shown(frame).await,
        "\
+------------+------+-------+------------+-------+--------------------------+
| nights     | city | price | day        | tags  | guest                    |
+------------+------+-------+------------+-------+--------------------------+
| 1          | Rome |       | 2024-06-22 | [sea] | {name: Ada, adult: true} |
| 4294967295 | Rome | 80.5  | 2024-06-22 | [sea] | {name: Ada, adult: true} |
+------------+------+-------+------------+-------+--------------------------+"
    );
}

#[tokio::test]
async fn a_schema_makes_dates_and_times_of_text() {
    #[derive(Serialize)]
    struct Seen {
        at: &'static str,
        day: &'static str,
        price: &'static str,
    }
    let schema = Schema::new(vec![
        Field::new("day", DataType::Date32, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("price", DataType::Decimal128(9, 2), true),
        Field::new("note", DataType::Utf8, true),
    ]);
    let rows = [Seen { at: "2024-06-22T10:00:00+02:00", day: "2024-06-22", price: "80.50" }];
    let frame = session().read_rows_as(&rows, Arc::new(schema)).unwrap();
    assert_eq!(
        shown(frame).await,
        "\
+------------+----------------------+-------+------+
| day        | at                   | price | note |
+------------+----------------------+-------+------+
| 2024-06-22 | 2024-06-22T08:00:00Z | 80.50 |      |
+------------+----------------------+-------+------+"
    );
}

#[tokio::test]
async fn rows_without_one_meaning_are_refused() {
    let session = session();
    refused(session.read_rows::<Stay>(&[]), "give a schema");
    refused(session.read_rows(&[1, 2]), "structs or maps");
    refused(session.read_rows(&[stay(1, None)]), "give a schema");
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, false)]));
    let rows = |key: &'static str, value: i64| [BTreeMap::from([(key, value)])];
    refused(session.read_rows_as(&rows("b", 1), schema.clone()), "b");
    refused(session.read_rows_as(&rows("a", i64::MAX), schema.clone()), "9223372036854775807");
    refused(session.read_rows_as(&[BTreeMap::<&str, i64>::new()], schema.clone()), "a");
    let none = session.read_rows_as::<Stay>(&[], schema).unwrap();
    assert_eq!(none.count().await.unwrap(), 0);
}

#[tokio::test]
async fn nothing_of_a_number_is_lost() {
    let session = session();
    let read =
        |fields: Vec<Field>, lines: &str| session.read_json_lines(lines, Arc::new(Schema::new(fields)));
    let long = || vec![Field::new("n", DataType::Int64, true)];
    let inside = Fields::from(vec![Field::new("n", DataType::Int32, true)]);
    let list = DataType::List(Arc::new(Field::new("item", DataType::Struct(inside), true)));
    let nested = || vec![Field::new("all", list.clone(), true)];
    let price = || vec![Field::new("n", DataType::Decimal128(9, 2), true)];
    for lines in ["{\"n\": 1.7}", "{\"n\": 9223372036854775808}", "{\"n\": \"1.5\"}", "{\"n\": 1e30}"] {
        refused(read(long(), lines), "");
    }
    refused(read(nested(), "{\"all\": [{\"n\": 1}, {\"n\": 2.5}]}"), "");
    refused(read(price(), "{\"n\": 80.505}"), "");
    let shown_of =
        async |fields, lines| shown(read(fields, lines).unwrap()).await.replace([' ', '-', '+', '\n'], "");
    assert_eq!(
        shown_of(long(), "{\"n\": 1.0}\n{\"n\": -9223372036854775808}\n{}").await,
        "|n||1||9223372036854775808|||"
    );
    assert_eq!(shown_of(nested(), "{\"all\": [{\"n\": 1e1}, {}]}").await, "|all||[{n:10},{n:}]|");
    assert_eq!(shown_of(price(), "{\"n\": \"80.50\"}").await, "|n||80.50|");

    // Without a schema: what no long holds is no double.
    refused(session.read_json_lines("{\"n\": [18446744073709551615]}", None), "18446744073709551615");
    refused(session.read_rows(&[BTreeMap::from([("n", u64::MAX)])]), "18446744073709551615");
    let decimal = Arc::new(Schema::new(vec![Field::new("n", DataType::Decimal128(20, 0), true)]));
    let frame = session.read_rows_as(&[BTreeMap::from([("n", u64::MAX)])], decimal).unwrap();
    assert!(shown(frame).await.contains("18446744073709551615"));
}

#[tokio::test]
async fn lines_of_json_are_read_with_and_without_a_schema() {
    let session = session();
    let lines: String = (0..20_000).map(|n| format!("{{\"id\": {n}, \"kind\": \"k{}\"}}\n", n % 3)).collect();
    let frame = session.read_json_lines(&lines, None).unwrap();
    assert_eq!(frame.count().await.unwrap(), 20_000);

    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int16, true)]));
    let frame = session.read_json_lines("{\"id\": 7}\n\n{}\n{\"id\": \"8\"}", schema.clone()).unwrap();
    assert_eq!(frame.count().await.unwrap(), 3, "without a line end after the last");
    refused(session.read_json_lines(&lines, schema.clone()), "kind");
    let good = "{\"id\": 1}\n".repeat(9_000);
    let error = refused(session.read_json_lines(format!("{good}{{\"id\": 1"), schema.clone()), "");
    assert!(error.to_string().contains("8193"), "{error}");
    refused(session.read_json_lines("{\"id\": 1}\nnothing\n", schema.clone()), "");
    assert_eq!(session.read_json_lines("", schema).unwrap().count().await.unwrap(), 0);
}
