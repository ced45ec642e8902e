//! The order of FIFO messages: those of one message group are sent one after the other.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot::{self, error::TryRecvError};

/// A topic and a message group.
type Lane = (String, String);

/// The message groups with sends that have no result yet. Each leads to the end of its latest send.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<Lane, oneshot::Receiver<()>>>);

/// The right to send the next message of a group, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    lanes: Arc<Lanes>,
    lane: Lane,
    /// Tells the next send when it is dropped.
    done: Option<oneshot::Sender<()>>,
}

impl Lanes {
    /// Takes a place behind all sends of the group. The future waits until those have a result.
    pub(super) fn join(self: &Arc<Self>, topic: String, group: String) -> impl Future<Output = Turn> + use<> {
        let lane = (topic, group);
        let (done, end) = oneshot::channel();
        let before = self.0.lock().insert(lane.clone(), end);
        let turn = Turn { lanes: self.clone(), lane, done: Some(done) };
        async move {
            if let Some(before) = before {
                // It never sends; its end is what counts.
                let _ = before.await;
            }
            turn
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lanes = self.lanes.0.lock();
        self.done = None;
        // A lane is kept only while somebody is in it, so that any number of groups may come and go.
        if lanes.get_mut(&self.lane).is_some_and(|end| end.try_recv() == Err(TryRecvError::Closed)) {
            lanes.remove(&self.lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn join(lanes: &Arc<Lanes>, group: &str) -> futures::future::BoxFuture<'static, Turn> {
        lanes.join("t".into(), group.into()).boxed()
    }

    #[test]
    fn the_sends_of_a_group_take_turns_in_the_order_of_their_calls() {
        let lanes = Arc::<Lanes>::default();
        let (mut first, mut second, mut third) = (join(&lanes, "a"), join(&lanes, "a"), join(&lanes, "a"));
        assert!((&mut third).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        let turn = (&mut first).now_or_never().unwrap();
        assert!((&mut second).now_or_never().is_none());
        drop(turn);
        assert!((&mut third).now_or_never().is_none());
        drop((&mut second).now_or_never().unwrap());
        assert!((&mut third).now_or_never().is_some());
    }

    #[test]
    fn groups_do_not_wait_for_each_other() {
        let lanes = Arc::<Lanes>::default();
        let (first, other) = (join(&lanes, "a"), join(&lanes, "b"));
        let _turn = first.now_or_never().unwrap();
        assert!(other.now_or_never().is_some());
    }

    #[test]
    fn a_lane_vanishes_with_its_last_send() {
        let lanes = Arc::<Lanes>::default();
        for group in 0..1_000 {
            drop(join(&lanes, &group.to_string()).now_or_never());
        }
        let (first, second) = (join(&lanes, "a"), join(&lanes, "a"));
        drop(first.now_or_never());
        assert_eq!(lanes.0.lock().len(), 1);
        drop(second.now_or_never());
        assert!(lanes.0.lock().is_empty());
    }
}
