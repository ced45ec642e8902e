//! The budget for the memory that calls hold: bounds it per connection, per host and in total.
//!
//! When the budget is exhausted, incomplete requests are evicted, oldest first. A peer that stops in the middle of its
//! requests does not keep others from being served.
//!
//! A host may use most of the budget while nobody else needs it, because all clients behind a gateway are one host. The
//! rest is for hosts that use less than their share, so that one host can't take the whole budget. When only the rest is
//! left, a host beyond its share evicts requests of the host that holds the most bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::TransportConfig;
use crate::context::Host;
use crate::host_share::{exceeds_share, share};

/// The budget of all connections.
pub struct MemoryBudget {
    max_bytes: usize,
    max_bytes_per_connection: usize,
    max_calls: usize,
    calls: AtomicUsize,
    refused: RefusedCalls,
    next_connection: AtomicU64,
    /// The hosts with connections, and the number of these. A lock of its own, as only the start and the end of a
    /// connection need it.
    hosts: Mutex<HashMap<Host, (Arc<HostUsage>, usize)>>,
    usage: Mutex<Usage>,
}

/// What the calls of one host hold now.
struct HostUsage {
    /// The id of the host's first connection.
    id: u64,
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

/// Numbers of refused calls, by the limit that was reached.
#[derive(Default)]
struct RefusedCalls {
    calls: AtomicU64,
    bytes: AtomicU64,
    connection_bytes: AtomicU64,
    evicted: AtomicU64,
}

/// What calls hold now.
#[derive(Default)]
struct Usage {
    bytes: usize,
    next_id: u64,
    /// Incomplete requests, oldest first.
    incomplete: BTreeMap<u64, Incomplete>,
    /// The ids of the incomplete requests of each connection and of each host, oldest first.
    by_owner: BTreeSet<(Owner, u64)>,
    /// The hosts that hold more bytes than their share, by id. There are few.
    above_share: BTreeMap<u64, Arc<HostUsage>>,
}

/// The connection or the host of incomplete requests, by its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Connection(u64),
    Host(u64),
}

/// A request that has not arrived completely.
struct Incomplete {
    connection: Arc<ConnectionBudget>,
    bytes: usize,
    evicted: CancellationToken,
}

/// The part of the budget that one connection uses.
pub struct ConnectionBudget {
    budget: Arc<MemoryBudget>,
    id: u64,
    host: Host,
    of_host: Arc<HostUsage>,
    bytes: AtomicUsize,
}

/// The part of the budget that one call uses. Released when dropped.
pub struct Charge {
    connection: Arc<ConnectionBudget>,
    bytes: usize,
    incomplete: Option<u64>,
    evicted: CancellationToken,
}

/// Why a charge is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// The limit on concurrent calls is reached.
    Calls,
    /// The limit on concurrent calls is nearly reached, and the host has used up its share.
    HostCalls,
    /// The limit on the bytes of all connections is reached.
    Bytes,
    /// The limit on the bytes of all connections is nearly reached, and the host has used up its share.
    HostBytes,
    /// The limit on the bytes of this connection is reached.
    ConnectionBytes,
    /// The request had not arrived completely, and was evicted to make room for another one.
    Evicted,
}

impl MemoryBudget {
    /// Creates a budget with the limits of this configuration.
    #[must_use]
    pub fn new(config: &TransportConfig) -> Arc<Self> {
        Arc::new(Self {
            max_bytes: config.bytes,
            max_bytes_per_connection: config.bytes_per_connection,
            max_calls: config.calls,
            calls: AtomicUsize::new(0),
            refused: RefusedCalls::default(),
            next_connection: AtomicU64::new(0),
            hosts: Mutex::default(),
            usage: Mutex::default(),
        })
    }

    /// The budget of a new connection from this address, which is a part of this one.
    #[must_use]
    pub fn connection(self: &Arc<Self>, peer: SocketAddr) -> Arc<ConnectionBudget> {
        let id = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let host = Host::from(peer.ip()).network();
        let of_host = {
            let mut hosts = self.hosts.lock();
            let new =
                || (Arc::new(HostUsage { id, calls: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }), 0);
            let (of_host, connections) = hosts.entry(host.clone()).or_insert_with(new);
            *connections += 1;
            of_host.clone()
        };
        Arc::new(ConnectionBudget { budget: self.clone(), id, host, of_host, bytes: AtomicUsize::new(0) })
    }

