//! Scripted name servers and brokers for tests.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Framed;

use super::cluster::{Cluster, ClusterOptions};
use crate::remoting::{CommandCodec, RemotingCommand};

const RESPONSE: i32 = 1;

/// Starts a peer that answers each request with the result of this function. Returns the peer's address.
pub(super) async fn peer(
    answer: impl Fn(&RemotingCommand) -> RemotingCommand + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    address
}

async fn serve(stream: TcpStream, answer: Arc<impl Fn(&RemotingCommand) -> RemotingCommand>) {
    let mut stream = Framed::new(stream, CommandCodec);
    while let Some(Ok(request)) = stream.next().await {
        let answer = RemotingCommand { flag: RESPONSE, opaque: request.opaque, ..answer(&request) };
        stream.send(&answer).await.unwrap();
    }
}

/// The cluster `c` with these name servers.
pub(super) fn cluster(name_servers: &[String]) -> Cluster {
    const TIMEOUT: Duration = Duration::from_secs(60);
    Cluster::new(ClusterOptions {
        name_servers: name_servers.join(";"),
        name: "c".to_owned(),
        tls: None,
        signer: None,
        connect_timeout: TIMEOUT,
        lookup_timeout: TIMEOUT,
        call_timeout: TIMEOUT,
    })
}
