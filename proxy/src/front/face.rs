//! How one entry of the proxy appears to its clients.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::EntryPoint;

/// An address that clients can reach: a name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Authority {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What an entry serves, and what it tells of where it is.
#[derive(Clone, Debug)]
pub struct Face {
    /// The messaging service.
    pub messaging: bool,
    /// The administration service.
    pub administration: bool,
    /// What layers and rules see of it.
    pub entry: Arc<EntryPoint>,
    /// Where routes find the proxies.
    pub route: Arc<RouteAddresses>,
}

/// The addresses that routes name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAddresses {
    /// These. Whatever a client has connected to, it hears of no other.
    Named(Vec<Authority>),
    /// As the client has reached this proxy.
    Reached {
        /// gRPC clients tell the hosts that they know, which get this port; or their own, if there is none.
        port: Option<u16>,
        /// Classic clients hear of these addresses, too.
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
        let wrong = || format!("{text:?} is not a host and a port, such as mq.example.com:8081");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        match bare {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                Ok(Self { host: address.to_owned(), port })
            }
            None if !host.is_empty() && host.bytes().all(legal) => Ok(Self { host: host.to_owned(), port }),
            _ => Err(wrong()),
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
    fn an_authority_is_read_as_it_is_written() {
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
