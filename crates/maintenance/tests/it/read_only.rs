//! Maintenance of a table that was opened from its metadata file: nothing is deleted, nothing committed.

use icefield_core::ErrorKind;
use icefield_engine::Session;
use icefield_engine::ops::DataFrameExt;
use icefield_maintenance as maintenance;

#[tokio::test]
async fn a_table_without_a_catalog_is_not_maintained_though_the_catalog_has_one_of_its_name() {
    let session = Session::builder().build().unwrap();
    for _ in 0..2 {
        let rows = session.sql("SELECT 1 AS id").await.unwrap();
        rows.append_to(&session, "db.t").create_with(|t| t).await.unwrap();
    }
    let table = session.table("db.t").await.unwrap();
    let opened =
        session.table_from_metadata_file(table.core().metadata_location()).named("db.t").await.unwrap();
    let errors = [
        maintenance::expire_snapshots(&opened).await.unwrap_err(),
        maintenance::remove_orphan_files(&opened).await.unwrap_err(),
        maintenance::purge_table(&opened).await.unwrap_err(),
        maintenance::compact(&opened).await.unwrap_err(),
        maintenance::compact(&opened).plan().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert_eq!(session.table("db.t").await.unwrap().dataframe().await.unwrap().count().await.unwrap(), 2);
}
