//! The limit of open files of the process, which bounds the number of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::front::port::TransportConfig;

/// File descriptors reserved for the store, broker connections and logs.
const RESERVED_FILES: usize = 512;

/// Raises the limit of open files as far as the system permits without privileges.
pub(super) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "failed to raise the limit of open files");
    }
}

/// Lowers the limit of connections of one port, if the process may not open enough files for all `ports`.
pub(super) fn fit(mut transport: TransportConfig, ports: usize) -> TransportConfig {
    let files = getrlimit(Resource::Nofile).current;
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    let connections = (files - RESERVED_FILES.min(files / 2)) / ports.max(1);
    if transport.connections > connections {
        tracing::warn!(
            configured = transport.connections,
            connections,
            ports,
            files,
            "lowered the limit of connections, because the process may not open enough files"
        );
        transport.connections = connections;
    }
    transport
}
