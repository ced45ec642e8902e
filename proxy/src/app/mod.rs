//! Starts and stops the proxy: configuration -> backend -> rules and layers -> front ends -> run.

mod access;
mod entries;
mod error;
mod file_limit;
mod handle_key;
mod http;
mod message_trace;
mod placement_file;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::backend::embedded::{self, Embedded, EmbeddedConfig};
use crate::backend::{BackendConfig, remote};
use crate::config::{Config, EntryConfig, EntryProtocol, own_ports};
use crate::context::EntryPoint;
use crate::error::ErrorKind;
use crate::front::grpc::{RoutePort, Server as GrpcServer};
use crate::front::metrics::{Exposition, MetricsServer, Sources};
use crate::front::port::{
    MemoryBudget, Port, PortLimits, PortOptions, Protocol, Tls, TlsMode, TransportConfig,
};
use crate::front::remoting::Server as RemotingServer;
use crate::front::route_addresses::{RouteAddresses, ServedEntry};
use crate::layer::{AccessLog, FirstUser, Layers, MessageTrace, Observers, Quotas, RequestMetrics, Spans};
use crate::log_level::LogControl;
use crate::otlp::Exporter;
use crate::processor::{ClusterRouter, HandleKey, Processor, ProcessorConfig};
pub use error::AppError;
use http::HttpFronts;
use placement_file::PlacementFile;

/// The delay after a failure before creating the declared topics and groups is retried.
const DECLARE_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How long a shutdown waits for the last records of message trace, then for the last lines of the access log, and then for
/// the last export of metrics and traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A proxy that has bound its addresses. It serves requests once [`App::run`] is called.
pub struct App {
    endpoints: Vec<Endpoint>,
    processor: Arc<Processor>,
    backend: Backend,
    access_log: Option<Arc<AccessLog>>,
    message_trace: Option<Arc<MessageTrace>>,
    exporter: Option<Exporter>,
    first_user: Option<FirstUser>,
    draining: CancellationToken,
    config: Config,
}

/// A port and the protocols that are served on it.
struct Endpoint {
    /// The name in metrics: the name of an entry, or one of [`own_ports`].
    name: Arc<str>,
    port: Port,
    protocols: Vec<Arc<dyn Protocol>>,
}

/// The backend in use, which a shutdown closes.
enum Backend {
    Merged(Embedded),
    Separated,
}

