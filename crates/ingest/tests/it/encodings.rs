//! Text that is not plain UTF-8: decoded where nothing is guessed, set aside otherwise, never taken for columns and rows.

use icefield_ingest::{Level, Reason};

use crate::support::{Drop, columns, rows, set_aside};

const TEXT: &str = "id,price\n1,10\n2,20\n";

fn utf16(text: &str, little: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|u| if little { u.to_le_bytes() } else { u.to_be_bytes() }).collect()
}

fn utf32(text: &str, little: bool) -> Vec<u8> {
    let bytes = |c: char| if little { (c as u32).to_le_bytes() } else { (c as u32).to_be_bytes() };
    text.chars().flat_map(bytes).collect()
}

#[tokio::test]
async fn utf16_and_utf32_are_decoded_with_a_mark_and_without() {
    let marked = format!("\u{feff}{TEXT}");
    let drop = Drop::new();
    for (number, little) in [(1, true), (2, false)] {
        for (name, text) in [("plain", TEXT), ("marked", marked.as_str())] {
            drop.put(&format!("{name}16_2024-06-22_{number}.csv"), utf16(text, little)).await;
            drop.put(&format!("{name}32_2024-06-22_{number}.csv"), utf32(text, little)).await;
        }
    }
    let lines = "{\"id\": 1, \"name\": \"é\"}\n";
    drop.put("events_2024-06-22_1.jsonl", utf16(lines, true)).await;
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").await.unwrap();
    assert!(ingested.quarantine.is_empty(), "{:?}", ingested.quarantine.items());
    for table in ["plain16", "plain32", "marked16", "marked32"] {
        let names: Vec<_> =
            columns(ingested.table(table).unwrap()).into_iter().map(|column| column.0).collect();
        assert_eq!(names, ["id", "price"], "{table}");
        assert_eq!(rows(&ingested, table).await, ["1|10", "2|20", "1|10", "2|20"], "{table}");
    }
    assert_eq!(rows(&ingested, "events").await, ["1|é"]);
}

#[tokio::test]
async fn a_cut_character_of_utf16_costs_its_row_alone() {
    let drop = Drop::new();
    let odd = [&utf16(TEXT, true)[..], b"3"].concat();
    let half = [utf16("id,name\n1,a", true), vec![0x00, 0xD8], utf16("\n2,b\n", true)].concat();
    drop.put("calendar_2024-06-22_1.csv", odd).await;
    drop.put("names_2024-06-22_1.csv", half).await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
    assert_eq!(rows(&ingested, "names").await, ["2|b"]);
    let aside: Vec<_> = set_aside(&ingested).into_iter().map(|aside| (aside.3, aside.4)).collect();
    assert_eq!(aside, [(Some(4), Reason::CutRow), (Some(2), Reason::NotUtf8)]);
}

#[tokio::test]
async fn files_with_nul_bytes_never_name_columns() {
    let double = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \n\0\n";
    let foreign = utf16("日本の宿,東京の値段\n大阪の宿,京都の値段\n", true);
    let drop = Drop::new();
    drop.put("a_2024-06-22_1.csv", &b"id,na\0me\n1,2\n"[..]).await;
    drop.put("b_2024-06-22_1.csv", &double[..]).await;
    drop.put("c_2024-06-22_1.csv", vec![0; 5_000]).await;
    drop.put("d_2024-06-22_1.csv", foreign).await;
    drop.put("e_2024-06-22_1.jsonl", &b"{\"a\\u0000b\": 1}\n{\"a\": 2}\n{\"a\": \"x\\u0000y\"}\n"[..]).await;
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").await.unwrap();
    let tables: Vec<_> = ingested.tables.iter().map(|table| table.name()).collect();
    assert_eq!(tables, ["e"]);
    let aside: Vec<_> = set_aside(&ingested).into_iter().map(|aside| (aside.0, aside.4)).collect();
    let member = |reason| (Level::Member, reason);
    let reasons = [Reason::NotText, Reason::NotText, Reason::NotText, Reason::NotUtf8].map(member);
    assert_eq!(aside[..4], reasons);
    assert_eq!(aside[4..], [(Level::Row, Reason::BadJson)]);
    // A string of JSON may say it: that is a value, written in text.
    assert_eq!(rows(&ingested, "e").await, ["2", "x\0y"]);
}

#[tokio::test]
async fn rows_with_bytes_that_no_text_has_are_set_aside_alone() {
    let text = [
        &b"id,name\n1,a\n2,b\0c\n3,caf\xe9\n4,d\n"[..],
        "5,é\n".as_bytes(),
        // Where two files were joined the second one's mark stays a part of the text: nothing is guessed.
        "\u{feff}6,e\n".as_bytes(),
        &[0; 100],
    ]
    .concat();
    let drop = Drop::new();
    drop.put("calendar_2024-06-22_1.csv", text).await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|a", "4|d", "5|é", "\u{feff}6|e"]);
    let aside: Vec<_> = set_aside(&ingested).into_iter().map(|aside| (aside.3, aside.4)).collect();
    let expected = [(3, Reason::NotText), (4, Reason::NotUtf8), (8, Reason::CutRow)];
    let mut aside = aside;
    aside.sort_unstable();
    assert_eq!(aside, expected.map(|(line, reason)| (Some(line), reason)));
}
