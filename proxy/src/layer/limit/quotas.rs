//! The quotas in force, and what requests hold of them.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::bucket::{Allowance, Amounts, Demand, Excess};
use super::buckets::{Buckets, Name};
use super::priority::Priority;
use super::quota::{Gauge, OnExcess, Per, Quota, Rate};
use crate::context::{Context, Host};
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, Operation, OperationKind, Size};
use crate::pattern;

/// The most quotas that a proxy may have: each request is compared with all of them.
const MAX_QUOTAS: usize = 1000;

/// The quotas in force.
pub struct Quotas {
    /// Whether there are any. Without quotas, this is all that a request looks at.
    any: AtomicBool,
    rules: RwLock<Arc<[Arc<Rule>]>>,
    fleet: NonZeroU32,
    has_users: bool,
    /// Names are kept as numbers that nobody outside can choose.
    hasher: RandomState,
}

/// A quota, and what it has done since it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaStatus {
    /// The quota.
    pub quota: Quota,
    /// Requests that it has refused.
    pub refused: u64,
    /// Requests that it has delayed.
    pub delayed: u64,
}

struct Rule {
    quota: Quota,
    buckets: Mutex<Buckets>,
    refused: AtomicU64,
    delayed: AtomicU64,
}

/// What a request holds of the quotas that apply to it. Dropping it ends the request.
pub(in crate::layer) struct Held {
    parts: Vec<Part>,
    demand: Demand,
    /// When its turn is, if it is delayed.
    pub(in crate::layer) turn: Option<Instant>,
}

struct Part {
    rule: Arc<Rule>,
    name: Name,
    client: u64,
}

/// Who asks for what, as far as quotas look at it. A request that names several topics or groups is one for the first: it
/// sends to and receives from one only.
struct Asking<'a> {
    context: &'a Context,
    user: Option<&'a str>,
    group: Option<&'a str>,
    topic: Option<&'a str>,
}

impl Quotas {
    /// These quotas, for one of a fleet of so many proxies. `has_users` says whether access control tells who a user is.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn new(quotas: &[Quota], fleet: NonZeroU32, has_users: bool) -> Result<Self, String> {
        if let Some((_, problem)) = Self::mistakes(quotas, has_users).into_iter().next() {
            return Err(problem);
        }
        let all = Self { fleet, has_users, ..Self::default() };
        for quota in quotas {
            all.set(quota.clone())?;
        }
        Ok(all)
    }

    /// What is wrong with these, with the index of each that is.
    #[must_use]
    pub fn mistakes(quotas: &[Quota], has_users: bool) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (index, quota) in quotas.iter().enumerate() {
            if quotas[..index].iter().any(|other| other.name == quota.name) {
                found.push((index, format!("two quotas are called {}", quota.name)));
            }
            found.extend(check(quota, has_users).err().map(|problem| (index, problem)));
        }
        if quotas.len() > MAX_QUOTAS {
            found.push((MAX_QUOTAS, too_many()));
        }
        found
    }

    /// Adds a quota, or replaces the one of this name. Its buckets are full at first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set(&self, quota: Quota) -> Result<(), String> {
        check(&quota, self.has_users)?;
        let rule = Arc::new(Rule::new(quota, self.fleet, Instant::now()));
        let mut rules = self.rules.write();
        let mut changed = rules.to_vec();
        match changed.iter().position(|other| other.quota.name == rule.quota.name) {
            Some(index) => changed[index] = rule,
            None if changed.len() >= MAX_QUOTAS => {
                return Err(too_many());
            }
            None => changed.push(rule),
        }
        *rules = changed.into();
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Removes a quota. Returns whether there was one of this name.
    pub fn remove(&self, name: &str) -> bool {
        let mut rules = self.rules.write();
        let rest: Arc<[_]> = rules.iter().filter(|rule| rule.quota.name != name).cloned().collect();
        let removed = rest.len() < rules.len();
        self.any.store(!rest.is_empty(), Ordering::Relaxed);
        *rules = rest;
        removed
    }

    /// The quotas in force.
    #[must_use]
    pub fn list(&self) -> Vec<QuotaStatus> {
        let rules = self.rules.read().clone();
        let status = |rule: &Arc<Rule>| QuotaStatus {
            quota: rule.quota.clone(),
            refused: rule.refused.load(Ordering::Relaxed),
            delayed: rule.delayed.load(Ordering::Relaxed),
        };
        rules.iter().map(status).collect()
    }

    /// Lets a request of this user in, unless it exceeds a quota. With `may_wait`, it may have to wait for its turn.
    ///
    /// # Errors
    /// `Busy`, with the quota and the time to wait, or `BodyTooLarge`.
    pub(in crate::layer) fn enter(
        &self,
        operation: &Operation<'_>,
        user: Option<&str>,
        may_wait: bool,
    ) -> Result<Option<Box<Held>>, Error> {
        if !self.any.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.enter_at(operation, user, (may_wait, Instant::now()))
    }

    fn enter_at(
        &self,
        operation: &Operation<'_>,
        user: Option<&str>,
        (may_wait, now): (bool, Instant),
    ) -> Result<Option<Box<Held>>, Error> {
        let Some(demand) = demand(operation) else { return Ok(None) };
        let context = operation.context;
        let asking = Asking { context, user, group: first(operation.groups), topic: first(operation.topics) };
        let client = self.hasher.hash_one((user, &context.client_id, context.host()));
        let rules = self.rules.read().clone();
        // First: who is told to try again later must be able to succeed then.
        let too_large =
            rules.iter().find(|rule| rule.is_exceeded_by(operation.size) && rule.applies_to(&asking));
        if let Some(rule) = too_large {
            return Err(rule.oversized());
        }
        let mut held = Held { parts: Vec::new(), demand, turn: None };
        for rule in rules.iter().filter(|rule| rule.applies_to(&asking)) {
            let Some(name) = rule.name(&asking, client, &self.hasher) else { continue };
            let patience = if may_wait { rule.patience(context, now) } else { Duration::ZERO };
            match rule.enter((name, client), &demand, (patience, now)) {
                Ok((part, delay)) => {
                    held.turn = held.turn.max(delay.map(|delay| now + delay));
                    held.parts.push(part);
                }
                Err(excess) => {
                    held.give_back();
                    return Err(rule.refusal(excess));
                }
            }
        }
        Ok((!held.parts.is_empty()).then(|| Box::new(held)))
    }
}

