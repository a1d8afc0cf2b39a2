//! Planning a table of many files beside PyIceberg's `plan_files` on the same table, in the same run.
//!
//! `cargo bench --bench plan [-- FILES]`. Makes a table of 100,000 files (or as many as are asked) in 20 manifests,
//! partitioned by a date that rises from manifest to manifest and by one of 16 parts that each manifest has; only its metadata
//! is there. Prints milliseconds cold (nothing cached) and warm, the ratios to PyIceberg's best, and bytes per file cached.
//! PyIceberg is that of the referees (`$REFEREE_HOME`, else `~/.cache/referee`); without it there are no ratios.

mod common;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, Datum, Literal, Struct};
use icefield::Session;
use icefield_core::Table;
use icefield_core::commit::Transaction;
use icefield_core::filter::{Filter, Test};
use icefield_core::format::{ContentFile, WantedStatistics};
use icefield_engine::ops::DataFrameExt;
use icefield_engine::ops::partitioning::identity;
use icefield_engine::scan::{ScanCaches, plan_files};

use common::{batch, peak, reset_peak};

const MANIFESTS: usize = 20;
const DAYS: usize = 365;
const FIRST_DAY: i32 = 19_000;
const PARTS: usize = 16;
const ROUNDS: usize = 5;

/// Prints how many files it plans, the milliseconds of the first time in its process, and the best of later times.
const PYICEBERG: &str = r#"
import sys, time
from pyiceberg.table import StaticTable
row_filter, times = sys.argv[2], []
for _ in range(int(sys.argv[3])):
    start = time.perf_counter()
    files = sum(1 for _ in StaticTable.from_metadata(sys.argv[1]).scan(row_filter=row_filter).plan_files())
    times.append((time.perf_counter() - start) * 1000)
print(files, times[0], min(times[1:]))
"#;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(100_000);
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().parallelism(2).open(folder.path()).await.unwrap();
    let (table, files) = many_files(&session, wanted).await;
    println!("{files} files in {MANIFESTS} manifests, {DAYS} days, {PARTS} parts, 2 cores");
    let middle = (DAYS / 2) as i32;
    let date = Datum::date(FIRST_DAY + middle);
    let filters = [
        ("whole", Filter::True, "true".to_string()),
        ("one day", Filter::Test(field(&table, "date"), Test::Eq(date.clone())), format!("date == '{date}'")),
        ("one part", Filter::Test(field(&table, "part"), Test::Eq(Datum::int(7))), "part == 7".to_string()),
    ];
    let idle = reset_peak();
    for (name, filter, theirs) in filters {
        let (mut cold, mut warm, mut kept, mut cached) = (f64::MAX, f64::MAX, 0, 0);
        for _ in 0..ROUNDS {
            let caches = Arc::new(ScanCaches::new(4 << 30));
            cold = cold.min(plan(&table, &filter, &caches, &mut kept).await);
            for _ in 0..ROUNDS {
                warm = warm.min(plan(&table, &filter, &caches, &mut kept).await);
            }
            cached = caches.size_bytes();
        }
        if filter == Filter::True {
            println!(
                "{} bytes cached per file, as estimated; peak {} MiB above idle",
                cached / files,
                peak().saturating_sub(idle) >> 20
            );
        }
        println!("{name}: {kept} files, cold {cold:.1} ms, warm {warm:.2} ms");
        match pyiceberg(table.metadata_location(), &theirs) {
            Some((count, first, later)) => {
                assert_eq!(count, kept, "PyIceberg plans other files");
                println!(
                    "  PyIceberg: first {first:.0} ms, later {later:.0} ms; ratio {:.1} cold to first, {:.1} warm to later (10 is asked)",
                    first / cold,
                    later / warm,
                );
            }
            None => println!("  PyIceberg is not there: no ratio"),
        }
    }
}

