//! What an entry (a listening address) of the proxy serves, and which addresses its routes contain.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::EntryPoint;

/// An address that clients can reach: a name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Authority {
    /// The name or IP address. An IPv6 address has no brackets here.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What an entry serves, and which addresses its routes contain.
#[derive(Clone, Debug)]
pub struct ServedEntry {
    /// Whether it serves messaging.
    pub messaging: bool,
    /// Whether it serves administration.
    pub administration: bool,
    /// Its name and trust, as layers and rules see them.
    pub entry: Arc<EntryPoint>,
    /// The addresses that routes contain.
    pub route: Arc<RouteAddresses>,
}

/// The addresses of proxies that a route contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAddresses {
    /// Exactly these, whatever address the client has connected to.
    Named(Vec<Authority>),
    /// The address at which the client has reached this proxy.
    Reached {
        /// The port to combine with the hosts that a gRPC client names in its request. `None` keeps the client's ports.
        port: Option<u16>,
        /// Further addresses for the routes of classic clients, `host:port`.
        others: Vec<String>,
    },
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for Authority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not a host and a port, such as mq.example.com:8081");
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        match ipv6 {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                Ok(Self { host: address.to_owned(), port })
            }
            None if !host.is_empty() && host.bytes().all(legal) => Ok(Self { host: host.to_owned(), port }),
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for Authority {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Authority> for String {
    fn from(authority: Authority) -> Self {
        authority.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_round_trips_through_its_text() {
        for text in ["mq.example.com:8081", "10.0.0.1:1", "[2001:db8::1]:8081"] {
            assert_eq!(text.parse::<Authority>().map(|read| read.to_string()).as_deref(), Ok(text));
        }
        for text in [
            "",
            "mq.example.com",
            ":8081",
            "a:0",
            "a:65536",
            "2001:db8::1:80",
            "[a]:1",
            "a b:1",
            "http://a:1",
        ] {
            assert!(text.parse::<Authority>().is_err(), "{text}");
        }
    }
}
