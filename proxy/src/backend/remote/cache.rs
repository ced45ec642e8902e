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
    /// After this, an entry is asked for anew in the background; the old one serves meanwhile.
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
    entries: Mutex<HashMap<String, Entry<V, E>>>,
}

type Answer<V, E> = Result<Option<V>, E>;
type Asking<V, E> = Shared<BoxFuture<'static, Answer<V, E>>>;

struct Entry<V, E> {
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
        Arc::new(Self { freshness, entries: Mutex::default() })
    }

    /// What is known of a key, asking if nothing is known or it is old. An asking goes on although its first
    /// caller gave up, for the others that wait.
    pub(super) async fn get<F>(self: &Arc<Self>, key: &str, ask: impl FnOnce() -> F) -> Answer<V, E>
    where
        F: Future<Output = Answer<V, E>> + Send + 'static,
    {
        let asking = {
            let mut entries = self.entries.lock();
            let now = Instant::now();
            if !entries.contains_key(key) {
                entries.retain(|_, entry| now - entry.used < self.freshness.idle || entry.asking.is_some());
            }
            let entry = entries.entry(key.to_owned()).or_insert_with(|| Entry {
                known: None,
                doubted: false,
                asking: None,
                used: now,
            });
            entry.used = now;
            let known = entry.known.clone();
            if let Some((value, since)) = &known
                && now - *since < self.lifetime(value.is_some() && !entry.doubted)
            {
                return Ok(value.clone());
            }
            let asking = entry.asking.get_or_insert_with(|| self.ask(key, ask())).clone();
            match known {
                // What exists serves on while it is asked for; what was absent may exist now, so wait.
                Some((Some(value), _)) => return Ok(Some(value)),
                _ => asking,
            }
        };
        asking.await
    }

    /// Makes the next `get` of a key ask.
    pub(super) fn forget(&self, key: &str) {
        self.entries.lock().remove(key);
    }

    /// Has those answers asked for anew soon. They serve on until there are better ones.
    pub(super) fn doubt(&self, which: impl Fn(&V) -> bool) {
        for entry in self.entries.lock().values_mut() {
            let known = entry.known.as_ref().and_then(|(value, _)| value.as_ref());
            entry.doubted |= known.is_some_and(&which);
        }
    }

    fn lifetime(&self, trusted: bool) -> Duration {
        if trusted { self.freshness.refresh } else { self.freshness.absent }
    }

    fn ask(
        self: &Arc<Self>,
        key: &str,
        answer: impl Future<Output = Answer<V, E>> + Send + 'static,
    ) -> Asking<V, E> {
        let (cache, key) = (self.clone(), key.to_owned());
        let asking = async move {
            let answer = answer.await;
            if let Some(entry) = cache.entries.lock().get_mut(&key) {
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
    async fn the_old_answer_stays_while_nobody_can_be_asked() {
        let cache = Cache::<u32, &str>::new(OLD_AT_ONCE);
        assert_eq!(cache.get("k", || async { Ok(Some(1)) }).await, Ok(Some(1)));
        assert_eq!(cache.get("k", || async { Err("down") }).await, Ok(Some(1)));
        tokio::task::yield_now().await;
        assert_eq!(cache.get("k", || async { Err("down") }).await, Ok(Some(1)));
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
    async fn what_was_absent_is_asked_for_again_and_waited_for() {
        let cache = Cache::<u32, ()>::new(OLD_AT_ONCE);
        assert_eq!(cache.get("k", || async { Ok(None) }).await, Ok(None));
        assert_eq!(cache.get("k", || async { Ok(Some(2)) }).await, Ok(Some(2)));
    }
}