/// Plans once, and gives the milliseconds.
async fn plan(table: &Table, filter: &Filter, caches: &Arc<ScanCaches>, kept: &mut usize) -> f64 {
    let snapshot = table.metadata().current_snapshot().unwrap();
    let start = Instant::now();
    let planned = plan_files(table, snapshot, filter, &WantedStatistics::None, caches).await.unwrap();
    let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
    *kept = planned.data.len();
    milliseconds
}

fn field(table: &Table, name: &str) -> i32 {
    table.schema().field_id_by_name(name).unwrap()
}

async fn many_files(session: &Session, wanted: usize) -> (Table, usize) {
    let frame = session.read_batches([batch(1).slice(0, 0)]).unwrap();
    let created = frame
        .append_to(session, "bench.many")
        .create_with(|t| t.partition_by([identity("date"), identity("part")]).format_version(2));
    let mut table = created.await.unwrap().table.core().clone();
    let each = wanted / MANIFESTS;
    let files = each * MANIFESTS;
    for manifest in 0..MANIFESTS {
        let entries = (manifest * each..(manifest + 1) * each).map(|n| file(&table, n, files)).collect();
        let commit = Transaction::new(&table).fast_append(entries).commit(&**session.catalog());
        table = commit.await.unwrap().table;
    }
    (table, files)
}

/// A file's entry, with statistics of ten columns.
fn file(table: &Table, n: usize, files: usize) -> ContentFile {
    let (day, part) = (FIRST_DAY + (n * DAYS / files) as i32, (n % PARTS) as i32);
    let id = |name: &str| field(table, name);
    let at = n as i64 * 1000;
    let bounds = |last: i64| -> HashMap<i32, Datum> {
        [
            (id("id"), Datum::long(at + last)),
            (id("part"), Datum::int(part)),
            (id("listing"), Datum::long(last * 50)),
            (id("date"), Datum::date(day)),
            (id("city"), Datum::string(format!("city number {last}"))),
            (id("name"), Datum::string(format!("a listing name {last}"))),
            (id("price"), Datum::double(last as f64 / 10.0)),
            (id("available"), Datum::bool(last > 0)),
            (id("seen"), Datum::timestamp_micros(at + last)),
            (id("nights"), Datum::int(last as i32 % 30)),
        ]
        .into()
    };
    let columns = || table.schema().as_struct().fields().iter().map(|field| field.id);
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("{}/data/date={day}/part={part}/{n:08}.parquet", table.metadata().location()))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(Literal::date(day)), Some(Literal::int(part))]))
        .record_count(1000)
        .file_size_in_bytes(100_000)
        .column_sizes(columns().map(|id| (id, 10_000)).collect())
        .value_counts(columns().map(|id| (id, 1000)).collect())
        .null_value_counts(columns().map(|id| (id, 0)).collect())
        .lower_bounds(bounds(0))
        .upper_bounds(bounds(999))
        .split_offsets(Some(vec![4]))
        .partition_spec_id(table.metadata().default_partition_spec_id())
        .build()
        .unwrap();
    ContentFile { spec_id: table.metadata().default_partition_spec_id(), file }
}

/// Files, milliseconds of the first time, and the best of later ones. Nothing where PyIceberg is not installed.
fn pyiceberg(metadata: &str, filter: &str) -> Option<(usize, f64, f64)> {
    let home = std::env::var_os("REFEREE_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/referee")))?;
    let python = home.join("pyiceberg/bin/python");
    if !python.exists() {
        return None;
    }
    let metadata = metadata.trim_start_matches("file://");
    let output = Command::new(python).args(["-c", PYICEBERG, metadata, filter, "3"]).output().unwrap();
    assert!(output.status.success(), "PyIceberg: {}", String::from_utf8_lossy(&output.stderr));
    let line = String::from_utf8(output.stdout).unwrap();
    let mut fields = line.split_whitespace();
    let files = fields.next().unwrap().parse().unwrap();
    let mut time = || fields.next().unwrap().parse().unwrap();
    Some((files, time(), time()))
}
