use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

/// How long what was learned is used.
#[derive(Clone, Copy)]
pub(super) struct Freshness {
    /// After this, an entry is asked for anew in the background; the old one serves meanwhile, but not at twice this age:
    /// nobody has used it for long, and much may have happened.
    pub(super) refresh: Duration,
    /// The same for what is doubted, and for the knowledge that something is absent: short, since users create it and
    /// try again.
    pub(super) absent: Duration,
    /// After this without use, an entry is forgotten.
    pub(super) idle: Duration,
}

/// Answers by key: one question at a time for each key, however many wait; the old answer stays while a new
/// one can't be had. `None` means surely absent.
pub(super) struct Cache<V, E> {
    freshness: Freshness,
    entries: Mutex<Entries<V, E>>,
}

struct Entries<V, E> {
    by_key: HashMap<String, Entry<V, E>>,
    /// How many there have been.
    made: u64,
    swept: Instant,
}

type Answer<V, E> = Result<Option<V>, E>;
type Asking<V, E> = Shared<BoxFuture<'static, Answer<V, E>>>;

struct Entry<V, E> {
    /// Tells it from one of the same key that was forgotten, whose answer may still come.
    number: u64,
    known: Option<(Option<V>, Instant)>,
    /// Whether what is known turned out not to hold.
    doubted: bool,
    asking: Option<Asking<V, E>>,
    used: Instant,
}

impl<V, E> Cache<V, E>
where
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    pub(super) fn new(freshness: Freshness) -> Arc<Self> {
        let entries = Entries { by_key: HashMap::new(), made: 0, swept: Instant::now() };
        Arc::new(Self { freshness, entries: Mutex::new(entries) })
    }

    /// What is known of a key, asking if nothing is known or it is old. An asking goes on although its first
    /// caller gave up, for the others that wait.
    pub(super) async fn get<F>(self: &Arc<Self>, key: &str, ask: impl FnOnce() -> F) -> Answer<V, E>
    where
        F: Future<Output = Answer<V, E>> + Send + 'static,
    {
        let (asking, last_resort) = {
            let mut entries = self.entries.lock();
            let now = Instant::now();
            if !entries.by_key.contains_key(key) {
                self.sweep(&mut entries, now);
            }
            let Entries { by_key, made, .. } = &mut *entries;
            let entry = by_key.entry(key.to_owned()).or_insert_with(|| {
                *made += 1;
                Entry { number: *made, known: None, doubted: false, asking: None, used: now }
            });
            entry.used = now;
            let known = entry.known.clone();
            if let Some((value, since)) = &known
                && now - *since < self.lifetime(value.is_some() && !entry.doubted)
            {
                return Ok(value.clone());
            }
            let number = entry.number;
            let asking = entry.asking.get_or_insert_with(|| self.ask((key, number), ask())).clone();
            match known {
                Some((Some(value), since)) if now - since < 2 * self.freshness.refresh => {
                    return Ok(Some(value));
                }
                // What was absent may exist now.
                known => (asking, known.and_then(|(value, _)| value)),
            }
        };
        match (asking.await, last_resort) {
            (Err(_), Some(value)) => Ok(Some(value)),
            (answer, _) => answer,
        }
    }

    /// Forgets what is of no use any more, now and then.
    fn sweep(&self, entries: &mut Entries<V, E>, now: Instant) {
        if now - entries.swept < self.freshness.refresh {
            return;
        }
        entries.swept = now;
        entries.by_key.retain(|_, entry| {
            let exists = matches!(entry.known, Some((Some(_), _)));
            let kept = if exists { self.freshness.idle } else { self.freshness.absent };
            now - entry.used < kept || entry.asking.is_some()
        });
    }

    /// Makes the next `get` of a key ask.
    pub(super) fn forget(&self, key: &str) {
        self.entries.lock().by_key.remove(key);
    }

    /// Has those answers asked for anew soon. They serve on until there are better ones.
    pub(super) fn doubt(&self, which: impl Fn(&V) -> bool) {
        for entry in self.entries.lock().by_key.values_mut() {
            let known = entry.known.as_ref().and_then(|(value, _)| value.as_ref());
            entry.doubted |= known.is_some_and(&which);
        }
    }

    fn lifetime(&self, trusted: bool) -> Duration {
        if trusted { self.freshness.refresh } else { self.freshness.absent }
    }

    fn ask(
        self: &Arc<Self>,
        (key, number): (&str, u64),
        answer: impl Future<Output = Answer<V, E>> + Send + 'static,
    ) -> Asking<V, E> {
        let (cache, key) = (self.clone(), key.to_owned());
        let asking = async move {
            let answer = answer.await;
            let mut entries = cache.entries.lock();
            if let Some(entry) = entries.by_key.get_mut(&key).filter(|entry| entry.number == number) {
                entry.asking = None;
                match &answer {
                    Ok(value) => {
                        entry.known = Some((value.clone(), Instant::now()));
                        entry.doubted = false;
                    }
                    // Nobody could be asked: what is known counts until the next try.
                    Err(_) => {
                        if let Some((_, since)) = &mut entry.known {
                            *since = Instant::now();
                        }
                    }
                }
            }
            answer
        };
        let asking = asking.boxed().shared();
        tokio::spawn(asking.clone().map(drop));
        asking
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
    async fn many_callers_ask_once() {
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
    async fn a_caller_that_gives_up_does_not_take_the_answer_from_others() {
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
    async fn a_doubted_answer_serves_until_there_is_another() {
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
    async fn an_answer_that_comes_after_it_was_forgotten_is_not_kept() {
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
    async fn what_nobody_has_used_for_long_is_asked_for_again_and_waited_for() {
        let cache = Cache::<u32, &str>::new(OLD_AT_ONCE);
        assert_eq!(cache.get("k", || async { Ok(Some(1)) }).await, Ok(Some(1)));
        assert_eq!(cache.get("k", || async { Ok(Some(2)) }).await, Ok(Some(2)));
        for _ in 0..2 {
            assert_eq!(cache.get("k", || async { Err("down") }).await, Ok(Some(2)));
        }
    }

    #[tokio::test]
    async fn what_is_absent_takes_no_room_for_long() {
        let cache = Cache::<u32, ()>::new(OLD_AT_ONCE);
        for key in ["a", "b", "c"] {
            assert_eq!(cache.get(key, || async { Ok(None) }).await, Ok(None));
        }
        assert_eq!(cache.entries.lock().by_key.len(), 1);
    }

    #[tokio::test]
    async fn what_was_absent_is_asked_for_again_and_waited_for() {
        let cache = Cache::<u32, ()>::new(OLD_AT_ONCE);
        assert_eq!(cache.get("k", || async { Ok(None) }).await, Ok(None));
        assert_eq!(cache.get("k", || async { Ok(Some(2)) }).await, Ok(Some(2)));
    }
}
