//! Token buckets: what may pass now, and how long the rest has to wait.
//!
//! A bucket holds tokens for each limit per second, which come in steadily, up to a burst of them. A request takes as many
//! as it is large. A request that is larger than the burst needs a full bucket, and leaves a debt. So does a receive, which
//! is charged once it is known what it brought. No tokens are taken for requests that are refused.
//!
//! Clients that share a bucket get equal shares of what is scarce. Half of the bucket is a reserve, from which a client
//! takes no faster than at its share of the limit: the limit divided by the number of clients that have asked lately. What
//! is above the reserve is for anybody. So a client that takes all it can get leaves the others their shares, and gets what
//! they do not need. A request that is larger than the reserve overdraws it, for otherwise small requests of others could
//! keep it waiting for ever. That is why the reserve is so large.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::priority::Priority;
use super::quota::{Gauge, Quota, Rate};

/// A client that has not asked for so long has no share.
const ACTIVE: Duration = Duration::from_secs(5);
/// How often clients without a share are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The number of all clients that have no share of their own.
const TOGETHER: u64 = 0;
/// What rounding may lose of a token.
const ROUNDING: f64 = 1e-6;

const RATES: usize = Rate::ALL.len();
const GAUGES: usize = Gauge::ALL.len();

/// An amount of each of [`Rate::ALL`].
pub(super) type Amounts = [f64; RATES];

/// What a quota allows at this proxy.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    rates: [Option<Refill>; RATES],
    gauges: [Option<u32>; GAUGES],
}

/// How tokens come in.
#[derive(Clone, Copy, Debug)]
struct Refill {
    per_second: f64,
    capacity: f64,
    reserve: f64,
}

/// How many tokens a request needs.
struct Need {
    index: usize,
    refill: Refill,
    amount: f64,
    /// What has to be left.
    floor: f64,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// What it takes.
    pub(super) take: Amounts,
    /// What must be there besides, for what is charged later.
    pub(super) test: Amounts,
    pub(super) gauge: Gauge,
    pub(super) priority: Priority,
}

/// Why a request can't pass now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Excess {
    /// It could pass after this time.
    Rate(Rate, Duration),
    /// Too many are under way.
    Gauge(Gauge),
}

/// The tokens of one client, or of all that share a quota, and what they have under way.
#[derive(Debug)]
pub(super) struct Bucket {
    allowance: Arc<Allowance>,
    tokens: Amounts,
    filled: Instant,
    under_way: [u32; GAUGES],
    shares: Option<Shares>,
}

/// The clients that share a bucket.
#[derive(Debug)]
struct Shares {
    of: FxHashMap<u64, Share>,
    looked: Instant,
}

#[derive(Debug)]
struct Share {
    /// What the client may take of the reserve.
    tokens: Amounts,
    filled: Instant,
    asked: Instant,
    under_way: [u32; GAUGES],
}

impl Allowance {
    /// A proxy's part of a quota, in a fleet of this many.
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
    /// How long until there are so many more tokens.
    fn time_for(&self, missing: f64, share: f64) -> f64 {
        if missing <= ROUNDING { 0.0 } else { missing / (self.per_second * share) }
    }

    /// What a client may take of the reserve at once. Another client that comes finds as much.
    fn credit(&self, clients: usize) -> f64 {
        self.reserve / (clients + 1) as f64
    }

    /// The lowest that the tokens may become. Settling goes on for another burst.
    fn floor(&self, priority: Priority) -> f64 {
        match priority {
            Priority::New => 0.0,
            Priority::Settling => -self.capacity,
            Priority::Session => f64::NEG_INFINITY,
        }
    }
}

impl Bucket {
    /// A full one. A bucket that clients share keeps account of their shares.
    pub(super) fn full(allowance: &Arc<Allowance>, shared: bool, now: Instant) -> Self {
        let shares = shared.then(|| Shares { of: FxHashMap::default(), looked: now });
        let (allowance, tokens) = (allowance.clone(), allowance.capacity());
        Self { allowance, tokens, filled: now, under_way: [0; GAUGES], shares }
    }

