use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the ports that systems give to outgoing connections and to listeners without a port of their own: another
/// process would soon get one of those, before a server that takes seconds to start has bound it.
const PORTS: Range<u16> = 12_000..32_000;

/// How many ports are tried. If so many are taken, something else is wrong.
const MAX_ATTEMPTS: usize = 1000;

/// A free port for which the ports at these distances are free, too. They are not reserved.
pub(crate) fn free(distances: &[i32]) -> io::Result<u16> {
    for _ in 0..MAX_ATTEMPTS {
        let port = rand::random_range(PORTS);
        let beside = distances.iter().map(|distance| u16::try_from(i32::from(port) + distance).ok());
        let taken: Option<Vec<_>> = std::iter::once(Some(port))
            .chain(beside)
            .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port?)).ok())
            .collect();
        if taken.is_some() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("found no free port in {PORTS:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_beside_are_free_too() {
        let port = free(&[-2, 1]).unwrap();
        for port in [port - 2, port, port + 1] {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
}
