//! Starts and stops the proxy: configuration -> backend -> rules and layers -> front ends -> run.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::backend::embedded::{self, Embedded, EmbeddedConfig, OpenError};
use crate::backend::{BackendConfig, remote};
use crate::config::Config;
use crate::durable_file;
use crate::error::{Error, ErrorKind};
use crate::front::grpc::{Face, Server, Services};
use crate::front::metrics::{MetricsServer, Sources};
use crate::front::port::{Budget, Port, PortOptions, Protocol, Tls, TlsError, TransportConfig};
use crate::front::remoting::Server as RemotingServer;
use crate::layer::{
    AccessControl, AccessError, AccessLog, AccessLogError, Layers, Observers, Quotas, RequestMetrics,
};
use crate::log_level::LogControl;
use crate::processor::{ClusterRouter, HandleKey, Processor, Rules};

/// The file in the data directory that holds a generated handle key.
const HANDLE_KEY_FILE: &str = "handle.key";
/// The pause before the declared topics and groups are created again after a failure.
const DECLARE_RETRY_PAUSE: Duration = Duration::from_secs(5);
/// How long the end waits for the last lines of the access log.
const LOG_FLUSH: Duration = Duration::from_secs(2);
const HANDLE_KEY_BYTES: usize = 32;
/// File descriptors reserved for the store, broker connections and logs.
const RESERVED_FILES: usize = 512;

