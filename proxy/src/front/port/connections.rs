//! The open connections of a port: bounds their number, and closes idle ones.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{EntryPoint, Origin};
use crate::counts;

use super::connection_limit::ConnectionLimit;
use super::{ConnectionBudget, PortCounts, TransportConfig};

/// How many connections may exceed the limit while evicted ones are still closing.
const MAX_CLOSING: usize = 64;
/// How long a connection may take to close after its last call is answered.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections whose protocol is still unknown after this time are evicted in preference to others. Long enough for a
/// PROXY header and a TLS handshake.
const RECOGNITION_TIME: Duration = Duration::from_secs(2);

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
    by_id: BTreeMap<u64, OpenConnection>,
    per_peer: HashMap<IpAddr, usize>,
}

struct OpenConnection {
    peer: IpAddr,
    state: Arc<ConnectionState>,
}

struct ConnectionState {
    /// The calls in flight.
    calls: TaskTracker,
    /// When the connection last had a call in flight, in milliseconds since the start of the port.
    active_at: AtomicU64,
    /// Whether the protocol of the connection is known.
    recognized: AtomicBool,
    closing: CancellationToken,
    evicted: CancellationToken,
}

/// One open connection. It is counted until it is dropped.
pub struct Connection {
    connections: Arc<Connections>,
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    /// Whether the limit on connections from the peer's address is checked.
    peer_checked: bool,
    encrypted: bool,
    certificate: Option<Arc<[String]>>,
    state: Arc<ConnectionState>,
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

    /// Counts a new connection. Evicts an idle one, if a limit is reached. The connections of a balancer count only in
    /// total until the client's address is known.
    ///
    /// # Errors
    /// `PerPeer` or `Total`.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: SocketAddr,
        is_balancer: bool,
    ) -> Result<Connection, ConnectionLimit> {
        let ip = peer.ip().to_canonical();
        let mut open = self.open.lock();
        let has_evicted = !is_balancer && self.check_peer(&mut open, ip, 1)?;
        let (now, total) = (self.now(), open.by_id.len());
        if total >= self.max && !(total < self.max + MAX_CLOSING && (has_evicted || open.evict(None, now))) {
            self.counts.refused(ConnectionLimit::Total);
            return Err(ConnectionLimit::Total);
        }
        let state = Arc::new(ConnectionState {
            calls: TaskTracker::new(),
            active_at: AtomicU64::new(now),
            recognized: AtomicBool::new(false),
            closing: self.draining.child_token(),
            evicted: CancellationToken::new(),
        });
        let id = open.next_id;
        open.next_id += 1;
        open.by_id.insert(id, OpenConnection { peer: ip, state: state.clone() });
        *open.per_peer.entry(ip).or_default() += 1;
        drop(open);
        self.counts.opened();
        let local = SocketAddr::from(([0; 4], 0));
        Ok(Connection {
            connections: self.clone(),
            id,
            peer,
            local,
            peer_checked: !is_balancer,
            encrypted: false,
            certificate: None,
            state,
        })
    }

    /// Checks the limit on connections from one address, with `new` connections that are not counted yet. Evicts an
    /// idle connection from this address, if the limit is reached. Returns whether it has evicted one.
    fn check_peer(&self, open: &mut Open, ip: IpAddr, new: usize) -> Result<bool, ConnectionLimit> {
        let count = open.per_peer.get(&ip).copied().unwrap_or_default() + new;
        let max = self.max_per_peer;
        if count <= max {
            return Ok(false);
        }
        if count <= max + MAX_CLOSING && open.evict(Some(ip), self.now()) {
            return Ok(true);
        }
        self.counts.refused(ConnectionLimit::PerPeer);
        Err(ConnectionLimit::PerPeer)
    }

    /// Closes connections that have been idle for `idle_timeout`.
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
    /// Evicts the connection that has been idle for the longest, from this peer if one is given. Those whose protocol is
    /// not known after `RECOGNITION_TIME` come first: they may be silent sockets. Younger ones may be in their TLS
    /// handshake. Returns whether there was an idle one.
    fn evict(&mut self, peer: Option<IpAddr>, now: u64) -> bool {
        let overdue = |state: &ConnectionState, active_at: u64| {
            // Without a protocol there are no calls, so the connection was last active when it was opened.
            !state.recognized.load(Ordering::Relaxed)
                && u128::from(now.saturating_sub(active_at)) >= RECOGNITION_TIME.as_millis()
        };
        let idle = self.by_id.values().filter(|entry| {
            peer.is_none_or(|peer| entry.peer == peer)
                && entry.state.calls.is_empty()
                && !entry.state.evicted.is_cancelled()
        });
        let longest = idle.min_by_key(|entry| {
            let active_at = entry.state.active_at.load(Ordering::Relaxed);
            (!overdue(&entry.state, active_at), active_at)
        });
        longest.inspect(|entry| entry.state.evicted.cancel()).is_some()
    }
}