/// No quotas.
impl Default for Quotas {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            rules: RwLock::new(Arc::new([])),
            fleet: NonZeroU32::MIN,
            has_users: false,
            hasher: RandomState::new(),
        }
    }
}

impl Rule {
    fn new(quota: Quota, fleet: NonZeroU32, now: Instant) -> Self {
        let allowance = Allowance::new(&quota, fleet);
        let buckets = Mutex::new(Buckets::new(allowance, quota.per != Per::Client, now));
        Self { quota, buckets, refused: AtomicU64::new(0), delayed: AtomicU64::new(0) }
    }

    fn applies_to(&self, asking: &Asking<'_>) -> bool {
        let Quota { client, user, group, topic, entry, .. } = &self.quota;
        let matches = |pattern: &Option<String>, name: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| name.is_some_and(|name| pattern::matches(pattern, name)))
        };
        matches(client, Some(&asking.context.client_id))
            && matches(user, asking.user)
            && matches(group, asking.group)
            && matches(topic, asking.topic)
            && matches(entry, asking.context.entry_name())
    }

    /// Whether one of these bodies is too large.
    fn is_exceeded_by(&self, size: Size) -> bool {
        self.quota.message_bytes.is_some_and(|limit| size.largest as u64 > limit.get())
    }

    fn oversized(&self) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let Quota { name, message_bytes, .. } = &self.quota;
        let limit = message_bytes.map_or(0, u64::from);
        let message = format!("the quota {name} allows {limit} bytes for the body of a message");
        Error::new(ErrorKind::BodyTooLarge, message)
    }

    /// Which bucket a request belongs to; `None` if it names nothing that this quota is for.
    fn name(&self, asking: &Asking<'_>, client: u64, hasher: &RandomState) -> Option<Name> {
        let hash = |name: &str| Some(hasher.hash_one(name));
        match self.quota.per {
            Per::Client => Some(Some(client)),
            Per::Address => Some(Some(hasher.hash_one(network(asking.context.host())))),
            Per::User => asking.user.map(hash),
            Per::Group => asking.group.map(hash),
            Per::Topic => asking.topic.map(hash),
            Per::Entry => asking.context.entry_name().map(hash),
            Per::Proxy => Some(None),
        }
    }

    /// How long a request may be delayed.
    fn patience(&self, context: &Context, now: Instant) -> Duration {
        match self.quota.on_excess {
            OnExcess::Refuse => Duration::ZERO,
            OnExcess::Delay => {
                // The rest of the time is for carrying it out.
                let half = context.deadline.map(|deadline| deadline.saturating_duration_since(now) / 2);
                half.map_or(self.quota.max_delay, |half| half.min(self.quota.max_delay))
            }
        }
    }

    fn enter(
        self: &Arc<Self>,
        (name, client): (Name, u64),
        demand: &Demand,
        (patience, now): (Duration, Instant),
    ) -> Result<(Part, Option<Duration>), Excess> {
        let mut buckets = self.buckets.lock();
        let (name, client) = buckets.ask(name, client, now);
        let bucket = buckets.get(name);
        let delay = match bucket.excess(client, demand) {
            None => None,
            Some(Excess::Rate(_, wait)) if wait <= patience => Some(wait),
            Some(excess) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(excess);
            }
        };
        bucket.take(client, &demand.take, now);
        bucket.begin(demand.gauge, client);
        if delay.is_some() {
            self.delayed.fetch_add(1, Ordering::Relaxed);
        }
        Ok((Part { rule: self.clone(), name, client }, delay))
    }

    fn refusal(&self, excess: Excess) -> Error {
        let Quota { name, per, .. } = &self.quota;
        let whom = per.phrase();
        let retry_after = match excess {
            Excess::Rate(_, wait) => Some(wait),
            Excess::Gauge(_) => None,
        };
        let message = match excess {
            Excess::Rate(rate, wait) => {
                let (limit, unit) = (self.quota.rate(rate).map_or(0, u64::from), rate.unit());
                let wait = wait.as_secs_f64();
                format!("the quota {name} allows {limit} {unit} per second {whom}; try again in {wait} s")
            }
            Excess::Gauge(gauge) => {
                let (limit, unit) = (self.quota.gauge(gauge).map_or(0, u32::from), gauge.unit());
                format!("the quota {name} allows {limit} {unit} {whom}; try again when one of them has ended")
            }
        };
        Error { retry_after, ..Error::new(ErrorKind::Busy, message) }
    }
}

