//! Stores for which no credentials are configured: whom they ask for some.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use icefield_core::ErrorKind;
use icefield_core::storage::Storage;

/// Stands in for a machine's metadata service: its address, and how often it was asked.
fn metadata_service() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let Ok(mut connection) = connection else { continue };
            let _ = connection.read(&mut [0; 4096]);
            let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = connection.write_all(refused.as_bytes());
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_store_asks_its_machine_for_credentials_only_if_told() {
    let (address, asked) = metadata_service();
    let options = [
        ("aws_metadata_endpoint", address.as_str()),
        ("aws_region", "eu-west-1"),
        ("aws_imdsv1_fallback", "true"),
        ("azure_msi_endpoint", &address),
        ("azure_storage_account_name", "account"),
    ];
    let options: HashMap<_, _> =
        options.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let storage = Storage::with_options(options);
    let files =
        ["s3://bucket/x", "s3a://bucket/x", "az://container/x", "abfss://c@account.dfs.core.windows.net/x"];
    for file in files {
        let errors = [
            storage.read(file).await.map(drop).unwrap_err(),
            storage.write(file, "x").await.unwrap_err(),
            storage.resolve(file).map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{file}: {error}");
            let text = error.to_string();
            assert!(text.contains("with_machine_credentials") && text.contains("skip_signature"), "{text}");
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let told = storage.with_machine_credentials(true);
    for (file, times) in files.into_iter().zip([1, 1, 2, 3]) {
        told.read(file).await.unwrap_err();
        assert!(asked.load(Ordering::SeqCst) >= times, "{file}");
    }
    assert!(storage.resolve("s3://other/x").is_err(), "who was not told is refused as before");
}
