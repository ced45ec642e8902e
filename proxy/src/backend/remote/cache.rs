use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

/// How long values are used.
#[derive(Clone, Copy)]
pub(super) struct Freshness {
    /// After this, an entry is refreshed in the background. The old one is used meanwhile, unless it is twice this old:
    /// then the caller waits for the new one.
    pub(super) refresh: Duration,
    /// The same for entries that are doubted, and for the absence of something: short, since users create it and try
    /// again.
    pub(super) absent: Duration,
    /// After this without use, an entry is forgotten.
    pub(super) idle: Duration,
}

/// Looked-up values by key. One lookup at a time runs for each key, however many callers wait. If a lookup fails, the old
/// value is kept. `None` means surely absent. Keys come from clients: the number of entries is bounded.
pub(super) struct Cache<V, E> {
    freshness: Freshness,
    entries: Mutex<Entries<V, E>>,
}

struct Entries<V, E> {
    by_key: HashMap<String, Entry<V, E>>,
    /// The number of the next entry.
    next: u64,
    swept: Instant,
}

type Lookup<V, E> = Result<Option<V>, E>;
type Running<V, E> = Shared<BoxFuture<'static, Lookup<V, E>>>;

/// Entries at most. Beyond, those that were not used lately are forgotten.
const MAX_ENTRIES: usize = 20_000;

struct Entry<V, E> {
    /// Distinguishes it from a forgotten entry of the same key, whose lookup may still be running.
    number: u64,
    known: Option<Known<V>>,
    /// Whether the value turned out to be wrong.
    doubted: bool,
    running: Option<Running<V, E>>,
    used: Instant,
}

#[derive(Clone)]
struct Known<V> {
    value: Option<V>,
    since: Instant,
}

