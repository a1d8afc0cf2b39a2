//! What a run reports, in words.

use crate::support::{Drop, tar_gz};

#[tokio::test]
async fn a_summary_is_written_with_every_table_and_error() {
    let drop = Drop::new();
    let good: (&str, &[u8]) = ("calendar_2024-06-22_1.csv", b"id,price\n1,10\n2,\n");
    let ragged: (&str, &[u8]) = ("calendar_2024-06-22_2.csv", b"id\n3\n4,40\n");
    drop.put("a.tar.gz", tar_gz(&[good, ragged])).await;
    drop.put("b.tar.gz", tar_gz(&[("listings_2024-06-22_1.csv", b"id,name\n1,x\n")])).await;
    drop.put("c.tar.gz", "no archive").await;
    let ingested = drop.ingest().await.unwrap();
    ingested.report.write(&drop.storage, "memory://drop/reports").await.unwrap();
    let written = drop.storage.read("memory://drop/reports/summary.txt").await.unwrap();
    let expected = "\
Table: calendar
- Total files: 2
- Merged rows: 3
- Header consistent: NO
- Null ratio: 33.3%
- Missing fields: ['price']
- Quarantined: 0 files, 1 rows
- Score: 80

Table: listings
- Total files: 1
- Merged rows: 1
- Header consistent: YES
- Null ratio: 0.0%
- Missing fields: []
- Quarantined: 0 files, 0 rows
- Score: 100

Of no table:
- Error: archive c.tar.gz: corrupt gzip stream: invalid gzip header
";
    assert_eq!(String::from_utf8(written.to_vec()).unwrap(), expected);
}

#[tokio::test]
async fn the_files_whose_header_differs_are_named_up_to_a_bound() {
    let drop = Drop::new();
    let names: Vec<String> = (0..105).map(|i| format!("calendar_2024-06-22_{i:03}.csv")).collect();
    let all = |bytes: &'static [u8]| names.iter().map(move |name| (name.as_str(), bytes)).collect::<Vec<_>>();
    let differing = all(b"price,id\n1,2\n");
    drop.put("a.tar.gz", tar_gz(&differing[..102])).await;
    drop.put("b.tar.gz", tar_gz(&all(b"id,price\n1,2\n"))).await;
    drop.put("c.tar.gz", tar_gz(&[("calendar_2024-06-22_1.csv", b"id\n1\n")])).await;
    let ingested = drop.ingest().await.unwrap();
    let headers = &ingested.report.table("calendar").unwrap().headers;
    let counts: Vec<(u64, usize)> = headers.iter().map(|h| (h.files, h.names.len())).collect();
    assert_eq!(counts, [(105, 100), (102, 100), (1, 1)]);
    let named: Vec<String> = names[..100].iter().map(|name| format!("a.tar.gz/{name}")).collect();
    assert_eq!(headers[1].names, named);
    let shown = headers[1].to_string();
    assert!(shown.starts_with("102 files, a.tar.gz/calendar_2024-06-22_000.csv, a.tar.gz/"), "{shown}");
    assert!(shown.ends_with("_099.csv, and 2 more: price,id"), "{shown}");
    assert_eq!(headers[2].to_string(), "1 file, c.tar.gz/calendar_2024-06-22_1.csv: id");
}
