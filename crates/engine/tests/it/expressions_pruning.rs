//! Filters as people write them leave out the files that have none of their rows, and never one that has.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, TimestampMicrosecondArray};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime};
use icefield_core::evolve::types::{date, decimal, long, optional, structure, timestamp, timestamptz};
use icefield_core::evolve::{day, month};
use icefield_core::storage::Storage;
use icefield_engine::Session;
use icefield_engine::ops::DataFrameExt;
use icefield_testkit::FaultyStore;

use crate::expressions::{add, check};
use crate::scan_support::{rows, session, text_rows};
use crate::write_support::{batch, longs};

fn counting() -> (Session, FaultyStore) {
    let store = FaultyStore::in_memory();
    let storage = Storage::new().with_store("memory://warehouse", Arc::new(store.clone())).unwrap();
    (Session::builder().parallelism(2).storage(storage).build().unwrap(), store)
}

#[tokio::test]
async fn filters_on_days_and_months_read_the_files_of_those() {
    let (session, store) = counting();
    let fields = || [optional("ts", timestamp()), optional("at", timestamptz()), optional("n", long())];
    let create = session.create_table("ns.by_day", fields()).partition_by([day("ts")]);
    create.await.unwrap();
    session.create_table("ns.plain", fields()).await.unwrap();
    for day in ["1969-12-30", "1969-12-31", "2024-06-01", "2024-06-02", "2025-01-01"] {
        for table in ["ns.by_day", "ns.plain"] {
            let rows = format!(
                "SELECT arrow_cast('{day}T' || t, 'Timestamp(Microsecond, None)') AS ts, \
                 arrow_cast('{day}T' || t || 'Z', 'Timestamp(Microsecond, Some(\"+00:00\"))') AS at, \
                 CAST(1 AS BIGINT) AS n FROM (VALUES ('00:00:00'), ('23:59:59.999999')) AS v(t)"
            );
            add(&session, table, &rows).await;
        }
    }
    session.sql("SET datafusion.execution.time_zone = '+08:00'").await.unwrap().collect().await.unwrap();
    // A condition, the rows that it matches, and the files that are read for them.
    let filters = [
        ("CAST(ts AS DATE) = DATE '2024-06-02'", 2, 1),
        ("CAST(ts AS DATE) = '2024-06-02'", 2, 1),
        ("CAST(ts AS DATE) < '1969-12-31'", 2, 1),
        ("CAST(ts AS DATE) <= '1969-12-31'", 4, 2),
        ("CAST(ts AS DATE) > '2024-06-01'", 4, 2),
        ("CAST(ts AS DATE) BETWEEN '1969-12-31' AND '2024-06-01'", 4, 2),
        ("CAST(ts AS DATE) IN (DATE '2024-06-01', DATE '2025-01-01')", 4, 2),
        (
            "CAST(ts AS DATE) IN (DATE '2024-06-01', DATE '2025-01-01', DATE '1900-01-01', DATE '1900-01-02', \
             DATE '1900-01-03')",
            4,
            2,
        ),
        ("CAST(at AS DATE) = '2024-06-02'", 2, 1),
        ("ts::date = '1969-12-31'", 2, 1),
        ("date_trunc('day', ts) = '2024-06-02'", 2, 1),
        ("date_trunc('month', ts) = '2024-06-01'", 4, 2),
        ("date_trunc('month', ts) < '2024-06-01'", 4, 2),
        ("date_trunc('year', ts) >= DATE '2024-01-01'", 6, 3),
        ("date_trunc('week', at) = '2024-05-27T00:00:00Z'", 4, 2),
        ("date_part('year', ts) = 1969", 4, 2),
        ("extract(year FROM at) > 2024", 2, 1),
        ("extract(year FROM ts) IN (1969, 2025)", 6, 3),
        ("arrow_cast(ts, 'Timestamp(Second, None)') = '2024-06-01T00:00:00'", 1, 1),
        ("ts >= DATE '2025-01-01'", 2, 1),
        ("ts < TIMESTAMP '1969-12-30T23:59:59.9999995'", 2, 1),
        // In the zone of the session, eight hours east: of three files' days, parts.
        ("CAST(at::timestamptz AS DATE) = '2024-06-02'", 2, 2),
        ("date_trunc('day', at::timestamptz) = '2024-06-02T00:00:00+08:00'::timestamptz", 2, 2),
        ("ts::timestamptz < '1969-12-30T00:00:00Z'::timestamptz", 1, 1),
        // A zone whose clocks change.
        (
            "CAST(arrow_cast(at, 'Timestamp(Microsecond, Some(\"Europe/London\"))') AS DATE) = '2025-01-01'",
            2,
            5,
        ),
    ];
    for (filter, matching, files) in filters {
        for table in ["ns.by_day", "ns.plain"] {
            store.reset();
            let query = format!("SELECT count(n) FROM {table} WHERE {filter}");
            assert_eq!(rows(&session, &query).await, [matching.to_string()], "{query}");
            let read = store.ops().iter().filter(|op| op.path.contains("/data/")).count();
            assert_eq!(read, files, "{query}: {:?}", store.ops());
        }
    }
}

