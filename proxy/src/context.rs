//! The context of a request: the client, its address and credentials, and its deadline.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strum::{IntoStaticStr, VariantArray};

/// The time that is reserved for sending an answer: a wait ends this long before the client's deadline.
const ANSWER_TIME: Duration = Duration::from_millis(40);

/// The context of a request, which a front end fills in. Values that only the server may set are never taken from what the
/// client sends.
#[derive(Clone, Debug)]
pub struct Context {
    /// The protocol of the request.
    pub protocol: WireProtocol,
    /// The client's id, which the client chooses. A request with a blank id is refused by the processor.
    pub client_id: String,
    /// The version that the client reports, such as `5.0.7`; may be empty.
    pub client_version: String,
    /// The programming language that the client reports, such as `RUST`; may be empty.
    pub client_language: String,
    /// The client's namespace; usually empty.
    pub namespace: String,
    /// The credentials that the client sent, unchecked.
    pub credentials: Option<Box<Credentials>>,
    /// The names in the client's certificate, which the port has verified.
    pub certificate: Option<Arc<[String]>>,
    /// Whether the proxy itself completes something that a client began. Access control has admitted that client before.
    pub is_admitted: bool,
    /// The entry point that accepted the request; `None` for requests of the proxy itself.
    pub entry: Option<Arc<EntryPoint>>,
    /// Whether this continues a client's request that was already counted against its quotas.
    pub is_continued: bool,
    /// The client's address, `ip:port`, from the socket or a PROXY protocol header.
    pub peer: Arc<str>,
    /// When the request was received.
    pub received: Instant,
    /// When the client stops waiting; `None` if it did not say.
    pub deadline: Option<Instant>,
}

/// The origin of the requests of a connection.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address, `ip:port`.
    pub peer: Arc<str>,
    /// The names in the client's certificate; `None` if it has none.
    pub certificate: Option<Arc<[String]>>,
    /// The entry point that accepted the connection.
    pub entry: Arc<EntryPoint>,
}

/// An address that the proxy listens on.
#[derive(Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// The entry's name in the configuration and in metrics.
    pub name: Box<str>,
    /// Whether access control is off at this entry, so that everybody may do everything.
    pub is_trusted: bool,
}

/// The protocol of a request. The variants' names are used in metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum WireProtocol {
    /// gRPC.
    Grpc,
    /// The remoting protocol of classic clients.
    Remoting,
    /// HTTP with JSON.
    Http,
}

/// The credentials that a client sent, verbatim and unchecked.
#[derive(Clone)]
pub struct Credentials {
    /// Scheme, access key and signature, as in the `authorization` header of gRPC; empty if there are none.
    pub authorization: String,
    /// The text that the signature covers, or what the client sent instead of a signature.
    pub signed: Signed,
    /// A session token, which is a JWT; empty if there is none.
    pub session_token: String,
}

impl Credentials {
    /// Whether the client sent a session token where it could have sent a signature, and no signature.
    #[must_use]
    pub fn is_token_only(&self) -> bool {
        let never_signs = matches!(self.signed, Signed::Nothing { .. } | Signed::Token);
        !never_signs && self.authorization.is_empty()
    }
}

/// The text that a client's signature covers.
#[derive(Clone)]
pub enum Signed {
    /// A time as text, as in gRPC.
    Time(String),
    /// The request, as in the remoting protocol.
    Request {
        /// The values of the request's fields, ordered by field name.
        fields: String,
        /// The request's body.
        body: Bytes,
    },
    /// The client sent its secret instead of a signature, as in the basic authentication of HTTP.
    Nothing {
        /// The user.
        user: String,
        /// The secret.
        secret: String,
    },
    /// The client sent only a session token.
    Token,
}

/// The host of a peer, without the port, which differs among the connections of one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IP address. IPv4 addresses mapped to IPv6 are converted to IPv4, and all loopback addresses count as the same.
    Ip(IpAddr),
    /// A peer's name that is not an IP address.
    Other(Arc<str>),
}

impl Host {
    /// The /64 network of an IPv6 address, all of which usually belongs to one client; other hosts unchanged.
    #[must_use]
    pub fn network(self) -> Self {
        match self {
            Self::Ip(IpAddr::V6(ip)) => {
                Self::Ip(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into())
            }
            host => host,
        }
    }

