//! Ingested tables as DataFrames: the same rows as reading gives.

use std::sync::Arc;

use datafusion::prelude::{SessionConfig, SessionContext, col, ident, lit};
use icefield_core::storage::Storage;
use icefield_testkit::FaultyStore;

use crate::support::{Drop, rows, shown, tar_gz};

async fn drop_with_drift() -> Drop {
    let drop = Drop::new();
    let files: [(&str, &[u8]); 4] = [
        ("calendar_2024-01-01_1.csv", b"id,Day,price\n1,2024-01-01,\"$5,150.00\"\n2,,\n"),
        ("calendar_2024-01-02_1.csv", b"id,Day\n3,2024-01-02\n"),
        ("calendar_2024-01-03_1.csv", b"price,id,currency,Day\n$7,\"\",USD,\"\"\n"),
        ("calendar_2024-01-04_1.csv", b"id,Day,price\n"),
    ];
    for (i, file) in files.into_iter().enumerate() {
        drop.put(&format!("{i}.tar.gz"), tar_gz(&[file])).await;
    }
    drop.put("bad.tar.gz", "x").await;
    drop
}

#[tokio::test]
async fn a_dataframe_has_the_rows_that_reading_gives() {
    let drop = drop_with_drift().await;
    let ingested = drop.ingest().source_column("_source").await.unwrap();
    let table = ingested.table("calendar").unwrap();
    for partitions in [1, 2, 16] {
        let context =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
        let frame = table.dataframe(&context).unwrap();
        let types = |schema: &arrow::datatypes::Schema| -> Vec<(String, String)> {
            schema.fields().iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
        };
        assert_eq!(types(frame.schema().as_arrow()), types(table.schema()));
        let mut got = shown(&frame.clone().collect().await.unwrap());
        let mut expected = rows(&ingested, "calendar").await;
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
        assert_eq!(frame.clone().count().await.unwrap(), 4);

        let some = frame.filter(ident("Day").gt_eq(lit("2024-01-02"))).unwrap();
        let some = some.select(vec![col("_source"), col("id")]).unwrap();
        assert_eq!(shown(&some.collect().await.unwrap()), ["1.tar.gz/calendar_2024-01-02_1.csv|3"]);
        let quarantine = ingested.quarantine.dataframe(&context).unwrap();
        let quarantine = quarantine.select_columns(&["level", "reason"]).unwrap().collect().await.unwrap();
        assert_eq!(shown(&quarantine).len(), 1);
    }
}

#[tokio::test]
async fn a_table_without_rows_is_a_dataframe_too() {
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&[("calendar_2024-01-01_1.csv", b"id,price\n")])).await;
    let ingested = drop.ingest().await.unwrap();
    let frame = ingested.table("calendar").unwrap().dataframe(&SessionContext::new()).unwrap();
    assert_eq!(frame.schema().fields().len(), 2);
    assert_eq!(frame.count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_temporary_staging_folder_lives_as_long_as_the_dataframe() {
    let drop = drop_with_drift().await;
    let ingest = icefield_ingest::Ingest::from_url("memory://drop/in").storage(drop.storage.clone());
    let ingested = ingest.pattern(crate::support::PATTERN).await.unwrap();
    let frame = ingested.table("calendar").unwrap().dataframe(&SessionContext::new()).unwrap();
    std::mem::drop(ingested);
    assert_eq!(frame.collect().await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>(), 4);
}

#[tokio::test]
async fn a_small_part_is_one_request_footer_and_rows_together() {
    let store = FaultyStore::in_memory();
    let storage = Storage::new().with_store("memory://drop", Arc::new(store.clone())).unwrap();
    let drop = Drop { storage };
    for i in 0..3 {
        drop.put(&format!("calendar_2024-01-01_{i}.csv"), "id,price\n1,10\n2,20\n").await;
    }
    let ingested = drop.ingest().await.unwrap();
    let frame = ingested.table("calendar").unwrap().dataframe(&SessionContext::new()).unwrap();
    store.reset();
    assert_eq!(frame.collect().await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>(), 6);
    assert_eq!(store.total(), 3, "{:?}", store.ops());
}
