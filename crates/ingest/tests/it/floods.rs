//! Bad rows and members in numbers that no list holds: counted exactly, kept whole on disk, listed in part.

use futures::TryStreamExt;
use icefield_ingest::{Level, Limits};

use crate::support::{Drop, tar_gz};

#[tokio::test]
async fn many_archives_of_bad_rows_are_listed_in_part_and_counted_whole() {
    const ARCHIVES: usize = 120;
    const ROWS: usize = 150;
    let text = format!("id,price\n1,10\n{}", "x\n".repeat(ROWS));
    let drop = Drop::new();
    for archive in 0..ARCHIVES {
        let file = format!("calendar_2024-06-22_{archive}.csv");
        drop.put(&format!("{archive:04}.tar.gz"), tar_gz(&[(&file, text.as_bytes()), ("notes.txt", b"")]))
            .await;
    }
    for run in ["read", "taken up"] {
        let ingested = drop.ingest().await.unwrap();
        let (quarantine, report) = (&ingested.quarantine, &ingested.report);
        let all = (ARCHIVES * (ROWS + 1)) as u64;
        assert_eq!(quarantine.count(Level::Row), (ARCHIVES * ROWS) as u64, "{run}");
        assert_eq!(quarantine.items().len(), 10_000, "{run}");
        assert_eq!((report.set_aside, report.set_aside_listed), (all, 10_000), "{run}");
        let shown = report.to_string();
        let told = format!("\nSet aside: {all}, of which 10000 are listed; the quarantine's table has all\n");
        assert!(shown.ends_with(&told), "{shown}");

        // Members first, of all archives; then the rows of the first ones, a hundred of each.
        let (members, rows) = quarantine.items().split_at(ARCHIVES);
        assert!(members.iter().all(|item| item.level == Level::Member), "{run}");
        let expected = (0..ARCHIVES).flat_map(|at| (0..100).map(move |row| (at, row + 3)));
        for (item, (at, line)) in rows.iter().zip(expected) {
            assert!(item.archive.ends_with(&format!("/{at:04}.tar.gz")), "{run}: {item:?}");
            assert_eq!(item.line, Some(line), "{run}");
        }

        let table = report.table("calendar").unwrap();
        assert_eq!(
            (table.rows, table.rows_quarantined),
            (ARCHIVES as u64, (ARCHIVES * ROWS) as u64),
            "{run}"
        );
        assert_eq!((table.errors.len(), table.errors_more), (100, ARCHIVES as u64 - 100), "{run}");
        let stored: Vec<_> = quarantine.read().try_collect().await.unwrap();
        assert_eq!(stored.iter().map(|batch| batch.num_rows() as u64).sum::<u64>(), all, "{run}");
    }
}

#[tokio::test]
async fn more_bad_members_than_a_list_holds_are_counted_whole() {
    let names: Vec<String> = (0..1_500).map(|i| format!("notes-{i}.txt")).collect();
    let mut members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let bad: Vec<String> = (0..30).map(|i| format!("calendar_2024-06-22_{i}.csv")).collect();
    members.extend(bad.iter().map(|name| (name.as_str(), &b""[..])));
    members.push(("calendar_2024-06-22_good.csv", b"id\n1\n"));
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&members)).await;
    let ingested = drop.ingest().await.unwrap();
    let table = ingested.report.table("calendar").unwrap();
    assert_eq!((table.files, table.files_quarantined), (1, 1_530));
    assert_eq!(table.errors.len() as u64 + table.errors_more, 1_530);
    assert_eq!(ingested.quarantine.count(Level::Member), 1_530);
    assert_eq!(ingested.quarantine.items().len(), 1_000);
}

#[tokio::test]
async fn long_names_in_messages_and_rows_are_cut() {
    let name = "\u{7f}é".repeat(1 << 20);
    let drop = Drop::new();
    let header = format!("{name},{name}\n1,2\n");
    drop.put("a.tar.gz", tar_gz(&[("calendar_2024-06-22_1.csv", header.as_bytes())])).await;
    let lines = format!("{{\"{name}\": 1, \"{name}\": 2}}\n").repeat(3);
    drop.put("events_2024-06-22_1.jsonl", lines).await;
    let limits = Limits { row_bytes: 64 << 20, ..Limits::default() };
    let ingest = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").limits(limits);
    let ingested = ingest.await.unwrap();
    let items = ingested.quarantine.items();
    assert_eq!(items.len(), 4, "{}", ingested.report);
    for item in items {
        assert!(item.detail.len() < 2_000, "{} bytes", item.detail.len());
    }
    assert!(ingested.report.to_string().len() < 10_000);
}
