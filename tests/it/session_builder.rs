//! Sessions over catalogs and stores of every place.

use icefield::object_store::memory::InMemory;
use icefield::prelude::*;
use icefield::storage::Storage;

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_catalog_in_postgresql() -> Result<()> {
    let Some(server) = icefield_testkit::PostgresServer::shared() else { return Ok(()) };
    let database = server.database().await;
    let folder = tempfile::tempdir()?;
    let warehouse = format!("file://{}", folder.path().display());
    let session = || Session::builder().warehouse(&warehouse).postgres(&database);
    let (one, other) = (session().await?, session().await?);
    one.sql("SELECT 1 AS id").await?.append_to(&one, "shop.orders").create_with(|table| table).await?;
    other.sql("SELECT 2 AS id").await?.append_to(&other, "shop.orders").await?;
    assert_eq!(one.table("shop.orders").await?.dataframe().await?.count().await?, 2);

    let error = Session::builder().postgres(&database).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("warehouse"), "{error}");
    Ok(())
}

#[test]
fn options_of_stores_are_shown_to_nobody() {
    let builder = Session::builder().storage_option("aws_secret_access_key", "hunter2");
    let shown = format!("{builder:?}");
    assert!(shown.contains("aws_secret_access_key") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn options_are_of_the_storage_that_the_builder_makes() -> Result<()> {
    let with = || Session::builder().storage_option("aws_region", "eu-central-1");
    with().build()?;
    let storage = Storage::new().with_store("memory://given", std::sync::Arc::new(InMemory::new()))?;
    let error = with().storage(storage).build().unwrap_err();
    assert!(error.to_string().contains("with_options"), "{error}");
    let catalog = Session::builder().build()?.catalog().clone();
    let error = with().catalog(catalog).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_services_own_context_has_the_rules_of_a_session() -> Result<()> {
    use icefield::datafusion::execution::SessionStateBuilder;
    use icefield::datafusion::prelude::SessionContext;

    let session = Session::builder().build()?;
    let rows = session.sql("SELECT * FROM (VALUES (1, 16777217), (2, NULL)) AS t(id, n)").await?;
    let table = rows.append_to(&session, "a.t").create_with(|table| table).await?.table;
    let own = SessionContext::new_with_state(
        icefield::configure(SessionStateBuilder::new().with_default_features()).build(),
    );
    own.register_table("t", table.provider()?)?;
    // DataFusion alone says true: NULL is among those that 3 is compared with.
    let query = "SELECT id FROM t WHERE 3 NOT IN (SELECT n FROM t)";
    assert_eq!(own.sql(query).await?.count().await?, 0);
    // Inserts lose nothing.
    let lossy = async { own.sql("INSERT INTO t SELECT 3, 1.7").await?.collect().await }.await;
    assert!(lossy.is_err(), "{lossy:?}");
    own.sql("INSERT INTO t SELECT 3, 4").await?.collect().await?;
    assert_eq!(table.refresh().await?.dataframe().await?.count().await?, 3);
    Ok(())
}