    /// Lets the tokens in that have come since the last time.
    fn fill(&mut self, now: Instant) {
        // Requests on several threads may come in another order than their times.
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        for (index, _, refill) in self.allowance.rates() {
            self.tokens[index] = refill.capacity.min(self.tokens[index] + seconds * refill.per_second);
        }
    }

    /// Whether it may be forgotten, as a new one would be the same.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.fill(now);
        let full =
            |(index, _, refill): (usize, Rate, Refill)| self.tokens[index] >= refill.capacity - ROUNDING;
        self.allowance.rates().all(full) && self.under_way == [0; GAUGES]
    }

    /// Forgets clients that have not asked lately.
    pub(super) fn forget_clients(&mut self, now: Instant) {
        if let Some(shares) = &mut self.shares {
            shares.forget(now);
        }
    }

    /// The number of clients that it knows.
    pub(super) fn clients(&self) -> usize {
        self.shares.as_ref().map_or(0, |shares| shares.of.len())
    }

    /// Notes that a client asks. Returns by which number its share is known from now on, if the bucket has shares: without
    /// `room` for another one, clients that are new have one together.
    pub(super) fn ask(&mut self, client: u64, room: bool, now: Instant) -> u64 {
        self.fill(now);
        let Some(shares) = &mut self.shares else { return client };
        if now.saturating_duration_since(shares.looked) >= LOOK_EVERY {
            shares.forget(now);
        }
        let (part, credit) = (part(shares.of.len()), self.allowance.credit(shares.of.len()));
        let client = if room || shares.of.contains_key(&client) { client } else { TOGETHER };
        let new = Share { tokens: credit, filled: now, asked: now, under_way: [0; GAUGES] };
        let share = shares.of.entry(client).or_insert(new);
        share.fill(&self.allowance, (part, &credit), now);
        share.asked = share.asked.max(now);
        client
    }

    /// Why a client's request can't pass now. It has asked before.
    pub(super) fn excess(&self, client: u64, demand: &Demand) -> Option<Excess> {
        let Demand { gauge, priority, .. } = *demand;
        if let Some(limit) = self.allowance.gauges[gauge as usize]
            && self.is_at(most(limit, priority), gauge, client)
        {
            return Some(Excess::Gauge(gauge));
        }
        let waits = self.allowance.rates().map(|(index, rate, refill)| {
            let amount = demand.take[index].max(demand.test[index]);
            let need = Need { index, refill, amount, floor: refill.floor(priority) };
            (rate, if amount > 0.0 { self.wait(&need, client) } else { 0.0 })
        });
        let longest = waits.max_by(|(_, one), (_, other)| one.total_cmp(other));
        longest.filter(|(_, wait)| *wait > 0.0).map(|(rate, wait)| {
            // Whole milliseconds, rounded up, so that the time is sufficient.
            let wait = Duration::from_millis((wait * 1000.0).ceil() as u64);
            Excess::Rate(rate, wait)
        })
    }

    /// The seconds until the bucket has enough.
    fn wait(&self, need: &Need, client: u64) -> f64 {
        let Need { index, refill, amount, floor } = *need;
        let tokens = self.tokens[index];
        let whole = amount.min(refill.capacity);
        let Some(shares) = &self.shares else {
            return refill.time_for(floor + whole - tokens, 1.0);
        };
        let plenty = refill.reserve + whole;
        let until_plenty =
            if plenty > refill.capacity { f64::INFINITY } else { refill.time_for(plenty - tokens, 1.0) };
        let (part, credit) = (part(shares.of.len()), refill.credit(shares.of.len()));
        let Some(share) = shares.of.get(&client) else { return until_plenty };
        let own = refill.time_for(floor + amount.min(credit) - share.tokens[index], part);
        let reserved = refill.time_for(floor + amount.min(refill.reserve) - tokens, 1.0);
        until_plenty.min(own.max(reserved))
    }

    /// Whether a client has as many under way as it may.
    fn is_at(&self, limit: u32, gauge: Gauge, client: u64) -> bool {
        let all = self.under_way[gauge as usize];
        let Some(shares) = &self.shares else { return all >= limit };
        let reserve = (limit / 10).max(1);
        if all < limit.saturating_sub(reserve) {
            return false;
        }
        let part = (limit / u32::try_from(shares.of.len()).unwrap_or(u32::MAX).max(1)).max(1);
        let own = shares.of.get(&client).map_or(0, |share| share.under_way[gauge as usize]);
        all >= limit || own >= part
    }

    /// Takes what a client's request or its answer costs, whether it is there or not.
    pub(super) fn take(&mut self, client: u64, amounts: &Amounts, now: Instant) {
        self.fill(now);
        let clients = self.clients();
        let mut share = self.shares.as_mut().and_then(|shares| shares.of.get_mut(&client));
        if let Some(share) = &mut share {
            share.fill(&self.allowance, (part(clients), &self.allowance.credit(clients)), now);
        }
        for (index, _, refill) in self.allowance.rates() {
            let amount = amounts[index];
            let is_plenty = self.tokens[index] - amount >= refill.reserve;
            if let Some(share) = share.as_mut().filter(|_| !is_plenty) {
                share.tokens[index] -= amount;
            }
            self.tokens[index] -= amount;
        }
    }

    /// Gives back what a client's request took that is refused after all.
    pub(super) fn give_back(&mut self, client: u64, amounts: &Amounts) {
        let credit = self.allowance.credit(self.clients());
        let mut share = self.shares.as_mut().and_then(|shares| shares.of.get_mut(&client));
        for (index, _, refill) in self.allowance.rates() {
            let was_plenty = self.tokens[index] >= refill.reserve;
            if let Some(share) = share.as_mut().filter(|_| !was_plenty) {
                share.tokens[index] = credit[index].min(share.tokens[index] + amounts[index]);
            }
            self.tokens[index] = refill.capacity.min(self.tokens[index] + amounts[index]);
        }
    }

    /// Counts a request that begins.
    pub(super) fn begin(&mut self, gauge: Gauge, client: u64) {
        self.count(gauge, client, |count| count.saturating_add(1));
    }

    /// Counts a request that has ended.
    pub(super) fn end(&mut self, gauge: Gauge, client: u64) {
        self.count(gauge, client, |count| count.saturating_sub(1));
    }

    fn count(&mut self, gauge: Gauge, client: u64, change: impl Fn(u32) -> u32) {
        let all = &mut self.under_way[gauge as usize];
        *all = change(*all);
        if let Some(share) = self.shares.as_mut().and_then(|shares| shares.of.get_mut(&client)) {
            let own = &mut share.under_way[gauge as usize];
            *own = change(*own);
        }
    }
}

impl Shares {
    fn forget(&mut self, now: Instant) {
        self.looked = now;
        self.of.retain(|_, share| {
            share.under_way != [0; GAUGES] || now.saturating_duration_since(share.asked) < ACTIVE
        });
    }
}

impl Share {
    fn fill(&mut self, allowance: &Allowance, (part, credit): (f64, &Amounts), now: Instant) {
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        for (index, _, refill) in allowance.rates() {
            self.tokens[index] = credit[index].min(self.tokens[index] + seconds * refill.per_second * part);
        }
    }
}

/// How many may be under way: as with tokens, twice the limit of those that settle.
fn most(limit: u32, priority: Priority) -> u32 {
    match priority {
        Priority::New => limit,
        Priority::Settling => limit.saturating_mul(2),
        Priority::Session => u32::MAX,
    }
}

/// Which part of the limit each of so many clients has.
fn part(clients: usize) -> f64 {
    1.0 / clients.max(1) as f64
}
