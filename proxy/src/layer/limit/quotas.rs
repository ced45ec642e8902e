//! The quotas in force, and the permits that requests hold.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::bucket::{Allowance, Amounts, Demand, Excess};
use super::buckets::{BucketKey, Buckets, ShareKey};
use super::priority::Priority;
use super::quota::{Gauge, OnExcess, Per, Quota, Rate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, RequestFacts, Size};
use crate::pattern;

/// The maximum number of quotas of a proxy. Each request is compared with all of them.
const MAX_QUOTAS: usize = 1000;

/// The quotas in force.
pub struct Quotas {
    /// Whether there are any quotas. Without quotas, a request reads only this flag.
    any: AtomicBool,
    rules: RwLock<Arc<[Arc<Rule>]>>,
    /// The number of proxies that share the quotas. Not 0.
    fleet: AtomicU32,
    has_users: bool,
    /// Hashes names with a secret key, so that clients can't choose the hashes.
    hasher: RandomState,
}

/// A quota, with its counts since it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaStatus {
    /// The quota.
    pub quota: Quota,
    /// The number of refused requests.
    pub refused: u64,
    /// The number of delayed requests.
    pub delayed: u64,
}

/// A quota in force, with its buckets.
struct Rule {
    quota: Quota,
    buckets: Mutex<Buckets>,
    refused: AtomicU64,
    delayed: AtomicU64,
}

/// The permit of a request under the quotas that apply to it. Dropping it ends the request for these quotas.
pub(in crate::layer) struct QuotaPermit {
    uses: Vec<BucketUse>,
    demand: Demand,
    /// When the request may start. `None` if it is not delayed.
    pub(in crate::layer) starts_at: Option<Instant>,
}

/// A bucket that a request has taken tokens from.
struct BucketUse {
    rule: Arc<Rule>,
    share: ShareKey,
}

/// The tokens that a request has taken from a bucket, and how long it must wait for them.
struct Acquired {
    bucket_use: BucketUse,
    /// `None` if the request need not wait.
    delay: Option<Duration>,
}

/// How long a request may wait from now on.
#[derive(Clone, Copy)]
struct Within {
    max_wait: Duration,
    now: Instant,
}

/// The attributes of a request that quotas match. If the request names several topics or groups, the first one counts: it
/// sends to or receives from only one.
struct RequestAttributes<'a> {
    context: &'a Context,
    user: Option<&'a str>,
    group: Option<&'a str>,
    topic: Option<&'a str>,
}

impl Quotas {
    /// Creates quotas for a proxy in a fleet of `fleet` proxies. `has_users` says whether access control is on.
    ///
    /// # Errors
    /// A quota is invalid; the text says why.
    pub fn new(quotas: &[Quota], fleet: NonZeroU32, has_users: bool) -> Result<Self, String> {
        if let Some((_, problem)) = Self::mistakes(quotas, has_users).into_iter().next() {
            return Err(problem);
        }
        let all = Self { fleet: fleet.get().into(), has_users, ..Self::default() };
        for quota in quotas {
            all.set(quota.clone())?;
        }
        Ok(all)
    }