impl App {
    /// Binds the addresses and opens the backend.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn start(config: Config) -> Result<Self, AppError> {
        Self::start_with_log(config, LogControl::none()).await
    }

    /// Like [`App::start`], with a log whose level administrators may change.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn start_with_log(config: Config, log: LogControl) -> Result<Self, AppError> {
        let log = Arc::new(log);
        // Before the rules are used, so that a later change is noticed.
        let placement_file = PlacementFile::of(&config);
        if let Some(problem) = config.contradictions().first_error() {
            return Err(AppError::Config(problem));
        }
        let own = [&config.admin_listen, &config.remoting.listen].into_iter().flatten().count();
        let ports = 1 + own + config.entries.len();
        let options = PortOptions {
            tls: Tls::new(&config.tls)?,
            trusted_proxies: config.trusted_proxies.clone(),
            transport: file_limit::fit(config.transport.clone(), ports),
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
        let mut entry_ports = Vec::new();
        for entry in &config.entries {
            let options = entries::port_options(entry, &options, ports)?;
            entry_ports.push((entry, bind(&entry.listen, &options).await?, options.transport));
        }
        let metrics_port = match &config.metrics.listen {
            Some(listen) => {
                let transport = MetricsServer::transport(&options.transport);
                Some(bind(listen, &PortOptions { transport, ..options.clone() }).await?)
            }
            None => None,
        };

        // The deployment mode, merged or separated, is chosen only here.
        let (router, backend, administration) = match &config.backend {
            BackendConfig { remote, clusters, .. } if !remote.name_server.is_empty() => {
                let services = remote::open(remote)?;
                let administration = services.administration.clone();
                let mut router = ClusterRouter::single(services);
                for (name, cluster) in clusters {
                    router = router.add(name.clone(), remote::open(cluster)?);
                }
                (router, Backend::Separated, administration)
            }
            BackendConfig { embedded, .. } => {
                let store_host = address.to_string();
                let embedded = embedded::open(EmbeddedConfig { store_host, ..embedded.clone() }).await?;
                let services = embedded.services();
                let administration = services.administration.clone();
                (ClusterRouter::single(services), Backend::Merged(embedded), administration)
            }
        };

        let router = router.rules(config.placement.clone());

        let handle_key = match &config.handle_key {
            Some(text) => HandleKey::new(text.as_bytes()),
            None => match &backend {
                Backend::Merged(_) => handle_key::read_or_create(&config.backend.embedded.data_dir)?,
                Backend::Separated => handle_key::random(),
            },
        };
        let draining = CancellationToken::new();
        let rules = ProcessorConfig { limits: config.limits.clone(), handle_key };
        let (access, first_user) = access::open(&config, &administration).await?;
        let quotas = Quotas::new(&config.quotas, config.fleet_size, access.is_some());
        let quotas = quotas.map_err(AppError::Config)?;
        let access_log = AccessLog::open(&config.access_log)?.map(Arc::new);
        let is_counted = metrics_port.is_some() || config.otlp.exports_metrics();
        let counted = is_counted.then(RequestMetrics::new);
        let spans = config.otlp.exports_traces().then(|| Spans::new(config.otlp.sample));
        let (spans, ended_spans) = spans.map(|(spans, ended)| (Arc::new(spans), ended)).unzip();
        let is_merged = matches!(backend, Backend::Merged(_));
        let message_trace = message_trace::open(&config.message_trace, &router, is_merged).await?;
        let observers = Observers {
            metrics: counted.clone(),
            access_log: access_log.clone(),
            message_trace: message_trace.clone(),
            spans: spans.clone(),
        };
        let layers = Layers::new(config.max_in_flight, quotas, access).with_observers(observers);
        let processor = Arc::new(Processor::new(router, rules, layers, draining.clone()));
        if config.learn_fleet_size {
            let (processor, configured) = (processor.clone(), config.fleet_size);
            tokio::spawn(async move { processor.learn_fleet_size(configured).await });
        }
        if let Some(file) = placement_file {
            tokio::spawn(file.watch(processor.clone()));
        }
        match backend {
            Backend::Merged(_) => declare(&processor, &config).await?,
            // The brokers may not be reachable yet.
            Backend::Separated => drop(tokio::spawn(declare_until_done(processor.clone(), config.clone()))),
        }

        let budget = MemoryBudget::new(&options.transport);
        // Administration has a budget of its own, so that it works while the proxy is overloaded.
        let admin_budget = MemoryBudget::new(&options.transport);
        let http = HttpFronts::new(&processor, &config);
        // gRPC, and HTTP if it is wanted, too.
        let grpc = |served: &ServedEntry, limits: PortLimits, with_http| {
            let http = if with_http { http.at(served, limits.clone()) } else { None };
            let web = http.as_ref().map(|http| http.web.clone());
            let grpc = GrpcServer::new(processor.clone(), served, limits, &log).with_web(web);
            let grpc: Arc<dyn Protocol> = Arc::new(grpc);
            std::iter::once(grpc).chain(http.map(|http| http.protocol))
        };
        let limits = |transport: &TransportConfig, budget: &Arc<MemoryBudget>| PortLimits {
            transport: transport.clone(),
            budget: budget.clone(),
        };
        let has_http = http::is_enabled(&config);
        let served = ServedEntry {
            messaging: true,
            administration: admin_port.is_none(),
            entry: own_entry(own_ports::MAIN),
            route: Arc::new(RouteAddresses::Reached {
                port: (config.route_port == RoutePort::Listen).then_some(address.port()),
                others: config.remoting.addresses.clone(),
            }),
        };
        let transport = &options.transport;
        let remoting = RemotingServer::new(processor.clone(), &config.remoting, budget.clone());
        let mut endpoints = Vec::new();
        let mut serve = |name: &str, port, protocols| {
            endpoints.push(Endpoint { name: name.into(), port, protocols });
        };
        let at = |served: &ServedEntry, transport: &TransportConfig| {
            Arc::new(remoting.at(served, transport)) as Arc<dyn Protocol>
        };
        let mut protocols: Vec<_> = grpc(&served, limits(transport, &budget), has_http).collect();
        protocols.extend(config.remoting.enabled.then(|| at(&served, transport)));
        serve(own_ports::MAIN, port, protocols);
        if let Some(port) = admin_port {
            let entry = own_entry(own_ports::ADMIN);
            let served = ServedEntry { messaging: false, administration: true, entry, ..served.clone() };
            serve(
                own_ports::ADMIN,
                port,
                grpc(&served, limits(transport, &admin_budget), has_http).collect(),
            );
        }
        if let Some(port) = remoting_port {
            let served = ServedEntry { entry: own_entry(own_ports::REMOTING), ..served.clone() };
            serve(own_ports::REMOTING, port, vec![at(&served, transport)]);
        }
        for (entry, port, transport) in entry_ports {
            let served = entries::served_entry(entry, port.address()?.port(), config.route_port);
            let has = |protocol| entry.protocols.contains(&protocol);
            let mut protocols = Vec::new();
            match (has(EntryProtocol::Grpc), http::is_served_at(entry)) {
                (true, with_http) => protocols.extend(grpc(&served, limits(&transport, &budget), with_http)),
                (false, true) => {
                    let http = http.at(&served, limits(&transport, &budget));
                    protocols.extend(http.map(|http| http.protocol));
                }
                (false, false) => {}
            }
            protocols.extend(has(EntryProtocol::Remoting).then(|| at(&served, &transport)));
            serve(&entry.name, port, protocols);
        }
        let metrics = counted.map(|requests| {
            let ports = endpoints.iter().map(|endpoint| (endpoint.name.clone(), endpoint.port.counts()));
            let own = metrics_port.iter().map(|port| (own_ports::METRICS.into(), port.counts()));
            let sources = Sources {
                requests,
                ports: ports.chain(own).collect(),
                budget: budget.clone(),
                access_log: access_log.clone(),
                message_trace: message_trace.clone(),
                spans: spans.clone(),
                processor: processor.clone(),
            };
            Arc::new(Exposition::new(sources, &config.metrics))
        });
        if let Some((port, metrics)) = metrics_port.zip(metrics.clone()) {
            let server: Arc<dyn Protocol> = Arc::new(MetricsServer::new(metrics));
            endpoints.push(Endpoint { name: own_ports::METRICS.into(), port, protocols: vec![server] });
        }
        let exporter = Exporter::start(&config.otlp, metrics, spans.zip(ended_spans))?;
        Ok(Self {
            endpoints,
            processor,
            backend,
            access_log,
            message_trace,
            exporter,
            first_user,
            draining,
            config,
        })
    }

    /// The address that the proxy listens on.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.address_of(own_ports::MAIN)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The address for administration, if there is a separate one.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn admin_address(&self) -> io::Result<Option<SocketAddr>> {
        self.address_of(own_ports::ADMIN)
    }

    /// The address for the remoting protocol, if there is a separate one.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn remoting_address(&self) -> io::Result<Option<SocketAddr>> {
        self.address_of(own_ports::REMOTING)
    }

    /// The address for metrics, if they are served.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn metrics_address(&self) -> io::Result<Option<SocketAddr>> {
        self.address_of(own_ports::METRICS)
    }

    /// The address of the entry with this name, if there is one.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn address_of(&self, name: &str) -> io::Result<Option<SocketAddr>> {
        let named = self.endpoints.iter().find(|endpoint| *endpoint.name == *name);
        named.map(|endpoint| endpoint.port.address()).transpose()
    }

    /// The user that this start has created, if users are in the catalog and it had none. The secret was printed to standard
    /// error.
    #[must_use]
    pub fn first_user(&self) -> Option<&FirstUser> {
        self.first_user.as_ref()
    }

    /// Serves until `stop` completes, then waits up to the configured `drain` for the requests in progress.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let maintenance = tokio::spawn({
            let processor = self.processor.clone();
            async move { processor.run_maintenance().await }
        });
        let serving: Vec<_> = self
            .endpoints
            .into_iter()
            .map(|Endpoint { port, protocols, .. }| {
                tokio::spawn(port.serve(protocols, self.draining.clone()))
            })
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
            tracing::warn!(
                "shut down before all requests had finished within {:?} (drain)",
                self.config.drain
            );
        }
        if let Some(trace) = self.message_trace {
            let _ = tokio::time::timeout(FLUSH_TIMEOUT, trace.closed()).await;
        }
        if let Some(log) = self.access_log {
            let _ = tokio::time::timeout(FLUSH_TIMEOUT, log.flushed()).await;
        }
        if let Some(exporter) = self.exporter {
            let _ = tokio::time::timeout(FLUSH_TIMEOUT, exporter.stop()).await;
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
    file_limit::raise();
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
    if http::has_console(&app.config) {
        let address = app.admin_address()?.map_or_else(|| app.address(), Ok)?;
        let scheme = if app.config.tls.mode == TlsMode::Required { "https" } else { "http" };
        announce(&format!("console on {scheme}://{address}/console/"))?;
    }
    if let Some(log) = app.access_log.clone() {
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                log.reopen();
            }
        });
    }
    for EntryConfig { name, .. } in &app.config.entries {
        if let Some(address) = app.address_of(name)? {
            announce(&format!("entry {name} on {address}"))?;
        }
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

/// The entry point of one of the proxy's own ports, where access control applies.
fn own_entry(name: &str) -> Arc<EntryPoint> {
    Arc::new(EntryPoint { name: name.into(), is_trusted: false })
}

/// Prints a line to standard output.
fn announce(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Creates the declared topics and groups, and retries until the brokers answer.
async fn declare_until_done(processor: Arc<Processor>, config: Config) {
    while let Err(error) = declare(&processor, &config).await {
        tracing::warn!(%error, "failed to create the declared topics and groups, retrying in {DECLARE_RETRY_DELAY:?}");
        tokio::select! {
            () = tokio::time::sleep(DECLARE_RETRY_DELAY) => {}
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
