//! Token buckets: whether a request may pass now, and otherwise after which time.
//!
//! A bucket has tokens for each limit per second. They are refilled steadily, up to the burst. A request takes tokens
//! according to its size. A request that is larger than the burst needs a full bucket, and leaves a debt. A receive may also
//! leave a debt: it is charged when its messages are known. Refused requests take no tokens.
//!
//! Clients that share a bucket get equal shares of scarce tokens. Half of the bucket is a reserve, from which a client takes
//! tokens no faster than its share of the limit: the limit divided by the number of recently active clients. Tokens above
//! the reserve are available to any client. So a greedy client leaves the others their shares, and gets the tokens that they
//! do not need. A request that is larger than the reserve overdraws it: otherwise small requests of other clients could delay
//! it forever. This is why the reserve is so large.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::priority::Priority;
use super::quota::{Gauge, Quota, Rate};

/// How long after its last request a client has a share.
const SHARE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often inactive clients are removed.
const FORGET_INTERVAL: Duration = Duration::from_millis(250);
/// The key of the share that all clients without a share of their own have in common.
const COMMON_SHARE: u64 = 0;
/// The fraction of a token that rounding may lose.
const ROUNDING: f64 = 1e-6;

const RATES: usize = Rate::ALL.len();
const GAUGES: usize = Gauge::ALL.len();

/// An amount of each of [`Rate::ALL`].
pub(super) type Amounts = [f64; RATES];

/// The limits of a quota at this proxy.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    rates: [Option<Refill>; RATES],
    gauges: [Option<u32>; GAUGES],
}

/// How the tokens of one limit are refilled.
#[derive(Clone, Copy, Debug)]
struct Refill {
    per_second: f64,
    capacity: f64,
    reserve: f64,
}

/// The tokens that a request needs of one limit.
struct TokenNeed {
    index: usize,
    refill: Refill,
    amount: f64,
    /// The number of tokens that have to remain; negative if debt is allowed.
    floor: f64,
}

/// The demand of a request on the buckets of quotas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// The tokens that the request takes.
    pub(super) take: Amounts,
    /// Tokens that must be available though the request does not take them, because it is charged later.
    pub(super) required: Amounts,
    pub(super) gauge: Gauge,
    pub(super) priority: Priority,
}

/// Why a request can't pass now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Excess {
    /// A limit per second is exceeded. The request could pass after this time.
    Rate(Rate, Duration),
    /// Too many requests are in flight.
    Gauge(Gauge),
}

/// The tokens and the requests in flight of one client, or of all clients that share the bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    allowance: Arc<Allowance>,
    tokens: Amounts,
    filled: Instant,
    in_flight: [u32; GAUGES],
    shares: Option<ClientShares>,
}

/// The shares of the clients of a shared bucket.
#[derive(Debug)]
struct ClientShares {
    by_client: FxHashMap<u64, Share>,
    swept: Instant,
}

/// The share of one client.
#[derive(Debug)]
struct Share {
    /// The tokens that the client may take from the reserve.
    tokens: Amounts,
    filled: Instant,
    last_request: Instant,
    in_flight: [u32; GAUGES],
}

impl Allowance {
    /// The share of one proxy in a quota, in a fleet of `fleet` proxies.
    pub(super) fn new(quota: &Quota, fleet: NonZeroU32) -> Self {
        let refill = |limit: u64| {
            let per_second = limit as f64 / f64::from(fleet.get());
            let capacity = (per_second * quota.burst.as_secs_f64()).max(1.0);
            Refill { per_second, capacity, reserve: (capacity / 2.0).max(1.0) }
        };
        Self {
            rates: Rate::ALL.map(|rate| quota.rate(rate).map(|limit| refill(limit.get()))),
            gauges: Gauge::ALL.map(|gauge| quota.gauge(gauge).map(|limit| (limit.get() / fleet).max(1))),
        }
    }

    fn rates(&self) -> impl Iterator<Item = (usize, Rate, Refill)> {
        let all = Rate::ALL.into_iter().enumerate();
        all.filter_map(|(index, rate)| self.rates[index].map(|refill| (index, rate, refill)))
    }

    fn credit(&self, clients: usize) -> Amounts {
        self.rates.map(|refill| refill.map_or(0.0, |refill| refill.credit(clients)))
    }

    fn capacity(&self) -> Amounts {
        self.rates.map(|refill| refill.map_or(0.0, |refill| refill.capacity))
    }
}

impl Refill {
    /// The seconds until `missing` tokens are refilled, at a share of the rate.
    fn time_for(&self, missing: f64, share: f64) -> f64 {
        if missing <= ROUNDING { 0.0 } else { missing / (self.per_second * share) }
    }

