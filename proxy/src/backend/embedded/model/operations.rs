//! Operations on half messages, delayed messages and expired messages.

use super::rules::Number;
use super::subject::{CHECK_INTERVAL, MAX_CHECKS};
use super::{DECISION_AGE, MIN_AGE_TO_EXPIRE, MIXED, World, number, pick};
use crate::service::Resolution;
use rand::RngExt;

impl World {
    pub(super) async fn decide(&mut self) {
        let Some((number, topic, coordinates)) = pick(&mut self.random, &self.transactions) else { return };
        let now = self.now();
        // The broker may have forgotten an old decision.
        if self.waiting.decided.get(&number).is_some_and(|(_, at)| at + DECISION_AGE <= now) {
            return;
        }
        let commit = self.random.random_bool(0.6);
        let resolution = if commit { Resolution::Commit } else { Resolution::Rollback };
        self.note(format!("decide {number}: {resolution:?}"));
        let outcome = self.subject.end(topic, &coordinates, resolution).await;
        let (is_known, delivered) = self.waiting.decide(number, resolution, now);
        assert_eq!(outcome.is_ok(), is_known, "{outcome:?}");
        if let Some(half) = delivered {
            self.queue(number, topic, half.class.unwrap_or_default());
        }
    }

    pub(super) async fn recall(&mut self) {
        let Some((number, handle)) = pick(&mut self.random, &self.recalls) else { return };
        self.note(format!("recall {number}"));
        let outcome = self.subject.recall(MIXED, &handle).await;
        match self.waiting.delayed.get_mut(&number) {
            Some((_, recalled)) => {
                assert_eq!(outcome, Ok(number.to_string()));
                *recalled = true;
            }
            None => assert!(outcome.is_err(), "{outcome:?}"),
        }
    }

    pub(super) async fn check(&mut self) {
        let expected = self.waiting.take_checks(self.now(), CHECK_INTERVAL, MAX_CHECKS);
        self.note(format!("check {expected:?}"));
        let mut asked: Vec<Number> = self.subject.checks().await.iter().map(|id| number(id)).collect();
        asked.sort_unstable();
        assert_eq!(asked, expected.into_iter().collect::<Vec<_>>());
    }

    pub(super) fn deliver_due(&mut self) {
        for number in self.waiting.take_due(self.now()) {
            self.queue(number, MIXED, 0);
        }
    }

    /// Removes old messages.
    pub(super) fn expire(&mut self) {
        let now = self.now();
        let before = now - self.random.random_range(MIN_AGE_TO_EXPIRE..2 * MIN_AGE_TO_EXPIRE);
        self.expired_before = self.expired_before.max(before);
        let before = self.expired_before;
        self.note(format!("what was stored {} ms ago is removed", now - before));
        self.subject.expire(before);
        self.waiting.expire(before);
        self.groups.iter_mut().for_each(|group| group.expire(before));
    }
}
