//! Turns the configuration of an entry into the options of its port.

use std::sync::Arc;

use super::error::AppError;
use super::file_limit;
use crate::config::{EntryAccess, EntryConfig};
use crate::context::EntryPoint;
use crate::front::grpc::RoutePort;
use crate::front::port::{PortOptions, Tls, TransportConfig};
use crate::front::route_addresses::{RouteAddresses, ServedEntry};

/// The options of an entry's port: the proxy's, overridden by the entry's own. `ports` is the number of ports that share the
/// limit of open files.
pub(super) fn port_options(
    entry: &EntryConfig,
    proxy: &PortOptions,
    ports: usize,
) -> Result<PortOptions, AppError> {
    let mut options = proxy.clone();
    if let Some(tls) = &entry.tls {
        options.tls = Tls::new(tls)?;
    }
    if let Some(networks) = &entry.trusted_proxies {
        options.trusted_proxies.clone_from(networks);
    }
    if let Some(connections) = entry.connections {
        options.transport = file_limit::fit(TransportConfig { connections, ..options.transport }, ports);
    }
    Ok(options)
}

/// What an entry that listens on this port serves, and which addresses its routes contain.
pub(super) fn served_entry(entry: &EntryConfig, port: u16, route_port: RoutePort) -> ServedEntry {
    let route = if entry.addresses.is_empty() {
        let port = (route_port == RoutePort::Listen).then_some(port);
        RouteAddresses::Reached { port, others: Vec::new() }
    } else {
        RouteAddresses::Named(entry.addresses.clone())
    };
    ServedEntry {
        messaging: true,
        administration: entry.administration,
        entry: Arc::new(EntryPoint {
            name: entry.name.as_str().into(),
            is_trusted: entry.access == EntryAccess::Off,
        }),
        route: Arc::new(route),
    }
}
