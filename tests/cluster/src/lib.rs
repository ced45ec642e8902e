//! A small Apache RocketMQ cluster: name servers, brokers and optionally Apache's proxy, from their published
//! packages, in their own folder and on free ports of this machine.
//!
//! Brokers accept every message type, create groups on first use (but not topics), and check undecided transactions
//! within seconds.

mod certificates;
mod configuration;
mod disk;
mod guard;
mod jars;
mod ports;
mod registration;
mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

pub use certificates::Certificates;
use configuration::{Place, ProxyAddresses, apache_proxy, broker, local_proxy, name_server};
use guard::Guard;
pub use guard::{ACCESS_KEY, SECRET_KEY};
use server::Server;

/// The default version.
pub const VERSION: &str = "5.5.0";

/// The shape of a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The number of name servers.
    pub name_servers: usize,
    /// The number of brokers. Each is a master.
    pub brokers: usize,
    /// Apache's version.
    pub version: String,
    /// Whether to start Apache's proxy, too. It does not work with `guarded`.
    pub apache_proxy: bool,
    /// Whether Apache's proxy runs in local mode: it is the only broker.
    pub local: bool,
    /// Whether brokers require TLS and accept [`ACCESS_KEY`] only.
    pub guarded: bool,
    /// Whether brokers and Apache's proxy check signatures and rights, without TLS. [`ACCESS_KEY`] has all rights.
    pub signed: bool,
    /// The folder that keeps the list of Apache's jars between runs.
    pub cache: PathBuf,
}

impl Options {
    /// One name server and one broker of the default version, unguarded and without Apache's proxy.
    #[must_use]
    pub fn new(cache: &Path) -> Self {
        Self {
            name_servers: 1,
            brokers: 1,
            version: VERSION.to_owned(),
            apache_proxy: false,
            local: false,
            guarded: false,
            signed: false,
            cache: cache.to_owned(),
        }
    }
}

/// A running cluster. Dropping it kills its processes.
#[derive(Debug)]
pub struct Cluster {
    name_servers: Vec<Server>,
    /// Their addresses, `HOST:PORT;HOST:PORT`.
    addresses: String,
    brokers: Vec<Server>,
    apache_proxy: Option<(Server, ProxyAddresses)>,
    guard: Option<Guard>,
    _folder: Option<TempDir>,
}

impl Cluster {
    /// Starts a cluster with all its data in a temporary folder.
    ///
    /// # Errors
    /// When Maven or Java are missing, the disk is too full for a broker, or a server does not come up.
    pub async fn start(options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut cluster = Self::start_in(options, folder.path(), false).await?;
        cluster._folder = Some(folder);
        Ok(cluster)
    }

    /// Starts a cluster in this folder. After [`Cluster::detach`] it outlives this process.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_detached(options: &Options, folder: &Path) -> Result<Self> {
        Self::start_in(options, folder, true).await
    }

    /// Leaves the processes running when this one ends.
    pub fn detach(self) {
        // Dropping the handles would kill the processes.
        std::mem::forget(self);
    }

    async fn start_in(options: &Options, folder: &Path, detached: bool) -> Result<Self> {
        ensure!(
            !(options.guarded && options.apache_proxy),
            "Apache's proxy does not work with a guarded cluster here"
        );
        disk::check(folder)?;
        let class_path = jars::class_path(&options.cache, &options.version).await?;
        let guard = options.guarded.then(|| Guard::new(folder)).transpose()?;
        let has_users = options.guarded || options.signed;
        let place = Place { folder, class_path: &class_path, guard: guard.as_ref(), has_users };
        let (mut name_servers, mut addresses) = (Vec::new(), Vec::new());
        for number in 0..options.name_servers {
            let (launch, address) = name_server(place, number)?;
            name_servers.push(launch.start(detached).await?);
            addresses.push(address);
        }
        let joined = addresses.join(";");
        let mut brokers = Vec::new();
        for number in 0..if options.local { 0 } else { options.brokers } {
            brokers.push(broker(place, (&joined, number))?.start(detached).await?);
        }
        for address in &addresses {
            registration::wait(address, brokers.len()).await?;
        }
        let proxy = match (options.local, options.apache_proxy) {
            (true, _) => Some(local_proxy(place, &joined)?),
            (false, true) => Some(apache_proxy(place, &joined)?),
            (false, false) => None,
        };
        let apache_proxy = match proxy {
            Some((launch, addresses)) => Some((launch.start(detached).await?, addresses)),
            None => None,
        };
        Ok(Self { name_servers, addresses: joined, brokers, apache_proxy, guard, _folder: None })
    }

    /// The addresses of the name servers, `HOST:PORT;HOST:PORT`.
    #[must_use]
    pub fn name_server(&self) -> &str {
        &self.addresses
    }

    /// The certificate that clients of a guarded cluster must trust.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.guard.as_ref().map(|guard| guard.certificates.ca.as_path())
    }

    /// The gRPC address of Apache's proxy, `HOST:PORT`, if it was started.
    #[must_use]
    pub fn apache_proxy(&self) -> Option<&str> {
        self.apache_proxy.as_ref().map(|(_, addresses)| addresses.grpc.as_str())
    }

    /// Its address for the remoting protocol, `HOST:PORT`.
    #[must_use]
    pub fn apache_proxy_remoting(&self) -> Option<&str> {
        self.apache_proxy.as_ref().map(|(_, addresses)| addresses.remoting.as_str())
    }

    /// The process id of Apache's proxy.
    #[must_use]
    pub fn apache_proxy_id(&self) -> Option<u32> {
        self.apache_proxy.as_ref().and_then(|(server, _)| server.id())
    }

    /// The process id of a broker.
    #[must_use]
    pub fn broker_id(&self, number: usize) -> Option<u32> {
        self.brokers.get(number).and_then(Server::id)
    }

    /// Kills a broker as `kill -9` does.
    ///
    /// # Errors
    /// When there is no such broker, or it can't be killed.
    pub async fn kill_broker(&mut self, number: usize) -> Result<()> {
        self.brokers.get_mut(number).context("no such broker")?.kill().await
    }

    /// Stops a broker with SIGTERM and waits for its end. It answers requests with GO_AWAY before it exits.
    ///
    /// # Errors
    /// When there is no such broker, or it does not exit.
    pub async fn stop_broker(&mut self, number: usize) -> Result<()> {
        self.brokers.get_mut(number).context("no such broker")?.stop().await
    }

    /// Suspends a broker with SIGSTOP. Its connections stay open.
    ///
    /// # Errors
    /// When there is no such broker, or it does not run.
    pub fn freeze_broker(&self, number: usize) -> Result<()> {
        self.brokers.get(number).context("no such broker")?.signal(Signal::STOP)
    }

    /// Resumes a suspended broker.
    ///
    /// # Errors
    /// When there is no such broker, or it does not run.
    pub fn thaw_broker(&self, number: usize) -> Result<()> {
        self.brokers.get(number).context("no such broker")?.signal(Signal::CONT)
    }

    /// Starts a stopped broker again, with the same ports and data.
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

    /// Starts a killed name server again, on the same port. It knows no broker until brokers register.
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
        let (server, _) = self.apache_proxy.as_mut().context("Apache's proxy was not started")?;
        server.kill().await?;
        server.start_again().await
    }

    /// The last lines of all outputs, for error reports.
    #[must_use]
    pub fn log_tails(&self) -> String {
        let proxy = self.apache_proxy.iter().map(|(server, _)| server);
        let servers = self.name_servers.iter().chain(&self.brokers).chain(proxy);
        servers.map(Server::log_tail).collect::<Vec<_>>().join("\n")
    }
}
