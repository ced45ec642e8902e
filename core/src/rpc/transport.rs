//! Opens connections: TCP, then TLS if it is on, then HTTP/2.

use std::{
    error::Error as StdError,
    time::{Duration, Instant},
};

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{net::TcpStream, time::timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::codegen::{Service, http::Uri};

use super::{
    connection::Connection,
    diagnosis::{self, ConnectStep},
    tls::{ALPN_HTTP2, TlsSetup},
};
use crate::{
    error::Error,
    options::{Address, Tls},
};

const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// How long sent bytes may stay unacknowledged before the OS closes the socket. By default, a socket to a machine that
/// has disappeared stays open for about fifteen minutes.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the connections of a client.
#[derive(Clone)]
pub(super) struct Transport {
    tls: Option<TlsSetup>,
    connect_timeout: Duration,
}

impl Transport {
    pub(super) fn new(tls: &Tls, connect_timeout: Duration) -> Result<Self, Error> {
        Ok(Self { tls: TlsSetup::new(tls)?, connect_timeout })
    }

    /// How long an attempt to connect may take.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Opens a connection, and waits for the server's HTTP/2 settings.
    ///
    /// # Errors
    ///
    /// The message names the most likely cause. Not retryable if another attempt would fail in the same way.
    pub(super) async fn connect(&self, address: &Address) -> Result<Connection, Error> {
        let deadline = crate::options::deadline(Instant::now(), self.connect_timeout);
        let timed_out = |step| diagnosis::timed_out(address, step);
        let tcp = tcp(address, HttpConnector::new(), self.connect_timeout);
        let tcp = timeout_at(deadline.into(), tcp).await.map_err(|_| timed_out(ConnectStep::Tcp))??;
        let (io, scheme) = match &self.tls {
            None => (Either::Left(tcp), "http"),
            Some(setup) => {
                if !setup.verified {
                    tracing::warn!(endpoint = %address, "the server's certificate is not verified");
                }
                let name = setup.server_name(address)?;
                let handshake = TlsConnector::from(setup.config.clone()).connect(name, tcp);
                let tls = timeout_at(deadline.into(), handshake)
                    .await
                    .map_err(|_| timed_out(ConnectStep::Tls))?
                    .map_err(|error| diagnosis::tls_failure(address, error))?;
                if tls.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
                    return Err(diagnosis::no_http2_over_tls(address));
                }
                (Either::Right(tls), "https")
            }
        };
        let origin = uri(scheme, address)?;
        let opening = Connection::open(io, address, origin);
        timeout_at(deadline.into(), opening).await.map_err(|_| timed_out(ConnectStep::Http2))?
    }
}

/// Opens a TCP connection within about `limit`. A host name may have several IP addresses, which are tried one after the
/// other. Each gets its part of the limit, so that one that does not answer does not use up the time of the others.
async fn tcp<R>(
    address: &Address,
    mut connector: HttpConnector<R>,
    limit: Duration,
) -> Result<TcpStream, Error>
where
    HttpConnector<R>: Service<Uri, Response = TokioIo<TcpStream>>,
    <HttpConnector<R> as Service<Uri>>::Error: StdError + Send + Sync + 'static,
{
    connector.set_nodelay(true);
    connector.set_keepalive(Some(TCP_KEEPALIVE));
    connector.set_connect_timeout(Some(limit));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    let connected = connector.call(uri("http", address)?).await;
    connected.map(TokioIo::into_inner).map_err(|error| diagnosis::tcp_failure(address, error))
}

fn uri(scheme: &str, address: &Address) -> Result<Uri, Error> {
    Uri::try_from(format!("{scheme}://{address}"))
        .map_err(|error| diagnosis::unusable_address(address, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves each name to the same two addresses.
    #[cfg(target_os = "linux")]
    #[derive(Clone)]
    struct Resolver([std::net::Ipv4Addr; 2]);

    #[cfg(target_os = "linux")]
    impl Service<hyper_util::client::legacy::connect::dns::Name> for Resolver {
        type Response = std::array::IntoIter<std::net::SocketAddr, 2>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: hyper_util::client::legacy::connect::dns::Name) -> Self::Future {
            std::future::ready(Ok(self.0.map(|ip| (ip, 0).into()).into_iter()))
        }
    }

    #[test]
    fn every_kind_of_host_makes_an_address() {
        for host in ["h", "127.0.0.1", "::1", "a_b.local"] {
            uri("https", &Address::new(host, 8081)).unwrap();
        }
    }

    /// Other systems have no further loopback addresses.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_address_of_a_host_that_does_not_answer_leaves_time_for_the_others() {
        use std::net::Ipv4Addr;

        use tokio::net::{TcpListener, TcpSocket};

        let [silent, answering] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
        let server = TcpListener::bind((answering, 0)).await.unwrap();
        let port = server.local_addr().unwrap().port();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((silent, port).into()).unwrap();
        let _full = socket.listen(0).unwrap();
        // The queue has room for one connection. Linux drops further requests to connect.
        let _first = TcpStream::connect((silent, port)).await.unwrap();

        let host = Address::new("h", port);
        let connect = async |addresses: [Ipv4Addr; 2], limit| {
            let connector = HttpConnector::new_with_resolver(Resolver(addresses));
            tcp(&host, connector, limit).await
        };
        let connected = connect([silent, answering], Duration::from_secs(2)).await.unwrap();
        assert_eq!(connected.peer_addr().unwrap(), server.local_addr().unwrap());
        let failure = connect([silent, silent], Duration::from_millis(200)).await.unwrap_err();
        assert!(failure.message().contains("nothing answers at this address"), "{failure}");
        assert!(!failure.is_absent(), "{failure}");
    }
}
