//! [`S3Server`]: a real S3 server (SeaweedFS) of a test's own, on free ports, stopped when it is dropped.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use icefield_core::storage::Storage;
use tempfile::TempDir;

use crate::referee::home;

const BUCKET: &str = "lake01";
const KEY: &str = "ak";
const SECRET: &str = "sk12345678";
/// The server listens for its own parts this far above each port.
const INNER_OFFSET: u16 = 10_000;

/// A running S3 server with one bucket.
pub struct S3Server {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl S3Server {
    /// Starts a server; none, with a notice, where it is not installed under `REFEREE_HOME` (by default
    /// `~/.cache/referee`).
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub async fn start() -> Option<Self> {
        let program = home().map(|home| home.join("seaweed/bin/weed")).filter(|path| path.is_file());
        let Some(program) = program else {
            eprintln!("skipped: no S3 server under REFEREE_HOME/seaweed");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = free_ports();
        let [master, volume, filer, port, rest, lance, admin, metrics] = ports;
        let flags =
            [("master", master), ("volume", volume), ("filer", filer), ("s3", port), ("admin", admin)];
        let child = Command::new(program)
            .arg("mini")
            .arg(format!("-dir={}", folder.path().display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false"])
            .args(flags.map(|(part, port)| format!("-{part}.port={port}")))
            .args([format!("-s3.port.iceberg={rest}"), format!("-s3.port.lance={lance}")])
            .arg(format!("-metricsPort={metrics}"))
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("S3_BUCKET", BUCKET)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the S3 server runs");
        let mut server = Self { child, port, _folder: folder };
        let (storage, location) = (server.storage(), server.location("started"));
        for _ in 0..300 {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("the S3 server ended at once: {status}");
            }
            // The store retries for minutes what a server that has not yet begun refuses.
            let write = tokio::time::timeout(Duration::from_secs(1), storage.write(&location, "yes"));
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() && matches!(write.await, Ok(Ok(()))) {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the S3 server did not start");
    }

    /// What [`Storage::with_options`] needs to reach the server.
    pub fn options(&self) -> HashMap<String, String> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let options = [
            ("s3.endpoint", endpoint.as_str()),
            ("s3.region", "us-east-1"),
            ("s3.access-key-id", KEY),
            ("s3.secret-access-key", SECRET),
            ("s3.path-style-access", "true"),
        ];
        options.map(|(name, value)| (name.to_string(), value.to_string())).into()
    }

    /// The server's files.
    pub fn storage(&self) -> Storage {
        Storage::with_options(self.options())
    }

    /// A location in the server's bucket.
    pub fn location(&self, path: &str) -> String {
        format!("s3://{BUCKET}/{path}")
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that are free, and so are those that the server takes beside them.
fn free_ports() -> [u16; 8] {
    let mut held = Vec::new();
    let mut ports = Vec::new();
    // All are held until all are found: none is given twice.
    while ports.len() < 8 {
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else { continue };
        let port = listener.local_addr().expect("an address").port();
        // What the system gives lies high: the lower of the two is the port.
        let (low, high) = (port.saturating_sub(INNER_OFFSET), port);
        if low > 1024
            && let Ok(other) = TcpListener::bind((Ipv4Addr::LOCALHOST, low))
        {
            debug_assert_eq!(low + INNER_OFFSET, high);
            held.push(other);
            ports.push(low);
        }
        held.push(listener);
    }
    ports.try_into().expect("eight ports")
}