    /// Checks quotas. Returns the problems, each with the index of its quota.
    #[must_use]
    pub fn mistakes(quotas: &[Quota], has_users: bool) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (index, quota) in quotas.iter().enumerate() {
            if quotas[..index].iter().any(|other| other.name == quota.name) {
                found.push((index, format!("two quotas are named {}", quota.name)));
            }
            found.extend(check(quota, has_users).err().map(|problem| (index, problem)));
        }
        if quotas.len() > MAX_QUOTAS {
            found.push((MAX_QUOTAS, too_many_quotas()));
        }
        found
    }

    /// Adds a quota, or replaces the one with this name. Its buckets are full at first.
    ///
    /// # Errors
    /// The quota is invalid, or there are too many; the text says why.
    pub fn set(&self, quota: Quota) -> Result<(), String> {
        check(&quota, self.has_users)?;
        let mut rules = self.rules.write();
        let rule = Arc::new(Rule::new(quota, self.fleet(), Instant::now()));
        let mut changed = rules.to_vec();
        match changed.iter().position(|other| other.quota.name == rule.quota.name) {
            Some(index) => changed[index] = rule,
            None if changed.len() >= MAX_QUOTAS => {
                return Err(too_many_quotas());
            }
            None => changed.push(rule),
        }
        *rules = changed.into();
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The number of proxies that share the quotas.
    #[must_use]
    pub fn fleet(&self) -> NonZeroU32 {
        NonZeroU32::new(self.fleet.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }

    /// Changes the number of proxies that share the quotas. What clients have used so far stays counted.
    pub fn set_fleet(&self, fleet: NonZeroU32) {
        // Locked, so that no quota is added with the previous number.
        let rules = self.rules.write();
        if self.fleet.swap(fleet.get(), Ordering::Relaxed) != fleet.get() {
            for rule in rules.iter() {
                rule.buckets.lock().set_allowance(Allowance::new(&rule.quota, fleet), Instant::now());
            }
        }
    }

    /// Removes a quota. Returns `false` if there is none with this name.
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

    /// Acquires a permit for a request of this user. With `may_wait`, the permit may demand a delay. Returns `None` if no quota
    /// applies.
    ///
    /// # Errors
    /// `Busy`, with the name of the exceeded quota and the time to wait; `BodyTooLarge`.
    pub(in crate::layer) fn acquire(
        &self,
        facts: &RequestFacts<'_>,
        user: Option<&str>,
        may_wait: bool,
    ) -> Result<Option<Box<QuotaPermit>>, Error> {
        if !self.any.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.acquire_at(facts, user, (may_wait, Instant::now()))
    }

    fn acquire_at(
        &self,
        facts: &RequestFacts<'_>,
        user: Option<&str>,
        (may_wait, now): (bool, Instant),
    ) -> Result<Option<Box<QuotaPermit>>, Error> {
        let Some(demand) = demand(facts) else { return Ok(None) };
        let context = facts.context;
        let request = RequestAttributes {
            context,
            user,
            group: first_name(facts.groups),
            topic: first_name(facts.topics),
        };
        let client = self.hasher.hash_one((user, &context.client_id, context.host()));
        let rules = self.rules.read().clone();
        // Checked first: a client that is asked to retry later must be able to succeed then.
        let too_large = rules.iter().find(|rule| rule.is_too_large(facts.size) && rule.applies_to(&request));
        if let Some(rule) = too_large {
            return Err(rule.refuse_too_large());
        }
        let mut permit = QuotaPermit { uses: Vec::new(), demand, starts_at: None };
        for rule in rules.iter().filter(|rule| rule.applies_to(&request)) {
            let Some(bucket) = rule.bucket_key(&request, client, &self.hasher) else { continue };
            let max_wait = if may_wait { rule.max_wait(context, now) } else { Duration::ZERO };
            match rule.acquire(ShareKey { bucket, client }, &demand, Within { max_wait, now }) {
                Ok(Acquired { bucket_use, delay }) => {
                    permit.starts_at = permit.starts_at.max(delay.map(|delay| now + delay));
                    permit.uses.push(bucket_use);
                }
                Err(excess) => {
                    permit.give_back();
                    return Err(rule.refusal(excess));
                }
            }
        }
        Ok((!permit.uses.is_empty()).then(|| Box::new(permit)))
    }
}

/// No quotas.
impl Default for Quotas {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            rules: RwLock::new(Arc::new([])),
            fleet: AtomicU32::new(1),
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

    fn applies_to(&self, request: &RequestAttributes<'_>) -> bool {
        let Quota { client, user, group, topic, entry, .. } = &self.quota;
        let matches = |pattern: &Option<String>, name: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| name.is_some_and(|name| pattern::matches(pattern, name)))
        };
        matches(client, Some(&request.context.client_id))
            && matches(user, request.user)
            && matches(group, request.group)
            && matches(topic, request.topic)
            && matches(entry, request.context.entry_name())
    }

    /// Whether a body of the request exceeds `message_bytes`.
    fn is_too_large(&self, size: Size) -> bool {
        self.quota.message_bytes.is_some_and(|limit| size.largest as u64 > limit.get())
    }

    fn refuse_too_large(&self) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let Quota { name, message_bytes, .. } = &self.quota;
        let limit = message_bytes.map_or(0, u64::from);
        let message = format!("the quota {name} allows {limit} bytes for the body of a message");
        Error::new(ErrorKind::BodyTooLarge, message)
    }

    /// The bucket of a request; `None` if the request has no such attribute, so that the quota does not apply.
    fn bucket_key(
        &self,
        request: &RequestAttributes<'_>,
        client: u64,
        hasher: &RandomState,
    ) -> Option<BucketKey> {
        let hash = |name: &str| Some(hasher.hash_one(name));
        match self.quota.per {
            Per::Client => Some(Some(client)),
            Per::Address => Some(Some(hasher.hash_one(request.context.host().network()))),
            Per::User => request.user.map(hash),
            Per::Group => request.group.map(hash),
            Per::Topic => request.topic.map(hash),
            Per::Entry => request.context.entry_name().map(hash),
            Per::Proxy => Some(None),
        }
    }

    /// The longest delay of a request.
    fn max_wait(&self, context: &Context, now: Instant) -> Duration {
        match self.quota.on_excess {
            OnExcess::Refuse => Duration::ZERO,
            OnExcess::Delay => {
                // The other half of the time is for processing the request.
                let half = context.deadline.map(|deadline| deadline.saturating_duration_since(now) / 2);
                half.map_or(self.quota.max_delay, |half| half.min(self.quota.max_delay))
            }
        }
    }

    fn acquire(
        self: &Arc<Self>,
        wanted: ShareKey,
        demand: &Demand,
        within: Within,
    ) -> Result<Acquired, Excess> {
        let Within { max_wait, now } = within;
        let mut buckets = self.buckets.lock();
        let share = buckets.select(wanted, now);
        let bucket = buckets.get(share.bucket);
        let delay = match bucket.excess(share.client, demand) {
            None => None,
            Some(Excess::Rate(_, wait)) if wait <= max_wait => Some(wait),
            Some(excess) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(excess);
            }
        };
        bucket.take(share.client, &demand.take, now);
        bucket.begin(demand.gauge, share.client);
        if delay.is_some() {
            self.delayed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Acquired { bucket_use: BucketUse { rule: self.clone(), share }, delay })
    }

    fn refusal(&self, excess: Excess) -> Error {
        let Quota { name, per, .. } = &self.quota;
        let scope = per.description();
        let retry_after = match excess {
            Excess::Rate(_, wait) => Some(wait),
            Excess::Gauge(_) => None,
        };
        let message = match excess {
            Excess::Rate(rate, wait) => {
                let (limit, unit) = (self.quota.rate(rate).map_or(0, u64::from), rate.unit());
                let wait = wait.as_secs_f64();
                format!("the quota {name} allows {limit} {unit} per second {scope}; try again in {wait} s")
            }
            Excess::Gauge(gauge) => {
                let (limit, unit) = (self.quota.gauge(gauge).map_or(0, u32::from), gauge.unit());
                format!(
                    "the quota {name} allows {limit} {unit} {scope}; try again when one of these requests has ended"
                )
            }
        };
        Error { retry_after, ..Error::new(ErrorKind::Busy, message) }
    }
}

