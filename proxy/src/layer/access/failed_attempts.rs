//! Bounds how fast secrets can be guessed.
//!
//! Wrong secrets are counted for the host that they come from, together with the user that they are tried for. At the limit,
//! further attempts are refused without being verified, so that they tell nothing. A connection whose secret was verified is
//! not refused, so that a guesser does not lock out the users behind the same address translation. Times are those of the
//! monotonic clock.
//!
//! Each connection has a lower limit of its own, so that a client that repeats an old secret for ever does not use up the
//! attempts of the clients behind the same address that have the new one.
//!
//! A host of IPv6 is a /64 network. Its /48 network has 65,536 of them, which one customer may have, and is counted, too.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::context::Context;
use crate::error::{Error, ErrorKind};

/// The time in which a counter at its limit falls to zero.
const WINDOW: Duration = Duration::from_secs(60);
/// The limit of a host for all users together is the limit for one user times this.
const USERS_PER_HOST: f64 = 10.0;
/// The limit of a /48 network of IPv6 is that of a host times this.
const HOSTS_PER_SITE: f64 = 10.0;
/// The limit of a connection is the limit for one user divided by this.
const CONNECTIONS_PER_LIMIT: f64 = 4.0;
/// The number of counters that are kept. A new one replaces one that was not used lately.
const MAX_COUNTERS: usize = 10_000;
/// The number of connections with a verified secret that are kept, likewise.
const MAX_CONNECTIONS: usize = 10_000;

/// Counts the wrong secrets that hosts send.
pub(super) struct FailedAttempts {
    /// The wrong secrets that a host may send for one user within [`WINDOW`]. 0: no limit.
    limit: u32,
    /// Whether there was any wrong secret.
    any: AtomicBool,
    counters: Cache<u64, Arc<Mutex<Counter>>>,
    connections: Cache<u64, ()>,
    /// Has a secret key, so that clients can't choose colliding names.
    hasher: RandomState,
}

/// Failures, which fade steadily.
#[derive(Default)]
struct Counter {
    failures: f64,
    updated: Option<Instant>,
    logged: Option<Instant>,
}

/// An attempt to authenticate by a secret.
pub(super) struct Attempt<'a, 'c> {
    attempts: &'a FailedAttempts,
    pub(super) context: &'c Context,
}

impl FailedAttempts {
    /// Allows a host `limit` wrong secrets per minute for each user. 0: no limit.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            any: AtomicBool::new(false),
            counters: Cache::new(MAX_COUNTERS),
            connections: Cache::new(MAX_CONNECTIONS),
            hasher: RandomState::new(),
        }
    }

    /// The attempt of this request.
    pub(super) fn attempt<'a, 'c>(&'a self, context: &'c Context) -> Attempt<'a, 'c> {
        Attempt { attempts: self, context }
    }
}

impl Attempt<'_, '_> {
    /// Refuses the attempt if there were too many wrong secrets. `user` is `None` for all names that no user has.
    ///
    /// # Errors
    /// `TooManyFailures`.
    pub(super) fn check(&self, user: Option<&str>) -> Result<(), Error> {
        self.check_at(user, Instant::now())
    }

    /// Counts a wrong secret.
    pub(super) fn failed(&self, user: Option<&str>) {
        self.failed_at(user, Instant::now());
    }

    /// Records that the connection has sent the secret of this user.
    pub(super) fn succeeded(&self, user: &str) {
        let Self { attempts: FailedAttempts { limit, connections, .. }, .. } = self;
        let connection = self.connection(user);
        if *limit > 0 && connections.get(&connection).is_none() {
            connections.insert(connection, ());
        }
    }

