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

#[tokio::test(flavor = "multi_thread")]
async fn a_service_needs_no_other_crate_and_no_shim() -> Result<()> {
    use icefield::arrow::array::{Int64Array, RecordBatch};
    use icefield::arrow::datatypes::{DataType, Field, Schema};
    use icefield::datafusion::logical_expr::{Volatility, create_udf};
    use icefield::datafusion::physical_plan::ColumnarValue;

    let folder = tempfile::tempdir()?;
    let session = Session::open(folder.path()).await?;
    session.create_namespace("shop.eu").await?;
    let clicks = session
        .sql("SELECT column1 AS \"userId\", column2 AS n FROM VALUES (1, 10), (1, 20), (2, 5)")
        .await?;
    let report = clicks
        .append_to(&session, "shop.eu.clicks")
        .create_with(|table| table.property("owner", "marketing"))
        .await?;
    assert!(report.to_string().starts_with("shop.eu.clicks: created with 3 rows in 1 files"), "{report}");

    // DataFusion's errors and ours are one with `?`.
    let table = session.table("shop.eu.clicks").await?;
    let mart = table
        .dataframe()
        .await?
        .aggregate(vec![ident("userId")], vec![sum(col("n")).alias("n"), count(lit(1)).alias("clicks")])?;
    mart.append_to(&session, "shop.eu.mart").create_with(|table| table).await?;
    let joined = session.table("shop.eu.mart").await?.dataframe().await?;
    let joined =
        table.dataframe().await?.join(joined, JoinType::Inner, &["\"userId\""], &["\"userId\""], None)?;
    assert_eq!(joined.count().await?, 3);
    let error = table.dataframe().await?.filter(col("nothing").eq(lit(1))).map_err(Error::from).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    let twice = |args: &[ColumnarValue]| {
        let column = ColumnarValue::values_to_arrays(args)?.remove(0);
        Ok(ColumnarValue::Array(icefield::arrow::compute::kernels::numeric::add(&column, &column)?))
    };
    session.register_udf(create_udf(
        "twice",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Immutable,
        std::sync::Arc::new(twice),
    ));
    assert_eq!(
        session.sql("SELECT twice(n) FROM \"shop.eu\".mart WHERE twice(n) = 60").await?.count().await?,
        1
    );

    let schema = Schema::new(vec![
        Field::new("userId", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
    ]);
    let rows = RecordBatch::try_new(
        schema.into(),
        vec![std::sync::Arc::new(Int64Array::from(vec![3])), std::sync::Arc::new(Int64Array::from(vec![1]))],
    )?;
    let table = table.append(session.read_batches([rows])?).await?.table;
    assert_eq!(
        (table.name(), table.snapshots().len(), table.history()?.len()),
        ("shop.eu.clicks".to_string(), 2, 2)
    );
    assert_eq!(table.history()?[0].operation, "append");
    assert_eq!(table.schema()?.fields().len(), 2);
    assert_eq!(table.references()[0].0, "main");
    assert!(table.location().ends_with("shop/eu/clicks"), "{}", table.location());
    assert_eq!(table.properties().get("owner").map(String::as_str), Some("marketing"));

    table.compact().await?;
    table.expire_snapshots().await?;
    table.remove_orphan_files().dry_run(true).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_by_a_handle_replaces_what_the_handle_shows() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let session = Session::open(folder.path()).await?;
    let one = || session.sql("SELECT 1 AS id");
    let table = one().await?.append_to(&session, "db.t").create_with(|table| table).await?.table;
    table.append(one().await?).await?;
    let stale = table.overwrite(one().await?).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict, "{stale}");
    let fresh = table.refresh().await?.overwrite(one().await?).await?;
    assert_eq!(fresh.table.dataframe().await?.count().await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_catalog_holds_is_listed_renamed_and_dropped_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let session = Session::open(folder.path()).await?;
    session.sql("SELECT 1 AS id").await?.append_to(&session, "a.b.t").create_with(|table| table).await?;
    let names =
        |all: Vec<icefield::NamespaceIdent>| all.iter().map(|n| n.to_url_string()).collect::<Vec<_>>();
    assert_eq!(names(session.namespaces(None).await?), ["a"]);
    assert_eq!(session.namespaces(Some("a")).await?.len(), 1);
    assert_eq!(session.tables("a.b").await?.len(), 1);
    session.rename_table("a.b.t", "a.b.u").await?;
    assert!(session.table_exists("a.b.u").await? && !session.table_exists("a.b.t").await?);
    session.drop_table("a.b.u").await?;
    assert_eq!(session.drop_table("a.b.u").await.unwrap_err().kind(), ErrorKind::NotFound);
    session.drop_namespace("a.b").await?;
    assert_eq!(session.namespaces(Some("a")).await?.len(), 0);
    assert_eq!(session.tables("a..b").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    Ok(())
}
