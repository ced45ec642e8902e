//! Any bytes for everything that reads what strangers send. It may refuse them; it may not panic.
//!
//! `cargo x fuzz TARGET` lets libFuzzer look for inputs. `cargo test` runs the seeds and mutations of them.

mod classic;
mod http;
mod mutate;
mod proxy;
mod remoting;
mod seeds;
mod token;

use std::path::Path;
use std::str::FromStr;
use std::{fs, io};

pub use mutate::Mutator;
use rocketmq_thin_proxy::backend::embedded::fuzz_sql;
use rocketmq_thin_proxy::front::port::fuzz_proxy_header;

/// What is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A request of any call, sent to a running proxy. The first byte of an input chooses the call.
    Grpc,
    /// SQL filters.
    Sql,
    /// Receipt handles and transaction ids, sent to a running proxy; most of them with a valid seal.
    Handle,
    /// The first bytes of a connection.
    ProxyHeader,
    /// The remoting protocol.
    Remoting,
    /// Requests of classic clients, and whole connections of theirs, sent to a running proxy.
    Classic,
    /// Requests to the HTTP front end, sent to a running proxy.
    Http,
    /// Signatures, passwords and session tokens in all protocols, sent to a running proxy; some of them properly signed.
    Token,
}

impl Target {
    /// All targets.
    pub const ALL: [Self; 8] = [
        Self::Grpc,
        Self::Sql,
        Self::Handle,
        Self::ProxyHeader,
        Self::Remoting,
        Self::Classic,
        Self::Http,
        Self::Token,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Sql => "sql",
            Self::Handle => "handle",
            Self::ProxyHeader => "proxy-header",
            Self::Remoting => "remoting",
            Self::Classic => "classic",
            Self::Http => "http",
            Self::Token => "token",
        }
    }

    /// Feeds one input.
    ///
    /// # Panics
    /// If the input breaks something.
    pub fn run(self, input: &[u8]) {
        match self {
            Self::Grpc => proxy::call(input),
            Self::Sql => fuzz_sql(&String::from_utf8_lossy(input)),
            Self::Handle => proxy::settle(input),
            Self::ProxyHeader => fuzz_proxy_header(input),
            Self::Remoting => remoting::run(input),
            Self::Classic => proxy::classic(input),
            Self::Http => proxy::http(input),
            Self::Token => proxy::authenticate(input),
        }
    }

    /// Inputs to begin with.
    #[must_use]
    pub fn seeds(self) -> Vec<Vec<u8>> {
        seeds::of(self)
    }

    /// Writes the seeds into a folder, for libFuzzer.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write_seeds(self, folder: &Path) -> io::Result<()> {
        self.seeds()
            .iter()
            .enumerate()
            .try_for_each(|(at, seed)| fs::write(folder.join(format!("seed-{at}")), seed))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|target| target.name() == name).ok_or_else(|| format!("no target {name}"))
    }
}
