//! Opens a TCP connection to a host, which may have several addresses (RFC 8305, "Happy Eyeballs").

use std::{io, net::SocketAddr, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::options::Address;

const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long sent bytes may stay unacknowledged before the OS closes the socket. By default, a socket to a machine that
/// has disappeared stays open for about fifteen minutes.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one address is tried alone before the next one is tried as well.
const MAX_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How many addresses of a host are tried at most, because an answer of a name server may contain thousands.
const MAX_ADDRESSES: usize = 32;

/// Opens a connection to the first address of the host that answers. All addresses are tried within half of `limit`;
/// the caller ends the attempts after `limit`.
pub(super) async fn connect(address: &Address, limit: Duration) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((address.host.as_str(), address.port)).await?;
    let addresses = in_order(addresses.collect());
    let parts = u32::try_from(2 * addresses.len()).unwrap_or(u32::MAX);
    let delay = limit.checked_div(parts).unwrap_or_default().min(MAX_ATTEMPT_DELAY);
    connect_to_any(addresses, delay).await
}

/// The addresses to try: those of IPv4 and IPv6 in turn, because a machine may have no route for one of them.
fn in_order(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let in_turn = (0..addresses.len()).flat_map(|at| [preferred.get(at), other.get(at)]);
    in_turn.flatten().copied().take(MAX_ADDRESSES).collect()
}

/// Starts an attempt when an earlier one has failed, or after `delay`. Earlier attempts continue: an address that is
/// slow may be the only one that works.
///
/// # Errors
///
/// The first failure, once all attempts have failed.
async fn connect_to_any(addresses: Vec<SocketAddr>, delay: Duration) -> io::Result<TcpStream> {
    let mut untried = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        attempts.extend(untried.next().map(open));
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => drop(failure.get_or_insert(error)),
            },
            () = tokio::time::sleep(delay), if untried.len() > 0 => {}
            else => {
                let no_address = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                return Err(failure.unwrap_or_else(no_address));
            }
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_of_addresses_are_tried_in_turn() {
        let parse = |addresses: &[&str]| -> Vec<SocketAddr> {
            addresses.iter().map(|address| address.parse().unwrap()).collect()
        };
        assert_eq!(
            in_order(parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"])),
            parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"])
        );
        assert_eq!(in_order(parse(&["1.1.1.1:1"; 100])).len(), MAX_ADDRESSES);
        assert!(in_order(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn a_failure_is_that_of_the_first_address() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = connect_to_any(vec![closed; 3], Duration::MAX).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = connect_to_any(Vec::new(), Duration::MAX).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// Other systems have no further loopback addresses.
    #[cfg(target_os = "linux")]
    mod linux {
        use tokio::net::{TcpListener, TcpSocket};

        use super::*;

        /// Listens, but does not answer: the queue has room for one connection, and Linux drops further requests.
        async fn silent(ip: &str) -> (TcpListener, TcpStream) {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
            let listener = socket.listen(0).unwrap();
            let first = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            (listener, first)
        }

        #[tokio::test]
        async fn addresses_that_do_not_answer_leave_time_for_the_others() {
            let (silent, _first) = silent("127.0.0.2").await;
            let server = TcpListener::bind("127.0.0.3:0").await.unwrap();
            let (silent, answering) = (silent.local_addr().unwrap(), server.local_addr().unwrap());
            let mut addresses = vec![silent; 20];
            addresses.push(answering);
            let connected = connect_to_any(addresses, Duration::from_millis(1)).await.unwrap();
            assert_eq!(connected.peer_addr().unwrap(), answering);
        }

        #[tokio::test]
        async fn an_address_that_is_slow_is_waited_for_while_others_are_tried() {
            let (slow, _first) = silent("127.0.0.2").await;
            let (silent, _second) = silent("127.0.0.3").await;
            let mut addresses = vec![slow.local_addr().unwrap()];
            addresses.extend([silent.local_addr().unwrap(); 20]);
            let connect = connect_to_any(addresses, Duration::from_millis(1));
            // Makes room in the queue after the request to connect was dropped. The OS repeats it.
            let (connected, _) = tokio::join!(connect, slow.accept());
            assert_eq!(connected.unwrap().peer_addr().unwrap(), slow.local_addr().unwrap());
        }
    }
}