impl QuotaPermit {
    /// Charges the messages that a receive has delivered.
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
        for BucketUse { rule, share } in &self.uses {
            rule.buckets.lock().get(share.bucket).take(share.client, &amounts, now);
        }
    }

    /// Returns the tokens of a request that is not processed.
    pub(in crate::layer) fn give_back(&self) {
        for BucketUse { rule, share } in &self.uses {
            rule.buckets.lock().get(share.bucket).give_back(share.client, &self.demand.take);
        }
    }
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        for BucketUse { rule, share } in &self.uses {
            rule.buckets.lock().get(share.bucket).end(self.demand.gauge, share.client);
        }
    }
}

/// Checks a single quota.
fn check(quota: &Quota, has_users: bool) -> Result<(), String> {
    let wrong = |why: String| format!("quota {}: {why}", quota.name);
    quota.check().map_err(wrong)?;
    if quota.needs_users() && !has_users {
        return Err(wrong(
            "there are no users without access control (access.file, access.catalog or access.brokers)"
                .to_owned(),
        ));
    }
    Ok(())
}

fn too_many_quotas() -> String {
    format!("there are {MAX_QUOTAS} quotas, which is the maximum")
}

/// The demand of a request; `None` if quotas do not apply to it.
fn demand(facts: &RequestFacts<'_>) -> Option<Demand> {
    let RequestFacts { kind, context, size, .. } = *facts;
    let priority = Priority::of(kind);
    if context.is_admitted || priority == Priority::Session {
        return None;
    }
    let (mut take, mut required) = (Amounts::default(), Amounts::default());
    if !context.is_continued {
        take[Rate::Requests as usize] = 1.0;
    }
    let gauge = match kind {
        kind if kind.waits() => {
            required[Rate::ReceiveMessages as usize] = 1.0;
            required[Rate::ReceiveBytes as usize] = 1.0;
            Gauge::LongPolls
        }
        OperationKind::Send => {
            take[Rate::SendMessages as usize] = size.messages as f64;
            take[Rate::SendBytes as usize] = size.bytes as f64;
            Gauge::InFlight
        }
        _ => Gauge::InFlight,
    };
    Some(Demand { take, required, gauge, priority })
}

/// The first name, unless it is empty.
fn first_name(names: &dyn Names) -> Option<&str> {
    let mut first = None;
    names.each(&mut |name| {
        first.get_or_insert(name);
    });
    first.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
