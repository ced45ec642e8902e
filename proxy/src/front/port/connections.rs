//! The open connections: how many there may be, which of them are idle, and how each is told to end.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{EntryPoint, Origin};

use super::{ConnectionBudget, PortCounts, TransportConfig};

/// The most connections above the limit, while idle ones that were told to end are still closing.
const CLOSING: usize = 64;
/// How long a connection may take to close after its last call is answered.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// All open connections of a port.
pub(super) struct Connections {
    max: usize,
    max_per_peer: usize,
    idle_timeout: Duration,
    started: Instant,
    draining: CancellationToken,
    counts: Arc<PortCounts>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next_id: u64,
    by_id: BTreeMap<u64, Entry>,
    per_peer: HashMap<IpAddr, usize>,
}

struct Entry {
    peer: IpAddr,
    state: Arc<State>,
}

struct State {
    calls: TaskTracker,
    /// Milliseconds between the start of the port and the last sign of work.
    active_at: AtomicU64,
    closing: CancellationToken,
    evicted: CancellationToken,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The limit of all connections is reached, and each of them has calls under way.
    All,
    /// The limit of the peer's address is reached, and each of its connections has calls under way.
    Peer,
}

/// One open connection. It is counted until it is dropped.
pub struct Connection {
    connections: Arc<Connections>,
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    encrypted: bool,
    certificate: Option<Arc<[String]>>,
    state: Arc<State>,
}

impl Connections {
    pub(super) fn new(
        config: &TransportConfig,
        counts: Arc<PortCounts>,
        draining: CancellationToken,
    ) -> Self {
        Self {
            max: config.connections,
            max_per_peer: config.connections_per_peer,
            idle_timeout: config.idle_timeout,
            started: Instant::now(),
            draining,
            counts,
            open: Mutex::default(),
        }
    }

    /// Counts a new connection. May evict one that is idle.
    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Result<Connection, Full> {
        let mut open = self.open.lock();
        if open.by_id.len() >= self.max && !(open.evict(None) && open.by_id.len() < self.max + CLOSING) {
            self.counts.refused(Full::All);
            return Err(Full::All);
        }
        let ip = peer.ip().to_canonical();
        let state = Arc::new(State {
            calls: TaskTracker::new(),
            active_at: AtomicU64::new(self.now()),
            closing: self.draining.child_token(),
            evicted: CancellationToken::new(),
        });
        let id = open.next_id;
        open.next_id += 1;
        open.by_id.insert(id, Entry { peer: ip, state: state.clone() });
        *open.per_peer.entry(ip).or_default() += 1;
        drop(open);
        self.counts.opened();
        let local = SocketAddr::from(([0; 4], 0));
        Ok(Connection {
            connections: self.clone(),
            id,
            peer,
            local,
            encrypted: false,
            certificate: None,
            state,
        })
    }

    /// Tells connections that have been idle for too long to end.
    pub(super) fn close_idle(&self) {
        let now = self.now();
        let oldest = now.saturating_sub(u64::try_from(self.idle_timeout.as_millis()).unwrap_or(u64::MAX));
        for entry in self.open.lock().by_id.values() {
            if !entry.state.calls.is_empty() {
                entry.state.active_at.store(now, Ordering::Relaxed);
            } else if entry.state.active_at.load(Ordering::Relaxed) < oldest {
                entry.state.closing.cancel();
            }
        }
    }

    /// How often [`Connections::close_idle`] should be called.
    pub(super) fn idle_check_interval(&self) -> Duration {
        (self.idle_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(10))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Open {
    /// Ends the connection that has been idle for the longest; of one peer, if given. Returns whether there was one.
    fn evict(&mut self, peer: Option<IpAddr>) -> bool {
        let idle = self.by_id.values().filter(|entry| {
            peer.is_none_or(|peer| entry.peer == peer)
                && entry.state.calls.is_empty()
                && !entry.state.evicted.is_cancelled()
        });
        let longest = idle.min_by_key(|entry| entry.state.active_at.load(Ordering::Relaxed));
        longest.inspect(|entry| entry.state.evicted.cancel()).is_some()
    }

    fn uncount(&mut self, peer: IpAddr) {
        if let Some(count) = self.per_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&peer);
            }
        }
    }
}