#[tokio::test]
async fn filters_on_nested_fields_and_wide_casts_leave_files_out() {
    let (session, store) = counting();
    let inner = structure([optional("a", long()), optional("t", structure([optional("b", decimal(9, 2))]))]);
    session.create_table("ns.t", [optional("n", long()), optional("s", inner)]).await.unwrap();
    for n in [1, 2, 3] {
        let rows = format!(
            "SELECT CAST({n} AS BIGINT) AS n, named_struct('a', CAST({n} AS BIGINT), 't', \
             named_struct('b', CAST({n} AS DECIMAL(9,2)))) AS s"
        );
        add(&session, "ns.t", &rows).await;
    }
    // One more whose struct is NULL.
    session.sql("INSERT INTO ns.t VALUES (4, NULL)").await.unwrap().collect().await.unwrap();
    for (filter, expected, files) in [
        ("s['a'] = 2", &["2"][..], 1),
        ("s.a >= 2", &["2", "3"], 2),
        ("s['a'] IN (1, 3)", &["1", "3"], 2),
        ("s['t']['b'] = 3", &["3"], 1),
        ("s['a'] IS NULL", &["4"], 4),
        ("s['a'] IS NOT NULL", &["1", "2", "3"], 4),
        ("s['a'] IS DISTINCT FROM 2", &["1", "3", "4"], 4),
        ("CAST(n AS DECIMAL(24, 4)) = 2.0000", &["2"], 1),
        ("CAST(s['t']['b'] AS DECIMAL(20, 4)) < CAST('1.0001' AS DECIMAL(20, 4))", &["1"], 1),
        ("CAST(n AS INT) = 3", &["3"], 1),
    ] {
        store.reset();
        let query = format!("SELECT n FROM ns.t WHERE {filter}");
        check(&session, &[(&query, expected)]).await;
        let read = store.ops().iter().filter(|op| op.path.contains("/data/")).count();
        assert!(read <= files, "{query}: {:?}", store.ops());
    }
}

