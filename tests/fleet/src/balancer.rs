//! A TCP load balancer: each new connection goes to the next server that accepts it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Starts a balancer in the background and returns its address.
pub(crate) async fn start(servers: Vec<String>) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        let (servers, next) = (Arc::new(servers), AtomicUsize::new(0));
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(join(client, servers.clone(), next.fetch_add(1, Ordering::Relaxed)));
        }
    });
    Ok(address)
}

async fn join(mut client: TcpStream, servers: Arc<Vec<String>>, first: usize) {
    for step in 0..servers.len() {
        if let Ok(mut server) = TcpStream::connect(&servers[(first + step) % servers.len()]).await {
            // The client reports a broken connection.
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
