//! A hundred hostile archives among good ones: the good ones arrive whole, in bounded memory and bounded work.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;

use icefield_ingest::{Ingest, Limits};
use icefield_testkit::hostile_archives;

use crate::support::{PATTERN, rows, tar_gz};

const CHILD: &str = "ICEFIELD_HOSTILE_DROP";
const HOSTILE: usize = 120;
const GOOD: usize = 12;
const AT_A_TIME: usize = 2;

/// Small, so that what passes them is small, too.
fn limits() -> Limits {
    let mut limits =
        Limits { ratio_floor_bytes: 256 << 10, row_bytes: 1 << 20, members: 300, ..Limits::default() };
    (limits.columns, limits.table_columns, limits.tables) = (150, 300, 20);
    (limits.archive_known_bytes, limits.run_known_bytes, limits.listed_bytes) = (2 << 20, 16 << 20, 4 << 20);
    limits
}

/// The bound that the documentation of `Ingest` gives, for these limits.
fn documented_bytes() -> u64 {
    let limits = limits();
    let archive = (32 << 20)
        + 8 * limits.row_bytes as u64
        + limits.archive_known_bytes
        + limits.archive_listed_bytes as u64;
    AT_A_TIME as u64 * archive + limits.run_known_bytes + limits.listed_bytes as u64
}

/// The process's peak resident memory in bytes, where the system tells it.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// In a process of its own, whose memory is of no other test.
#[test]
fn good_archives_arrive_whole_among_a_hundred_hostile_ones() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(take_the_drop());
    }
    let name = "hostile_drop::good_archives_arrive_whole_among_a_hundred_hostile_ones";
    let test = std::env::current_exe().unwrap();
    let child = Command::new(test).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let said = [child.stdout, child.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(child.status.success(), "{said}");
    said.lines().filter(|line| line.contains("documented bound")).for_each(|line| println!("{line}"));
}

async fn take_the_drop() {
    let folder = tempfile::tempdir().unwrap();
    let drop = folder.path().join("drop");
    std::fs::create_dir(&drop).unwrap();
    let mut expected = Vec::new();
    for n in 0..GOOD {
        let text: String = (0..500).map(|row| format!("{},{row}\n", n * 1_000 + row)).collect();
        let name = format!("calendar_2024-06-22_{n}.csv");
        let archive = tar_gz(&[(&name, format!("id,price\n{text}").as_bytes())]);
        // Before, between and after the hostile ones.
        std::fs::write(
            drop.join(format!("{}_{n:02}.tar.gz", ["a", "evil_2024-06-22_0050", "z"][n % 3])),
            archive,
        )
        .unwrap();
        expected.extend(text.lines().map(|line| line.replace(',', "|")));
    }
    let mut allowed = 0;
    let limits = limits();
    let mut hostile = BTreeSet::new();
    for archive in hostile_archives(7, HOSTILE) {
        allowed += limits.ratio_floor_bytes + limits.ratio * archive.bytes.len() as u64 + (1 << 20);
        std::fs::write(drop.join(&archive.name), archive.bytes).unwrap();
        hostile.insert((archive.name, archive.kind));
    }
    let before = peak();
    let decompressed = std::sync::Arc::new(Mutex::new(0));
    let seen = decompressed.clone();
    let ingested = Ingest::from_url(drop.to_str().unwrap())
        .pattern(PATTERN)
        .pattern("{table}_{date}_{batch}.jsonl")
        .limits(limits)
        .parallelism(AT_A_TIME)
        .progress(move |at| *seen.lock().unwrap() = at.bytes_decompressed)
        .await
        .unwrap();

    let mut got = rows(&ingested, "calendar").await;
    got.sort();
    expected.sort();
    assert!(got == expected, "{} rows of {}", got.len(), expected.len());
    let report = ingested.report.table("calendar").unwrap();
    assert_eq!(
        (report.files, report.files_quarantined, report.rows_quarantined, report.score()),
        (GOOD as u64, 0, 0, 100)
    );

    // What the list has no room for is in the table.
    let mut aside = BTreeSet::new();
    let mut batches = ingested.quarantine.read();
    while let Some(batch) = futures::TryStreamExt::try_next(&mut batches).await.unwrap() {
        let archives = arrow::array::AsArray::as_string::<i32>(batch.column(1));
        aside.extend(archives.iter().flatten().filter_map(|a| a.rsplit('/').next()).map(str::to_string));
        for detail in arrow::array::AsArray::as_string::<i32>(batch.column(6)).iter().flatten() {
            assert!(
                !detail.is_empty() && detail.len() <= 260 && !detail.contains(char::is_control),
                "{detail:?}"
            );
        }
    }
    let taken: Vec<_> = hostile.iter().filter(|(name, _)| !aside.contains(name)).collect();
    assert!(taken.is_empty(), "{taken:?}");
    assert_eq!(aside.len(), HOSTILE, "none of the good ones");

    let decompressed = *decompressed.lock().unwrap();
    assert!(decompressed < allowed, "{decompressed} bytes decompressed, {allowed} allowed");
    assert!(ingested.tables.len() <= 20);
    assert!(ingested.tables.iter().all(|table| table.schema().fields().len() <= 300));
    if let (Some(before), Some(after)) = (before, peak()) {
        let (grown, bound) = (after.saturating_sub(before), documented_bytes());
        println!("peak memory grew by {grown} bytes; the documented bound is {bound}");
        assert!(grown < bound, "peak memory grew by {grown} bytes; the documented bound is {bound}");
    }
}