#[tokio::test]
async fn a_date_that_became_a_timestamp_is_one_in_old_snapshots() {
    let session = session();
    let create = session.create_table("ns.t", [optional("id", long()), optional("d", date())]);
    create.format_version(3).await.unwrap();
    add(&session, "ns.t", "SELECT CAST(1 AS BIGINT) AS id, DATE '2024-01-01' AS d").await;
    let table = session.table("ns.t").await.unwrap();
    let table = table.create_tag("before").await.unwrap();
    table.update_schema().promote_column("d", timestamp()).allow_incompatible().await.unwrap();
    add(&session, "ns.t", "SELECT CAST(2 AS BIGINT) AS id, arrow_cast('2024-01-01T12:00:00', 'Timestamp(Microsecond, None)') AS d").await;
    check(
        &session,
        &[
            ("SELECT id FROM ns.t FOR VERSION AS OF 'before' WHERE d = DATE '2024-01-01'", &["1"]),
            ("SELECT id FROM ns.t FOR VERSION AS OF 'before' WHERE d > DATE '2024-01-01'", &[]),
            (
                "SELECT id FROM ns.t FOR VERSION AS OF 'before' WHERE d IN ('2024-01-01', '2024-01-02')",
                &["1"],
            ),
            ("SELECT id FROM ns.t WHERE d = DATE '2024-01-01'", &["1"]),
            ("SELECT id FROM ns.t WHERE d > DATE '2024-01-01'", &["2"]),
            ("SELECT id FROM ns.t WHERE CAST(d AS DATE) = DATE '2024-01-01'", &["1", "2"]),
        ],
    )
    .await;
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const DAY: i64 = 86_400_000_000;

#[derive(Debug, Clone, Copy)]
struct Row {
    ts: Option<i64>,
    amount: Option<i64>,
}

fn time_of(micros: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(micros).unwrap().naive_utc()
}

fn micros_of(date: NaiveDate) -> i64 {
    date.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_micros()
}

/// A time near one of some edges.
fn random_time(numbers: &mut Numbers) -> i64 {
    let edges = [
        "0001-01-01",
        "1677-09-21",
        "1969-12-31",
        "1970-01-01",
        "2000-02-29",
        "2024-03-31",
        "2262-04-12",
        "9998-11-30",
    ];
    let edge = micros_of(numbers.pick(&edges).parse().unwrap());
    let near = [0, 1, -1, DAY - 1, DAY, 500_000, -500_001, DAY / 3, 31 * DAY];
    // Year 1 begins the calendar.
    (edge + numbers.pick(&near)).max(micros_of("0001-01-01".parse().unwrap()))
}

/// What an expression of SQL makes of a row, as a number, and the text of a value of its type.
type Made = (&'static str, fn(&Row) -> Option<i64>, fn(i64) -> String);

fn of_days(days: i64) -> String {
    format!("DATE '{}'", time_of(days * DAY).date())
}

fn of_micros(micros: i64) -> String {
    format!(
        "arrow_cast('{}', 'Timestamp(Microsecond, None)')",
        time_of(micros).format("%Y-%m-%dT%H:%M:%S%.6f")
    )
}

fn truncated(ts: Option<i64>, to: impl Fn(NaiveDate) -> NaiveDate) -> Option<i64> {
    Some(micros_of(to(time_of(ts?).date())))
}

const MADE: [Made; 11] = [
    ("CAST(ts AS DATE)", |row| Some(row.ts?.div_euclid(DAY)), of_days),
    ("ts", |row| row.ts, of_micros),
    ("date_trunc('day', ts)", |row| truncated(row.ts, |date| date), of_micros),
    ("date_trunc('month', ts)", |row| truncated(row.ts, |date| date.with_day(1).unwrap()), of_micros),
    ("date_trunc('year', ts)", |row| truncated(row.ts, |date| date.with_ordinal(1).unwrap()), of_micros),
    ("date_trunc('hour', ts)", |row| Some(row.ts?.div_euclid(DAY / 24) * (DAY / 24)), of_micros),
    ("date_part('year', ts)", |row| Some(i64::from(time_of(row.ts?).year())), |year| year.to_string()),
    (
        "arrow_cast(ts, 'Timestamp(Second, None)')",
        |row| Some(row.ts? / 1_000_000),
        |seconds| {
            format!(
                "arrow_cast('{}', 'Timestamp(Second, None)')",
                time_of(seconds * 1_000_000).format("%Y-%m-%dT%H:%M:%S")
            )
        },
    ),
    (
        "CAST(ts AS DATE)",
        |row| row.ts.map(|ts| ts.div_euclid(DAY)),
        |days| format!("'{}'", time_of(days * DAY).date()),
    ),
    (
        "CAST(amount AS DECIMAL(20,2))",
        |row| row.amount.map(|amount| (amount + 50 * amount.signum()) / 100),
        |cents| {
            format!(
                "arrow_cast('{}{}.{:02}', 'Decimal128(20, 2)')",
                if cents < 0 { "-" } else { "" },
                cents.abs() / 100,
                cents.abs() % 100
            )
        },
    ),
    ("CAST(amount AS BIGINT)", |row| Some(row.amount? / 10_000), |whole| whole.to_string()),
];

fn compared(made: Option<i64>, op: &str, value: i64) -> Option<bool> {
    match op {
        "IS DISTINCT FROM" => return Some(made != Some(value)),
        "IS NOT DISTINCT FROM" => return Some(made == Some(value)),
        _ => {}
    }
    let made = made?;
    Some(match op {
        "=" => made == value,
        "<>" => made != value,
        "<" => made < value,
        "<=" => made <= value,
        ">" => made > value,
        _ => made >= value,
    })
}

/// What a condition is of a row: NULL is `None`.
type Condition = Box<dyn Fn(&Row) -> Option<bool>>;

/// A condition, and what it is of a row.
fn random_condition(numbers: &mut Numbers, rows: &[Row]) -> (String, Condition) {
    let (sql, make, text) = numbers.pick(&MADE);
    let value = |numbers: &mut Numbers| {
        let row = numbers.pick(rows);
        let near = numbers.pick(&[0, 0, 0, 1, -1]);
        make(&row).map_or(7, |value| value + near)
    };
    let operators = ["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"];
    match numbers.below(6) {
        0 => {
            let (low, high) = (value(numbers), value(numbers));
            let not = numbers.below(2) == 0;
            let sql =
                format!("{sql} {}BETWEEN {} AND {}", if not { "NOT " } else { "" }, text(low), text(high));
            (sql, Box::new(move |row| make(row).map(|made| (low..=high).contains(&made) != not)))
        }
        1 => {
            let count = 1 + numbers.below(6);
            let values: Vec<i64> = (0..count).map(|_| value(numbers)).collect();
            let (not, null) = (numbers.below(2) == 0, numbers.below(4) == 0);
            let mut texts: Vec<String> = values.iter().map(|value| text(*value)).collect();
            texts.extend(null.then(|| "NULL".to_string()));
            let sql = format!("{sql} {}IN ({})", if not { "NOT " } else { "" }, texts.join(", "));
            let is = move |row: &Row| {
                let found = values.contains(&make(row)?);
                if found {
                    Some(!not)
                } else if null {
                    None
                } else {
                    Some(not)
                }
            };
            (sql, Box::new(is))
        }
        2 => {
            let (op, of) = (numbers.pick(&operators[..6]), value(numbers));
            (
                format!("NOT ({sql} {op} {})", text(of)),
                Box::new(move |row| Some(!compared(make(row), op, of)?)),
            )
        }
        3 => {
            let ((a, is_a), (b, is_b)) = (random_condition(numbers, rows), random_condition(numbers, rows));
            let is = move |row: &Row| match (is_a(row), is_b(row)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
            (format!("({a} OR {b})"), Box::new(is))
        }
        _ => {
            let (op, of) = (numbers.pick(&operators), value(numbers));
            (format!("{sql} {op} {}", text(of)), Box::new(move |row| compared(make(row), op, of)))
        }
    }
}

#[tokio::test]
async fn random_filters_find_just_the_rows_that_they_match() {
    let session = session();
    let fields = || [optional("id", long()), optional("ts", timestamp()), optional("amount", decimal(20, 4))];
    session.create_table("ns.by_month", fields()).partition_by([month("ts")]).await.unwrap();
    session.create_table("ns.plain", fields()).await.unwrap();
    let mut numbers = Numbers(7);
    let mut all: Vec<Row> = (0..120)
        .map(|_| Row {
            ts: (numbers.below(8) > 0).then(|| random_time(&mut numbers)),
            amount: (numbers.below(8) > 0).then(|| numbers.below(40_000) as i64 * 25 - 500_000),
        })
        .collect();
    // Files that are far apart.
    all.sort_by_key(|row| row.ts);
    for (at, rows) in all.chunks(12).enumerate() {
        let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.ts)));
        let amount = rows.iter().map(|row| row.amount.map(i128::from));
        let amount: ArrayRef =
            Arc::new(Decimal128Array::from_iter(amount).with_precision_and_scale(20, 4).unwrap());
        let id = longs((0..rows.len() as i64).map(|row| at as i64 * 12 + row));
        let rows = batch(vec![("id", id), ("ts", ts), ("amount", amount)]);
        for table in ["ns.by_month", "ns.plain"] {
            let frame = session.read_batches(vec![rows.clone()]).unwrap();
            frame.append_to(&session, table).await.unwrap();
        }
    }
    for _ in 0..60 {
        let (condition, is) = random_condition(&mut numbers, &all);
        let expected = all.iter().enumerate().filter(|(_, row)| is(row) == Some(true));
        let expected: Vec<i64> = expected.map(|(id, _)| id as i64).collect();
        for table in ["ns.by_month", "ns.plain"] {
            let query = format!("SELECT id FROM {table} WHERE {condition} ORDER BY id");
            let found = session.sql(&query).await.unwrap().collect().await.unwrap();
            let ids = found.iter().flat_map(|batch| {
                batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
            });
            assert_eq!(ids.collect::<Vec<_>>(), expected, "{query}");
        }
    }
}