    fn check_at(&self, user: Option<&str>, now: Instant) -> Result<(), Error> {
        let Self { attempts, context } = self;
        if attempts.limit == 0 || !attempts.any.load(Ordering::Relaxed) {
            return Ok(());
        }
        if user.is_some_and(|user| attempts.connections.get(&self.connection(user)).is_some()) {
            return Ok(());
        }
        for (key, limit) in self.counters(user) {
            let Some(counter) = attempts.counters.get(&key) else { continue };
            let mut counter = counter.lock();
            let Some(wait) = counter.wait(limit, now) else { continue };
            if counter.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= WINDOW) {
                counter.logged = Some(now);
                let host = context.host();
                tracing::warn!(%host, user, "a host has sent too many wrong secrets; further ones are not verified");
            }
            let message = format!("too many wrong secrets; try again in {} s.", wait.as_secs() + 1);
            return Err(Error { retry_after: Some(wait), ..Error::new(ErrorKind::TooManyFailures, message) });
        }
        Ok(())
    }

    fn failed_at(&self, user: Option<&str>, now: Instant) {
        let Self { attempts, .. } = self;
        if attempts.limit == 0 {
            return;
        }
        attempts.any.store(true, Ordering::Relaxed);
        if let Some(user) = user {
            attempts.connections.remove(&self.connection(user));
        }
        for (key, limit) in self.counters(user) {
            let Ok(counter) = attempts.counters.get_or_insert_with(&key, || Ok::<_, ()>(Arc::default()))
            else {
                continue;
            };
            counter.lock().add(limit, now);
        }
    }

    /// The counters of the attempt and their limits: of the connection with this user, and with this user and with all users
    /// of the host and of its /48 network.
    fn counters(&self, user: Option<&str>) -> impl Iterator<Item = (u64, f64)> {
        let Self { attempts: FailedAttempts { limit, hasher, .. }, context } = self;
        let (host, limit) = (context.host(), f64::from(*limit));
        let connection =
            (hasher.hash_one((&*context.peer, Some(user))), (limit / CONNECTIONS_PER_LIMIT).max(1.0));
        // The length of the prefix distinguishes a /48 network from its first /64 network.
        let site = host.clone().site().map(|site| (site, 48, limit * HOSTS_PER_SITE));
        let networks = std::iter::once((host.network(), 64, limit)).chain(site);
        let of_networks = networks.flat_map(move |(network, length, limit)| {
            [
                (hasher.hash_one((&network, length, Some(user))), limit),
                (hasher.hash_one((&network, length, None::<Option<&str>>)), limit * USERS_PER_HOST),
            ]
        });
        std::iter::once(connection).chain(of_networks)
    }

    fn connection(&self, user: &str) -> u64 {
        self.attempts.hasher.hash_one((&*self.context.peer, user))
    }
}

impl Counter {
    fn add(&mut self, limit: f64, now: Instant) {
        self.fade(limit, now);
        self.failures = (self.failures + 1.0).min(limit);
    }

    /// How long until another attempt is allowed. `None` if it is allowed now.
    fn wait(&mut self, limit: f64, now: Instant) -> Option<Duration> {
        self.fade(limit, now);
        let excess = self.failures + 1.0 - limit;
        (excess > 0.0).then(|| WINDOW.mul_f64(excess / limit))
    }

    fn fade(&mut self, limit: f64, now: Instant) {
        let since = self.updated.map_or(Duration::ZERO, |updated| now.saturating_duration_since(updated));
        self.updated = Some(now);
        self.failures = (self.failures - limit * since.div_duration_f64(WINDOW)).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(peer: &str) -> Context {
        Context { peer: peer.into(), ..Context::of_client("c") }
    }

    #[test]
    fn a_guesser_is_slowed_down_and_others_are_not() {
        let (attempts, start) = (FailedAttempts::new(20), Instant::now());
        let guess = |port: u64, now| {
            let context = context(&format!("10.0.0.1:{port}"));
            let attempt = attempts.attempt(&context);
            let user = Some("alice");
            attempt.check_at(user, now).map(|()| attempt.failed_at(user, now)).is_ok()
        };
        let verified = (0..1000).filter(|port| guess(*port, start)).count();
        assert_eq!(verified, 20);
        // In the next minute, as many as fade.
        let later = |at| start + Duration::from_millis(at * 10);
        let verified = (0..6000).filter(|at| guess(1000 + *at, later(*at))).count();
        assert_eq!(verified, 19);
        let refusal = |peer, user, now| attempts.attempt(&context(peer)).check_at(Some(user), now).err();
        let refused = refusal("10.0.0.1:2", "alice", start).expect("a refusal");
        assert_eq!(refused.kind, ErrorKind::TooManyFailures);
        assert!(refused.retry_after.is_some_and(|wait| wait <= WINDOW), "{refused:?}");
        assert_eq!(refusal("10.0.0.1:2", "bob", start), None);
        assert_eq!(refusal("10.0.0.2:1", "alice", start), None);
        assert_eq!(refusal("10.0.0.1:2", "alice", start + 3 * WINDOW), None);
    }

    #[test]
    fn a_client_that_repeats_an_old_secret_leaves_attempts_to_others_of_its_host() {
        let (attempts, start) = (FailedAttempts::new(20), Instant::now());
        let (stuck, other) = (context("10.0.0.1:1"), context("10.0.0.1:2"));
        let mut verified = 0;
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            let attempt = attempts.attempt(&stuck);
            if attempt.check_at(Some("alice"), now).is_ok() {
                attempt.failed_at(Some("alice"), now);
                verified += 1;
            }
            assert_eq!(attempts.attempt(&other).check_at(Some("alice"), now), Ok(()), "after {second} s");
        }
        assert!((50..=55).contains(&verified), "{verified}");
    }

