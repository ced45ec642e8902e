//! A cache of looked-up values, such as routes and configurations.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

/// How long cached values are used.
#[derive(Clone, Copy)]
pub(super) struct Freshness {
    /// The age from which a value is refreshed in the background. Callers get the old value until it is twice this old;
    /// then they wait for the new one.
    pub(super) refresh: Duration,
    /// The same for stale entries and for keys without a value. It is short, because users create what is missing and try
    /// again.
    pub(super) absent: Duration,
    /// The time without use after which an entry is removed.
    pub(super) idle: Duration,
}

/// How long routes and configurations are cached. They are refreshed as often as by Apache's proxy. A missing topic is
/// looked up again after a second, because users create it and try again.
pub(super) const FRESHNESS: Freshness = Freshness {
    refresh: Duration::from_secs(20),
    absent: Duration::from_secs(1),
    idle: Duration::from_secs(300),
};

/// Looked-up values by key. At most one lookup runs per key; all callers share it. If a lookup fails, the old value stays
/// in use. The value `None` means that the key certainly has none. Clients choose the keys, so the number of entries is
/// bounded.
pub(super) struct Cache<V, E> {
    freshness: Freshness,
    entries: Mutex<Entries<V, E>>,
}

struct Entries<V, E> {
    by_key: HashMap<String, CacheEntry<V, E>>,
    /// The number of the next entry.
    next: u64,
    last_sweep: Instant,
}

type Lookup<V, E> = Result<Option<V>, E>;
type RunningLookup<V, E> = Shared<BoxFuture<'static, Lookup<V, E>>>;

/// The maximum number of entries. When it is reached, the least recently used ones are removed.
const MAX_ENTRIES: usize = 20_000;

struct CacheEntry<V, E> {
    /// Distinguishes the entry from a removed one of the same key, whose lookup may still be running.
    number: u64,
    /// The result of the last successful lookup.
    cached: Option<Cached<V>>,
    /// Whether the value has turned out to be outdated.
    is_stale: bool,
    running: Option<RunningLookup<V, E>>,
    last_use: Instant,
}

#[derive(Clone)]
struct Cached<V> {
    value: Option<V>,
    since: Instant,
}

