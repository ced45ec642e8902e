//! The scripted server: a real gRPC server on a real socket that answers as a healthy proxy does, except where the
//! case's script says otherwise, and remembers every call.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use rocketmq_thin_proto::v2::messaging_service_server::MessagingServiceServer;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tonic::transport::Server;

use self::{certificate::Authority, connection::Acceptor, service::Service, state::State};
use crate::{
    case::Sighting,
    script::{Script, StoredMessage},
};

pub use self::seen::{Call, Seen};

mod answer;
mod certificate;
mod connection;
mod json;
mod seen;
mod service;
mod settings;
mod state;
mod stored;
mod telemetry;

/// The pause after which a question is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// One scripted server, listening until it is stopped or dropped.
#[derive(Debug)]
pub struct ScriptedServer {
    local: SocketAddr,
    tls_name: Option<String>,
    authorities: Authorities,
    state: Arc<State>,
    acceptor: Acceptor,
    serving: JoinHandle<()>,
}

/// The certificate authority that signed the server's certificate, and one that did not; all as PEM.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    /// The one to trust.
    pub trusted: String,
    /// The other one.
    pub other: String,
    /// A client's certificate of the trusted one, and its key.
    pub client: (String, String),
    /// A client's certificate of the other one, and its key.
    pub other_client: (String, String),
}

impl ScriptedServer {
    /// Starts a server that plays `script`.
    ///
    /// # Errors
    /// When the script makes no sense or the address can't be listened on.
    pub async fn start(script: &Script) -> Result<Self> {
        let host = script.listen.as_deref().unwrap_or("127.0.0.1");
        let listener =
            TcpListener::bind(format!("{host}:0")).await.with_context(|| format!("listening on {host}"))?;
        let local = listener.local_addr()?;
        let mut authorities = Authorities::default();
        let mut tls = None;
        if let Some(wanted) = &script.tls {
            let authority = Authority::new()?;
            tls = Some(authority.acceptor(wanted)?);
            let other = Authority::new()?;
            authorities = Authorities {
                trusted: authority.pem(),
                other: other.pem(),
                client: authority.identity()?,
                other_client: other.identity()?,
            };
        }
        let tls_name = script.tls.as_ref().map(|tls| tls.name.clone());
        let advertised = tls_name.clone().unwrap_or_else(|| local.ip().to_string());
        let state = Arc::new(State::new(script.clone(), (advertised, local.port()))?);
        let (acceptor, incoming) = Acceptor::start(listener, tls, Arc::clone(&state));
        let service = MessagingServiceServer::new(Service::new(Arc::clone(&state)))
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        let serving = tokio::spawn(async move {
            // An error here is the end of the listening socket: the case sees it as a refused connection.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        Ok(Self { local, tls_name, authorities, state, acceptor, serving })
    }

    /// What a client is given to connect to, such as `127.0.0.1:41234` or `https://localhost:41234`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match &self.tls_name {
            None => self.local.to_string(),
            Some(name) => format!("https://{name}:{}", self.local.port()),
        }
    }

    /// The address it listens on.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The authorities of its TLS; empty without TLS.
    #[must_use]
    pub fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// What it has seen.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        self.state.seen()
    }

    /// Ends every telemetry stream from the server's side, connections stay.
    pub fn disconnect_telemetry(&self) {
        self.state.disconnect_telemetry();
    }

    /// Sends a command on the telemetry streams of the clients whose settings fit `to`; both are protobuf JSON.
    /// `settings` are a merge patch of those that were sent before. Waits until such a stream is open. With `until` it
    /// is sent again and again until those calls have come.
    ///
    /// # Errors
    /// When `command` is none.
    pub async fn tell(&self, to: &Value, command: &Value, until: Option<&Sighting>) -> Result<()> {
        loop {
            self.state.tell(to, command).await?;
            let Some(until) = until else { return Ok(()) };
            if timeout(ASK_AGAIN, self.seen().wait(until)).await.is_ok() {
                return Ok(());
            }
        }
    }

    /// Adds messages to those that are handed out.
    ///
    /// # Errors
    /// When a message makes no sense.
    pub fn put(&self, messages: &[StoredMessage]) -> Result<()> {
        self.state.put(messages)
    }

    /// Cuts every connection.
    pub fn drop_connections(&self) {
        self.acceptor.drop_connections();
    }

    /// Lets the calls go on that rules with `hang` hold back.
    pub fn release(&self) {
        self.state.release();
    }

    /// Stops listening and cuts every connection.
    pub fn stop(&self) {
        self.acceptor.stop();
        self.serving.abort();
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.stop();
    }
}
