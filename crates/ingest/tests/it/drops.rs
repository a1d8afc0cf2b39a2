//! A real partner's drop with every fault of practice, held against Python's csv module.

use std::path::Path;
use std::process::Command;

use arrow::datatypes::DataType;
use icefield_ingest::{Ingest, Level, Reason};
use serde_json::Value;

use crate::support::{PATTERN, batches, set_aside, shown};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/cut-drops");

/// Reads the sound archives as Python's csv module does and prints each table's columns and rows.
const PYTHON: &str = r#"
import csv, io, json, sys, tarfile, glob, os
tables = {}
for path in sorted(glob.glob(sys.argv[1] + "/*/*/*.tar.gz")):
    if "truncated" in path or "escape" in path: continue
    with tarfile.open(path) as t:
        for m in t.getmembers():
            rows = list(csv.reader(io.TextIOWrapper(t.extractfile(m), encoding="utf-8", newline="")))
            if not rows: continue
            table = tables.setdefault(m.name.split("_")[0], {"columns": [], "rows": []})
            header = rows[0]
            table["columns"] += [c for c in header if c not in table["columns"]]
            table["rows"] += [dict(zip(header, (v if v != "" else None for v in r))) for r in rows[1:] if len(r) == len(header)]
for table in tables.values():
    table["rows"] = [[r.get(c) for c in table["columns"]] for r in table["rows"]]
json.dump(tables, sys.stdout)
"#;

#[tokio::test]
async fn a_drop_with_every_fault_gives_the_rows_that_python_reads() {
    if !Path::new(SHARED).exists() {
        eprintln!("skipped: {SHARED} is not there");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(SHARED)
        .arg(folder.path())
        .args(["--archives", "4", "--city", "albany", "--faults"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = Command::new("python3").args(["-c", PYTHON]).arg(folder.path()).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let expected: Value = serde_json::from_slice(&read.stdout).unwrap();

    let ingested = Ingest::from_url(folder.path().to_str().unwrap()).pattern(PATTERN).await.unwrap();
    for (name, expected) in expected.as_object().unwrap() {
        let table = ingested.table(name).unwrap();
        let names: Vec<&str> =
            expected["columns"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let types: Vec<(&str, &DataType)> =
            table.schema().fields().iter().map(|f| (f.name().as_str(), f.data_type())).collect();
        assert_eq!(types.iter().map(|t| t.0).collect::<Vec<_>>(), names, "{name}");
        let rows = expected["rows"].as_array().unwrap();
        assert_eq!(table.rows(), rows.len() as u64, "{name}");
        let got = batches(table).await;
        assert_eq!(got.iter().map(|b| b.num_rows()).sum::<usize>(), rows.len());
        // Of a long table one row in 17: formatting them all takes longer than reading them.
        let step = if rows.len() > 10_000 { 17 } else { 1 };
        let got = arrow::compute::concat_batches(&got[0].schema(), &got).unwrap();
        for (at, row) in rows.iter().enumerate().step_by(step) {
            let got = shown(&[got.slice(at, 1)]).remove(0);
            let row: Vec<String> = row
                .as_array()
                .unwrap()
                .iter()
                .zip(&types)
                .map(|(value, (_, to))| match (value.as_str(), to) {
                    (None, _) => "-".to_string(),
                    (Some(text), DataType::Float64) => format!("{:?}", text.parse::<f64>().unwrap()),
                    (Some(text), _) => text.to_string(),
                })
                .collect();
            assert_eq!(got, row.join("|"));
        }
    }
    let types = ingested
        .table("calendar")
        .unwrap()
        .schema()
        .fields()
        .iter()
        .map(|f| f.data_type().to_string())
        .collect::<Vec<_>>();
    assert_eq!(types, ["Int64", "Date32", "Utf8", "Utf8", "Utf8", "Int64", "Int64"]);

    let of = |kind: &str| format!("albany_2024-11-05_fault-{kind}.tar.gz");
    let mut aside = set_aside(&ingested);
    aside.sort_by(|a, b| a.1.cmp(&b.1));
    let member = |kind: &str| Some(format!("calendar_2024-11-05_{kind}.csv"));
    let expected = [
        (Level::Row, of("cut-row"), member("cut-row"), Some(2), Reason::CutRow),
        (Level::Member, of("empty"), member("empty"), None, Reason::NoHeader),
        (Level::Member, of("escape"), Some("../../escaped.csv".to_string()), None, Reason::UnsafePath),
        (Level::Archive, of("missing"), None, None, Reason::Missing),
        (Level::Row, of("ragged"), member("ragged"), Some(2), Reason::TooManyFields),
        (Level::Archive, of("truncated"), None, None, Reason::Truncated),
    ];
    assert_eq!(aside, expected);
    let report = ingested.report.table("calendar").unwrap();
    assert!(
        report.errors.contains(&format!("archive {}: unexpected end of gzip stream", of("truncated"))),
        "{report}"
    );
    assert!((60..95).contains(&report.score()), "{report}");
    assert_eq!(ingested.report.table("listings").unwrap().errors, Vec::<String>::new());
}
