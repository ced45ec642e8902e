//! A real Apache RocketMQ, small: a name server, brokers, and Apache's own proxy if wanted, from their published
//! packages, in a folder of their own on free ports of this machine.
//!
//! Brokers take every type of message, make groups when they are named (never topics), and ask about undecided
//! transactions within seconds.

mod configuration;
mod guard;
mod jars;
mod ports;
mod registration;
mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use configuration::{Place, apache_proxy, broker, name_server};
use guard::Guard;
pub use guard::{ACCESS_KEY, SECRET_KEY};
use server::Server;

/// The version that everything is measured against.
pub const VERSION: &str = "5.5.0";

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many name servers.
    pub name_servers: usize,
    /// How many brokers, each a master.
    pub brokers: usize,
    /// Apache's version.
    pub version: String,
    /// Whether Apache's proxy stands in front of it, too. It knows no guards.
    pub apache_proxy: bool,
    /// Whether brokers take TLS alone, and serve [`ACCESS_KEY`] alone.
    pub guarded: bool,
    /// Where the list of Apache's jars is kept between runs.
    pub cache: PathBuf,
}

impl Options {
    /// One name server and one broker of the usual version, without Apache's proxy and without guards.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self {
            name_servers: 1,
            brokers: 1,
            version: VERSION.to_owned(),
            apache_proxy: false,
            guarded: false,
            cache: cache.to_owned(),
        }
    }
}

/// A running cluster; its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    name_servers: Vec<Server>,
    /// Where they listen, `HOST:PORT;HOST:PORT`.
    addresses: String,
    brokers: Vec<Server>,
    apache_proxy: Option<(Server, String)>,
    guard: Option<Guard>,
    _folder: Option<TempDir>,
}

impl Cluster {
    /// Starts one with all its data in a temporary folder.
    ///
    /// # Errors
    /// When Maven or Java are missing, or a server does not come up.
    pub async fn start(options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut cluster = Self::start_in(options, folder.path(), false).await?;
        cluster._folder = Some(folder);
        Ok(cluster)
    }

    /// Starts one in this folder that can live on when this process ends, once it is let go.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_detached(options: &Options, folder: &Path) -> Result<Self> {
        Self::start_in(options, folder, true).await
    }

    /// Lets the processes live on without this one.
    pub fn let_go(self) {
        // Nothing else keeps their handles from ending them.
        std::mem::forget(self);
    }

    async fn start_in(options: &Options, folder: &Path, detached: bool) -> Result<Self> {
        ensure!(!(options.guarded && options.apache_proxy), "Apache's proxy knows no guards here");
        let class_path = jars::class_path(&options.cache, &options.version).await?;
        let guard = options.guarded.then(|| Guard::new(folder)).transpose()?;
        let place = Place { folder, class_path: &class_path, guard: guard.as_ref() };
        let (mut name_servers, mut addresses) = (Vec::new(), Vec::new());
        for number in 0..options.name_servers {
            let (launch, address) = name_server(place, number)?;
            name_servers.push(launch.start(detached).await?);
            addresses.push(address);
        }
        let joined = addresses.join(";");
        let mut brokers = Vec::new();
        for number in 0..options.brokers {
            brokers.push(broker(place, (&joined, number))?.start(detached).await?);
        }
        for address in &addresses {
            registration::wait(address, options.brokers).await?;
        }
        let apache_proxy = match options.apache_proxy {
            true => {
                let (launch, address) = apache_proxy(place, &joined)?;
                Some((launch.start(detached).await?, address))
            }
            false => None,
        };
        Ok(Self { name_servers, addresses: joined, brokers, apache_proxy, guard, _folder: None })
    }

    /// Where the name servers listen, `HOST:PORT;HOST:PORT`.
    #[must_use]
    pub fn name_server(&self) -> &str {
        &self.addresses
    }

    /// The certificate that whoever talks to a guarded cluster has to trust.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.guard.as_ref().map(|guard| guard.ca_file.as_path())
    }

    /// Where Apache's proxy listens for gRPC, `HOST:PORT`, if it was wanted.
    #[must_use]
    pub fn apache_proxy(&self) -> Option<&str> {
        self.apache_proxy.as_ref().map(|(_, address)| address.as_str())
    }

    /// The process id of Apache's proxy.
    #[must_use]
    pub fn apache_proxy_id(&self) -> Option<u32> {
        self.apache_proxy.as_ref().and_then(|(server, _)| server.id())
    }

    /// Kills a broker as `kill -9` does.
    ///
    /// # Errors
    /// When there is no such broker, or it can't be killed.
    pub async fn kill_broker(&mut self, number: usize) -> Result<()> {
        self.brokers.get_mut(number).context("no such broker")?.kill().await
    }

    /// Asks a broker to end, and waits until it has: it tells whoever asks something to go away, and then ends.
    ///
    /// # Errors
    /// When there is no such broker, or it does not end.
    pub async fn stop_broker(&mut self, number: usize) -> Result<()> {
        self.brokers.get_mut(number).context("no such broker")?.stop().await
    }

    /// Has a broker hang: its connections stay, and it does nothing.
    ///
    /// # Errors
    /// When there is no such broker, or it does not run.
    pub fn freeze_broker(&self, number: usize) -> Result<()> {
        self.brokers.get(number).context("no such broker")?.signal(Signal::STOP)
    }

    /// Has a broker that hangs go on.
    ///
    /// # Errors
    /// When there is no such broker, or it does not run.
    pub fn thaw_broker(&self, number: usize) -> Result<()> {
        self.brokers.get(number).context("no such broker")?.signal(Signal::CONT)
    }

    /// Starts an ended broker again, on the same ports and data.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_broker(&mut self, number: usize) -> Result<()> {
        self.brokers.get_mut(number).context("no such broker")?.start_again().await
    }

    /// Kills a name server as `kill -9` does.
    ///
    /// # Errors
    /// When there is no such name server, or it can't be killed.
    pub async fn kill_name_server(&mut self, number: usize) -> Result<()> {
        self.name_servers.get_mut(number).context("no such name server")?.kill().await
    }

    /// Starts a killed name server again, on the same port; it knows nothing until brokers register.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_name_server(&mut self, number: usize) -> Result<()> {
        self.name_servers.get_mut(number).context("no such name server")?.start_again().await
    }

    /// Kills Apache's proxy as `kill -9` does and starts it again on the same port.
    ///
    /// # Errors
    /// When there is none, or it does not come up.
    pub async fn restart_apache_proxy(&mut self) -> Result<()> {
        let (server, _) = self.apache_proxy.as_mut().context("no Apache proxy was wanted")?;
        server.kill().await?;
        server.start_again().await
    }

    /// The ends of all outputs, for a report.
    #[must_use]
    pub fn log_tails(&self) -> String {
        let proxy = self.apache_proxy.iter().map(|(server, _)| server);
        let servers = self.name_servers.iter().chain(&self.brokers).chain(proxy);
        servers.map(Server::log_tail).collect::<Vec<_>>().join("\n")
    }
}
