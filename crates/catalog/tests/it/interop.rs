//! PyIceberg, and Iceberg Java's `JdbcCatalog`, on the same SQLite file as we. Both are part of the referee's engines, under
//! `REFEREE_HOME` (by default `~/.cache/referee`); where they are missing, the tests are skipped with a notice.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use icefield_catalog::sql::SqlCatalog;
use icefield_core::Table;
use icefield_core::catalog::{Catalog, CommitOutcome, TableIdent};
use icefield_core::storage::Storage;
use icefield_testkit::catalog_suite::{self, creation, namespace, set_property};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

fn home() -> PathBuf {
    let home = std::env::var_os("REFEREE_HOME").map(PathBuf::from);
    home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/referee"))
}

/// PyIceberg's Python; none, with a notice, where it is not installed.
fn python() -> Option<PathBuf> {
    let python = home().join("pyiceberg/bin/python");
    if python.exists() {
        return Some(python);
    }
    println!("skipped: no PyIceberg at {}", python.display());
    None
}

/// Runs a step of `pyiceberg_peer.py`, and gives what it printed.
async fn peer(python: &Path, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pyiceberg_peer.py");
    let output = Command::new(python).arg(script).args(arguments).output().await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}\n{stdout}\n{stderr}");
    stdout.trim().to_string()
}

fn records(table: &Table) -> Option<&str> {
    let summary = table.metadata().current_snapshot()?.summary();
    summary.additional_properties.get("total-records").map(String::as_str)
}

