use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A free port for which the ports at these distances are free, too. They are not reserved: another process may take
/// one before it is used.
pub(crate) fn free(distances: &[i32]) -> io::Result<u16> {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let beside = distances.iter().map(|distance| u16::try_from(i32::from(port) + distance).ok());
        let taken: Option<Vec<_>> =
            beside.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port?)).ok()).collect();
        if taken.is_some() {
            return Ok(port);
        }
    }
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
