//! What a service can say that names nothing but `icefield` and DataFusion.

use datafusion::prelude::{col, lit};
use icefield::evolve::{FormatUpgrade, FormatVersion, Literal, NewColumn};
use icefield::ops::{Append, Isolation, SnapshotRetention, WriteOptions};
use icefield::prelude::*;
use icefield::{AsOf, Error, from_datafusion};

/// A builder, passed around.
fn settled(append: Append) -> Append {
    append.isolation(Isolation::Snapshot).write_options(WriteOptions::new().target_file_size(64 << 20))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_its_methods_take_can_be_named() -> Result<(), Error> {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::open(folder.path()).await?;
    let rates = session.sql("SELECT 1 AS id, 'a' AS city").await?;
    settled(rates.append_to(&session, "db.rates"))
        .create_with(|table| table.partition_by([void("id")]).format_version(2))
        .await?;

    let table = session.table("db.rates").await?;
    let currency = NewColumn::new("currency", types::string()).default(Literal::string("USD"));
    let table = table
        .alter()
        .edit(FormatUpgrade::to(FormatVersion::V3))
        .await?
        .update_schema()
        .add_column_with(currency)
        .await?;
    let table = table.update_schema().set_write_default("currency", Literal::string("EUR")).await?;
    let retention = SnapshotRetention::Branch {
        min_snapshots_to_keep: Some(3),
        max_snapshot_age_ms: None,
        max_ref_age_ms: None,
    };
    let table = table.create_ref("audit".to_string(), retention).await?;

    let usd = table.dataframe().await?.filter(col("currency").eq(lit("USD"))).map_err(from_datafusion)?;
    assert_eq!(usd.count().await.map_err(from_datafusion)?, 1, "rows from before have the default");
    assert_eq!(table.as_of(AsOf::Ref("audit".to_string()))?.dataframe().await?.count().await.unwrap(), 1);
    Ok(())
}