async fn commit(catalog: &dyn Catalog, table: &Table, key: &str) -> Table {
    match catalog.commit(vec![set_property(table, key, "done")]).await {
        CommitOutcome::Done(mut tables) => tables.pop().unwrap(),
        other => panic!("expected a commit: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyiceberg_uses_the_file_that_we_made() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let catalog = crate::sqlite::open(folder.path()).await;
    let nested = namespace(&["hotel", "raw"]);
    catalog.create_namespace(&nested, HashMap::from([("owner".into(), "ann".into())])).await.unwrap();
    let table = catalog.create_table(&nested, creation("rates")).await.unwrap();
    let place = folder.path().display().to_string();

    assert_eq!(peer(&python, &["list", &place]).await, "hotel\nhotel.raw owner=ann\nhotel.raw.rates");
    peer(&python, &["append", &place, "hotel.raw.rates", "3"]).await;
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(records(&loaded), Some("3"));
    let log: Vec<_> = loaded.metadata().metadata_log().iter().map(|e| e.metadata_file.as_str()).collect();
    assert_eq!(log, [table.metadata_location()]);

    commit(&catalog, &loaded, "ours").await;
    peer(&python, &["append", &place, "hotel.raw.rates", "2"]).await;
    assert_eq!(peer(&python, &["count", &place, "hotel.raw.rates"]).await, "5");
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!((records(&loaded), loaded.property("ours")), (Some("5"), Some("done")));

    peer(&python, &["rename", &place, "hotel.raw.rates", "hotel.old"]).await;
    let old = TableIdent::new(namespace(&["hotel"]), "old".into());
    assert_eq!(catalog.load_table(&old).await.unwrap().metadata_location(), loaded.metadata_location());
    catalog.drop_table(&old).await.unwrap();
    catalog.drop_namespace(&nested).await.unwrap();
    assert_eq!(peer(&python, &["list", &place]).await, "hotel");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_use_the_file_that_pyiceberg_made() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    peer(&python, &["create", &place, "hotel.raw", "rates"]).await;
    peer(&python, &["append", &place, "hotel.raw.rates", "4"]).await;

    let catalog = crate::sqlite::open(folder.path()).await;
    let (hotel, raw) = (namespace(&["hotel"]), namespace(&["hotel", "raw"]));
    assert_eq!(catalog.list_namespaces(None).await.unwrap(), std::slice::from_ref(&hotel));
    assert_eq!(catalog.list_namespaces(Some(&hotel)).await.unwrap(), std::slice::from_ref(&raw));
    assert_eq!(
        catalog.namespace_properties(&raw).await.unwrap(),
        HashMap::from([("made-by".into(), "pyiceberg".into())])
    );
    let ident = TableIdent::new(raw.clone(), "rates".into());
    assert_eq!(catalog.list_tables(&raw).await.unwrap(), std::slice::from_ref(&ident));
    let table = catalog.load_table(&ident).await.unwrap();
    assert_eq!(records(&table), Some("4"));
    commit(&catalog, &table, "ours").await;
    assert_eq!(peer(&python, &["property", &place, "hotel.raw.rates", "ours"]).await, "done");

    // Its only property gone, the namespace is still there for both.
    catalog.drop_table(&ident).await.unwrap();
    catalog.update_namespace(&raw, HashMap::new(), vec!["made-by".into()]).await.unwrap();
    assert_eq!(peer(&python, &["list", &place]).await, "hotel\nhotel.raw");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyiceberg_and_we_write_one_table_at_the_same_time() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let catalog = Arc::new(crate::sqlite::open(folder.path()).await);
    catalog.create_namespace(&namespace(&["n"]), HashMap::new()).await.unwrap();
    let table = catalog.create_table(&namespace(&["n"]), creation("t")).await.unwrap();
    let place = folder.path().display().to_string();
    let theirs = tokio::spawn(async move { peer(&python, &["append-often", &place, "n.t", "10"]).await });
    let mut ours = 0;
    while !theirs.is_finished() {
        catalog_suite::bump(&*catalog, table.ident(), &format!("ours-{ours}"), 1).await.unwrap();
        ours += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(theirs.await.unwrap(), "10");
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(records(&loaded), Some("10"));
    assert!(ours > 0);
    for n in 0..ours {
        assert_eq!(loaded.property(&format!("ours-{n}-0")), Some("done"));
    }
}

/// Iceberg Java's `JdbcCatalog`, called `default`, behind HTTP on `folder/rest-catalog.db`: the server and its URL.
async fn java(script: &Path, folder: &Path) -> (Child, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new(script)
        .arg(port.to_string())
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.starts_with("listening") {
            break;
        }
    }
    (server, format!("http://127.0.0.1:{port}"))
}

/// One after the other: some versions of Java's SQLite driver keep the file locked from the moment at which a `JdbcCatalog`
/// opens one that has tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jdbc_catalog_of_iceberg_java_uses_the_file_that_we_made() {
    let Some(python) = python() else { return };
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/referee/referee");
    let referee = std::env::var_os("ICEFIELD_REFEREE").map_or(beside, PathBuf::from);
    let script = referee.with_file_name("rest-server");
    if !script.exists() || !home().join("jdbc/sqlite-jdbc.jar").exists() {
        println!("skipped: no Iceberg Java with its JDBC driver beside {}", referee.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let warehouse = format!("file://{}", folder.path().display());
    let database = folder.path().join("rest-catalog.db");
    let catalog = SqlCatalog::sqlite("default", &database, warehouse, Storage::new()).await.unwrap();
    let nested = namespace(&["hotel", "raw"]);
    catalog.create_namespace(&nested, HashMap::from([("owner".into(), "ann".into())])).await.unwrap();
    let table = catalog.create_table(&nested, creation("rates")).await.unwrap();
    commit(&catalog, &table, "before").await;

    let (mut server, place) = java(&script, folder.path()).await;
    assert_eq!(peer(&python, &["list", &place]).await, "hotel\nhotel.raw owner=ann\nhotel.raw.rates");
    assert_eq!(peer(&python, &["property", &place, "hotel.raw.rates", "before"]).await, "done");
    peer(&python, &["append", &place, "hotel.raw.rates", "3"]).await;
    peer(&python, &["create", &place, "java", "made"]).await;
    server.kill().await.unwrap();

    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(records(&loaded), Some("3"));
    commit(&catalog, &loaded, "after").await;
    assert_eq!(catalog.list_namespaces(None).await.unwrap(), [namespace(&["hotel"]), namespace(&["java"])]);
    let made = catalog.load_table(&TableIdent::new(namespace(&["java"]), "made".into())).await.unwrap();
    commit(&catalog, &made, "ours").await;

    let (mut server, place) = java(&script, folder.path()).await;
    assert_eq!(peer(&python, &["property", &place, "hotel.raw.rates", "after"]).await, "done");
    assert_eq!(peer(&python, &["property", &place, "java.made", "ours"]).await, "done");
    assert_eq!(peer(&python, &["count", &place, "hotel.raw.rates"]).await, "3");
    server.kill().await.unwrap();
}
