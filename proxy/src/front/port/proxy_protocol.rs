//! Parses the header of the PROXY protocol, versions 1 and 2, by which a load balancer passes on the client's address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const V1: &[u8] = b"PROXY ";
/// Bytes of the longest header of version 1.
const V1_MAX_LENGTH: usize = 107;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a header of version 2 before its addresses.
const V2_FIXED_LENGTH: usize = 16;

/// What the first bytes of a connection contain.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// No PROXY header.
    None,
    /// The beginning of what may be a header.
    Incomplete,
    /// A malformed header.
    Invalid,
    /// A complete header.
    Header {
        /// The length of the header in bytes.
        length: usize,
        /// The client's address. `None` if the balancer has connected on its own behalf, or does not name the client.
        source: Option<SocketAddr>,
    },
}

/// Whether a connection begins with a PROXY header, complete or not.
pub(super) fn is_header(first: &[u8]) -> bool {
    first.starts_with(V1) || first.starts_with(V2)
}

/// Parses any bytes, for the fuzzer.
#[doc(hidden)]
pub fn fuzz(first: &[u8]) {
    if let Parsed::Header { length, .. } = parse(first) {
        assert!(length <= first.len(), "a header of {length} bytes in {}", first.len());
    }
}

/// Parses the first bytes of a connection.
pub(super) fn parse(first: &[u8]) -> Parsed {
    if begins(first, V1) {
        return if first.len() < V1.len() { Parsed::Incomplete } else { version_1(first) };
    }
    if begins(first, V2) {
        return if first.len() < V2_FIXED_LENGTH { Parsed::Incomplete } else { version_2(first) };
    }
    Parsed::None
}

// Whether the bytes are a prefix of the magic, or the other way round.
fn begins(first: &[u8], magic: &[u8]) -> bool {
    let common = first.len().min(magic.len());
    first[..common] == magic[..common]
}

fn version_1(first: &[u8]) -> Parsed {
    let line = &first[..first.len().min(V1_MAX_LENGTH)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if first.len() < V1_MAX_LENGTH { Parsed::Incomplete } else { Parsed::Invalid };
    };
    let Ok(line) = std::str::from_utf8(&first[V1.len()..end]) else { return Parsed::Invalid };
    let length = end + 2;
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.nth(1)) {
        (Some("UNKNOWN"), _, _) => Parsed::Header { length, source: None },
        (Some("TCP4" | "TCP6"), Some(host), Some(port)) => match (host.parse::<IpAddr>(), port.parse()) {
            (Ok(host), Ok(port)) => Parsed::Header { length, source: Some(SocketAddr::new(host, port)) },
            _ => Parsed::Invalid,
        },
        _ => Parsed::Invalid,
    }
}

fn version_2(first: &[u8]) -> Parsed {
    let length = V2_FIXED_LENGTH + usize::from(u16::from_be_bytes([first[14], first[15]]));
    if first[12] >> 4 != 2 {
        return Parsed::Invalid;
    }
    if first.len() < length {
        return Parsed::Incomplete;
    }
    let addresses = &first[V2_FIXED_LENGTH..length];
    let proxied = first[12] & 0x0F == 1;
    let source = match (proxied, first[13] >> 4) {
        (true, 1) => source_of::<4>(addresses, 8).map(|(ip, port)| (IpAddr::from(Ipv4Addr::from(ip)), port)),
        (true, 2) => {
            source_of::<16>(addresses, 32).map(|(ip, port)| (IpAddr::from(Ipv6Addr::from(ip)), port))
        }
        _ => return Parsed::Header { length, source: None },
    };
    match source {
        Some(source) => Parsed::Header { length, source: Some(source.into()) },
        None => Parsed::Invalid,
    }
}

fn source_of<const N: usize>(addresses: &[u8], port_at: usize) -> Option<([u8; N], u16)> {
    let ip = addresses.first_chunk::<N>()?;
    let port = addresses.get(port_at..port_at + 2)?;
    Some((*ip, u16::from_be_bytes([port[0], port[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_lines() {
        let header = |length, source: &str| Parsed::Header { length, source: source.parse().ok() };
        for (text, parsed) in [
            ("PRI * HTTP/2.0\r\n", Parsed::None),
            ("P", Parsed::Incomplete),
            ("PROXY TCP4 7.7.7.7 8.8.8.8 777 888", Parsed::Incomplete),
            ("PROXY TCP4 7.7.7.7 8.8.8.8 777 888\r\nPRI", header(36, "7.7.7.7:777")),
            ("PROXY TCP6 ::1 ::2 1 2\r\n", header(24, "[::1]:1")),
            ("PROXY UNKNOWN\r\n", header(15, "")),
            ("PROXY TCP4 nobody 8.8.8.8 777 888\r\n", Parsed::Invalid),
            ("PROXY UDP 7.7.7.7 8.8.8.8 777 888\r\n", Parsed::Invalid),
            (&format!("PROXY TCP4 7.7.7.7 8.8.8.8 777 {:0>200}\r\n", 888), Parsed::Invalid),
        ] {
            assert_eq!(parse(text.as_bytes()), parsed, "{text}");
        }
    }

    #[test]
    fn version_2_headers() {
        let mut bytes = V2.to_vec();
        bytes.extend([0x21, 0x11, 0, 12, 7, 7, 7, 7, 8, 8, 8, 8, 3, 9, 3, 120]);
        assert_eq!(parse(&bytes), Parsed::Header { length: 28, source: "7.7.7.7:777".parse().ok() });
        assert_eq!(parse(&bytes[..27]), Parsed::Incomplete);
        bytes[12] = 0x20;
        assert_eq!(parse(&bytes), Parsed::Header { length: 28, source: None });
        bytes[12] = 0x11;
        assert_eq!(parse(&bytes), Parsed::Invalid);
    }
}
