//! The client of a request: who it says it is, its address, and how long it waits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strum::{IntoStaticStr, VariantArray};

/// A wait ends this much before the client's deadline, so that the answer arrives in time.
const ANSWER_TIME: Duration = Duration::from_millis(40);

/// What the rules know about a request besides its content. A front end fills it from what its protocol
/// carries; headers that only the server may set are never taken from the client.
#[derive(Clone, Debug)]
pub struct Context {
    /// The protocol that the request came by.
    pub protocol: WireProtocol,
    /// The client's own name for itself; never blank.
    pub client_id: String,
    /// The version the client claims, such as `5.0.7`; may be empty.
    pub client_version: String,
    /// The language the client claims to be written in, such as `RUST`; may be empty.
    pub client_language: String,
    /// The namespace the client works in; mostly empty.
    pub namespace: String,
    /// What the client sent to prove who it is. Nobody has checked it.
    pub credentials: Option<Box<Credentials>>,
    /// The names in the client's certificate, whose authority the port has verified.
    pub certificate: Option<Arc<[String]>>,
    /// Whether the proxy finishes on its own what a client began: access control has let that client in before.
    pub is_admitted: bool,
    /// Where it came in. None if the proxy does it on its own.
    pub entry: Option<Arc<EntryPoint>>,
    /// Whether this carries on with a request of the client whose first part was counted before.
    pub is_continued: bool,
    /// The client's address, `ip:port`, by the socket or by a PROXY protocol header.
    pub peer: Arc<str>,
    /// When the request came in.
    pub received: Instant,
    /// When the client stops waiting, if it said so.
    pub deadline: Option<Instant>,
}

/// Where the requests of a connection come from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address, `ip:port`.
    pub peer: Arc<str>,
    /// The names in its certificate.
    pub certificate: Option<Arc<[String]>>,
    /// Where it was accepted.
    pub entry: Arc<EntryPoint>,
}

/// An address that the proxy listens on, as layers and rules see it.
#[derive(Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// Its name in the configuration, and in metrics.
    pub name: Box<str>,
    /// Whether everybody may do everything here, whatever access control says elsewhere.
    pub is_trusted: bool,
}

/// The protocol of a request. Its name is the text of metrics and logs.
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

/// What a client sent to prove who it is, verbatim and unchecked.
#[derive(Clone)]
pub struct Credentials {
    /// Scheme, access key and signature, as in the `authorization` header of gRPC.
    pub authorization: String,
    /// What the signature covers.
    pub signed: Signed,
    /// A session token: a JWT; empty if there is none.
    pub session_token: String,
}

impl Credentials {
    /// Whether there is nothing but a session token beside which others would count.
    #[must_use]
    pub fn is_token_only(&self) -> bool {
        let signs = matches!(self.signed, Signed::Nothing { .. } | Signed::Token);
        !signs && self.authorization.is_empty()
    }
}

/// What a client signed.
#[derive(Clone)]
pub enum Signed {
    /// The text of a time, as in gRPC.
    Time(String),
    /// The request, as in the remoting protocol.
    Request {
        /// The values of its fields, in the order of their names.
        fields: String,
        /// Its body.
        body: Bytes,
    },
    /// Nothing: it sent its secret, as in the basic authentication of HTTP.
    Nothing {
        /// Who it says it is.
        user: String,
        /// The secret.
        secret: String,
    },
    /// Nothing: it sent a session token, and says nothing else of itself.
    Token,
}

/// The host of a peer, without its port: connections of one client differ in their ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address. An IPv4 address mapped to IPv6 is that IPv4 address, and all loopback addresses are the same.
    Ip(IpAddr),
    /// What can't be read as an address.
    Other(Arc<str>),
}

impl Context {
    /// The host that the request came from.
    #[must_use]
    pub fn host(&self) -> Host {
        let ip = self.peer.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| self.peer.parse());
        match ip.map(|ip: IpAddr| ip.to_canonical()) {
            Ok(ip) if ip.is_loopback() => Host::Ip(Ipv4Addr::LOCALHOST.into()),
            Ok(ip) => Host::Ip(ip),
            Err(_) => Host::Other(self.peer.clone()),
        }
    }

    /// Whether it came in where everybody may do everything.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.is_trusted)
    }

    /// The name of the entry that it came in at.
    #[must_use]
    pub fn entry_name(&self) -> Option<&str> {
        self.entry.as_ref().map(|entry| &*entry.name)
    }

    /// How long the client still waits, if it said so.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// When a wait of this length ends if it begins now, cut so that the answer still reaches the client.
    #[must_use]
    pub fn end_of_wait(&self, wait: Duration) -> Instant {
        let ours = Instant::now() + wait;
        let theirs = self.deadline.and_then(|deadline| deadline.checked_sub(ANSWER_TIME));
        theirs.map_or(ours, |theirs| theirs.min(ours))
    }

    /// When to stop working on this request: at the client's deadline, or `longest` after it came in.
    #[must_use]
    pub fn deadline_within(&self, longest: Duration) -> Instant {
        let ours = self.received + longest;
        self.deadline.map_or(ours, |theirs| theirs.min(ours))
    }

    /// Something that the proxy does now on its own for the client of a connection, such as giving back what it had.
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

    /// A request of this client that came in now, from nowhere, without a deadline.
    #[cfg(test)]
    pub(crate) fn of_client(client_id: &str) -> Self {
        Self {
            is_admitted: false,
            ..Self::of_connection(WireProtocol::Grpc, client_id, &"127.0.0.1:1".into())
        }
    }
}

/// Shows what was sent, but neither signatures nor tokens.
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
    fn a_wait_is_cut_only_by_the_clients_deadline() {
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
