//! The catalog in a PostgreSQL database, with a server that stops, refuses and loses answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use icefield_catalog::sql::SqlCatalog;
use icefield_core::catalog::{Catalog, CommitOutcome, TableIdent};
use icefield_core::storage::Storage;
use icefield_core::{ErrorKind, Table};
use icefield_testkit::PostgresServer;
use icefield_testkit::catalog_suite::{self, creation, namespace, set_property};
use sqlx::{Connection, Executor, PgConnection};

use crate::proxy::{OnCommit, Proxy};

const WAREHOUSE: &str = "memory://lake/warehouse";

/// A catalog with one table, `n.t`.
async fn catalog_with_table(url: &str) -> (SqlCatalog, Table) {
    let catalog = SqlCatalog::builder("lake")
        .postgres(url)
        .warehouse(WAREHOUSE)
        .connect_timeout(Duration::from_secs(5))
        .open()
        .await
        .unwrap();
    catalog.create_namespace(&namespace(&["n"]), HashMap::new()).await.unwrap();
    let table = catalog.create_table(&namespace(&["n"]), creation("t")).await.unwrap();
    (catalog, table)
}

async fn sql(url: &str, statements: &str) {
    PgConnection::connect(url).await.unwrap().execute(statements).await.unwrap();
}

async fn files(catalog: &SqlCatalog) -> usize {
    use futures::TryStreamExt;
    catalog.storage().list(WAREHOUSE).try_collect::<Vec<_>>().await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_passes_the_suite() {
    let Some(server) = PostgresServer::shared() else { return };
    let url = server.database().await;
    let catalog = SqlCatalog::postgres("lake", &url, WAREHOUSE, Storage::new()).await.unwrap();
    catalog_suite::run(Arc::new(catalog)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_a_new_database_at_once() {
    let Some(server) = PostgresServer::shared() else { return };
    let url = server.database().await;
    let opens = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { SqlCatalog::postgres("lake", url, WAREHOUSE, Storage::new()).await })
    });
    for open in opens.collect::<Vec<_>>() {
        open.await.unwrap().expect("the database's tables are created once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_in_the_database() {
    let Some(server) = PostgresServer::shared() else { return };
    let proxy = Proxy::start(server.port).await;
    let url = server.database().await;
    let (catalog, mut table) = catalog_with_table(&proxy.url(&url)).await;
    for (step, fault) in [OnCommit::LoseAnswer, OnCommit::LoseRequest].into_iter().enumerate() {
        proxy.set(fault);
        table = match catalog.commit(vec![set_property(&table, "step", &step.to_string())]).await {
            CommitOutcome::Done(mut tables) => tables.pop().unwrap(),
            other => panic!("{fault:?}: {other:?}"),
        };
        assert_eq!(proxy.mode(), OnCommit::Pass, "the fault was met");
        let loaded = catalog.load_table(table.ident()).await.unwrap();
        assert_eq!(loaded.metadata_location(), table.metadata_location());
        assert_eq!(loaded.metadata().metadata_log().len(), step + 1, "applied once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_after_commit_leaves_the_outcome_unknown_and_the_files_alone() {
    let Some(server) = PostgresServer::shared() else { return };
    for (fault, applied) in [(OnCommit::LoseAnswerAndServer, true), (OnCommit::LoseRequestAndServer, false)] {
        let proxy = Proxy::start(server.port).await;
        let url = server.database().await;
        let (catalog, table) = catalog_with_table(&proxy.url(&url)).await;
        proxy.set(fault);
        let outcome = catalog.commit(vec![set_property(&table, "a", "b")]).await;
        let CommitOutcome::Unknown(error) = outcome else { panic!("{fault:?}: {outcome:?}") };
        assert_eq!(error.kind(), ErrorKind::CommitStateUnknown);
        assert!(error.to_string().contains("n.t"), "{error}");
        assert_eq!(proxy.mode(), OnCommit::Down);
        assert_eq!(files(&catalog).await, 2, "nothing is deleted");

        let error = catalog.load_table(table.ident()).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        let outcome = catalog.commit(vec![set_property(&table, "a", "b")]).await;
        assert!(matches!(&outcome, CommitOutcome::Failed(e) if e.is_retryable()), "{outcome:?}");

        proxy.set(OnCommit::Pass);
        let loaded = catalog.load_table(table.ident()).await.unwrap();
        assert_eq!(loaded.property("a").is_some(), applied);
        let outcome = catalog.commit(vec![set_property(&loaded, "c", "d")]).await;
        assert!(matches!(outcome, CommitOutcome::Done(_)), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creating_renaming_and_dropping_happen_once_whatever_answer_is_lost() {
    let Some(server) = PostgresServer::shared() else { return };
    for fault in [OnCommit::LoseAnswer, OnCommit::LoseRequest] {
        let proxy = Proxy::start(server.port).await;
        let url = server.database().await;
        let (catalog, table) = catalog_with_table(&proxy.url(&url)).await;
        let ns = namespace(&["m"]);
        let renamed = TableIdent::new(ns.clone(), "renamed".into());

        proxy.set(fault);
        catalog.create_namespace(&ns, HashMap::from([("a".into(), "b".into())])).await.unwrap();
        proxy.set(fault);
        catalog.update_namespace(&ns, HashMap::new(), vec!["a".into()]).await.unwrap();
        proxy.set(fault);
        let new = catalog.create_table(&ns, creation("t")).await.unwrap();
        let loaded = catalog.load_table(new.ident()).await.unwrap();
        assert_eq!(loaded.metadata_location(), new.metadata_location());
        proxy.set(fault);
        catalog.rename_table(new.ident(), &renamed).await.unwrap();
        proxy.set(fault);
        catalog.drop_table(&renamed).await.unwrap();
        proxy.set(fault);
        catalog.register_table(new.ident(), new.metadata_location()).await.unwrap();
        assert_eq!(catalog.list_tables(&ns).await.unwrap(), [new.ident().clone()]);
        catalog.drop_table(new.ident()).await.unwrap();
        proxy.set(fault);
        catalog.drop_namespace(&ns).await.unwrap();
        assert_eq!(proxy.mode(), OnCommit::Pass);
        assert!(!catalog.namespace_exists(&ns).await.unwrap());
        assert!(catalog.table_exists(table.ident()).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_stays_unknown_whatever_fails_after_it() {
    let Some(server) = PostgresServer::shared() else { return };
    for fault in [OnCommit::LoseAnswerAndServer, OnCommit::LoseRequestAndServer] {
        let proxy = Proxy::start(server.port).await;
        let url = server.database().await;
        let (catalog, table) = catalog_with_table(&proxy.url(&url)).await;
        let before = files(&catalog).await;
        let (ns, renamed) = (namespace(&["n"]), TableIdent::new(namespace(&["n"]), "renamed".into()));
        proxy.set(fault);
        let created = catalog.create_table(&ns, creation("u")).await.unwrap_err();
        proxy.set(fault);
        let moved = catalog.rename_table(table.ident(), &renamed).await.unwrap_err();
        proxy.set(OnCommit::Pass);
        let now = if catalog.table_exists(&renamed).await.unwrap() { &renamed } else { table.ident() };
        proxy.set(fault);
        let dropped = catalog.drop_table(now).await.unwrap_err();
        for error in [created, moved, dropped] {
            assert!(error.is_commit_state_unknown(), "{fault:?}: {error}");
        }
        assert_eq!(files(&catalog).await, before + 1, "the catalog may name the new table's file");
    }
}

/// Triggers do what somebody else does between the lost answer and the next try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_others_took_after_a_lost_answer_is_left_alone() {
    let Some(server) = PostgresServer::shared() else { return };
    let proxy = Proxy::start(server.port).await;
    let url = server.database().await;
    let (catalog, table) = catalog_with_table(&proxy.url(&url)).await;
    sql(
        &url,
        "CREATE FUNCTION recreated() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location)
             VALUES (OLD.catalog_name, OLD.table_namespace, OLD.table_name, OLD.metadata_location || '.another');
             RETURN NULL; END $$;
         CREATE TRIGGER recreated AFTER DELETE ON iceberg_tables FOR EACH ROW EXECUTE FUNCTION recreated();",
    )
    .await;
    proxy.set(OnCommit::LoseAnswer);
    let error = catalog.drop_table(table.ident()).await.unwrap_err();
    assert!(error.is_commit_state_unknown(), "{error}");
    let loaded = catalog.load_table(table.ident()).await.unwrap_err();
    assert!(loaded.to_string().ends_with("json.another)"), "dropped once: {loaded}");

    sql(
        &url,
        "DROP TRIGGER recreated ON iceberg_tables;
         UPDATE iceberg_tables SET metadata_location = replace(metadata_location, '.another', '');
         CREATE FUNCTION taken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location)
             VALUES (OLD.catalog_name, OLD.table_namespace, OLD.table_name, OLD.metadata_location || '.another');
             RETURN NULL; END $$;
         CREATE TRIGGER taken AFTER UPDATE ON iceberg_tables FOR EACH ROW WHEN (OLD.table_name <> NEW.table_name)
             EXECUTE FUNCTION taken();",
    )
    .await;
    let renamed = TableIdent::new(namespace(&["n"]), "renamed".into());
    proxy.set(OnCommit::LoseAnswer);
    let error = catalog.rename_table(table.ident(), &renamed).await.unwrap_err();
    assert!(error.is_commit_state_unknown(), "{error}");
    let loaded = catalog.load_table(&renamed).await.unwrap();
    assert_eq!(loaded.metadata_location(), table.metadata_location(), "renamed once");
    let loaded = catalog.load_table(table.ident()).await.unwrap_err();
    assert!(loaded.to_string().ends_with("json.another)"), "the other's table: {loaded}");

    sql(
        &url,
        "CREATE FUNCTION committed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             UPDATE iceberg_tables SET metadata_location = NEW.metadata_location || '.next' WHERE table_name = NEW.table_name;
             RETURN NULL; END $$;
         CREATE TRIGGER committed AFTER INSERT ON iceberg_tables FOR EACH ROW EXECUTE FUNCTION committed();",
    )
    .await;
    let before = files(&catalog).await;
    proxy.set(OnCommit::LoseAnswer);
    let error = catalog.create_table(&namespace(&["n"]), creation("u")).await.unwrap_err();
    assert!(error.is_commit_state_unknown(), "{error}");
    assert_eq!(files(&catalog).await, before + 1, "nothing is deleted");
}

/// A trigger's first call ends the session: before COMMIT, or, deferred, while the server is committing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_terminated_is_tried_again() {
    let Some(server) = PostgresServer::shared() else { return };
    for deferred in [false, true] {
        let url = server.database().await;
        let (catalog, table) = catalog_with_table(&url).await;
        let timing = if deferred { "DEFERRABLE INITIALLY DEFERRED" } else { "" };
        sql(
            &url,
            &format!(
                "CREATE SEQUENCE calls;
                 CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF nextval('calls') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(9); END IF;
                     RETURN NULL; END $$;
                 CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON iceberg_tables {timing}
                     FOR EACH ROW EXECUTE FUNCTION die();"
            ),
        )
        .await;
        let outcome = catalog.commit(vec![set_property(&table, "a", "b")]).await;
        assert!(matches!(outcome, CommitOutcome::Done(_)), "deferred: {deferred}, {outcome:?}");
        let loaded = catalog.load_table(table.ident()).await.unwrap();
        assert_eq!(loaded.metadata().metadata_log().len(), 1);
        assert_eq!(files(&catalog).await, 2);
    }
}

/// What the server says it rolled back did not happen, although COMMIT was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_the_server_refuses_is_a_failure_and_leaves_no_file() {
    let Some(server) = PostgresServer::shared() else { return };
    let url = server.database().await;
    let (catalog, table) = catalog_with_table(&url).await;
    sql(
        &url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = '23514'; END $$;
         CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON iceberg_tables DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION refuse();",
    )
    .await;
    let outcome = catalog.commit(vec![set_property(&table, "a", "b")]).await;
    let CommitOutcome::Failed(error) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("not today") && !error.is_retryable(), "{error}");
    assert_eq!(files(&catalog).await, 1);
    assert!(catalog.load_table(table.ident()).await.unwrap().property("a").is_none());
}

/// A server whose default isolation level is serializable is used at the level that the statements are made for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serializable_server_loses_no_commit() {
    let Some(server) = PostgresServer::shared() else { return };
    let url = server.database().await;
    let name = url.rsplit_once('/').unwrap().1;
    sql(&url, &format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")).await;
    let catalog = SqlCatalog::postgres("lake", &url, WAREHOUSE, Storage::new()).await.unwrap();
    catalog_suite::contend(Arc::new(catalog), 8, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_url_is_said_without_its_password() {
    let Some(server) = PostgresServer::shared() else { return };
    let url = server.database().await;
    let wrong = |url: String| async move {
        let opened = SqlCatalog::builder("lake").postgres(url).warehouse(WAREHOUSE);
        opened.connect_timeout(Duration::from_millis(300)).open().await.unwrap_err()
    };
    let error = wrong(url.replace("icefield@", "nobody:s3cret@")).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(!format!("{error:?}").contains("s3cret"));
    assert_eq!(wrong(format!("{url}_absent")).await.kind(), ErrorKind::InvalidInput);
    let error = wrong("postgresql://user:s3cret@nowhere:port/x".into()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(!format!("{error:?}").contains("s3cret"));
    let error = wrong(url.replace(&server.port.to_string(), "1")).await;
    assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
}

/// PostgreSQL holds what the columns hold; SQLite does not mind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_for_a_column_is_invalid_input() {
    let Some(server) = PostgresServer::shared() else { return };
    let url = server.database().await;
    let (catalog, _) = catalog_with_table(&url).await;
    let long = catalog.create_namespace(&namespace(&[&"n".repeat(256)]), HashMap::new()).await.unwrap_err();
    assert_eq!(long.kind(), ErrorKind::InvalidInput, "{long}");
    let before = files(&catalog).await;
    let long = catalog.create_table(&namespace(&["n"]), creation(&"t".repeat(256))).await.unwrap_err();
    assert_eq!(long.kind(), ErrorKind::InvalidInput, "{long}");
    assert_eq!(files(&catalog).await, before, "no file is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_encrypted_and_the_server_known_as_the_url_asks() {
    let Some((server, certificate)) = PostgresServer::with_tls() else { return };
    let plain = server.database().await;
    let named = plain.replace("127.0.0.1", "localhost");
    let open = |url: String| async move {
        let builder = SqlCatalog::builder("lake").postgres(url).warehouse(WAREHOUSE);
        builder.connect_timeout(Duration::from_secs(5)).open().await
    };
    open(format!("{plain}?sslmode=disable")).await.unwrap();
    let catalog = open(format!("{plain}?sslmode=require")).await.unwrap();
    catalog.create_namespace(&namespace(&["n"]), HashMap::new()).await.unwrap();
    sql(&plain, "SELECT 1").await;
    let mut connection = PgConnection::connect(&format!("{plain}?sslmode=require")).await.unwrap();
    let (encrypted,): (bool,) = sqlx::query_as("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(encrypted);

    // Whoever wants to know the server must be given its certificate, and call it by its name.
    let known = format!("sslmode=verify-full&sslrootcert={}", certificate.display());
    open(format!("{named}?{known}")).await.unwrap();
    for url in [format!("{named}?sslmode=verify-full"), format!("{plain}?{known}")] {
        let error = open(url).await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
        assert!(!error.is_commit_state_unknown());
    }
}

/// A server that answers the request for TLS so, whoever it is.
fn answering(answer: &'static [u8]) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://user:s3cret@{}/lake", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let _ = connection.read(&mut [0; 8]);
            let _ = connection.write_all(answer);
            // The client's answers, until it has had enough.
            while connection.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
        }
    });
    url
}

#[tokio::test]
async fn a_connection_that_is_not_secure_is_told_so_and_not_advised() {
    let cases: [(&[u8], &str); 2] = [(b"N", "does not support TLS"), (b"SHTTP/1.1 200 Fine, sir.\r\n", "")];
    for (answer, cause) in cases {
        for mode in ["require", "verify-full"] {
            let url = format!("{}?sslmode={mode}", answering(answer));
            let builder = SqlCatalog::builder("lake").postgres(url).warehouse(WAREHOUSE);
            let error = builder.connect_timeout(Duration::from_secs(5)).open().await.unwrap_err();
            // Trying again would find the same.
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
            let text = format!("{error:?}");
            assert!(text.contains("secured by TLS") && text.contains(cause), "{text}");
            for bad in ["disable", "does not have", "s3cret"] {
                assert!(!text.contains(bad), "{text}");
            }
        }
    }
}