/// Why the proxy can't run.
#[derive(Debug, Error)]
pub enum AppError {
    /// Listening on the address fails.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: String,
        /// The system's error.
        source: io::Error,
    },
    /// The data directory can't be opened.
    #[error(transparent)]
    Backend(#[from] OpenError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Users and policies can't be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The access log can't be opened.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// A declared topic or group can't be created.
    #[error("cannot create the configured topics and groups: {0}")]
    Catalog(Error),
    /// The settings contradict each other.
    #[error("the configuration can't work: {0}")]
    Config(String),
    /// Another error of the system.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// A proxy that listens. It serves requests once [`App::run`] is called.
pub struct App {
    port: Endpoint,
    admin_port: Option<Endpoint>,
    remoting_port: Option<Endpoint>,
    metrics_port: Option<Endpoint>,
    processor: Arc<Processor>,
    backend: Backend,
    access_log: Option<Arc<AccessLog>>,
    draining: CancellationToken,
    config: Config,
}

/// A port and what is served on it.
struct Endpoint {
    port: Port,
    protocols: Vec<Arc<dyn Protocol>>,
}

/// The backend in use, to be closed at the end.
enum Backend {
    Merged(Embedded),
    Separated,
}

impl App {
    /// Opens the port and the backend.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn start(config: Config) -> Result<Self, AppError> {
        Self::start_with_log(config, LogControl::none()).await
    }

    /// The same, with a log whose level administrators may change.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn start_with_log(config: Config, log: LogControl) -> Result<Self, AppError> {
        let log = Arc::new(log);
        if config.limits.min_polling > config.limits.max_polling {
            return Err(contradiction("limits.min_polling is above limits.max_polling"));
        }
        check_clusters(&config.backend)?;
        let options = PortOptions {
            tls: Tls::new(&config.tls)?,
            trusted_proxies: config.trusted_proxies.clone(),
            transport: fit_to_files(config.transport.clone()),
        };
        let port = bind(&config.listen, &options).await?;
        let address = port.address()?;
        let admin_port = match &config.admin_listen {
            Some(listen) => Some(bind(listen, &options).await?),
            None => None,
        };
        let remoting_port = match &config.remoting.listen {
            Some(listen) => Some(bind(listen, &options).await?),
            None => None,
        };
        let metrics_port = match &config.metrics.listen {
            Some(listen) => {
                let transport = MetricsServer::transport(&options.transport);
                Some(bind(listen, &PortOptions { transport, ..options.clone() }).await?)
            }
            None => None,
        };

        // The one place where the deployment mode is chosen.
        let (router, backend) = match &config.backend {
            BackendConfig { remote, clusters, .. } if !remote.name_server.is_empty() => {
                let mut router = ClusterRouter::single(remote::open(remote)?);
                for (name, cluster) in clusters {
                    router = router.add(name.clone(), remote::open(cluster)?);
                }
                (router, Backend::Separated)
            }
            BackendConfig { embedded, .. } => {
                let store_host = address.to_string();
                let embedded = embedded::open(EmbeddedConfig { store_host, ..embedded.clone() }).await?;
                (ClusterRouter::single(embedded.services()), Backend::Merged(embedded))
            }
        };

        let router = router.rules(config.placement.clone()).map_err(|cluster| {
            contradiction(&format!(
                "a placement rule names the cluster {cluster}, which backend.clusters has not"
            ))
        })?;

        let handle_key = match &config.handle_key {
            Some(text) => HandleKey::new(text.as_bytes()),
            None => match &backend {
                Backend::Merged(_) => kept_key(&config.backend.embedded.data_dir)?,
                Backend::Separated => random_handle_key(),
            },
        };
        let draining = CancellationToken::new();
        let rules = Rules { limits: config.limits.clone(), handle_key };
        let access = AccessControl::open(&config.access)?.map(Arc::new);
        if let Some(access) = &access {
            // It ends with the proxy: nothing else holds its users and policies.
            tokio::spawn(access.clone().run());
        }
        let quotas = Quotas::new(&config.quotas, config.fleet_size, access.is_some());
        let quotas = quotas.map_err(AppError::Config)?;
        let access_log = AccessLog::open(&config.access_log)?.map(Arc::new);
        let counted = metrics_port.is_some().then(RequestMetrics::new);
        let observers = Observers { metrics: counted.clone(), access_log: access_log.clone() };
        let layers = Layers::new(config.max_in_flight, quotas, access).observed_by(observers);
        let processor = Arc::new(Processor::new(router, rules, layers, draining.clone()));
        match backend {
            Backend::Merged(_) => declare(&processor, &config).await?,
            // The brokers need not be up yet.
            Backend::Separated => drop(tokio::spawn(declare_until_done(processor.clone(), config.clone()))),
        }

        let budget = Budget::new(&options.transport);
        // An overloaded proxy can still be administered.
        let admin_budget = Budget::new(&options.transport);
        let grpc = |services, budget: &Arc<Budget>| {
            let face = Face { route_port: config.route_port, listen_port: address.port(), services };
            let transport = (options.transport.clone(), budget.clone());
            Arc::new(Server::new(processor.clone(), face, transport, &log)) as Arc<dyn Protocol>
        };
        let administration = admin_port.is_none();
        let remoting: Arc<dyn Protocol> = Arc::new(RemotingServer::new(
            processor.clone(),
            &config.remoting,
            (options.transport.clone(), budget.clone()),
            administration,
        ));
        let mut protocols = vec![grpc(Services { messaging: true, administration }, &budget)];
        protocols.extend(config.remoting.enabled.then(|| remoting.clone()));
        let port = Endpoint { port, protocols };
        let admin_port = admin_port.map(|port| {
            let services = Services { messaging: false, administration: true };
            let protocols = vec![grpc(services, &admin_budget)];
            Endpoint { port, protocols }
        });
        let remoting_port = remoting_port.map(|port| Endpoint { port, protocols: vec![remoting] });
        let metrics_port = metrics_port.zip(counted).map(|(metrics_port, requests)| {
            let ports =
                [("main", Some(&port)), ("admin", admin_port.as_ref()), ("remoting", remoting_port.as_ref())];
            let ports =
                ports.into_iter().filter_map(|(name, endpoint)| Some((name, endpoint?.port.counts())));
            let ports = ports.chain([("metrics", metrics_port.counts())]).collect();
            let sources =
                Sources { requests, ports, access_log: access_log.clone(), processor: processor.clone() };
            let server: Arc<dyn Protocol> = Arc::new(MetricsServer::new(sources, &config.metrics));
            Endpoint { port: metrics_port, protocols: vec![server] }
        });
        Ok(Self {
            port,
            admin_port,
            remoting_port,
            metrics_port,
            processor,
            backend,
            access_log,
            draining,
            config,
        })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn address(&self) -> io::Result<std::net::SocketAddr> {
        self.port.port.address()
    }

    /// The address it listens on for administration, if that is a separate one.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn admin_address(&self) -> io::Result<Option<std::net::SocketAddr>> {
        self.admin_port.as_ref().map(|endpoint| endpoint.port.address()).transpose()
    }

    /// The address it listens on for the remoting protocol alone, if there is one.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn remoting_address(&self) -> io::Result<Option<std::net::SocketAddr>> {
        self.remoting_port.as_ref().map(|endpoint| endpoint.port.address()).transpose()
    }

    /// The address it serves metrics on, if it does.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn metrics_address(&self) -> io::Result<Option<std::net::SocketAddr>> {
        self.metrics_port.as_ref().map(|endpoint| endpoint.port.address()).transpose()
    }

    /// Serves until `stop` completes, then waits for the requests in progress, at most for the configured time.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let maintenance = tokio::spawn({
            let processor = self.processor.clone();
            async move { processor.run_maintenance().await }
        });
        let endpoints =
            [Some(self.port), self.admin_port, self.remoting_port, self.metrics_port].into_iter().flatten();
        let serving: Vec<_> = endpoints
            .map(|Endpoint { port, protocols }| tokio::spawn(port.serve(protocols, self.draining.clone())))
            .collect();
        stop.await;
        // Waiting receives are answered, telemetry streams end, and connections send GOAWAY.
        self.draining.cancel();
        let finished = async {
            for port in serving {
                if let Ok(connections) = port.await {
                    connections.wait().await;
                }
            }
            let _ = maintenance.await;
        };
        if tokio::time::timeout(self.config.drain, finished).await.is_err() {
            tracing::warn!("some requests did not finish within {:?}", self.config.drain);
        }
        if let Some(log) = self.access_log {
            let _ = tokio::time::timeout(LOG_FLUSH, log.flushed()).await;
        }
        match self.backend {
            Backend::Merged(embedded) => embedded.close().await,
            Backend::Separated => {}
        }
    }
}