    /// The tokens that each of `clients` may take from the reserve at once. A further client finds as many.
    fn credit(&self, clients: usize) -> f64 {
        self.reserve / (clients + 1) as f64
    }

    /// The lowest allowed number of tokens. Requests that settle messages may overdraw a bucket by a burst.
    fn floor(&self, priority: Priority) -> f64 {
        match priority {
            Priority::New => 0.0,
            Priority::Settling => -self.capacity,
            Priority::Session => f64::NEG_INFINITY,
        }
    }
}

impl Bucket {
    /// A full bucket. `shared` says whether several clients share it.
    pub(super) fn full(allowance: &Arc<Allowance>, shared: bool, now: Instant) -> Self {
        let shares = shared.then(|| ClientShares { by_client: FxHashMap::default(), swept: now });
        let (allowance, tokens) = (allowance.clone(), allowance.capacity());
        Self { allowance, tokens, filled: now, in_flight: [0; GAUGES], shares }
    }

    /// Refills the tokens for the time since the last call.
    fn fill(&mut self, now: Instant) {
        // The times of requests on different threads may be out of order.
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        for (index, _, refill) in self.allowance.rates() {
            self.tokens[index] = refill.capacity.min(self.tokens[index] + seconds * refill.per_second);
        }
    }

    /// Changes the limits, from now on.
    pub(super) fn set_allowance(&mut self, allowance: &Arc<Allowance>, now: Instant) {
        self.fill(now);
        self.allowance = allowance.clone();
        // Drops what exceeds the new capacity.
        self.fill(now);
    }