impl<V, E> Cache<V, E>
where
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    pub(super) fn new(freshness: Freshness) -> Arc<Self> {
        let entries = Entries { by_key: HashMap::new(), next: 0, swept: Instant::now() };
        Arc::new(Self { freshness, entries: Mutex::new(entries) })
    }

    /// The value of a key, looked up if it is unknown or old. A lookup goes on even if its first caller gives up, for the
    /// others that wait.
    pub(super) async fn get<F>(self: &Arc<Self>, key: &str, look_up: impl FnOnce() -> F) -> Lookup<V, E>
    where
        F: Future<Output = Lookup<V, E>> + Send + 'static,
    {
        let (running, fallback) = {
            let mut entries = self.entries.lock();
            let now = Instant::now();
            if !entries.by_key.contains_key(key) {
                self.sweep(&mut entries, now);
                make_room(&mut entries);
            }
            let Entries { by_key, next, .. } = &mut *entries;
            let entry = by_key.entry(key.to_owned()).or_insert_with(|| {
                *next += 1;
                Entry { number: *next, known: None, doubted: false, running: None, used: now }
            });
            entry.used = now;
            let known = entry.known.clone();
            if let Some(Known { value, since }) = &known
                && now - *since < self.lifetime(value.is_some() && !entry.doubted)
            {
                return Ok(value.clone());
            }
            let number = entry.number;
            let running = entry.running.get_or_insert_with(|| self.start(key, number, look_up())).clone();
            match known {
                Some(Known { value: Some(value), since }) if now - since < 2 * self.freshness.refresh => {
                    return Ok(Some(value));
                }
                // What was absent may exist now.
                known => (running, known.and_then(|known| known.value)),
            }
        };
        match (running.await, fallback) {
            (Err(_), Some(value)) => Ok(Some(value)),
            (answer, _) => answer,
        }
    }

    /// Forgets unused entries from time to time.
    fn sweep(&self, entries: &mut Entries<V, E>, now: Instant) {
        if now - entries.swept < self.freshness.refresh {
            return;
        }
        entries.swept = now;
        entries.by_key.retain(|_, entry| {
            let exists = matches!(entry.known, Some(Known { value: Some(_), .. }));
            let kept = if exists { self.freshness.idle } else { self.freshness.absent };
            now - entry.used < kept || entry.running.is_some()
        });
    }

    /// Forgets a value: the next `get` looks it up.
    pub(super) fn forget(&self, key: &str) {
        self.entries.lock().by_key.remove(key);
    }

    /// Refreshes these values soon. They are used until then.
    pub(super) fn doubt(&self, which: impl Fn(&V) -> bool) {
        for entry in self.entries.lock().by_key.values_mut() {
            let known = entry.known.as_ref().and_then(|known| known.value.as_ref());
            entry.doubted |= known.is_some_and(&which);
        }
    }

    fn lifetime(&self, trusted: bool) -> Duration {
        if trusted { self.freshness.refresh } else { self.freshness.absent }
    }

    fn start(
        self: &Arc<Self>,
        key: &str,
        number: u64,
        lookup: impl Future<Output = Lookup<V, E>> + Send + 'static,
    ) -> Running<V, E> {
        let (cache, key) = (self.clone(), key.to_owned());
        let running = async move {
            let result = lookup.await;
            let mut entries = cache.entries.lock();
            if let Some(entry) = entries.by_key.get_mut(&key).filter(|entry| entry.number == number) {
                entry.running = None;
                match &result {
                    Ok(value) => {
                        entry.known = Some(Known { value: value.clone(), since: Instant::now() });
                        entry.doubted = false;
                    }
                    // The lookup failed: the old value is used until the next try.
                    Err(_) => {
                        if let Some(known) = &mut entry.known {
                            known.since = Instant::now();
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

/// Forgets at least half of the entries if there are too many: first what is absent, then what was not used lately.
fn make_room<V, E>(entries: &mut Entries<V, E>) {
    let by_key = &mut entries.by_key;
    if by_key.len() < MAX_ENTRIES {
        return;
    }
    let exists = |entry: &Entry<V, E>| matches!(entry.known, Some(Known { value: Some(_), .. }));
    by_key.retain(|_, entry| entry.running.is_some() || exists(entry));
    let mut used: Vec<_> = by_key.values().map(|entry| entry.used).collect();
    if used.len() > MAX_ENTRIES / 2 {
        let middle = used.len() / 2;
        let (_, median, _) = used.select_nth_unstable(middle);
        let median = *median;
        by_key.retain(|_, entry| entry.running.is_some() || entry.used > median);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const OLD_AT_ONCE: Freshness =
        Freshness { refresh: Duration::ZERO, absent: Duration::ZERO, idle: Duration::from_secs(60) };
    const LASTING: Freshness = Freshness {
        refresh: Duration::from_secs(60),
        absent: Duration::from_secs(60),
        idle: Duration::from_secs(60),
    };

    #[tokio::test]
    async fn many_callers_share_a_lookup() {
        let cache = Cache::<u32, ()>::new(LASTING);
        let asked = Arc::new(AtomicU32::new(0));
        let ask = || {
            let asked = asked.clone();
            async move {
                tokio::task::yield_now().await;
                Ok(Some(asked.fetch_add(1, Ordering::Relaxed)))
            }
        };
        let answers = futures::future::join_all((0..20).map(|_| cache.get("k", ask))).await;
        assert!(answers.iter().all(|answer| *answer == Ok(Some(0))));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_does_not_stop_the_lookup_of_others() {
        let cache = Cache::<u32, ()>::new(LASTING);
        let (say, said) = tokio::sync::oneshot::channel();
        let mut first = Box::pin(cache.get("k", || async { Ok(Some(said.await.unwrap())) }));
        assert!(futures::poll!(&mut first).is_pending());
        let second = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get("k", || async { Ok(Some(0)) }).await }
        });
        drop(first);
        say.send(7).unwrap();
        assert_eq!(second.await.unwrap(), Ok(Some(7)));
    }

    #[tokio::test]
    async fn a_doubted_value_is_used_until_there_is_another() {
        let cache = Cache::<u32, &str>::new(Freshness { absent: Duration::ZERO, ..LASTING });
        assert_eq!(cache.get("k", || async { Ok(Some(1)) }).await, Ok(Some(1)));
        cache.doubt(|value| *value == 7);
        assert_eq!(cache.get("k", || async { Ok(Some(2)) }).await, Ok(Some(1)));
        tokio::task::yield_now().await;
        assert_eq!(cache.get("k", || async { Ok(Some(3)) }).await, Ok(Some(1)));
        cache.doubt(|value| *value == 1);
        assert_eq!(cache.get("k", || async { Err("down") }).await, Ok(Some(1)));
        tokio::task::yield_now().await;
        assert_eq!(cache.get("k", || async { Ok(Some(4)) }).await, Ok(Some(1)));
        tokio::task::yield_now().await;
        assert_eq!(cache.get("k", || async { Ok(Some(5)) }).await, Ok(Some(4)));
    }

    #[tokio::test]
    async fn a_lookup_that_ends_after_its_entry_was_forgotten_is_not_kept() {
        let cache = Cache::<u32, ()>::new(LASTING);
        let (say, said) = tokio::sync::oneshot::channel();
        let mut old = Box::pin(cache.get("k", || async { Ok(Some(said.await.unwrap())) }));
        assert!(futures::poll!(&mut old).is_pending());
        cache.forget("k");
        let (say_anew, said_anew) = tokio::sync::oneshot::channel();
        let mut new = Box::pin(cache.get("k", || async { Ok(Some(said_anew.await.unwrap())) }));
        assert!(futures::poll!(&mut new).is_pending());
        say.send(1).unwrap();
        assert_eq!(old.await, Ok(Some(1)));
        say_anew.send(2).unwrap();
        assert_eq!(new.await, Ok(Some(2)));
        assert_eq!(cache.get("k", || async { Ok(Some(3)) }).await, Ok(Some(2)));
    }

    #[tokio::test]
    async fn a_value_that_was_not_used_for_long_is_looked_up_again() {
        let cache = Cache::<u32, &str>::new(OLD_AT_ONCE);
        assert_eq!(cache.get("k", || async { Ok(Some(1)) }).await, Ok(Some(1)));
        assert_eq!(cache.get("k", || async { Ok(Some(2)) }).await, Ok(Some(2)));
        for _ in 0..2 {
            assert_eq!(cache.get("k", || async { Err("down") }).await, Ok(Some(2)));
        }
    }

    #[tokio::test]
    async fn absent_keys_are_soon_forgotten() {
        let cache = Cache::<u32, ()>::new(OLD_AT_ONCE);
        for key in ["a", "b", "c"] {
            assert_eq!(cache.get(key, || async { Ok(None) }).await, Ok(None));
        }
        assert_eq!(cache.entries.lock().by_key.len(), 1);
    }

    #[tokio::test]
    async fn strangers_names_do_not_fill_it() {
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
        let cache = Cache::<u32, ()>::new(OLD_AT_ONCE);
        assert_eq!(cache.get("k", || async { Ok(None) }).await, Ok(None));
        assert_eq!(cache.get("k", || async { Ok(Some(2)) }).await, Ok(Some(2)));
    }
}
