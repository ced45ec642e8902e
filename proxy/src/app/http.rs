//! Creates the HTTP front end, if it is part of this build.

use std::sync::Arc;

use crate::config::{Config, EntryConfig};
use crate::front::port::{PortLimits, Protocol, Web};
use crate::front::route_addresses::ServedEntry;
use crate::processor::Processor;

/// The HTTP front end of one port: as a protocol for HTTP/1.1, and for requests on gRPC's HTTP/2 connections.
pub(super) struct HttpFront {
    pub(super) protocol: Arc<dyn Protocol>,
    pub(super) web: Arc<dyn Web>,
}

#[cfg(feature = "http")]
mod build {
    use super::*;
    use crate::config::EntryProtocol;
    use crate::front::http::Server;

    /// Creates the HTTP front ends of all ports.
    pub(in crate::app) struct HttpFronts(Server);

    impl HttpFronts {
        pub(in crate::app) fn new(processor: &Arc<Processor>, config: &Config) -> Self {
            Self(Server::new(processor.clone(), &config.http))
        }

        /// The front end of a port. `None` if HTTP is not part of this build.
        pub(in crate::app) fn at(&self, served: &ServedEntry, limits: PortLimits) -> Option<HttpFront> {
            let entry = Arc::new(self.0.at(served, limits));
            Some(HttpFront { protocol: entry.clone(), web: entry })
        }
    }

    /// Whether HTTP is served on the addresses of gRPC.
    pub(in crate::app) fn is_enabled(config: &Config) -> bool {
        config.http.enabled
    }

    /// Whether the console is served on the addresses of gRPC. Entries are not considered.
    pub(in crate::app) fn has_console(config: &Config) -> bool {
        #[cfg(feature = "console")]
        let wanted = config.http.console;
        #[cfg(not(feature = "console"))]
        let wanted = false;
        wanted && is_enabled(config)
    }

    /// Whether an entry serves HTTP.
    pub(in crate::app) fn is_served_at(entry: &EntryConfig) -> bool {
        entry.protocols.contains(&EntryProtocol::Http)
    }
}

#[cfg(not(feature = "http"))]
mod build {
    use super::*;

    pub(in crate::app) struct HttpFronts;

    impl HttpFronts {
        pub(in crate::app) fn new(_: &Arc<Processor>, _: &Config) -> Self {
            Self
        }

        pub(in crate::app) fn at(&self, _: &ServedEntry, _: PortLimits) -> Option<HttpFront> {
            None
        }
    }

    pub(in crate::app) fn is_enabled(_: &Config) -> bool {
        false
    }

    pub(in crate::app) fn has_console(_: &Config) -> bool {
        false
    }

    pub(in crate::app) fn is_served_at(_: &EntryConfig) -> bool {
        false
    }
}

pub(super) use build::{HttpFronts, has_console, is_enabled, is_served_at};