#[tokio::test]
async fn odd_values_compare_in_files_as_they_do_in_memory() {
    let session = session();
    let rows_of = [
        "('NaN', 9007199254740993, 'abc', true, X'00ff', 1)",
        "('-NaN', 9007199254740992, 'a_c', false, X'ff', NULL)",
        "('-0.0', -1, '', NULL, X'', 3)",
        "('0.0', 0, 'ABC', true, NULL, 4)",
        "('Infinity', NULL, NULL, false, X'00', 5)",
        "(NULL, 7, '7', NULL, X'7f', 6)",
        "('1.5', 9223372036854775807, 'é', true, X'80', 7)",
    ];
    for rows in rows_of {
        let query = format!(
            "SELECT CAST(x AS DOUBLE) AS x, CAST(n AS BIGINT) AS n, t, b, arrow_cast(v, 'Binary') AS v, \
             CAST(k AS BIGINT) AS k, named_struct('x', CAST(x AS DOUBLE), 'k', CAST(k AS BIGINT)) AS s \
             FROM (VALUES {rows}) AS r(x, n, t, b, v, k)"
        );
        add(&session, "ns.t", &query).await;
    }
    let all = session.table("ns.t").await.unwrap().dataframe().await.unwrap();
    let (schema, all) = (Arc::clone(all.schema().inner()), all.collect().await.unwrap());
    let memory = datafusion::datasource::MemTable::try_new(schema, vec![all]).unwrap();
    session.context().register_table("memory", Arc::new(memory)).unwrap();
    let numbers = ["0.0", "-0.0", "1.5", "CAST('NaN' AS DOUBLE)", "CAST('Infinity' AS DOUBLE)", "1e300"];
    let wholes =
        ["0", "7", "9007199254740992", "9007199254740993", "9007199254740992.0", "7.5", "'7'", "'007'"];
    let texts = ["'abc'", "''", "'ABC'", "'é'", "7"];
    let bytes = ["X'00'", "X'ff'", "X''", "X'00ff'"];
    let columns: [(&str, &[&str]); 6] = [
        ("x", &numbers),
        ("s['x']", &numbers),
        ("n", &wholes),
        ("t", &texts),
        ("v", &bytes),
        ("CAST(n AS DOUBLE)", &wholes[..6]),
    ];
    let mut conditions: Vec<String> = Vec::new();
    for (column, values) in columns {
        for value in values {
            let operators = ["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"];
            let op = operators[conditions.len() % operators.len()];
            conditions.push(format!("{column} {op} {value}"));
            conditions.push(format!("NOT ({value} {op} {column})"));
            conditions.push(format!("{column} = {value}"));
        }
        let (first, last) = (values[0], values[values.len() - 1]);
        conditions.push(format!("{column} IN ({})", values.join(", ")));
        conditions.push(format!("{column} NOT IN ({})", values.join(", ")));
        conditions.push(format!("{column} NOT IN ({first}, NULL)"));
        conditions.push(format!("{column} IN ({first}, NULL) OR {column} IS NULL"));
        conditions.push(format!("{column} BETWEEN {first} AND {last}"));
        conditions.push(format!("{column} NOT BETWEEN {last} AND {first}"));
        conditions.push(format!("CASE WHEN {column} = {first} THEN NULL ELSE {column} = {last} END"));
        conditions.push(format!("nullif({column}, {first}) IS NULL"));
        conditions.push(format!("coalesce({column}, {first}) = {first}"));
        conditions.push(format!("({column} = {first}) IS UNKNOWN"));
    }
    let more = [
        "b",
        "NOT b",
        "b IS NOT TRUE",
        "b IS NOT FALSE",
        "b = true",
        "b <> false",
        "b IS DISTINCT FROM true",
        "b > false",
        "t LIKE 'a%'",
        "t NOT LIKE 'a%'",
        "t ILIKE 'A_C'",
        "t LIKE 'a\\_c'",
        "t ~ '^a'",
        "t !~ '^abc$'",
        "t SIMILAR TO 'a%'",
        "CAST(n AS VARCHAR) LIKE '7%'",
        "CAST(n AS VARCHAR) ~ '^7$'",
        "arrow_cast(t, 'LargeUtf8') = 'abc'",
        "arrow_cast(t, 'Dictionary(Int32, Utf8)') = 'abc'",
        "arrow_cast(t, 'Utf8View') >= 'a'",
        "isnan(x)",
        "NOT isnan(x)",
        "isnan(s['x'])",
        "abs(x) = 0",
        "-x > 0",
        "CAST(x AS FLOAT) >= 1.5",
        "CAST(n AS DECIMAL(38, 2)) > 7.25",
        "CAST(n AS BIGINT UNSIGNED) IS NULL OR n < 0",
        "TRY_CAST(n AS INT) < 8",
        "TRY_CAST(n AS INT) IS NULL",
        "TRY_CAST(n AS BIGINT UNSIGNED) <= 7",
        "CAST(n AS BOOLEAN)",
        "CAST(b AS INT) = 1",
        "octet_length(v) = 0",
        "k = 3 OR x > 1",
        "n % 2 = 1",
        "starts_with(t, 'a')",
        "s['k'] = 3",
        "s['k'] NOT IN (3, 4)",
        "s['k'] <> 3",
        "k IN (SELECT k FROM memory WHERE x > 0)",
    ];
    conditions.extend(more.map(str::to_string));
    for condition in conditions {
        let of = |table: &str| {
            let query = format!("SELECT x, n, t, k FROM {table} WHERE {condition}");
            let session = session.clone();
            async move {
                let rows = match session.sql(&query).await {
                    Ok(frame) => frame.collect().await.map_err(|e| e.to_string()),
                    Err(e) => Err(e.to_string()),
                };
                let mut rows =
                    rows.map(|rows| text_rows(&rows)).unwrap_or_else(|_| vec!["refused".to_string()]);
                rows.sort();
                rows
            }
        };
        assert_eq!(of("ns.t").await, of("memory").await, "{condition}");
    }
}

