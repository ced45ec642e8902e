//! A web server, which speaks HTTP/1 only: what users reach with a wrong port.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A running web server; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct WebServer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl WebServer {
    /// Starts a server on a free port.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(refuse(stream));
            }
        });
        Ok(Self { address, _tasks: tasks })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

async fn refuse(mut stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let mut request = [0; 16];
    if stream.read(&mut request).await.is_ok() {
        // The client may be gone.
        let _ = stream.write_all(ANSWER).await;
    }
}