impl<V, E> Cache<V, E>
where
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    pub(super) fn new(freshness: Freshness) -> Arc<Self> {
        let entries = Entries { by_key: HashMap::new(), next: 0, last_sweep: Instant::now() };
        Arc::new(Self { freshness, entries: Mutex::new(entries) })
    }

    /// Returns the value of a key, looking it up if it is not cached or too old. A lookup continues if the caller that
    /// started it is cancelled, because other callers may wait for it.
    pub(super) async fn get<F>(self: &Arc<Self>, key: &str, look_up: impl FnOnce() -> F) -> Lookup<V, E>
    where
        F: Future<Output = Lookup<V, E>> + Send + 'static,
    {
        let (running, fallback) = {
            let mut entries = self.entries.lock();
            let now = Instant::now();
            if !entries.by_key.contains_key(key) {
                self.remove_idle(&mut entries, now);
                evict(&mut entries);
            }
            let Entries { by_key, next, .. } = &mut *entries;
            let entry = by_key.entry(key.to_owned()).or_insert_with(|| {
                *next += 1;
                CacheEntry { number: *next, cached: None, is_stale: false, running: None, last_use: now }
            });
            entry.last_use = now;
            let cached = entry.cached.clone();
            if let Some(Cached { value, since }) = &cached
                && now - *since < self.lifetime(value.is_some() && !entry.is_stale)
            {
                return Ok(value.clone());
            }
            let number = entry.number;
            let running = entry.running.get_or_insert_with(|| self.start(key, number, look_up())).clone();
            match cached {
                Some(Cached { value: Some(value), since }) if now - since < 2 * self.freshness.refresh => {
                    return Ok(Some(value));
                }
                // A value that was absent may exist now, so the caller waits for the lookup.
                cached => (running, cached.and_then(|cached| cached.value)),
            }
        };
        match (running.await, fallback) {
            (Err(_), Some(value)) => Ok(Some(value)),
            (answer, _) => answer,
        }
    }

    /// Removes idle entries, at most once per `refresh` interval.
    fn remove_idle(&self, entries: &mut Entries<V, E>, now: Instant) {
        if now - entries.last_sweep < self.freshness.refresh {
            return;
        }
        entries.last_sweep = now;
        entries.by_key.retain(|_, entry| {
            let exists = matches!(entry.cached, Some(Cached { value: Some(_), .. }));
            let max_idle = if exists { self.freshness.idle } else { self.freshness.absent };
            now - entry.last_use < max_idle || entry.running.is_some()
        });
    }

    /// Removes a value. The next `get` looks it up.
    pub(super) fn forget(&self, key: &str) {
        self.entries.lock().by_key.remove(key);
    }

    /// Marks these values as stale: they are refreshed soon, and used until then.
    pub(super) fn mark_stale(&self, which: impl Fn(&V) -> bool) {
        for entry in self.entries.lock().by_key.values_mut() {
            let value = entry.cached.as_ref().and_then(|cached| cached.value.as_ref());
            entry.is_stale |= value.is_some_and(&which);
        }
    }

    fn lifetime(&self, is_current: bool) -> Duration {
        if is_current { self.freshness.refresh } else { self.freshness.absent }
    }

    fn start(
        self: &Arc<Self>,
        key: &str,
        number: u64,
        lookup: impl Future<Output = Lookup<V, E>> + Send + 'static,
    ) -> RunningLookup<V, E> {
        let (cache, key) = (self.clone(), key.to_owned());
        let running = async move {
            let result = lookup.await;
            let mut entries = cache.entries.lock();
            if let Some(entry) = entries.by_key.get_mut(&key).filter(|entry| entry.number == number) {
                entry.running = None;
                match &result {
                    Ok(value) => {
                        entry.cached = Some(Cached { value: value.clone(), since: Instant::now() });
                        entry.is_stale = false;
                    }
                    // The old value is used until the next attempt.
                    Err(_) => {
                        if let Some(cached) = &mut entry.cached {
                            cached.since = Instant::now();
                        }
                    }
                }
            }
            result
        };
        let running = running.boxed().shared();
        tokio::spawn(running.clone().map(drop));
        running
    }
}