/// Runs a proxy until SIGTERM or SIGINT. Prints its addresses to standard output.
///
/// # Errors
/// [`AppError`].
pub async fn serve(config: Config, log: LogControl) -> Result<(), AppError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    raise_file_limit();
    let app = App::start_with_log(config, log).await?;
    announce(&format!("listening on {}", app.address()?))?;
    if let Some(address) = app.admin_address()? {
        announce(&format!("administration on {address}"))?;
    }
    if let Some(address) = app.remoting_address()? {
        announce(&format!("remoting protocol on {address}"))?;
    }
    if let Some(address) = app.metrics_address()? {
        announce(&format!("metrics on http://{address}/metrics"))?;
    }
    if let Some(log) = app.access_log.clone() {
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                log.reopen();
            }
        });
    }
    app.run(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await;
    Ok(())
}

async fn bind(listen: &str, options: &PortOptions) -> Result<Port, AppError> {
    let port = Port::bind(listen, options.clone()).await;
    port.map_err(|source| AppError::Listen { listen: listen.to_owned(), source })
}

/// Lets this process open as many files as the system permits without privileges.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Lowers the limit on connections if the process may not open enough files.
fn fit_to_files(mut transport: TransportConfig) -> TransportConfig {
    let files = getrlimit(Resource::Nofile).current;
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    let connections = files - RESERVED_FILES.min(files / 2);
    if transport.connections > connections {
        tracing::warn!(
            configured = transport.connections,
            connections,
            files,
            "fewer connections are allowed than configured, because the process may not open enough files"
        );
        transport.connections = connections;
    }
    transport
}

fn announce(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Creates the declared topics and groups, retrying until the brokers answer.
async fn declare_until_done(processor: Arc<Processor>, config: Config) {
    while let Err(error) = declare(&processor, &config).await {
        tracing::warn!(%error, "trying again in {DECLARE_RETRY_PAUSE:?}");
        tokio::select! {
            () = tokio::time::sleep(DECLARE_RETRY_PAUSE) => {}
            () = processor.draining().cancelled() => return,
        }
    }
}

async fn declare(processor: &Processor, config: &Config) -> Result<(), AppError> {
    let topics = config.topics.iter().cloned().map(Into::into).collect();
    let groups = config.groups.iter().cloned().map(Into::into).collect();
    match processor.apply(topics, groups, false).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(AppError::Catalog(error)),
    }
}

/// Checks the names and settings of clusters, as far as possible without contacting them.
fn check_clusters(backend: &BackendConfig) -> Result<(), AppError> {
    if !backend.clusters.is_empty() && backend.remote.name_server.is_empty() {
        return Err(contradiction("backend.clusters stand beside backend.remote, which has no name_server"));
    }
    for (name, cluster) in &backend.clusters {
        // The name is part of handles, where it ends with a dot.
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || !name.bytes().all(legal) {
            return Err(contradiction(&format!(
                "a cluster can't be named {name:?}: letters, digits, - and _ can"
            )));
        }
        if cluster.name_server.is_empty() {
            return Err(contradiction(&format!("backend.clusters.{name} has no name_server")));
        }
    }
    Ok(())
}

fn contradiction(what: &str) -> AppError {
    AppError::Config(what.to_owned())
}

/// A key for a proxy without a configured key and without a data directory.
fn random_handle_key() -> HandleKey {
    tracing::warn!(
        "no handle_key is configured: other proxies, and this one after a restart, will not accept its receipt handles"
    );
    let key: [u8; HANDLE_KEY_BYTES] = rand::random();
    HandleKey::new(&key)
}

// The backend has locked the directory, so no other process creates the key at the same time.
fn kept_key(data_dir: &Path) -> io::Result<HandleKey> {
    let path = data_dir.join(HANDLE_KEY_FILE);
    match std::fs::read(&path) {
        Ok(key) if key.len() == HANDLE_KEY_BYTES => return Ok(HandleKey::new(&key)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key: [u8; HANDLE_KEY_BYTES] = rand::random();
    // If it were lost, all handles would become invalid.
    durable_file::replace(&path, &key)?;
    Ok(HandleKey::new(&key))
}
