//! The budget for the memory that calls hold: bounds it per connection and in total.
//!
//! When the budget is exhausted, incomplete requests are evicted, oldest first. A peer that stops in the middle of its
//! requests does not keep others from being served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::TransportConfig;

/// The budget of all connections.
pub struct Budget {
    max_bytes: usize,
    max_bytes_per_connection: usize,
    max_calls: usize,
    calls: AtomicUsize,
    refused: RefusedCalls,
    usage: Mutex<Usage>,
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
}

/// A request that has not arrived completely.
struct Incomplete {
    connection: Arc<ConnectionBudget>,
    bytes: usize,
    evicted: CancellationToken,
}

/// The part of the budget that one connection uses.
pub struct ConnectionBudget {
    budget: Arc<Budget>,
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
    /// The limit on the bytes of all connections is reached.
    Bytes,
    /// The limit on the bytes of this connection is reached.
    ConnectionBytes,
    /// The request had not arrived completely, and was evicted to make room for another one.
    Evicted,
}

impl Budget {
    /// Creates a budget with the limits of this configuration.
    #[must_use]
    pub fn new(config: &TransportConfig) -> Arc<Self> {
        Arc::new(Self {
            max_bytes: config.bytes,
            max_bytes_per_connection: config.bytes_per_connection,
            max_calls: config.calls,
            calls: AtomicUsize::new(0),
            refused: RefusedCalls::default(),
            usage: Mutex::default(),
        })
    }

    /// The budget of a new connection, which is a part of this one.
    #[must_use]
    pub fn connection(self: &Arc<Self>) -> Arc<ConnectionBudget> {
        Arc::new(ConnectionBudget { budget: self.clone(), bytes: AtomicUsize::new(0) })
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
            Exhausted::Calls => &self.refused.calls,
            Exhausted::Bytes => &self.refused.bytes,
            Exhausted::ConnectionBytes => &self.refused.connection_bytes,
            Exhausted::Evicted => &self.refused.evicted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl ConnectionBudget {
    /// Evicts the requests of this connection that have not arrived completely.
    pub fn evict_incomplete(&self) {
        let mut usage = self.budget.usage.lock();
        let own = usage.incomplete.iter().filter(|(_, request)| std::ptr::eq(&*request.connection, self));
        for id in own.map(|(id, _)| *id).collect::<Vec<_>>() {
            let _ = usage.evict(Some(id), None);
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
        budget: &Budget,
        own: (&Arc<ConnectionBudget>, Option<u64>),
    ) -> Result<(), Exhausted> {
        let (connection, own_id) = own;
        let of_connection = |usage: &Self| {
            let mut requests = usage.incomplete.iter();
            requests.find(|(_, request)| Arc::ptr_eq(&request.connection, connection)).map(|(id, _)| *id)
        };
        while connection.bytes.load(Ordering::Relaxed) + wanted > budget.max_bytes_per_connection {
            self.evict(of_connection(self), own_id).ok_or(Exhausted::ConnectionBytes)?;
        }
        while self.bytes + wanted > budget.max_bytes {
            let oldest = self.incomplete.keys().next().copied();
            self.evict(oldest, own_id).ok_or(Exhausted::Bytes)?;
        }
        Ok(())
    }

    // Returns `None` if there is no request with this id, or it is the request that needs the memory.
    fn evict(&mut self, id: Option<u64>, own_id: Option<u64>) -> Option<()> {
        let id = id.filter(|id| Some(*id) != own_id)?;
        let request = self.incomplete.remove(&id)?;
        self.bytes -= request.bytes;
        request.connection.bytes.fetch_sub(request.bytes, Ordering::Relaxed);
        request.evicted.cancel();
        Some(())
    }
}

impl Charge {
    /// Counts a new call, which holds no bytes yet.
    ///
    /// # Errors
    /// `Calls`.
    pub fn new(connection: &Arc<ConnectionBudget>) -> Result<Self, Exhausted> {
        let budget = &connection.budget;
        if budget.calls.fetch_add(1, Ordering::Relaxed) >= budget.max_calls {
            budget.calls.fetch_sub(1, Ordering::Relaxed);
            budget.count_refusal(Exhausted::Calls);
            return Err(Exhausted::Calls);
        }
        Ok(Self {
            connection: connection.clone(),
            bytes: 0,
            incomplete: None,
            evicted: CancellationToken::new(),
        })
    }

    /// Changes the number of bytes that the call holds.
    ///
    /// # Errors
    /// `Bytes` or `ConnectionBytes` if a limit is reached, `Evicted` if the call was evicted.
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
        }
        let less = self.bytes.saturating_sub(bytes);
        usage.bytes = usage.bytes + more - less;
        self.connection.bytes.fetch_add(more, Ordering::Relaxed);
        self.connection.bytes.fetch_sub(less, Ordering::Relaxed);
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
            let mut usage = self.connection.budget.usage.lock();
            let id = usage.next_id;
            usage.next_id += 1;
            let (connection, evicted) = (self.connection.clone(), self.evicted.clone());
            usage.incomplete.insert(id, Incomplete { connection, bytes: self.bytes, evicted });
            self.incomplete = Some(id);
        }
        self.evicted.clone()
    }