impl Connection {
    /// The client's address, as the socket or a trusted PROXY header names it.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The local address of the socket: the one that the client, or a balancer in front of this port, has connected to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn set_local(&mut self, local: SocketAddr) {
        self.local = local;
    }

    /// Whether the connection uses TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The origin of the requests of this connection, which was accepted at this entry.
    #[must_use]
    pub fn origin(&self, entry: Arc<EntryPoint>) -> Origin {
        Origin { peer: self.peer.to_string().into(), certificate: self.certificate.clone(), entry }
    }

    /// The names in the client's certificate. `None` if it has sent none.
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

    /// The tasks of the calls in flight. A connection without any is idle.
    #[must_use]
    pub fn calls(&self) -> &TaskTracker {
        &self.state.calls
    }

    /// Cancelled when the connection should end as soon as its calls in flight are answered.
    #[must_use]
    pub fn closing(&self) -> &CancellationToken {
        &self.state.closing
    }

    /// Cancelled when the connection must end at once.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.state.evicted.clone()
    }

    /// Records that a call begins now.
    pub(crate) fn touch(&self) {
        self.state.active_at.store(self.connections.now(), Ordering::Relaxed);
    }

    /// Records that the protocol of the connection is known.
    pub(super) fn set_recognized(&self) {
        self.state.recognized.store(true, Ordering::Relaxed);
    }

    /// Counts the connection under the client's address from a trusted PROXY header.
    pub(super) fn set_peer(&mut self, peer: SocketAddr) {
        let ip = peer.ip().to_canonical();
        let mut open = self.connections.open.lock();
        let Some(entry) = open.by_id.get_mut(&self.id) else { return };
        let before = std::mem::replace(&mut entry.peer, ip);
        counts::subtract(&mut open.per_peer, &before, 1);
        *open.per_peer.entry(ip).or_default() += 1;
        drop(open);
        self.peer = peer;
        self.peer_checked = false;
    }

    /// Checks the limit on connections from the peer's address, once this address is known, unless it was checked when
    /// the connection was accepted. Evicts an idle connection from the same address, if the limit is reached.
    ///
    /// # Errors
    /// `PerPeer`.
    pub(super) fn check_peer(&self) -> Result<(), ConnectionLimit> {
        if self.peer_checked {
            return Ok(());
        }
        let ip = self.peer.ip().to_canonical();
        self.connections.check_peer(&mut self.connections.open.lock(), ip, 0)?;
        Ok(())
    }
}