    /// The /48 network of an IPv6 address, which one customer of a provider may have. `None` for other hosts.
    #[must_use]
    pub fn site(self) -> Option<Self> {
        match self {
            Self::Ip(IpAddr::V6(ip)) => {
                Some(Self::Ip(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80)).into()))
            }
            _ => None,
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::Ip(Ipv4Addr::LOCALHOST.into()),
            ip => Self::Ip(ip),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Other(name) => name.fmt(f),
        }
    }
}

impl Context {
    /// The host that the request came from.
    #[must_use]
    pub fn host(&self) -> Host {
        let ip = self.peer.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| self.peer.parse());
        ip.map_or_else(|_| Host::Other(self.peer.clone()), |ip: IpAddr| ip.into())
    }

    /// Whether access control is off at the entry that accepted the request.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.is_trusted)
    }

    /// The name of the entry that accepted the request; `None` for requests of the proxy itself.
    #[must_use]
    pub fn entry_name(&self) -> Option<&str> {
        self.entry.as_ref().map(|entry| &*entry.name)
    }

    /// The time that is left until the client's deadline; `None` if it has none.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The end of a wait that begins now. The wait is shortened so that the answer reaches the client before its deadline.
    #[must_use]
    pub fn end_of_wait(&self, wait: Duration) -> Instant {
        let ours = Instant::now() + wait;
        let theirs = self.deadline.and_then(|deadline| deadline.checked_sub(ANSWER_TIME));
        theirs.map_or(ours, |theirs| theirs.min(ours))
    }

    /// The deadline for working on this request: the client's deadline, or `max` after the request was received if that is
    /// earlier.
    #[must_use]
    pub fn deadline_within(&self, max: Duration) -> Instant {
        let ours = self.received + max;
        self.deadline.map_or(ours, |theirs| theirs.min(ours))
    }

    /// The context of a request that the proxy itself makes now on behalf of the client of a connection, such as giving back
    /// the client's deliveries.
    #[must_use]
    pub fn of_connection(protocol: WireProtocol, client_id: &str, peer: &Arc<str>) -> Self {
        Self {
            protocol,
            client_id: client_id.to_owned(),
            client_version: String::new(),
            client_language: String::new(),
            namespace: String::new(),
            credentials: None,
            certificate: None,
            is_admitted: true,
            entry: None,
            is_continued: false,
            peer: peer.clone(),
            received: Instant::now(),
            deadline: None,
        }
    }

    /// The context of a request of this client that is received now, without an entry and a deadline.
    #[cfg(test)]
    pub(crate) fn of_client(client_id: &str) -> Self {
        Self {
            is_admitted: false,
            ..Self::of_connection(WireProtocol::Grpc, client_id, &"127.0.0.1:1".into())
        }
    }
}

/// Shows only the scheme, because logs must not contain signatures and tokens.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.authorization.split(' ').next().unwrap_or_default();
        f.debug_struct("Credentials").field("scheme", &scheme).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_shortened_only_by_the_clients_deadline() {
        let now = Instant::now();
        let context = |deadline| Context { deadline, ..Context::of_client("c") };
        let wait = Duration::from_secs(10);
        for deadline in [None, Some(now + wait * 2)] {
            assert!(context(deadline).end_of_wait(wait) >= now + wait);
        }
        assert_eq!(context(Some(now + wait)).end_of_wait(wait), now + wait - ANSWER_TIME);
    }

    #[test]
    fn a_host_has_many_ports_and_spellings() {
        let host = |peer: &str| Context { peer: peer.into(), ..Context::of_client("c") }.host();
        for (one, other, same) in [
            ("10.0.0.1:1000", "10.0.0.1:2000", true),
            ("10.0.0.1:1000", "[::ffff:10.0.0.1]:1", true),
            ("127.0.0.1:1", "[::1]:1", true),
            ("[2001:db8::1]:1", "[2001:db8::1]:2", true),
            ("10.0.0.1:1000", "10.0.0.2:1000", false),
            ("10.0.0.1:1000", "unix", false),
        ] {
            assert_eq!(host(one) == host(other), same, "{one} {other}");
        }
    }

    #[test]
    fn credentials_are_not_logged() {
        let credentials = Credentials {
            authorization: "MQv2-HMAC-SHA1 Credential=AK, Signature=5EC2E7".to_owned(),
            signed: Signed::Time("now".to_owned()),
            session_token: "T0KEN".to_owned(),
        };
        let context = Context { credentials: Some(Box::new(credentials)), ..Context::of_client("c") };
        let text = format!("{context:?}");
        assert!(text.contains("MQv2-HMAC-SHA1") && !text.contains("5EC2E7") && !text.contains("T0KEN"));
    }
}
