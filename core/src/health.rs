//! Whether a client can reach its servers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::Error;

/// Whether servers can be reached, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// No server has answered yet, and no attempt has failed.
    Connecting,
    /// All servers in use answer.
    Connected,
    /// There is a connection, but some server does not answer, refuses the client, or can't be reached.
    Degraded,
    /// No server can be reached. The client keeps trying.
    Lost,
    /// The client is closed.
    Closed,
}

impl Status {
    /// The status in lower case, such as `connected`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Degraded => "degraded",
            Self::Lost => "lost",
            Self::Closed => "closed",
        }
    }
}

/// Whether a client can reach its servers, according to its latest calls and heartbeats.
///
/// A client without producers and consumers sends no heartbeats, so it does not notice that a server is gone until a
/// call fails.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The status of all endpoints together.
    pub status: Status,
    /// What is wrong, if the status is `Degraded` or `Lost`.
    pub error: Option<Error>,
    /// How many connections are open.
    pub connections: usize,
    /// The addresses in use that the client has tried to reach, sorted by name: addresses that the user gave, and
    /// addresses of brokers from routes.
    pub endpoints: Vec<EndpointHealth>,
}

/// Whether one address can be reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointHealth {
    /// The address as `host:port`.
    pub endpoint: String,
    /// Its status: `Connected`, `Degraded` or `Lost`.
    pub status: Status,
    /// What is wrong, unless the status is `Connected`.
    pub error: Option<Error>,
    /// How many connections to it are open.
    pub connections: usize,
}

impl Health {
    pub(crate) fn new(endpoints: Vec<EndpointHealth>, closed: bool) -> Self {
        let all = |status| endpoints.iter().all(|endpoint| endpoint.status == status);
        let status = if closed {
            Status::Closed
        } else if endpoints.is_empty() {
            Status::Connecting
        } else if all(Status::Connected) {
            Status::Connected
        } else if all(Status::Lost) {
            Status::Lost
        } else {
            Status::Degraded
        };
        Self {
            status,
            error: endpoints.iter().find_map(|endpoint| endpoint.error.clone()),
            connections: endpoints.iter().map(|endpoint| endpoint.connections).sum(),
            endpoints,
        }
    }
}

/// A part of a session that can fail at one endpoint: the telemetry stream, or receiving a topic from a broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Component {
    pub(crate) endpoint: Arc<str>,
    /// The topic and the broker that messages are received from; `None` for the telemetry stream.
    pub(crate) source: Option<(Arc<str>, Arc<str>)>,
}

impl Component {
    pub(crate) fn telemetry(endpoint: &Arc<str>) -> Self {
        Self { endpoint: endpoint.clone(), source: None }
    }
}

/// Collects the failures of a client's sessions, and notifies watchers when the health of the client may have changed.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    changed: watch::Sender<()>,
    sessions: Mutex<Vec<Weak<SessionHealth>>>,
    closed: AtomicBool,
}

/// The current failures of one session: of its telemetry streams, and of the receives of its push consumer.
#[derive(Debug)]
pub(crate) struct SessionHealth {
    monitor: Weak<Monitor>,
    errors: Mutex<HashMap<Component, Error>>,
    ended: AtomicBool,
}

impl Monitor {
    /// Notifies watchers that the health may have changed.
    pub(crate) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// A receiver that changes with each [`notify`](Self::notify).
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Records that the client was closed or dropped.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.notify();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Registers a new session, which reports its failures to the result.
    pub(crate) fn register_session(self: &Arc<Self>) -> Arc<SessionHealth> {
        let session = Arc::new(SessionHealth {
            monitor: Arc::downgrade(self),
            errors: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let mut sessions = self.sessions.lock();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(&session));
        session
    }

    /// The failure of some session at an endpoint; `None` if there is none.
    pub(crate) fn error_at(&self, endpoint: &str) -> Option<Error> {
        let sessions = self.sessions.lock();
        let live = sessions.iter().filter_map(Weak::upgrade).filter(|it| !it.ended.load(Ordering::SeqCst));
        live.into_iter().find_map(|session| {
            let errors = session.errors.lock();
            errors
                .iter()
                .find(|(component, _)| *component.endpoint == *endpoint)
                .map(|(_, error)| error.clone())
        })
    }
}

impl SessionHealth {
    /// Records that a component works, or is no longer needed.
    pub(crate) fn clear(&self, component: &Component) {
        if self.errors.lock().remove(component).is_some() {
            self.notify();
        }
    }

    /// Records that a component failed.
    pub(crate) fn report(&self, component: Component, error: &Error) {
        self.errors.lock().insert(component, error.clone());
        self.notify();
    }

    /// Records that the session has ended. Its failures no longer count.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.notify();
    }

    fn notify(&self) {
        if let Some(monitor) = self.monitor.upgrade() {
            monitor.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn error() -> Error {
        Error::new(ErrorKind::Unavailable, "telemetry", "refused")
    }

    #[test]
    fn the_status_sums_up_all_endpoints() {
        use Status::{Connected, Connecting, Degraded, Lost};
        for (endpoints, expected) in [
            (vec![], Connecting),
            (vec![Connected, Connected], Connected),
            (vec![Connected, Lost], Degraded),
            (vec![Degraded], Degraded),
            (vec![Degraded, Lost], Degraded),
            (vec![Lost, Lost], Lost),
        ] {
            let endpoint = |status: &Status| EndpointHealth {
                endpoint: String::new(),
                status: *status,
                error: (*status != Connected).then(error),
                connections: 1,
            };
            let count = endpoints.len();
            let health = Health::new(endpoints.iter().map(endpoint).collect(), false);
            assert_eq!((health.status, health.connections), (expected, count));
            assert_eq!(health.error.is_some(), matches!(expected, Degraded | Lost));
        }
        assert_eq!(Health::new(Vec::new(), true).status, Status::Closed);
    }

    #[test]
    fn the_failure_of_a_session_counts_until_it_is_cleared_or_the_session_ends() {
        let monitor = Arc::new(Monitor::default());
        let [one, two] = [monitor.register_session(), monitor.register_session()];
        let mut changes = monitor.changes();
        let telemetry = Component::telemetry(&"h:1".into());
        one.report(telemetry.clone(), &error());
        two.report(Component { source: Some(("t".into(), "b".into())), ..telemetry.clone() }, &error());
        assert!(changes.has_changed().unwrap());
        assert!(monitor.error_at("h:1").is_some() && monitor.error_at("h:2").is_none());
        one.clear(&telemetry);
        two.clear(&telemetry);
        assert!(monitor.error_at("h:1").is_some());
        changes.mark_unchanged();
        two.end();
        assert!(changes.has_changed().unwrap() && monitor.error_at("h:1").is_none());
    }
}