impl Connection {
    /// The client's address, by the socket or by a trusted PROXY header.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address that the peer, or a balancer before this port, has connected to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn set_local(&mut self, local: SocketAddr) {
        self.local = local;
    }

    /// Whether what the peer sends is encrypted on its way here.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Where its requests come from.
    #[must_use]
    pub fn origin(&self, entry: Arc<EntryPoint>) -> Origin {
        Origin { peer: self.peer.to_string().into(), certificate: self.certificate.clone(), entry }
    }

    /// The names in the client's certificate, if it has shown one.
    #[must_use]
    pub fn certificate(&self) -> Option<&Arc<[String]>> {
        self.certificate.as_ref()
    }

    pub(super) fn set_certificate(&mut self, names: Vec<String>) {
        self.certificate = Some(names.into());
    }

    pub(super) fn set_encrypted(&mut self) {
        self.encrypted = true;
    }

    /// The tasks of the calls under way. A connection without any is idle.
    #[must_use]
    pub fn calls(&self) -> &TaskTracker {
        &self.state.calls
    }

    /// Cancelled when the connection should end once the calls under way are answered.
    #[must_use]
    pub fn closing(&self) -> &CancellationToken {
        &self.state.closing
    }

    /// Cancelled when the connection must end at once.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.state.evicted.clone()
    }

    /// Notes that a call begins.
    pub(crate) fn touch(&self) {
        self.state.active_at.store(self.connections.now(), Ordering::Relaxed);
    }

    /// Counts the connection under the address that a trusted balancer names.
    pub(super) fn set_peer(&mut self, peer: SocketAddr) {
        let ip = peer.ip().to_canonical();
        let mut open = self.connections.open.lock();
        let Some(entry) = open.by_id.get_mut(&self.id) else { return };
        let before = std::mem::replace(&mut entry.peer, ip);
        open.uncount(before);
        *open.per_peer.entry(ip).or_default() += 1;
        drop(open);
        self.peer = peer;
    }

    /// Checks the limit of the peer's address, once that is known. May evict an idle connection of the same address.
    pub(super) fn check_peer(&self) -> Result<(), Full> {
        let ip = self.peer.ip().to_canonical();
        let mut open = self.connections.open.lock();
        let count = open.per_peer.get(&ip).copied().unwrap_or_default();
        let max = self.connections.max_per_peer;
        if count > max && !(count <= max + CLOSING && open.evict(Some(ip))) {
            self.connections.counts.refused(Full::Peer);
            return Err(Full::Peer);
        }
        Ok(())
    }
}

/// Waits until a connection that takes no new calls can be closed: a second after the last of its calls is answered, so that
/// the peer can read the answer. Meanwhile gives up requests that do not arrive, which would keep it open.
pub async fn drained(calls: &TaskTracker, budget: &ConnectionBudget) {
    let incomplete = async {
        loop {
            tokio::time::sleep(CLOSING_TIMEOUT).await;
            budget.evict_incomplete();
        }
    };
    calls.close();
    tokio::select! {
        () = calls.wait() => {}
        () = incomplete => {}
    }
    tokio::time::sleep(CLOSING_TIMEOUT).await;
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        if let Some(entry) = open.by_id.remove(&self.id) {
            open.uncount(entry.peer);
        }
        self.connections.counts.closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(connections: usize, connections_per_peer: usize) -> Arc<Connections> {
        let config = TransportConfig { connections, connections_per_peer, ..TransportConfig::default() };
        Arc::new(Connections::new(&config, Arc::default(), CancellationToken::new()))
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_newcomer_replaces_the_one_that_is_idle_for_the_longest() {
        let connections = connections(2, 10);
        let first = connections.admit(address("1.1.1.1:1")).expect("room");
        let second = connections.admit(address("1.1.1.2:1")).expect("room");
        first.state.active_at.store(1000, Ordering::Relaxed);
        let third = connections.admit(address("1.1.1.3:1")).expect("room");
        assert!(second.evicted().is_cancelled() && !first.evicted().is_cancelled());
        assert!(!third.evicted().is_cancelled());
    }

    #[test]
    fn connections_with_calls_are_never_evicted() {
        let connections = connections(1, 10);
        let busy = connections.admit(address("1.1.1.1:1")).expect("room");
        let call = busy.calls().token();
        assert_eq!(connections.admit(address("1.1.1.2:1")).err(), Some(Full::All));
        drop(call);
        assert!(connections.admit(address("1.1.1.2:1")).is_ok());
        assert!(busy.evicted().is_cancelled());
    }

    #[test]
    fn one_address_cannot_take_all_connections() {
        let connections = connections(10, 1);
        let busy = connections.admit(address("1.1.1.1:1")).expect("room");
        let _call = busy.calls().token();
        let same = connections.admit(address("[::ffff:1.1.1.1]:2")).expect("room");
        let _other_call = same.calls().token();
        assert_eq!(same.check_peer(), Err(Full::Peer));
        let mut behind = connections.admit(address("1.1.1.1:3")).expect("room");
        behind.set_peer(address("2.2.2.2:3"));
        assert_eq!(behind.check_peer(), Ok(()));
        drop((behind, same));
        assert_eq!(busy.check_peer(), Ok(()));
        drop(busy);
        assert!(connections.open.lock().per_peer.is_empty());
    }

    #[test]
    fn idle_connections_are_closed_and_busy_ones_count_from_their_last_call() {
        let config = TransportConfig { idle_timeout: Duration::ZERO, ..TransportConfig::default() };
        let connections = Arc::new(Connections::new(&config, Arc::default(), CancellationToken::new()));
        let (idle, busy) = (connections.admit(address("1.1.1.1:1")), connections.admit(address("1.1.1.1:2")));
        let (idle, busy) = (idle.expect("room"), busy.expect("room"));
        let _call = busy.calls().token();
        let connections = Arc::try_unwrap(connections).err().expect("shared");
        // Both were active before the port started to count.
        idle.state.active_at.store(0, Ordering::Relaxed);
        while connections.now() == 0 {
            std::hint::spin_loop();
        }
        connections.close_idle();
        assert!(idle.closing().is_cancelled() && !busy.closing().is_cancelled());
    }
}