/// Waits until a connection that takes no new calls can be closed: one second after its last answer, so that the peer
/// can read it. Evicts requests that have not arrived completely, which would keep the connection open.
pub async fn wait_until_drained(calls: &TaskTracker, budget: &ConnectionBudget) {
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
            counts::subtract(&mut open.per_peer, &entry.peer, 1);
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
    fn a_new_connection_replaces_the_one_that_is_idle_for_the_longest() {
        let connections = connections(2, 10);
        let first = connections.admit(address("1.1.1.1:1"), false).expect("room");
        let second = connections.admit(address("1.1.1.2:1"), false).expect("room");
        first.state.active_at.store(1000, Ordering::Relaxed);
        let third = connections.admit(address("1.1.1.3:1"), false).expect("room");
        assert!(second.evicted().is_cancelled() && !first.evicted().is_cancelled());
        assert!(!third.evicted().is_cancelled());
    }

    #[test]
    fn connections_with_calls_are_never_evicted() {
        let connections = connections(1, 10);
        let busy = connections.admit(address("1.1.1.1:1"), false).expect("room");
        let call = busy.calls().token();
        assert_eq!(connections.admit(address("1.1.1.2:1"), false).err(), Some(ConnectionLimit::Total));
        drop(call);
        assert!(connections.admit(address("1.1.1.2:1"), false).is_ok());
        assert!(busy.evicted().is_cancelled());
    }

    #[test]
    fn one_address_cannot_take_all_connections() {
        let connections = connections(10, 1);
        let busy = connections.admit(address("1.1.1.1:1"), false).expect("room");
        let call = busy.calls().token();
        let same = connections.admit(address("[::ffff:1.1.1.1]:2"), false);
        assert_eq!(same.err(), Some(ConnectionLimit::PerPeer));
        assert!(connections.admit(address("1.1.1.2:1"), false).is_ok());
        drop(call);
        assert!(connections.admit(address("1.1.1.1:3"), false).is_ok());
        assert!(busy.evicted().is_cancelled());
        drop(busy);
        assert!(connections.open.lock().per_peer.is_empty());
    }

    #[test]
    fn idle_connections_are_closed_and_busy_ones_count_from_their_last_call() {
        let config = TransportConfig { idle_timeout: Duration::ZERO, ..TransportConfig::default() };
        let connections = Arc::new(Connections::new(&config, Arc::default(), CancellationToken::new()));
        let (idle, busy) =
            (connections.admit(address("1.1.1.1:1"), false), connections.admit(address("1.1.1.1:2"), false));
        let (idle, busy) = (idle.expect("room"), busy.expect("room"));
        let _call = busy.calls().token();
        let connections = Arc::try_unwrap(connections).err().expect("shared");
        // The idle connection was active before the clock of the port advanced.
        idle.state.active_at.store(0, Ordering::Relaxed);
        while connections.now() == 0 {
            std::hint::spin_loop();
        }
        connections.close_idle();
        assert!(idle.closing().is_cancelled() && !busy.closing().is_cancelled());
    }

    #[test]
    fn connections_of_a_balancer_count_for_the_addresses_of_its_clients() {
        let connections = connections(10, 1);
        let [mut first, mut second, third] = [1, 2, 3]
            .map(|port| connections.admit(SocketAddr::from(([10, 0, 0, 1], port)), true).expect("room"));
        first.set_peer(address("2.2.2.2:1"));
        second.set_peer(address("2.2.2.2:2"));
        let _calls = (first.calls().token(), second.calls().token());
        assert_eq!(second.check_peer(), Err(ConnectionLimit::PerPeer));
        assert_eq!(third.check_peer(), Ok(()));
        drop(second);
        assert_eq!(first.check_peer(), Ok(()));
        drop((first, third));
        assert!(connections.open.lock().per_peer.is_empty());
    }

    #[test]
    fn connections_without_a_protocol_are_evicted_first_unless_they_are_new() {
        let connections = connections(10, 10);
        let admit = |port, active_at| {
            let connection = connections.admit(SocketAddr::from(([1, 1, 1, 1], port)), false).expect("room");
            connection.state.active_at.store(active_at, Ordering::Relaxed);
            connection
        };
        let (oldest, producer, silent) = (admit(1, 0), admit(2, 100), admit(3, 1000));
        oldest.set_recognized();
        producer.set_recognized();
        let evicted = || [&oldest, &producer, &silent].map(|connection| connection.evicted().is_cancelled());
        assert!(connections.open.lock().evict(None, 2999));
        assert_eq!(evicted(), [true, false, false]);
        assert!(connections.open.lock().evict(None, 3000));
        assert_eq!(evicted(), [true, false, true]);
    }

    #[test]
    fn a_new_connection_replaces_one_connection_when_both_limits_are_reached() {
        let connections = connections(2, 1);
        let other = connections.admit(address("1.1.1.1:1"), false).expect("room");
        let own = connections.admit(address("1.1.1.2:1"), false).expect("room");
        let _newcomer = connections.admit(address("1.1.1.2:2"), false).expect("made room");
        assert!(own.evicted().is_cancelled() && !other.evicted().is_cancelled());
    }
}