    #[test]
    fn a_connection_with_the_right_secret_is_not_refused_until_it_sends_a_wrong_one() {
        let attempts = FailedAttempts::new(2);
        let (honest, guesser, now) = (context("10.0.0.1:1"), context("10.0.0.1:2"), Instant::now());
        attempts.attempt(&honest).succeeded("alice");
        (0..5).for_each(|_| attempts.attempt(&guesser).failed_at(Some("alice"), now));
        let is_refused = |context, user| attempts.attempt(context).check_at(Some(user), now).is_err();
        assert!(is_refused(&guesser, "alice") && !is_refused(&honest, "alice"));
        attempts.attempt(&honest).failed_at(Some("alice"), now);
        assert!(is_refused(&honest, "alice"));
    }

    #[test]
    fn trying_many_users_is_bounded_and_names_without_a_user_are_counted_together() {
        let attempts = FailedAttempts::new(20);
        let now = Instant::now();
        let tried = |host: &str, user: &dyn Fn(u32) -> Option<String>| {
            let guess = |number: &u32| {
                // Each on a connection of its own.
                let context = context(&format!("{host}:{}", 1 + number));
                let attempt = attempts.attempt(&context);
                let user = user(*number);
                attempt
                    .check_at(user.as_deref(), now)
                    .map(|()| attempt.failed_at(user.as_deref(), now))
                    .is_ok()
            };
            (0..1000).filter(guess).count()
        };
        assert_eq!(tried("10.0.0.1", &|number| Some(format!("user {number}"))), 200);
        assert_eq!(tried("10.0.0.2", &|_| None), 20);
        // The addresses of a network of one client are one host.
        assert_eq!(tried("[2001:db8::1]", &|_| None), 20);
        assert_eq!(tried("[2001:db8::2]", &|_| None), 0);
    }

    #[test]
    fn the_networks_of_an_ipv6_customer_are_bounded_together() {
        let (attempts, now) = (FailedAttempts::new(20), Instant::now());
        // Each attempt comes from a /64 network of its own.
        let tried = |site: &str, user: &dyn Fn(u32) -> String| {
            let guess = |number: &u32| {
                let context = context(&format!("[{site}:{number:x}::1]:1"));
                let attempt = attempts.attempt(&context);
                let user = user(*number);
                attempt.check_at(Some(&user), now).map(|()| attempt.failed_at(Some(&user), now)).is_ok()
            };
            (0..0x1_0000).filter(guess).count()
        };
        assert_eq!(tried("2001:db8:1", &|_| "alice".to_owned()), 200);
        assert_eq!(tried("2001:db8:2", &|number| format!("user {number}")), 2000);
        assert!(attempts.counters.len() <= MAX_COUNTERS);
    }

    #[test]
    fn memory_is_bounded_and_a_limit_of_zero_counts_nothing() {
        let (attempts, unlimited) = (FailedAttempts::new(1), FailedAttempts::new(0));
        for number in 0..3 * MAX_COUNTERS as u32 {
            let context = context(&format!("{}:1", std::net::Ipv4Addr::from(number)));
            for attempts in [&attempts, &unlimited] {
                let attempt = attempts.attempt(&context);
                attempt.succeeded("bob");
                attempt.failed(Some("alice"));
                attempt.failed(Some("alice"));
            }
        }
        assert!(attempts.counters.len() <= MAX_COUNTERS && attempts.connections.len() <= MAX_CONNECTIONS);
        assert_eq!((unlimited.counters.len(), unlimited.connections.len()), (0, 0));
    }
}
