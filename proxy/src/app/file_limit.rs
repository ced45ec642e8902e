//! How many files the process may open, which bounds its connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::front::port::TransportConfig;

/// File descriptors reserved for the store, broker connections and logs.
const RESERVED_FILES: usize = 512;

/// Lets this process open as many files as the system permits without privileges.
pub(super) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Lowers the limit on connections of one of so many ports if the process may not open enough files for all of them.
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
            "fewer connections are allowed than configured, because the process may not open enough files"
        );
        transport.connections = connections;
    }
    transport
}