    /// Whether the bucket is full and has no requests in flight, so that it can be removed and created again.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.fill(now);
        let full =
            |(index, _, refill): (usize, Rate, Refill)| self.tokens[index] >= refill.capacity - ROUNDING;
        self.allowance.rates().all(full) && self.in_flight == [0; GAUGES]
    }

    /// Removes the shares of inactive clients.
    pub(super) fn remove_inactive_clients(&mut self, now: Instant) {
        if let Some(shares) = &mut self.shares {
            shares.remove_inactive(now);
        }
    }

    /// The number of clients with a share.
    pub(super) fn clients(&self) -> usize {
        self.shares.as_ref().map_or(0, |shares| shares.by_client.len())
    }

    /// Records a request of a client, and returns the key of its share. New clients get the common share if there is no room
    /// for another one. In a bucket without shares, returns `client`.
    pub(super) fn register(&mut self, client: u64, has_room: bool, now: Instant) -> u64 {
        self.fill(now);
        let Some(shares) = &mut self.shares else { return client };
        if now.saturating_duration_since(shares.swept) >= FORGET_INTERVAL {
            shares.remove_inactive(now);
        }
        let (fraction, credit) =
            (client_fraction(shares.by_client.len()), self.allowance.credit(shares.by_client.len()));
        let client = if has_room || shares.by_client.contains_key(&client) { client } else { COMMON_SHARE };
        let new = Share { tokens: credit, filled: now, last_request: now, in_flight: [0; GAUGES] };
        let share = shares.by_client.entry(client).or_insert(new);
        share.fill(&self.allowance, (fraction, &credit), now);
        share.last_request = share.last_request.max(now);
        client
    }

    /// Returns why a request of a registered client can't pass now, or `None` if it can.
    pub(super) fn excess(&self, client: u64, demand: &Demand) -> Option<Excess> {
        let Demand { gauge, priority, .. } = *demand;
        if let Some(limit) = self.allowance.gauges[gauge as usize]
            && self.is_at_limit(gauge_limit(limit, priority), gauge, client)
        {
            return Some(Excess::Gauge(gauge));
        }
        let waits = self.allowance.rates().map(|(index, rate, refill)| {
            let amount = demand.take[index].max(demand.required[index]);
            let need = TokenNeed { index, refill, amount, floor: refill.floor(priority) };
            (rate, if amount > 0.0 { self.wait(&need, client) } else { 0.0 })
        });
        let longest = waits.max_by(|(_, one), (_, other)| one.total_cmp(other));
        longest.filter(|(_, wait)| *wait > 0.0).map(|(rate, wait)| {
            // Rounded up to milliseconds, so that the time is sufficient.
            let wait = Duration::from_millis((wait * 1000.0).ceil() as u64);
            Excess::Rate(rate, wait)
        })
    }

    /// The seconds until the bucket has enough tokens for the client.
    fn wait(&self, need: &TokenNeed, client: u64) -> f64 {
        let TokenNeed { index, refill, amount, floor } = *need;
        let tokens = self.tokens[index];
        let whole = amount.min(refill.capacity);
        let Some(shares) = &self.shares else {
            return refill.time_for(floor + whole - tokens, 1.0);
        };
        let above_reserve = refill.reserve + whole;
        let until_above_reserve = if above_reserve > refill.capacity {
            f64::INFINITY
        } else {
            refill.time_for(above_reserve - tokens, 1.0)
        };
        let (fraction, credit) =
            (client_fraction(shares.by_client.len()), refill.credit(shares.by_client.len()));
        let Some(share) = shares.by_client.get(&client) else { return until_above_reserve };
        let own = refill.time_for(floor + amount.min(credit) - share.tokens[index], fraction);
        let reserved = refill.time_for(floor + amount.min(refill.reserve) - tokens, 1.0);
        until_above_reserve.min(own.max(reserved))
    }

    /// Whether a client may have no further request in flight. In a shared bucket, the last tenth of the limit is reserved for
    /// clients that have less than an equal share in flight.
    fn is_at_limit(&self, limit: u32, gauge: Gauge, client: u64) -> bool {
        let all = self.in_flight[gauge as usize];
        let Some(shares) = &self.shares else { return all >= limit };
        let reserve = (limit / 10).max(1);
        if all < limit.saturating_sub(reserve) {
            return false;
        }
        let equal_share = (limit / u32::try_from(shares.by_client.len()).unwrap_or(u32::MAX).max(1)).max(1);
        let own = shares.by_client.get(&client).map_or(0, |share| share.in_flight[gauge as usize]);
        all >= limit || own >= equal_share
    }

    /// Takes the tokens of a request or an answer, even if that leaves a debt.
    pub(super) fn take(&mut self, client: u64, amounts: &Amounts, now: Instant) {
        self.fill(now);
        let clients = self.clients();
        let mut share = self.shares.as_mut().and_then(|shares| shares.by_client.get_mut(&client));
        if let Some(share) = &mut share {
            share.fill(&self.allowance, (client_fraction(clients), &self.allowance.credit(clients)), now);
        }
        for (index, _, refill) in self.allowance.rates() {
            let amount = amounts[index];
            let stays_above_reserve = self.tokens[index] - amount >= refill.reserve;
            if let Some(share) = share.as_mut().filter(|_| !stays_above_reserve) {
                share.tokens[index] -= amount;
            }
            self.tokens[index] -= amount;
        }
    }

    /// Returns the tokens of a request that is refused after all.
    pub(super) fn give_back(&mut self, client: u64, amounts: &Amounts) {
        let credit = self.allowance.credit(self.clients());
        let mut share = self.shares.as_mut().and_then(|shares| shares.by_client.get_mut(&client));
        for (index, _, refill) in self.allowance.rates() {
            let was_above_reserve = self.tokens[index] >= refill.reserve;
            if let Some(share) = share.as_mut().filter(|_| !was_above_reserve) {
                share.tokens[index] = credit[index].min(share.tokens[index] + amounts[index]);
            }
            self.tokens[index] = refill.capacity.min(self.tokens[index] + amounts[index]);
        }
    }

    /// Counts the begin of a request.
    pub(super) fn begin(&mut self, gauge: Gauge, client: u64) {
        self.count(gauge, client, |count| count.saturating_add(1));
    }

    /// Counts the end of a request.
    pub(super) fn end(&mut self, gauge: Gauge, client: u64) {
        self.count(gauge, client, |count| count.saturating_sub(1));
    }

    fn count(&mut self, gauge: Gauge, client: u64, change: impl Fn(u32) -> u32) {
        let all = &mut self.in_flight[gauge as usize];
        *all = change(*all);
        if let Some(share) = self.shares.as_mut().and_then(|shares| shares.by_client.get_mut(&client)) {
            let own = &mut share.in_flight[gauge as usize];
            *own = change(*own);
        }
    }
}

impl ClientShares {
    fn remove_inactive(&mut self, now: Instant) {
        self.swept = now;
        self.by_client.retain(|_, share| {
            share.in_flight != [0; GAUGES]
                || now.saturating_duration_since(share.last_request) < SHARE_TIMEOUT
        });
    }
}

impl Share {
    fn fill(&mut self, allowance: &Allowance, (fraction, credit): (f64, &Amounts), now: Instant) {
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        for (index, _, refill) in allowance.rates() {
            self.tokens[index] =
                credit[index].min(self.tokens[index] + seconds * refill.per_second * fraction);
        }
    }
}

/// The number of requests that may be in flight. As with tokens, requests that settle messages have twice the limit.
fn gauge_limit(limit: u32, priority: Priority) -> u32 {
    match priority {
        Priority::New => limit,
        Priority::Settling => limit.saturating_mul(2),
        Priority::Session => u32::MAX,
    }
}

/// The fraction of the limit that each of `clients` has.
fn client_fraction(clients: usize) -> f64 {
    1.0 / clients.max(1) as f64
}
