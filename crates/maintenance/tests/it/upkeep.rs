//! Many small writes, with upkeep after each: rows are all there, and files, snapshots and metadata stay few.

use futures::TryStreamExt;
use icefield_core::storage::FileEntry;
use icefield_engine::Table;
use icefield_engine::ops::DataFrameExt;
use icefield_maintenance::{days, upkeep};

use crate::compact::{Lake, NAME};

const APPENDS: i64 = 60;

async fn write(lake: &Lake, n: i64) -> Table {
    let rows = lake.rows(n * 5..n * 5 + 5).append_to(&lake.session, NAME);
    rows.create_with(|new| new.property("write.metadata.previous-versions-max", "5")).await.unwrap().table
}

#[tokio::test]
async fn small_writes_with_upkeep_leave_few_files_and_snapshots() {
    let lake = Lake::new().await;
    let (mut compactions, mut expiries) = (0, 0);
    for n in 0..APPENDS {
        let written = write(&lake, n).await;
        let report = upkeep(&written)
            .compact_after(10)
            .expire_after(10)
            .retain_last(5)
            .older_than(days(0))
            .await
            .unwrap();
        compactions += usize::from(report.compacted.is_some());
        expiries += usize::from(report.expired.is_some());
        let table = lake.table().await;
        assert!(table.core().metadata().snapshots().len() <= 16, "after {n}");
    }
    assert!(compactions >= 5 && expiries >= 3, "{compactions} {expiries}");
    let table = lake.table().await;
    let expected: Vec<i64> = (0..APPENDS * 5).collect();
    assert_eq!(lake.ids().await, expected);
    let files: Vec<FileEntry> =
        table.core().storage().list(table.core().metadata().location()).try_collect().await.unwrap();
    let metadata = files.iter().filter(|file| file.location.ends_with(".metadata.json")).count();
    assert!(metadata <= 6, "{metadata} metadata files");
    let data = files.iter().filter(|file| file.location.ends_with(".parquet")).count();
    assert!(data <= 30, "{data} data files");
}

#[tokio::test]
async fn an_upkeep_that_has_nothing_to_do_makes_no_commit() {
    let lake = Lake::new().await;
    for n in 0..3 {
        let written = write(&lake, n).await;
        let report = upkeep(&written).await.unwrap();
        assert!(report.compacted.is_none() && report.expired.is_none());
        assert_eq!(report.to_string(), "nothing was due");
    }
    assert_eq!(lake.table().await.core().metadata().snapshots().len(), 3);
}