    /// Marks the request as complete: it can't be evicted any more.
    ///
    /// # Errors
    /// `Evicted`.
    pub fn completed(&mut self) -> Result<(), Exhausted> {
        let Some(id) = self.incomplete else { return Ok(()) };
        let removed = self.connection.budget.usage.lock().incomplete.remove(&id);
        removed.ok_or(Exhausted::Evicted)?;
        self.incomplete = None;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let budget = &self.connection.budget;
        budget.calls.fetch_sub(1, Ordering::Relaxed);
        if self.bytes == 0 && self.incomplete.is_none() {
            return;
        }
        let mut usage = budget.usage.lock();
        let evicted = self.incomplete.is_some_and(|id| usage.incomplete.remove(&id).is_none());
        // The eviction has already released the bytes.
        if evicted {
            budget.count_refusal(Exhausted::Evicted);
        } else {
            usage.bytes -= self.bytes;
            self.connection.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl Exhausted {
    /// Why the call is refused, for logs and clients.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Calls => "too many concurrent calls (transport.calls)",
            Self::Bytes => "requests of all connections hold too many bytes (transport.bytes)",
            Self::ConnectionBytes => {
                "requests of this connection hold too many bytes (transport.bytes_per_connection)"
            }
            Self::Evicted => "the request arrived too slowly, and its memory was needed for others",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(bytes: usize, bytes_per_connection: usize) -> Arc<Budget> {
        Budget::new(&TransportConfig { bytes, bytes_per_connection, calls: 3, ..TransportConfig::default() })
    }

    fn call(connection: &Arc<ConnectionBudget>) -> Charge {
        Charge::new(connection).expect("a call")
    }

    #[test]
    fn the_bytes_of_a_call_are_released() {
        let budget = budget(100, 100);
        let connection = budget.connection();
        let mut first = call(&connection);
        first.set(60).expect("room");
        first.set(80).expect("room");
        assert_eq!(call(&connection).set(30), Err(Exhausted::ConnectionBytes));
        first.set(70).expect("less");
        call(&connection).set(30).expect("room");
        let _others = (call(&connection), call(&connection));
        assert_eq!(Charge::new(&connection).err(), Some(Exhausted::Calls));
        drop(first);
        assert_eq!(budget.usage.lock().bytes, 0);
        assert!(Charge::new(&connection).is_ok());
    }

    #[test]
    fn items_are_added_while_there_is_room_and_the_first_one_always() {
        let budget = budget(100, 100);
        let connection = budget.connection();
        let mut charge = call(&connection);
        assert_eq!(charge.add_fitting([40, 40, 40, 1]), 2);
        assert_eq!(charge.bytes(), 80);
        assert_eq!((charge.add_fitting([40, 1]), charge.add_fitting([])), (1, 0));
        assert_eq!(charge.bytes(), 80);
    }

    #[test]
    fn the_oldest_incomplete_request_is_evicted() {
        let budget = budget(100, 100);
        let (stopped, honest) = (budget.connection(), budget.connection());
        let [mut first, mut second] = [call(&stopped), call(&stopped)];
        let (first_evicted, second_evicted) = (first.incomplete(), second.incomplete());
        first.set(50).expect("room");
        second.set(50).expect("room");
        let mut newcomer = call(&honest);
        newcomer.set(40).expect("made room");
        assert!(first_evicted.is_cancelled() && !second_evicted.is_cancelled());
        assert_eq!((first.set(60), first.completed()), (Err(Exhausted::Evicted), Err(Exhausted::Evicted)));
        second.completed().expect("not evicted");
        assert_eq!(newcomer.set(60), Err(Exhausted::Bytes));
        drop((first, second, newcomer));
        let refused = [("calls", 0), ("bytes", 1), ("bytes_per_connection", 0), ("evicted", 1)];
        assert_eq!(budget.refused_by_limit(), refused);
        assert_eq!((budget.usage.lock().bytes, stopped.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_connection_at_its_limit_evicts_its_own_requests_only() {
        let budget = budget(1000, 100);
        let (other, own) = (budget.connection(), budget.connection());
        let [mut others, mut first, mut second] = [call(&other), call(&own), call(&own)];
        let (others_evicted, first_evicted) = (others.incomplete(), first.incomplete());
        others.set(90).expect("room");
        first.set(90).expect("room");
        second.set(90).expect("made room");
        assert!(first_evicted.is_cancelled() && !others_evicted.is_cancelled());
        assert_eq!(second.set(101), Err(Exhausted::ConnectionBytes));
    }
}
