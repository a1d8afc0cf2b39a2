//! A PostgreSQL server of the tests' own: initialised in a temporary folder, on a free port, stopped when the last test
//! that uses it ends.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

static SHARED: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// A running PostgreSQL server.
pub struct PostgresServer {
    child: Child,
    programs: PathBuf,
    /// Its port, on 127.0.0.1.
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl PostgresServer {
    /// The server that all tests share; none, with a notice, where PostgreSQL is not installed.
    pub fn shared() -> Option<Arc<Self>> {
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
    pub fn with_tls() -> Option<(Self, PathBuf)> {
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
        Self { child, programs: programs.to_path_buf(), port, _folder: folder }
    }

    /// The URL of a new, empty database.
    ///
    /// # Panics
    /// When the server does not start within a minute.
    pub async fn database(&self) -> String {
        let name = format!("lake{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let port = self.port.to_string();
        for _ in 0..600 {
            let made = tokio::process::Command::new(self.programs.join("createdb"))
                .args(["-h", "127.0.0.1", "-p", &port, "-U", "icefield", &name])
                .output()
                .await
                .expect("createdb runs");
            if made.status.success() {
                return format!("postgresql://icefield@127.0.0.1:{port}/{name}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the server did not start");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // A fast shutdown. Killed outright, it would leave its shared memory behind.
        let asked = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The folder of the server's programs, the newest version's where there are several.
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
        .find(|folder| ["initdb", "postgres", "createdb"].iter().all(|name| folder.join(name).exists()))
}
