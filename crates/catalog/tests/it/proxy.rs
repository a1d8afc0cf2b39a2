//! A proxy before a PostgreSQL server, which loses what it is told to lose.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Reactions of a [`Proxy`] to a client's COMMIT.
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