    /// The bytes that all calls hold now.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.usage.lock().bytes as u64
    }

    /// Numbers of calls refused since the start, by the limit in `[transport]` that was reached. `evicted` counts the
    /// calls that were evicted while incomplete.
    #[must_use]
    pub fn refused_by_limit(&self) -> [(&'static str, u64); 4] {
        let RefusedCalls { calls, bytes, connection_bytes, evicted } = &self.refused;
        [("calls", calls), ("bytes", bytes), ("bytes_per_connection", connection_bytes), ("evicted", evicted)]
            .map(|(limit, count)| (limit, count.load(Ordering::Relaxed)))
    }

    fn count_refusal(&self, exhausted: Exhausted) {
        let counter = match exhausted {
            Exhausted::Calls | Exhausted::HostCalls => &self.refused.calls,
            Exhausted::Bytes | Exhausted::HostBytes => &self.refused.bytes,
            Exhausted::ConnectionBytes => &self.refused.connection_bytes,
            Exhausted::Evicted => &self.refused.evicted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl HostUsage {
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl ConnectionBudget {
    /// Evicts the requests of this connection that have not arrived completely.
    pub fn evict_incomplete(&self) {
        let mut usage = self.budget.usage.lock();
        while let Some(id) = usage.oldest_of(Owner::Connection(self.id)) {
            let _ = usage.evict(Some(id), None);
        }
    }

    fn owners(&self) -> [Owner; 2] {
        [Owner::Connection(self.id), Owner::Host(self.of_host.id)]
    }
}

impl Drop for ConnectionBudget {
    fn drop(&mut self) {
        let mut hosts = self.budget.hosts.lock();
        if let Some((_, connections)) = hosts.get_mut(&self.host) {
            *connections -= 1;
            if *connections == 0 {
                hosts.remove(&self.host);
            }
        }
    }
}

impl Usage {
    /// Evicts incomplete requests until this connection may hold `wanted` more bytes. `own` is the connection of the
    /// request that needs them, and the id of that request if it is incomplete itself.
    ///
    /// # Errors
    /// The limit that is reached when nothing is left to evict.
    fn make_room(
        &mut self,
        wanted: usize,
        budget: &MemoryBudget,
        own: (&ConnectionBudget, Option<u64>),
    ) -> Result<(), Exhausted> {
        let (connection, own_id) = own;
        let [own_connection, _] = connection.owners();
        while connection.bytes.load(Ordering::Relaxed) + wanted > budget.max_bytes_per_connection {
            self.evict(self.oldest_of(own_connection), own_id).ok_or(Exhausted::ConnectionBytes)?;
        }
        let host = &connection.of_host;
        while exceeds_share(self.bytes + wanted, host.bytes() + wanted, budget.max_bytes) {
            self.evict(self.oldest_of_largest(host), own_id).ok_or(Exhausted::HostBytes)?;
        }
        while self.bytes + wanted > budget.max_bytes {
            let oldest = self.incomplete.keys().next().copied();
            self.evict(oldest, own_id).ok_or(Exhausted::Bytes)?;
        }
        Ok(())
    }

    fn oldest_of(&self, owner: Owner) -> Option<u64> {
        self.by_owner.range((owner, 0)..=(owner, u64::MAX)).next().map(|(_, id)| *id)
    }

    /// The oldest incomplete request of the host that holds the most bytes: this host, or one beyond its share that holds
    /// more. A host can't displace one that holds less.
    fn oldest_of_largest(&self, own: &HostUsage) -> Option<u64> {
        let larger = self.above_share.values().map(|host| &**host).filter(|host| host.bytes() > own.bytes());
        let oldest = larger
            .chain([own])
            .filter_map(|host| Some((host.bytes(), self.oldest_of(Owner::Host(host.id))?)));
        oldest.max_by_key(|(bytes, _)| *bytes).map(|(_, id)| id)
    }

    fn add_incomplete(&mut self, request: Incomplete) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.by_owner.extend(request.connection.owners().map(|owner| (owner, id)));
        self.incomplete.insert(id, request);
        id
    }

    fn remove_incomplete(&mut self, id: u64) -> Option<Incomplete> {
        let request = self.incomplete.remove(&id)?;
        for owner in request.connection.owners() {
            self.by_owner.remove(&(owner, id));
        }
        Some(request)
    }

    fn add_bytes(&mut self, connection: &ConnectionBudget, bytes: usize) {
        self.bytes += bytes;
        connection.bytes.fetch_add(bytes, Ordering::Relaxed);
        let host = &connection.of_host;
        host.bytes.fetch_add(bytes, Ordering::Relaxed);
        if host.bytes() > share(connection.budget.max_bytes) {
            self.above_share.entry(host.id).or_insert_with(|| host.clone());
        }
    }

    fn subtract_bytes(&mut self, connection: &ConnectionBudget, bytes: usize) {
        self.bytes -= bytes;
        connection.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let host = &connection.of_host;
        host.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if host.bytes() <= share(connection.budget.max_bytes) {
            self.above_share.remove(&host.id);
        }
    }

    // Returns `None` if there is no request with this id, or it is the request that needs the memory.
    fn evict(&mut self, id: Option<u64>, own_id: Option<u64>) -> Option<()> {
        let id = id.filter(|id| Some(*id) != own_id)?;
        let request = self.remove_incomplete(id)?;
        self.subtract_bytes(&request.connection, request.bytes);
        request.evicted.cancel();
        Some(())
    }
}

impl Charge {
    /// Counts a new call, which holds no bytes yet.
    ///
    /// # Errors
    /// `Calls` or `HostCalls`.
    pub fn new(connection: &Arc<ConnectionBudget>) -> Result<Self, Exhausted> {
        let budget = &connection.budget;
        let calls = budget.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let of_host = connection.of_host.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let charge = Self {
            connection: connection.clone(),
            bytes: 0,
            incomplete: None,
            evicted: CancellationToken::new(),
        };
        let exhausted = if calls > budget.max_calls {
            Exhausted::Calls
        } else if exceeds_share(calls, of_host, budget.max_calls) {
            Exhausted::HostCalls
        } else {
            return Ok(charge);
        };
        budget.count_refusal(exhausted);
        Err(exhausted)
    }

    /// Changes the number of bytes that the call holds.
    ///
    /// # Errors
    /// `Bytes`, `HostBytes` or `ConnectionBytes` if a limit is reached, `Evicted` if the call was evicted.
    pub fn set(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let budget = &self.connection.budget;
        let mut usage = budget.usage.lock();
        if self.incomplete.is_some_and(|id| !usage.incomplete.contains_key(&id)) {
            return Err(Exhausted::Evicted);
        }
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            let room = usage.make_room(more, budget, (&self.connection, self.incomplete));
            room.inspect_err(|exhausted| budget.count_refusal(*exhausted))?;
            usage.add_bytes(&self.connection, more);
        } else {
            usage.subtract_bytes(&self.connection, self.bytes - bytes);
        }
        self.bytes = bytes;
        if let Some(request) = self.incomplete.and_then(|id| usage.incomplete.get_mut(&id)) {
            request.bytes = bytes;
        }
        Ok(())
    }

    /// Adds items of these sizes as long as there is room, and returns how many were added. The first one always counts,
    /// so that a consumer makes progress.
    pub fn add_fitting(&mut self, sizes: impl IntoIterator<Item = usize>) -> usize {
        let mut count = 0;
        for size in sizes {
            if self.set(self.bytes + size).is_err() {
                return count.max(1);
            }
            count += 1;
        }
        count
    }

    /// The bytes that the call holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Marks the request as incomplete. Until [`Charge::completed`] is called it may be evicted, which cancels the
    /// returned token.
    pub fn incomplete(&mut self) -> CancellationToken {
        if self.incomplete.is_none() {
            let (connection, evicted) = (self.connection.clone(), self.evicted.clone());
            let request = Incomplete { connection, bytes: self.bytes, evicted };
            self.incomplete = Some(self.connection.budget.usage.lock().add_incomplete(request));
        }
        self.evicted.clone()
    }

    /// Marks the request as complete: it can't be evicted any more.
    ///
    /// # Errors
    /// `Evicted`.
    pub fn completed(&mut self) -> Result<(), Exhausted> {
        let Some(id) = self.incomplete else { return Ok(()) };
        let removed = self.connection.budget.usage.lock().remove_incomplete(id);
        removed.ok_or(Exhausted::Evicted)?;
        self.incomplete = None;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let budget = &self.connection.budget;
        budget.calls.fetch_sub(1, Ordering::Relaxed);
        self.connection.of_host.calls.fetch_sub(1, Ordering::Relaxed);
        if self.bytes == 0 && self.incomplete.is_none() {
            return;
        }
        let mut usage = budget.usage.lock();
        let evicted = self.incomplete.is_some_and(|id| usage.remove_incomplete(id).is_none());
        // The eviction has already released the bytes.
        if evicted {
            budget.count_refusal(Exhausted::Evicted);
        } else {
            usage.subtract_bytes(&self.connection, self.bytes);
        }
    }
}

impl Exhausted {
    /// Why the call is refused, for logs and clients.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Calls => "too many concurrent calls (transport.calls)",
            Self::HostCalls => "too many concurrent calls from this address (its share of transport.calls)",
            Self::Bytes => "requests of all connections hold too many bytes (transport.bytes)",
            Self::HostBytes => {
                "requests from this address hold too many bytes (its share of transport.bytes)"
            }
            Self::ConnectionBytes => {
                "requests of this connection hold too many bytes (transport.bytes_per_connection)"
            }
            Self::Evicted => "the request arrived too slowly, and its memory was needed for others",
        }
    }
}

#[cfg(test)]
mod tests;
