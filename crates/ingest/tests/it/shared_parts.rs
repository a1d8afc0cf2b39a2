//! Small members of one header share a staged part; what is read of them is as if each had its own.

use icefield_ingest::{Ingested, Reason};

use crate::support::{Drop, columns, rows, set_aside, tar_gz};

fn archive(members: &[(String, String)]) -> Vec<u8> {
    let members: Vec<_> = members.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    tar_gz(&members)
}

fn member(i: usize, text: impl Into<String>) -> (String, String) {
    (format!("calendar_2024-06-22_{i}.csv"), text.into())
}

fn parts(ingested: &Ingested) -> Vec<u64> {
    ingested.table("calendar").unwrap().parts().iter().map(|part| part.rows).collect()
}

#[tokio::test]
async fn many_small_members_are_one_part_in_their_order() {
    let drop = Drop::new();
    let members: Vec<_> = (0..500).map(|i| member(i, format!("id,price\n{i},{}\n", 2 * i))).collect();
    drop.put("a.tar.gz", archive(&members)).await;
    let ingested = drop.ingest().source_column("_source").await.unwrap();
    assert_eq!(parts(&ingested), [500]);
    let expected: Vec<_> =
        (0..500).map(|i| format!("{i}|{}|a.tar.gz/calendar_2024-06-22_{i}.csv", 2 * i)).collect();
    assert_eq!(rows(&ingested, "calendar").await, expected);
    let report = ingested.report.table("calendar").unwrap();
    assert_eq!((report.files, report.rows, report.headers.len()), (500, 500, 1));

    let again = drop.ingest().source_column("_source").await.unwrap();
    assert_eq!((again.report.archives_reused, rows(&again, "calendar").await), (1, expected));
    let without = drop.ingest().await.unwrap();
    assert_eq!(without.report.archives_reused, 0, "what is staged has another column");
    assert_eq!(columns(without.table("calendar").unwrap()).len(), 2);
}

#[tokio::test]
async fn a_bad_member_among_small_ones_leaves_nothing() {
    let drop = Drop::new();
    let good = |i: usize| member(i, format!("id,price\n{i},1\n"));
    let mut late = "id,price\n7,1\n".to_string();
    late.push_str(&"\"open".repeat(600_000));
    let bad = [member(1, "id,id\n9,9\n"), member(3, "\0\0\0\0"), member(5, ""), member(7, late)];
    let mut members: Vec<_> = [0, 2, 4, 6, 8].map(good).into_iter().chain(bad).collect();
    members.sort();
    drop.put("a.tar.gz", archive(&members)).await;
    let limits = icefield_ingest::Limits { member_bytes: 1 << 20, ..Default::default() };
    let ingested = drop.ingest().limits(limits).await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["0|1", "2|1", "4|1", "6|1", "8|1"]);
    assert_eq!(parts(&ingested), [5]);
    assert_eq!(set_aside(&ingested).len(), 4);
}

#[tokio::test]
async fn members_of_other_headers_and_large_ones_keep_their_places() {
    let drop = Drop::new();
    let large: String = (0..40_000).map(|i| format!("{},{i}\n", 2_000_000 + i)).collect();
    let members = [
        member(0, "id,price\n0,0\n"),
        member(1, "id,price\n1,1\n"),
        member(2, format!("id,price\n{large}")),
        member(3, "id,price\n3,3\n"),
        member(4, "price,id,note\n4,4,n\n"),
        member(5, "price,id,note\n5,5,n\n"),
        member(6, "id,price\n6,6\n"),
    ];
    drop.put("a.tar.gz", archive(&members)).await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(parts(&ingested), [2, 40_000, 1, 2, 1]);
    let rows = rows(&ingested, "calendar").await;
    assert_eq!(rows[..3], ["0|0|-", "1|1|-", "2000000|0|-"]);
    assert_eq!(rows[40_002..], ["3|3|-", "4|4|n", "5|5|n", "6|6|-"]);
}

#[tokio::test]
async fn a_header_that_is_refused_takes_no_other_rows_along() {
    let drop = Drop::new();
    let wide: Vec<String> = (0..8).map(|i| format!("c{i}")).collect();
    let wide = format!("{}\n{}\n", wide.join(","), ["1"; 8].join(","));
    let small = |i: usize| member(i, format!("id,price\n{i},1\n"));
    drop.put("a.tar.gz", archive(&[small(0), member(1, &*wide), small(2), member(3, &*wide)])).await;
    drop.put("b.tar.gz", archive(&[small(0)])).await;
    let limits = icefield_ingest::Limits { table_columns: 9, ..Default::default() };
    let ingested = drop.ingest().limits(limits).await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["0|1", "2|1", "0|1"]);
    let aside = set_aside(&ingested);
    assert_eq!(aside.len(), 2, "{aside:?}");
    assert!(aside.iter().all(|aside| aside.4 == Reason::TooManyColumns));
}

#[tokio::test]
async fn small_members_of_many_tables_wait_in_bounded_memory() {
    let drop = Drop::new();
    let text = format!("id,text\n{}", format!("1,{}\n", "x".repeat(1000)).repeat(90));
    let members: Vec<_> =
        (0..400).map(|i| (format!("t{}_2024-06-22_{i}.csv", i % 40), text.clone())).collect();
    drop.put("a.tar.gz", archive(&members)).await;
    let ingested = drop.ingest().await.unwrap();
    let of: Vec<Vec<u64>> =
        ingested.tables.iter().map(|table| table.parts().iter().map(|part| part.rows).collect()).collect();
    assert_eq!(of.len(), 40);
    assert!(of.iter().all(|parts| parts.iter().sum::<u64>() == 900), "{of:?}");
    assert!(of.iter().flatten().all(|rows| *rows <= 10 * 90 && rows % 90 == 0), "{of:?}");
    assert!(of.iter().any(|parts| parts.len() > 1), "all waited for the end: {of:?}");
}

#[tokio::test]
async fn no_file_brings_a_column_of_the_name_that_sources_have() {
    let drop = Drop::new();
    let named = member(0, "id,__source\n1,forged\n");
    drop.put("a.tar.gz", archive(&[named, member(1, "id\n2\n")])).await;
    let ingested = drop.ingest().source_column("_source").await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["2|a.tar.gz/calendar_2024-06-22_1.csv"]);
    assert_eq!(set_aside(&ingested)[0].4, Reason::BadHeader);
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|forged", "2|-"]);
}
