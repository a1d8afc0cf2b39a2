//! What systems leave in archives beside the files that were meant, and archives of other ages and makers.

use icefield_ingest::Reason;

use crate::support::{Drop, gz, rows, set_aside, tar, tar_gz, zip};

const DOUBLE: &[u8] =
    b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02\x00\x00\x00\x09\x00\x00\x00\x32";
const FILE: (&str, &[u8]) = ("./calendar_2024-06-22_1.csv", b"id,price\n1,10\n2,20\n");

#[tokio::test]
async fn attributes_that_macos_leaves_in_archives_are_no_tables() {
    let members: [(&str, &[u8]); 8] = [
        ("./._calendar_2024-06-22_1.csv", DOUBLE),
        FILE,
        ("__MACOSX/._rooms_2024-06-22_1.csv", DOUBLE),
        ("__MACOSX/._empty_2024-06-22_1.csv", b""),
        (".DS_Store", b"\0\0\0\x01Bud1"),
        ("photos/Thumbs.db", b"\xd0\xcf"),
        ("desktop.ini", b"[x]"),
        ("._notes.txt", DOUBLE),
    ];
    for (name, bytes) in [("a.tar.gz", tar_gz(&members)), ("a.zip", zip(&members))] {
        let drop = Drop::new();
        drop.put(name, bytes).await;
        drop.put("_manifest.json", format!(r#"{{"archives": [{{"name": "{name}", "files": 1}}]}}"#)).await;
        let ingested = drop.ingest().await.unwrap();
        let tables: Vec<_> = ingested.tables.iter().map(|table| table.name()).collect();
        assert_eq!(tables, ["calendar"], "{name}");
        assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"], "{name}");
        assert_eq!(ingested.report.members_skipped, 7, "{name}");
        assert!(ingested.quarantine.is_empty(), "{name}: {:?}", ingested.quarantine.items());
        assert_eq!(ingested.report.table("calendar").unwrap().score(), 100, "{name}");
        assert_eq!(ingested.report.errors, [""; 0], "{name}");
    }
}

#[tokio::test]
async fn rows_under_a_systems_name_are_set_aside_not_skipped() {
    let drop = Drop::new();
    let rows_of_it = b"id,price\n3,30\n";
    drop.put(
        "a.tar",
        tar(&[FILE, ("._calendar_2024-06-22_2.csv", rows_of_it), ("__MACOSX/b.csv", rows_of_it)]),
    )
    .await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(ingested.report.members_skipped, 0);
    let aside: Vec<_> = set_aside(&ingested).into_iter().map(|aside| (aside.2.unwrap(), aside.4)).collect();
    let named = |name: &str| (name.to_string(), Reason::NoPattern);
    assert_eq!(aside, [named("._calendar_2024-06-22_2.csv"), named("__MACOSX/b.csv")]);
}

#[tokio::test]
async fn a_systems_file_beside_the_archives_is_none_of_them() {
    let drop = Drop::new();
    drop.put("a.tar", tar(&[FILE])).await;
    drop.put("Thumbs.db", "x").await;
    drop.put("desktop.ini", "x").await;
    drop.put("._a.tar", DOUBLE).await;
    let ingested = drop.ingest().await.unwrap();
    assert!(ingested.quarantine.is_empty() && ingested.report.errors.is_empty());
    assert_eq!(ingested.report.archives_received, 1);
}

fn entry(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.as_mut_bytes()[156] = kind;
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[tokio::test]
async fn labels_and_lists_of_other_tars_are_no_members() {
    let bytes = [
        entry(b'V', "backup of june", b""),
        entry(b'g', "pax_global_header", b"30 comment=0123456789abcdef01\n"),
        entry(b'D', "drop/", b"Ycalendar_2024-06-22_1.csv\0\0"),
        entry(b'A', "acl", b"user::rw-"),
        entry(b'X', "sun", b"34 path=calendar_2024-06-22_2.csv\n"),
        entry(b'0', "short", b"id,price\n3,30\n"),
        tar(&[FILE]),
    ]
    .concat();
    let drop = Drop::new();
    drop.put("a.tar", bytes).await;
    let ingested = drop.ingest().await.unwrap();
    assert!(ingested.quarantine.is_empty(), "{:?}", ingested.quarantine.items());
    assert_eq!(rows(&ingested, "calendar").await, ["3|30", "1|10", "2|20"]);

    // What goes on from another volume is a piece of a file.
    let drop = Drop::new();
    drop.put("a.tar", [entry(b'M', "calendar_2024-06-22_2.csv", b"0,40\n5,50\n"), tar(&[FILE])].concat())
        .await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(set_aside(&ingested)[0].4, Reason::NotAFile);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}

#[tokio::test]
async fn archives_within_archives_are_set_aside_by_name() {
    let inner = tar_gz(&[FILE]);
    let drop = Drop::new();
    drop.put(
        "a.tar",
        tar(&[("calendar_2024-06-22_2.tar.gz", &inner), ("calendar_2024-06-22_3.zip", b"PK"), FILE]),
    )
    .await;
    let ingested = drop.ingest().await.unwrap();
    let aside: Vec<_> = set_aside(&ingested).into_iter().map(|aside| (aside.2.unwrap(), aside.4)).collect();
    let named = |name: &str| (name.to_string(), Reason::NoPattern);
    assert_eq!(aside, [named("calendar_2024-06-22_2.tar.gz"), named("calendar_2024-06-22_3.zip")]);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}

#[tokio::test]
async fn archives_with_nothing_in_them_give_nothing_and_stop_nothing() {
    let drop = Drop::new();
    drop.put("empty.tar", tar(&[])).await;
    drop.put("empty.tar.gz", tar_gz(&[])).await;
    drop.put("empty.zip", zip(&[])).await;
    drop.put("nothing.tar.gz", "").await;
    drop.put("nothing.tar", "").await;
    drop.put("nothing.zip", "").await;
    drop.put("good.tar.gz", gz(&tar(&[FILE]))).await;
    let ingested = drop.ingest().await.unwrap();
    let aside: Vec<_> = set_aside(&ingested).into_iter().map(|aside| (aside.1, aside.4)).collect();
    let cut = |name: &str| (name.to_string(), Reason::Truncated);
    assert_eq!(aside, [cut("nothing.tar"), cut("nothing.tar.gz"), cut("nothing.zip")]);
    assert_eq!(ingested.report.archives_taken, 4);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}

#[tokio::test]
async fn a_member_named_for_another_table_is_that_tables() {
    let drop = Drop::new();
    let other = ("calendar/listings_2024-06-22_1.csv", &b"id,name\n7,x\n"[..]);
    drop.put("calendar_2024-06-22.tar", tar(&[FILE, other])).await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
    assert_eq!(rows(&ingested, "listings").await, ["7|x"]);
}
