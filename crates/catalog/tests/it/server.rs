//! A PostgreSQL server of the tests' own: initialised in a temporary folder, on a free port, stopped when the last test
//! that uses it ends. A proxy before it loses what it is told to lose.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// The server that all tests share; none, with a notice, where PostgreSQL is not installed.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let Some(programs) = programs() else {
            println!("skipped: no PostgreSQL server under /usr/lib/postgresql or in the PATH");
            return None;
        };
        let server = Arc::new(Self::start(&programs, None));
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// A server of its own that takes encrypted connections beside plain ones, with a certificate for `localhost` that it
    /// signed itself, and where that certificate is; none, with a notice, where PostgreSQL or OpenSSL is not installed.
    pub(crate) fn with_tls() -> Option<(Self, PathBuf)> {
        let Some(programs) = programs() else {
            println!("skipped: no PostgreSQL server under /usr/lib/postgresql or in the PATH");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output();
        if !made.is_ok_and(|output| output.status.success()) {
            println!("skipped: no openssl that makes certificates");
            return None;
        }
        let server = Self::start(&programs, Some((folder, &key, &certificate)));
        Some((server, certificate))
    }

    fn start(programs: &Path, tls: Option<(tempfile::TempDir, &Path, &Path)>) -> Self {
        let mut settings = vec!["fsync=off".to_string()];
        let folder = match tls {
            Some((folder, key, certificate)) => {
                settings.push("ssl=on".to_string());
                settings.push(format!("ssl_key_file={}", key.display()));
                settings.push(format!("ssl_cert_file={}", certificate.display()));
                folder
            }
            None => tempfile::tempdir().expect("a temporary folder"),
        };
        let data = folder.path().join("data");
        // The server refuses to run as root.
        let root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0\n"));
        if root {
            let owned = Command::new("chown").args(["-R", "nobody"]).arg(folder.path()).status();
            assert!(owned.is_ok_and(|s| s.success()), "chown to nobody");
        }
        let program = |name: &str| {
            let path = programs.join(name);
            if !root {
                return Command::new(path);
            }
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]).arg(path);
            command
        };
        let output = program("initdb")
            .args(["--username=icefield", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(folder.path())
            .output()
            .expect("initdb runs");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let port =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let child = program("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres runs");
        Self { child, port, _folder: folder }
    }

    /// The URL of a new, empty database.
    pub(crate) async fn database(&self) -> String {
        let name = format!("lake{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let url = format!("postgresql://icefield@127.0.0.1:{}", self.port);
        for _ in 0..600 {
            if let Ok(mut connection) = PgConnection::connect(&format!("{url}/postgres")).await {
                connection
                    .execute(format!("CREATE DATABASE {name}").as_str())
                    .await
                    .expect("create database");
                return format!("{url}/{name}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the server did not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A fast shutdown. Killed outright, it would leave its shared memory behind.
        let asked = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The folder of `initdb` and `postgres`, the newest version's where there are several.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let newest_first = folders.into_iter().rev().map(|(_, folder)| folder);
    newest_first
        .chain(in_path)
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// What a [`Proxy`] does when a client sends COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OnCommit {
    /// Passes it on.
    Pass,
    /// Passes it on, keeps the answer back and breaks the connection; once.
    LoseAnswer,
    /// Breaks the connection instead of passing it on; once.
    LoseRequest,
    /// As `LoseAnswer`, and refuses every connection after it.
    LoseAnswerAndServer,
    /// As `LoseRequest`, and refuses every connection after it.
    LoseRequestAndServer,
    /// Refuses every connection.
    Down,
}

impl OnCommit {
    const ALL: [Self; 6] = [
        Self::Pass,
        Self::LoseAnswer,
        Self::LoseRequest,
        Self::LoseAnswerAndServer,
        Self::LoseRequestAndServer,
        Self::Down,
    ];
}

/// A proxy before a server.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(AtomicU8::new(OnCommit::Pass as u8));
        let task = tokio::spawn({
            let mode = mode.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if mode.load(Ordering::SeqCst) == OnCommit::Down as u8 {
                        continue; // dropped: closed
                    }
                    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
                    tokio::spawn(forward(client, server, mode.clone()));
                }
            }
        });
        Self { address, mode, task }
    }

    /// `url`, through this proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let (_, database) = url.rsplit_once('/').unwrap();
        format!("postgresql://icefield@{}/{database}", self.address)
    }

    pub(crate) fn set(&self, mode: OnCommit) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    pub(crate) fn mode(&self) -> OnCommit {
        OnCommit::ALL[self.mode.load(Ordering::SeqCst) as usize]
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, mode: Arc<AtomicU8>) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(n @ 1..) = read else { return };
                if mode.load(Ordering::SeqCst) == OnCommit::Down as u8 {
                    return;
                }
                let message = &from_client[..n];
                // A simple query whose text is COMMIT alone: BEGIN names READ COMMITTED.
                let commits = message.windows(7).any(|w| w == b"COMMIT\0");
                let fault = if commits { OnCommit::ALL[mode.load(Ordering::SeqCst) as usize] } else { OnCommit::Pass };
                let after = match fault {
                    OnCommit::LoseAnswerAndServer | OnCommit::LoseRequestAndServer => OnCommit::Down,
                    _ => OnCommit::Pass,
                };
                match fault {
                    OnCommit::Pass | OnCommit::Down => {
                        if server.write_all(message).await.is_err() {
                            return;
                        }
                    }
                    OnCommit::LoseRequest | OnCommit::LoseRequestAndServer => {
                        mode.store(after as u8, Ordering::SeqCst);
                        return;
                    }
                    OnCommit::LoseAnswer | OnCommit::LoseAnswerAndServer => {
                        mode.store(after as u8, Ordering::SeqCst);
                        let _ = server.write_all(message).await;
                        let _ = server.read(&mut from_server).await; // so that the commit is done
                        return;
                    }
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(n @ 1..) = read else { return };
                if client.write_all(&from_server[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}
