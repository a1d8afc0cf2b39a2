//! The catalog in a SQLite file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use icefield_catalog::sql::SqlCatalog;
use icefield_core::ErrorKind;
use icefield_core::catalog::{Catalog, CommitOutcome, TableIdent};
use icefield_core::storage::Storage;
use icefield_testkit::catalog_suite::{self, creation, namespace, set_property};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Executor, SqliteConnection};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = format!("file://{}", folder.path().join("warehouse").display());
    let path = folder.path().join("new folder/catalog.db");
    let catalog = SqlCatalog::sqlite("lake", path, warehouse, Storage::new()).await.unwrap();
    catalog_suite::run(Arc::new(catalog)).await;
}

/// A catalog in `folder/catalog.db`, its tables beside it.
pub(crate) async fn open(folder: &Path) -> SqlCatalog {
    let warehouse = format!("file://{}", folder.join("warehouse").display());
    SqlCatalog::sqlite("lake", folder.join("catalog.db"), warehouse, Storage::new()).await.unwrap()
}

async fn sql(path: &Path, statements: &str) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(statements).await.unwrap();
    connection
}

/// Four processes, each with two tasks, open a catalog that does not exist yet, create the same table and commit to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_share_one_file_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let children: Vec<_> = (0..4)
        .map(|process| {
            tokio::process::Command::new(&program)
                .args(["--exact", "sqlite::one_of_four_processes", "--nocapture"])
                .env(PROCESS, process.to_string())
                .env(FOLDER, folder.path())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().await.unwrap();
        assert!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let catalog = open(folder.path()).await;
    let writers: Vec<_> =
        (0..4).flat_map(|process| (0..2).map(move |task| format!("{process}-{task}"))).collect();
    catalog_suite::assert_bumped_once(&catalog, &shared_table(), &writers, COMMITS).await;
}

const PROCESS: &str = "ICEFIELD_TEST_PROCESS";
const FOLDER: &str = "ICEFIELD_TEST_FOLDER";
const COMMITS: usize = 8;

fn shared_table() -> TableIdent {
    TableIdent::new(namespace(&["n"]), "t".into())
}

/// Does nothing, unless the test above runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_four_processes() {
    let (Ok(process), Some(folder)) = (std::env::var(PROCESS), std::env::var_os(FOLDER)) else { return };
    let catalog = Arc::new(open(Path::new(&folder)).await);
    let exists = |e: &icefield_core::Error| e.kind() == ErrorKind::AlreadyExists;
    let table = shared_table();
    if let Err(e) = catalog.create_namespace(table.namespace(), HashMap::new()).await {
        assert!(exists(&e), "{e:?}");
    }
    if let Err(e) = catalog.create_table(table.namespace(), creation("t")).await {
        assert!(exists(&e), "{e:?}");
    }
    let tasks: Vec<_> = (0..2)
        .map(|task| {
            let (catalog, name) = (catalog.clone(), format!("{process}-{task}"));
            tokio::spawn(async move { catalog_suite::bump(&*catalog, &shared_table(), &name, COMMITS).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_another_program_that_has_the_file_locked() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Arc::new(open(folder.path()).await);
    catalog.create_namespace(&namespace(&["n"]), HashMap::new()).await.unwrap();
    let table = catalog.create_table(&namespace(&["n"]), creation("t")).await.unwrap();
    for lock in ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE", "BEGIN; SELECT * FROM iceberg_tables"] {
        let mut other = sql(&folder.path().join("catalog.db"), lock).await;
        let (writer, base) = (catalog.clone(), table.clone());
        let commit = tokio::spawn(async move { writer.commit(vec![set_property(&base, "a", "b")]).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!commit.is_finished(), "{lock}");
        other.execute("ROLLBACK").await.unwrap();
        let outcome = commit.await.unwrap();
        assert!(matches!(outcome, CommitOutcome::Done(_)), "{lock}: {outcome:?}");
    }
}

/// Iceberg Java's first layout, and PyIceberg's before it knew views.
#[tokio::test]
async fn tables_of_the_old_layout_are_used_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    sql(
        &path,
        "CREATE TABLE iceberg_tables (catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL,
             table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000),
             PRIMARY KEY (catalog_name, table_namespace, table_name));
         CREATE TABLE iceberg_namespace_properties (catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL,
             property_key VARCHAR(255), property_value VARCHAR(1000), PRIMARY KEY (catalog_name, namespace, property_key));",
    )
    .await;
    let catalog = Arc::new(open(folder.path()).await);
    catalog_suite::run(catalog).await;
}

/// Views are rows beside the tables. They are not ours, and their names are taken.
#[tokio::test]
async fn views_of_other_programs_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    let ns = namespace(&["n"]);
    catalog.create_namespace(&ns, HashMap::new()).await.unwrap();
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    sql(
        &folder.path().join("catalog.db"),
        "INSERT INTO iceberg_tables VALUES ('lake', 'n', 'v', 'file:///v.json', NULL, 'VIEW');
         INSERT INTO iceberg_tables VALUES ('lake', 'only.views', 'v', 'file:///v.json', NULL, 'VIEW');
         INSERT INTO iceberg_tables VALUES ('another', 'theirs', 't', 'file:///t.json', NULL, NULL);",
    )
    .await;
    let view = TableIdent::new(ns.clone(), "v".into());
    assert_eq!(catalog.list_tables(&ns).await.unwrap(), [table.ident().clone()]);
    assert!(!catalog.table_exists(&view).await.unwrap());
    assert_eq!(catalog.load_table(&view).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(catalog.drop_table(&view).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(catalog.create_table(&ns, creation("v")).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        catalog.rename_table(table.ident(), &view).await.unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    catalog.drop_table(table.ident()).await.unwrap();
    assert_eq!(catalog.drop_namespace(&ns).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    // A namespace that only a row below it shows.
    assert_eq!(catalog.list_namespaces(None).await.unwrap(), [ns, namespace(&["only"])]);
    assert_eq!(catalog.namespace_properties(&namespace(&["only"])).await.unwrap(), HashMap::new());
    assert!(!catalog.namespace_exists(&namespace(&["theirs"])).await.unwrap());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, "not a database, but long enough to be read as one".repeat(100)).unwrap();
    let cases = [(garbage, ErrorKind::DataInvalid), (folder.path().to_path_buf(), ErrorKind::Io)];
    for (path, kind) in cases {
        let error = SqlCatalog::sqlite("lake", &path, "memory://lake/w", Storage::new()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    for warehouse in ["", "relative/path", "nosuchscheme://x/y"] {
        let path = folder.path().join("catalog.db");
        let error = SqlCatalog::sqlite("lake", path, warehouse, Storage::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
}

#[tokio::test]
async fn the_uri_of_pyiceberg_opens_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    catalog.create_namespace(&namespace(&["n"]), HashMap::new()).await.unwrap();
    let uri = format!("sqlite:///{}", folder.path().join("catalog.db").display());
    let again =
        SqlCatalog::builder("lake").uri(&uri).unwrap().warehouse("memory://lake/w").open().await.unwrap();
    assert!(again.namespace_exists(&namespace(&["n"])).await.unwrap());
    for wrong in ["mysql://host/db", "catalog.db", "sqlite://", "sqlite:///", ""] {
        assert_eq!(
            SqlCatalog::builder("lake").uri(wrong).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_table_is_read_again_only_when_another_has_committed() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (open(folder.path()).await, open(folder.path()).await);
    let ns = namespace(&["ns"]);
    ours.create_namespace(&ns, HashMap::new()).await.unwrap();
    let table = ours.create_table(&ns, creation("t")).await.unwrap();
    let ident: &TableIdent = table.ident();
    let first = theirs.load_table(ident).await.unwrap();
    for n in 0..3 {
        let outcome = ours.commit(vec![set_property(&table, "n", &n.to_string())]).await;
        let CommitOutcome::Done(tables) = outcome else { panic!("{outcome:?}") };
        let seen = theirs.load_table(ident).await.unwrap();
        assert_eq!(seen.metadata_location(), tables[0].metadata_location());
        assert_eq!(seen.property("n"), Some(n.to_string().as_str()));
        assert_ne!(seen.metadata_location(), first.metadata_location());
    }
    // Nobody reads what they know already: the file may be gone from under them, and only a newcomer misses it.
    let now = ours.load_table(ident).await.unwrap();
    ours.storage().delete(now.metadata_location()).await.unwrap();
    assert_eq!(ours.load_table(ident).await.unwrap().property("n"), Some("2"));
    assert_eq!(theirs.load_table(ident).await.unwrap().property("n"), Some("2"));
    let newcomer = open(folder.path()).await;
    assert_eq!(newcomer.load_table(ident).await.unwrap_err().kind(), ErrorKind::DataInvalid);

    // A table of the same name that was created anew is another one.
    ours.drop_table(ident).await.unwrap();
    let anew = ours.create_table(&ns, creation("t")).await.unwrap();
    assert_eq!(theirs.load_table(ident).await.unwrap().metadata().uuid(), anew.metadata().uuid());
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_catalog_is_its_users_alone_and_an_old_one_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let inner = folder.path().join("lake/catalogs");
    let path = inner.join("catalog.db");
    let catalog = SqlCatalog::sqlite("lake", &path, "memory://lake/w", Storage::new()).await.unwrap();
    catalog.create_namespace(&namespace(&["n"]), HashMap::new()).await.unwrap();
    for entry in std::fs::read_dir(&inner).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert_eq!((mode(&inner), mode(&folder.path().join("lake"))), (0o700, 0o700));
    catalog.close().await;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::set_permissions(&inner, PermissionsExt::from_mode(0o750)).unwrap();
    let again = SqlCatalog::sqlite("lake", &path, "memory://lake/w", Storage::new()).await.unwrap();
    assert!(again.namespace_exists(&namespace(&["n"])).await.unwrap());
    assert_eq!((mode(&path), mode(&inner)), (0o640, 0o750));
}
