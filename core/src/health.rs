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

/// Whether servers can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// No server has answered yet, and no attempt has failed.
    Connecting,
    /// All servers in use answer.
    Connected,
    /// There is a connection, but some server does not answer, refuses the client, or can't be reached.
    Degraded,
    /// No server can be reached. The client goes on trying.
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

/// Whether a client can reach its servers, as its latest calls and heartbeats have shown.
///
/// A client without producers and consumers sends no heartbeats: it does not notice by itself that a server is gone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The status of all endpoints together.
    pub status: Status,
    /// What is wrong, if the status is `Degraded` or `Lost`.
    pub error: Option<Error>,
    /// How many connections are open.
    pub connections: usize,
    /// The addresses in use that were tried, sorted by name: some of those that the user gave, and those of
    /// brokers that the servers named.
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

/// What may not work at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    pub(crate) endpoint: Arc<str>,
    /// The topic that is received from, and its broker; `None` for the telemetry stream.
    pub(crate) source: Option<(Arc<str>, Arc<str>)>,
}

impl Part {
    pub(crate) fn telemetry(endpoint: &Arc<str>) -> Self {
        Self { endpoint: endpoint.clone(), source: None }
    }
}

/// Announces that the health of a client may have changed, and knows what its sessions say.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    changed: watch::Sender<()>,
    sessions: Mutex<Vec<Weak<SessionHealth>>>,
    closed: AtomicBool,
}

/// What keeps the telemetry streams of one session from working, and its push consumer from receiving.
#[derive(Debug)]
pub(crate) struct SessionHealth {
    monitor: Weak<Monitor>,
    errors: Mutex<HashMap<Part, Error>>,
    ended: AtomicBool,
}

impl Monitor {
    /// Announces that something may have changed.
    pub(crate) fn poke(&self) {
        self.changed.send_replace(());
    }

    /// Changes after each [`poke`](Self::poke).
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Notes that the client was closed, or dropped.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.poke();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The place where a new session reports.
    pub(crate) fn watch_session(self: &Arc<Self>) -> Arc<SessionHealth> {
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

    /// What does not work at an endpoint.
    pub(crate) fn trouble(&self, endpoint: &str) -> Option<Error> {
        let sessions = self.sessions.lock();
        let live = sessions.iter().filter_map(Weak::upgrade).filter(|it| !it.ended.load(Ordering::SeqCst));
        live.into_iter().find_map(|session| {
            let errors = session.errors.lock();
            errors.iter().find(|(part, _)| *part.endpoint == *endpoint).map(|(_, error)| error.clone())
        })
    }
}

impl SessionHealth {
    /// Notes that a part works, or is not needed any more.
    pub(crate) fn good(&self, part: &Part) {
        if self.errors.lock().remove(part).is_some() {
            self.poke();
        }
    }

    /// Notes that a part failed.
    pub(crate) fn bad(&self, part: Part, error: &Error) {
        self.errors.lock().insert(part, error.clone());
        self.poke();
    }

    /// Notes that the session has ended: what it reported does not count any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.poke();
    }

    fn poke(&self) {
        if let Some(monitor) = self.monitor.upgrade() {
            monitor.poke();
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
    fn the_trouble_of_a_session_counts_until_it_passes_or_the_session_ends() {
        let monitor = Arc::new(Monitor::default());
        let [one, two] = [monitor.watch_session(), monitor.watch_session()];
        let mut changes = monitor.changes();
        let telemetry = Part::telemetry(&"h:1".into());
        one.bad(telemetry.clone(), &error());
        two.bad(Part { source: Some(("t".into(), "b".into())), ..telemetry.clone() }, &error());
        assert!(changes.has_changed().unwrap());
        assert!(monitor.trouble("h:1").is_some() && monitor.trouble("h:2").is_none());
        one.good(&telemetry);
        two.good(&telemetry);
        assert!(monitor.trouble("h:1").is_some());
        changes.mark_unchanged();
        two.end();
        assert!(changes.has_changed().unwrap() && monitor.trouble("h:1").is_none());
    }
}
