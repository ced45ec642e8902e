//! The addresses of servers, and how they are parsed.

use std::{fmt, net::Ipv6Addr, sync::Arc};

use crate::error::{Error, ErrorKind};

/// The port if none is given: the default port of a RocketMQ proxy.
const DEFAULT_PORT: u16 = 8081;

/// One host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    fn is_ipv6(&self) -> bool {
        self.host.parse::<Ipv6Addr>().is_ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ipv6() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The equivalent addresses of one logical server. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoints(Arc<[Address]>);

impl Endpoints {
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.0
    }
}

impl FromIterator<Address> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Address>>(addresses: I) -> Self {
        Self(addresses.into_iter().collect())
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{address}")?;
        }
        Ok(())
    }
}

/// The parsed text of [`ClientOptions::endpoints`](crate::ClientOptions::endpoints).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) endpoints: Endpoints,
    /// Whether the addresses are written as `https://`.
    pub(crate) https: bool,
}

impl Access {
    /// Parses one or more addresses, separated by `,` or `;`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut addresses = Vec::new();
        let mut schemes = Vec::new();
        for part in text.split([',', ';']).map(str::trim).filter(|part| !part.is_empty()) {
            let (scheme, address) = parse_one(part).ok_or_else(|| {
                invalid(format!(
                    "`{part}` is not an endpoint; write host:port, host, [ipv6]:port, http://host:port or https://host:port"
                ))
            })?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
            schemes.extend(scheme);
        }
        if addresses.is_empty() {
            return Err(invalid("no endpoint is given".to_owned()));
        }
        let https = schemes.contains(&Scheme::Https);
        if https && schemes.contains(&Scheme::Http) {
            return Err(invalid("http:// and https:// endpoints can't be mixed".to_owned()));
        }
        Ok(Self { endpoints: addresses.into_iter().collect(), https })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

fn parse_one(text: &str) -> Option<(Option<Scheme>, Address)> {
    let (scheme, rest) = match text.split_once("://") {
        None => (None, text),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(Scheme::Http), rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(Scheme::Https), rest),
        Some(_) => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (host, port) = inner.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        (host, port)
    } else if rest.parse::<Ipv6Addr>().is_ok() {
        (rest, "")
    } else {
        rest.split_at(rest.find(':').unwrap_or(rest.len()))
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None if port.is_empty() => DEFAULT_PORT,
        None => return None,
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(named) {
        return None;
    }
    Some((scheme, Address::new(host, port)))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOptions, "connect", message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_notations_are_accepted() {
        for (text, shown, https) in [
            ("127.0.0.1:8081", "127.0.0.1:8081", false),
            ("a:1,b:2", "a:1,b:2", false),
            ("a:1;b:2", "a:1,b:2", false),
            (" a:1 , b:2 ; ", "a:1,b:2", false),
            ("a:1,a:1", "a:1", false),
            ("broker", "broker:8081", false),
            ("[::1]:9000", "[::1]:9000", false),
            ("[::1]", "[::1]:8081", false),
            ("fe80::1", "[fe80::1]:8081", false),
            ("http://h:80", "h:80", false),
            ("https://h", "h:8081", true),
            ("https://[::1]:443/", "[::1]:443", true),
            ("HTTPS://h:1,h:2", "h:1,h:2", true),
            ("my_host.local-1:7", "my_host.local-1:7", false),
        ] {
            let access = Access::parse(text).unwrap();
            assert_eq!((access.endpoints.to_string().as_str(), access.https), (shown, https), "{text}");
        }
    }

    #[test]
    fn an_invalid_endpoint_is_named() {
        for text in
            ["", " ; ,", "a:b", "a:0", "a:70000", "ftp://a:1", "[::1", "[a]:1", ":8081", "a b:1", "a:1/x"]
        {
            let error = Access::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{text}");
        }
        assert!(Access::parse("http://a:1,https://b:1").unwrap_err().message().contains("mixed"));
        assert!(Access::parse("good:1,a:b").unwrap_err().message().contains("`a:b`"));
    }

    proptest! {
        #[test]
        fn what_is_displayed_parses_to_the_same(hosts in prop::collection::vec(("[a-z][a-z0-9.-]{0,9}", 1u16..), 1..5)) {
            let text: Vec<String> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            let access = Access::parse(&text.join(";")).unwrap();
            prop_assert_eq!(Access::parse(&access.endpoints.to_string()).unwrap(), access);
        }
    }
}