#[tokio::test]
async fn join_filters_see_columns_that_were_renamed_and_dropped() {
    let session = session();
    for k in ["1", "2", "NULL"] {
        let rows =
            format!("SELECT CAST({k} AS BIGINT) AS k, CAST({k} AS INT) AS old, CAST({k} AS BIGINT) AS gone");
        add(&session, "ns.t", &rows).await;
        add(&session, "ns.u", &format!("SELECT CAST({k} AS BIGINT) AS k")).await;
    }
    let table = session.table("ns.t").await.unwrap();
    let change =
        table.update_schema().drop_column("gone").rename_column("old", "k2").promote_column("k2", long());
    let table = change.await.unwrap();
    // Another column of the dropped one's name, which old files do not have.
    table.update_schema().add_column("gone", long()).await.unwrap();
    add(
        &session,
        "ns.t",
        "SELECT CAST(3 AS BIGINT) AS k, CAST(3 AS BIGINT) AS k2, CAST(2 AS BIGINT) AS gone",
    )
    .await;
    check(
        &session,
        &[
            ("SELECT t.k FROM ns.t JOIN ns.u ON t.gone = u.k", &["3"]),
            ("SELECT u.k FROM ns.u JOIN ns.t ON t.k2 = u.k", &["1", "2"]),
            ("SELECT u.k FROM ns.u LEFT SEMI JOIN ns.t ON t.gone = u.k", &["2"]),
            ("SELECT u.k FROM ns.u LEFT ANTI JOIN ns.t ON t.gone = u.k", &["1", "NULL"]),
            ("SELECT k FROM ns.t WHERE gone IN (SELECT k FROM ns.u)", &["3"]),
            ("SELECT k FROM ns.t WHERE gone NOT IN (SELECT k FROM ns.u WHERE k = 1)", &["3"]),
            ("SELECT k FROM ns.u WHERE k NOT IN (SELECT gone FROM ns.t)", &[]),
            (
                "SELECT u.k FROM ns.u JOIN ns.t ON t.gone IS NOT DISTINCT FROM u.k",
                &["2", "NULL", "NULL", "NULL"],
            ),
            ("SELECT gone FROM ns.t ORDER BY gone NULLS LAST LIMIT 1", &["2"]),
            ("SELECT max(gone), min(k2) FROM ns.t", &["2|1"]),
        ],
    )
    .await;
}
