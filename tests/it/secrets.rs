//! No secret that the library is given is shown by it: known ones are looked for in all that it shows and writes.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use icefield::catalog::sql::SqlCatalog;
use icefield::ingest::Ingest;
use icefield::prelude::*;
use icefield::storage::Storage;
use icefield::{Catalog, MemoryCatalog, NamespaceIdent};

/// In every secret, and nowhere else. In base64 too, as keys of Azure are.
const MARK: &str = "hunter2";
const AZURE_KEY: &str = "aHVudGVyMmh1bnRlcjJodW50ZXIy";

/// A store that refuses everything, and says back all that it was asked.
fn refusing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut asked = [0; 8192];
            let read = connection.read(&mut asked).unwrap_or(0);
            let first = asked[..read].split(|byte| *byte == b'?').next().unwrap_or_default();
            let line = first.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let head =
                format!("HTTP/1.1 403 No\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", line.len());
            let _ = connection.write_all(&[head.as_bytes(), line].concat());
        }
    });
    address
}

fn storages() -> Vec<(&'static str, Storage)> {
    let address = refusing();
    let s3 = [
        ("s3.endpoint", address.as_str()),
        ("s3.region", "eu-west-1"),
        ("s3.access-key-id", "AKhunter2"),
        ("s3.secret-access-key", "hunter2-secret"),
        ("s3.session-token", "hunter2-token"),
    ];
    let azure = |more: &'static [(&'static str, &'static str)]| {
        let plain = [
            ("azure_endpoint", address.as_str()),
            ("azure_storage_account_name", "account"),
            ("allow_http", "true"),
        ];
        plain.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()
    };
    let service = r#"{"type": "service_account", "private_key": "hunter2", "private_key_id": "hunter2", "client_email": "a@b"}"#;
    let all = vec![
        ("s3://bucket/t/x", s3.to_vec()),
        ("az://container/t/x", azure(&[("azure_storage_account_key", AZURE_KEY)])),
        ("az://container/t/x", azure(&[("azure_storage_account_key", "hunter2 is not base64!")])),
        ("az://container/t/x", azure(&[("azure_storage_sas_key", "sv=2022-11-02&ss=b&sig=hunter2%3D")])),
        ("az://container/t/x", azure(&[("azure_storage_token", "hunter2")])),
        (
            "az://container/t/x",
            azure(&[
                ("azure_client_id", "app"),
                ("azure_tenant_id", "tenant"),
                ("azure_client_secret", "hunter2"),
                ("azure_authority_host", "http://127.0.0.1:1"),
            ]),
        ),
        ("gs://bucket/t/x", vec![("google_service_account_key", service)]),
        ("gs://bucket/t/x", vec![("google_service_account_key", "hunter2: no JSON")]),
    ];
    let options = |pairs: Vec<(&str, &str)>| -> HashMap<String, String> {
        pairs.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    };
    all.into_iter().map(|(file, pairs)| (file, Storage::with_options(options(pairs)))).collect()
}

/// All that an error shows of itself and of those underneath.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(|error| format!("{error} {error:?} {error:#?}\n")).collect()
}

fn clean(what: &str, text: &str) {
    for secret in [MARK, AZURE_KEY] {
        assert!(!text.contains(secret), "{what}: {text}");
    }
}

fn shown(what: &str, of: &dyn Debug) {
    clean(what, &format!("{of:?} {of:#?}"));
}

#[tokio::test]
async fn no_secret_of_a_store_is_shown_by_what_holds_it() {
    for (file, storage) in storages() {
        shown("storage", &storage);
        shown("confined", &storage.confined_to(["s3://bucket"]).unwrap().with_machine_credentials(true));
        shown("file io", &storage.file_io());
        match storage.resolve(file) {
            Ok(resolved) => shown("resolved", &resolved),
            Err(error) => clean("error of resolving", &told(&error)),
        }
        let warehouse = file.trim_end_matches("/t/x");
        shown("builder", &Session::builder().storage(storage.clone()).warehouse(warehouse));
        shown("ingest", &Ingest::from_url("/nowhere").storage(storage.clone()));
        let catalog = MemoryCatalog::new("memory://w", storage.clone());
        shown("catalog", &catalog);
        // What holds storage shows it, whatever its options: once is enough.
        if !file.starts_with("s3:") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let builder = SqlCatalog::builder("lake")
            .sqlite(folder.path().join("catalog.db"))
            .warehouse("memory://w")
            .storage(storage.clone());
        shown("builder of a catalog", &builder);
        shown("catalog in a database", &builder.open().await.unwrap());

        let session = Session::builder().catalog(Arc::new(catalog)).build().unwrap();
        let frame = session.sql("SELECT 1 AS id").await.unwrap();
        let written = frame.append_to(&session, "db.t").create_with(|t| t).await.unwrap();
        shown("session", &session);
        shown("runtime", session.context().runtime_env().object_store_registry.as_ref());
        shown("table", &written.table);
        shown("table of core", written.table.core());
        shown("report", &written);
        shown("opened", &session.table_from_metadata_file(file));
        shown("expiry", &icefield::maintenance::purge_table(&written.table));
        let stores = session.catalog().storage();
        for file in stores.list("memory://w").try_collect::<Vec<_>>().await.unwrap() {
            let bytes = stores.read(&file.location).await.unwrap();
            clean(&file.location, &String::from_utf8_lossy(&bytes));
        }
    }
}

#[tokio::test]
async fn no_secret_of_a_store_is_in_what_it_fails_with() {
    for (file, storage) in storages() {
        // Some ask for a token first, which nobody gives, for minutes.
        let read = tokio::time::timeout(Duration::from_millis(500), storage.read(file));
        if let Ok(read) = read.await {
            clean("error of reading", &told(&read.unwrap_err()));
            clean("error of writing", &told(&storage.write(file, "x").await.unwrap_err()));
            let listed: icefield::Result<Vec<_>> = storage.list(file).try_collect().await;
            clean("error of listing", &told(&listed.unwrap_err()));
            let catalog = MemoryCatalog::new(file.trim_end_matches("/t/x"), storage.clone());
            let namespace = NamespaceIdent::new("db".to_string());
            catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
            let session = Session::builder().catalog(Arc::new(catalog)).build().unwrap();
            let frame = session.sql("SELECT 1 AS id").await.unwrap();
            let failed = frame.append_to(&session, "db.t").create_with(|t| t).await.unwrap_err();
            clean("error of an append", &told(&failed));
            let opened = session.table_from_metadata_file(file).await.unwrap_err();
            clean("error of opening", &told(&opened));
        }
    }
}

#[tokio::test]
async fn no_password_of_a_database_is_shown() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [
        format!("postgresql://user:{MARK}@{closed}/lake"),
        format!("postgresql://user:{MARK}@{closed}/lake?sslmode=verify-full&sslrootcert=/nowhere"),
        format!("postgresql://user@{closed}/lake?password={MARK}"),
        format!("postgresql://user:{MARK}@host:port/lake"),
        format!("postgresql+psycopg2://user:{MARK}@{closed}/lake"),
        format!("sqlite://user:{MARK}@host/lake"),
        format!("mysql://user:{MARK}@{closed}/lake"),
        format!("user:{MARK}@{closed}/lake"),
    ] {
        let builder = SqlCatalog::builder("lake").warehouse("memory://w");
        let builder = builder.connect_timeout(Duration::from_millis(200));
        match builder.uri(&url) {
            Err(error) => clean("error of a URL", &told(&error)),
            Ok(builder) => {
                shown("builder", &builder);
                clean("error of opening", &told(&builder.open().await.unwrap_err()));
            }
        }
    }
}