impl Held {
    /// Charges what a receive has brought.
    pub(in crate::layer) fn charge(&self, brought: Size) {
        self.charge_at(brought, Instant::now());
    }

    fn charge_at(&self, brought: Size, now: Instant) {
        if self.demand.gauge != Gauge::LongPolls || brought.messages == 0 {
            return;
        }
        let mut amounts = Amounts::default();
        amounts[Rate::ReceiveMessages as usize] = brought.messages as f64;
        amounts[Rate::ReceiveBytes as usize] = brought.bytes as f64;
        for Part { rule, name, client } in &self.parts {
            rule.buckets.lock().get(*name).take(*client, &amounts, now);
        }
    }

    /// For a request that is not carried out.
    pub(in crate::layer) fn give_back(&self) {
        for Part { rule, name, client } in &self.parts {
            rule.buckets.lock().get(*name).give_back(*client, &self.demand.take);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for Part { rule, name, client } in &self.parts {
            rule.buckets.lock().get(*name).end(self.demand.gauge, *client);
        }
    }
}

/// Checks a quota by itself.
fn check(quota: &Quota, has_users: bool) -> Result<(), String> {
    let wrong = |why: String| format!("quota {}: {why}", quota.name);
    quota.check().map_err(wrong)?;
    if quota.needs_users() && !has_users {
        return Err(wrong(
            "without access control (access.file, access.catalog or access.brokers), there are no users"
                .to_owned(),
        ));
    }
    Ok(())
}

fn too_many() -> String {
    format!("there are {MAX_QUOTAS} quotas already")
}

/// What a request asks for; `None` if no quota is for it.
fn demand(operation: &Operation<'_>) -> Option<Demand> {
    let Operation { kind, context, size, .. } = *operation;
    let priority = Priority::of(kind);
    if context.is_admitted || priority == Priority::Session {
        return None;
    }
    let (mut take, mut test) = (Amounts::default(), Amounts::default());
    if !context.is_continued {
        take[Rate::Requests as usize] = 1.0;
    }
    let gauge = match kind {
        kind if kind.waits() => {
            test[Rate::ReceiveMessages as usize] = 1.0;
            test[Rate::ReceiveBytes as usize] = 1.0;
            Gauge::LongPolls
        }
        OperationKind::Send => {
            take[Rate::SendMessages as usize] = size.messages as f64;
            take[Rate::SendBytes as usize] = size.bytes as f64;
            Gauge::InFlight
        }
        _ => Gauge::InFlight,
    };
    Some(Demand { take, test, gauge, priority })
}

/// Who has an IPv6 address has all of its network of 64 bits.
fn network(host: Host) -> Host {
    match host {
        Host::Ip(IpAddr::V6(ip)) => {
            Host::Ip(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into())
        }
        host => host,
    }
}

fn first(names: &dyn Names) -> Option<&str> {
    let mut first = None;
    names.each(&mut |name| {
        first.get_or_insert(name);
    });
    first.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