/// If there are too many entries, removes those without a value, and then the less recently used half if still needed.
fn evict<V, E>(entries: &mut Entries<V, E>) {
    let by_key = &mut entries.by_key;
    if by_key.len() < MAX_ENTRIES {
        return;
    }
    let exists = |entry: &CacheEntry<V, E>| matches!(entry.cached, Some(Cached { value: Some(_), .. }));
    by_key.retain(|_, entry| entry.running.is_some() || exists(entry));
    let mut last_uses: Vec<_> = by_key.values().map(|entry| entry.last_use).collect();
    if last_uses.len() > MAX_ENTRIES / 2 {
        let middle = last_uses.len() / 2;
        let (_, median, _) = last_uses.select_nth_unstable(middle);
        let median = *median;
        by_key.retain(|_, entry| entry.running.is_some() || entry.last_use > median);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const EXPIRES_AT_ONCE: Freshness =
        Freshness { refresh: Duration::ZERO, absent: Duration::ZERO, idle: Duration::from_secs(60) };
    const LASTING: Freshness = Freshness {
        refresh: Duration::from_secs(60),
        absent: Duration::from_secs(60),
        idle: Duration::from_secs(60),
    };

    #[tokio::test]
    async fn concurrent_callers_share_a_lookup() {
        let cache = Cache::<u32, ()>::new(LASTING);
        let lookups = Arc::new(AtomicU32::new(0));
        let look_up = || {
            let lookups = lookups.clone();
            async move {
                tokio::task::yield_now().await;
                Ok(Some(lookups.fetch_add(1, Ordering::Relaxed)))
            }
        };
        let values = futures::future::join_all((0..20).map(|_| cache.get("k", look_up))).await;
        assert!(values.iter().all(|value| *value == Ok(Some(0))));
        assert_eq!(lookups.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_lookup_continues_when_its_first_caller_is_cancelled() {
        let cache = Cache::<u32, ()>::new(LASTING);
        let (answer, answered) = tokio::sync::oneshot::channel();
        let mut first = Box::pin(cache.get("k", || async { Ok(Some(answered.await.unwrap())) }));
        assert!(futures::poll!(&mut first).is_pending());
        let second = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get("k", || async { Ok(Some(0)) }).await }
        });
        drop(first);
        answer.send(7).unwrap();
        assert_eq!(second.await.unwrap(), Ok(Some(7)));
    }

    #[tokio::test]
    async fn a_stale_value_is_used_until_it_is_refreshed() {
        let cache = Cache::<u32, &str>::new(Freshness { absent: Duration::ZERO, ..LASTING });
        assert_eq!(cache.get("k", || async { Ok(Some(1)) }).await, Ok(Some(1)));
        cache.mark_stale(|value| *value == 7);
        assert_eq!(cache.get("k", || async { Ok(Some(2)) }).await, Ok(Some(1)));
        tokio::task::yield_now().await;
        assert_eq!(cache.get("k", || async { Ok(Some(3)) }).await, Ok(Some(1)));
        cache.mark_stale(|value| *value == 1);
        assert_eq!(cache.get("k", || async { Err("down") }).await, Ok(Some(1)));
        tokio::task::yield_now().await;
        assert_eq!(cache.get("k", || async { Ok(Some(4)) }).await, Ok(Some(1)));
        tokio::task::yield_now().await;
        assert_eq!(cache.get("k", || async { Ok(Some(5)) }).await, Ok(Some(4)));
    }

    #[tokio::test]
    async fn the_result_of_a_lookup_is_dropped_if_its_entry_was_forgotten() {
        let cache = Cache::<u32, ()>::new(LASTING);
        let (answer_old, old_answered) = tokio::sync::oneshot::channel();
        let mut old = Box::pin(cache.get("k", || async { Ok(Some(old_answered.await.unwrap())) }));
        assert!(futures::poll!(&mut old).is_pending());
        cache.forget("k");
        let (answer_new, new_answered) = tokio::sync::oneshot::channel();
        let mut new = Box::pin(cache.get("k", || async { Ok(Some(new_answered.await.unwrap())) }));
        assert!(futures::poll!(&mut new).is_pending());
        answer_old.send(1).unwrap();
        assert_eq!(old.await, Ok(Some(1)));
        answer_new.send(2).unwrap();
        assert_eq!(new.await, Ok(Some(2)));
        assert_eq!(cache.get("k", || async { Ok(Some(3)) }).await, Ok(Some(2)));
    }

    #[tokio::test]
    async fn an_old_value_is_looked_up_again_and_used_if_that_fails() {
        let cache = Cache::<u32, &str>::new(EXPIRES_AT_ONCE);
        assert_eq!(cache.get("k", || async { Ok(Some(1)) }).await, Ok(Some(1)));
        assert_eq!(cache.get("k", || async { Ok(Some(2)) }).await, Ok(Some(2)));
        for _ in 0..2 {
            assert_eq!(cache.get("k", || async { Err("down") }).await, Ok(Some(2)));
        }
    }

    #[tokio::test]
    async fn absent_keys_are_soon_removed() {
        let cache = Cache::<u32, ()>::new(EXPIRES_AT_ONCE);
        for key in ["a", "b", "c"] {
            assert_eq!(cache.get(key, || async { Ok(None) }).await, Ok(None));
        }
        assert_eq!(cache.entries.lock().by_key.len(), 1);
    }

    #[tokio::test]
    async fn the_number_of_entries_is_bounded() {
        for value in [None, Some(1)] {
            let cache = Cache::<u32, ()>::new(LASTING);
            for number in 0..=MAX_ENTRIES {
                assert_eq!(cache.get(&number.to_string(), || async move { Ok(value) }).await, Ok(value));
            }
            assert!(cache.entries.lock().by_key.len() <= MAX_ENTRIES / 2 + 1);
        }
    }

    #[tokio::test]
    async fn an_absent_key_is_looked_up_again() {
        let cache = Cache::<u32, ()>::new(EXPIRES_AT_ONCE);
        assert_eq!(cache.get("k", || async { Ok(None) }).await, Ok(None));
        assert_eq!(cache.get("k", || async { Ok(Some(2)) }).await, Ok(Some(2)));
    }
}
