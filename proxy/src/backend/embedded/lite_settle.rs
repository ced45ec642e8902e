//! Settles deliveries from lite topics. Their coordinates contain the name of the lite topic; the name in a request is
//! ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::blocking::blocking;
use super::broker::Broker;
use super::settle::deleted;
use super::topic::Topic;
use crate::service::{
    AckOutcome, Acknowledge, ChangeInvisible, Forward, InvisibleOutcome, NextAttempt, ServiceError, Settle,
};

/// The coordinates of a delivery from a lite topic: `name/coordinates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LiteCoordinates<'a> {
    /// The name of the lite topic.
    pub(super) name: &'a str,
    /// The coordinates within the lite topic.
    pub(super) inner: &'a str,
}

impl<'a> LiteCoordinates<'a> {
    /// Parses the coordinates of a delivery. `None` if it is not from a lite topic.
    pub(super) fn of(coordinates: &'a str) -> Option<Self> {
        let (name, inner) = coordinates.split_once('/')?;
        Some(Self { name, inner })
    }
}

impl fmt::Display for LiteCoordinates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.inner)
    }
}

impl Broker {
    /// Returns a lite topic if it and its LITE topic exist.
    async fn lite_topic(&self, parent: &str, name: &str) -> Result<Option<Arc<Topic>>, ServiceError> {
        let Some(parent) = self.catalog.topic(parent) else { return Ok(None) };
        if let Some(loaded) = self.catalog.lite.loaded(parent.id(), name) {
            return Ok(Some(loaded));
        }
        let (catalog, name) = (self.catalog.clone(), name.to_owned());
        blocking(move || catalog.lite.load(&parent, &name)).await
    }

    /// Acknowledges deliveries from lite topics.
    pub(super) async fn acknowledge_lite_entries(
        &self,
        request: Acknowledge,
    ) -> Result<Vec<AckOutcome>, ServiceError> {
        let mut outcomes = vec![AckOutcome::Expired; request.entries.len()];
        let mut by_lite_topic = BTreeMap::<&str, Vec<usize>>::new();
        for (index, entry) in request.entries.iter().enumerate() {
            match LiteCoordinates::of(&entry.coordinates) {
                Some(at) => by_lite_topic.entry(at.name).or_default().push(index),
                None => {
                    outcomes[index] = AckOutcome::Invalid("not a receipt handle of a lite topic".to_owned())
                }
            }
        }
        for (name, indexes) in by_lite_topic {
            // Messages that were removed with their lite topic can't be settled any more.
            let Some(lite_topic) = self.lite_topic(&request.topic, name).await? else { continue };
            let of_lite_topic = Acknowledge {
                entries: indexes.iter().map(|index| inner(&request.entries[*index])).collect(),
                ..request.clone()
            };
            let acknowledged = match self.acknowledge_entries(&lite_topic, of_lite_topic).await {
                Ok(acknowledged) => acknowledged,
                Err(error) => vec![AckOutcome::Failed(error); indexes.len()],
            };
            for (index, outcome) in indexes.into_iter().zip(acknowledged) {
                outcomes[index] = outcome;
            }
        }
        Ok(outcomes)
    }

    /// Changes the lease of a delivery from a lite topic. The lease blocks the whole lite topic. A suspended delivery
    /// does not count as an attempt, as with Apache's brokers.
    pub(super) async fn change_lite_lease(
        &self,
        request: ChangeInvisible,
        at: LiteCoordinates<'_>,
    ) -> Result<InvisibleOutcome, ServiceError> {
        let Some(lite_topic) = self.lite_topic(&request.topic, at.name).await? else {
            return Ok(InvisibleOutcome::Expired);
        };
        let change = ChangeInvisible {
            entry: inner(&request.entry),
            next_attempt: match request.next_attempt {
                NextAttempt::Suspended => NextAttempt::GivenBack,
                other => other,
            },
            ..request
        };
        Ok(match self.change_lease(&lite_topic, change).await? {
            InvisibleOutcome::Changed { coordinates, received_at } => {
                let coordinates = LiteCoordinates { inner: &coordinates, ..at }.to_string();
                InvisibleOutcome::Changed { coordinates, received_at }
            }
            InvisibleOutcome::Gone { coordinates, received_at } => {
                let coordinates = LiteCoordinates { inner: &coordinates, ..at }.to_string();
                InvisibleOutcome::Gone { coordinates, received_at }
            }
            InvisibleOutcome::Expired => InvisibleOutcome::Expired,
        })
    }

    /// Moves a delivery from a lite topic to the dead-letter topic.
    pub(super) async fn move_lite_to_dead_letters(
        &self,
        request: Forward,
        at: LiteCoordinates<'_>,
    ) -> Result<(), ServiceError> {
        let lite_topic = self.lite_topic(&request.topic, at.name).await?;
        let lite_topic = lite_topic.ok_or_else(|| deleted("lite topic"))?;
        let entry = inner(&request.entry);
        self.move_to_dead_letters(&lite_topic, Forward { entry, ..request }).await.map(drop)
    }
}

/// Returns the entry with the coordinates within the lite topic.
fn inner(entry: &Settle) -> Settle {
    let coordinates = LiteCoordinates::of(&entry.coordinates).map(|at| at.inner.to_owned());
    Settle { coordinates: coordinates.unwrap_or_default(), ..entry.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lite_coordinates_are_parsed_and_distinguished_from_others() {
        let coordinates = LiteCoordinates { name: "eu-1_x", inner: "0.12.abc.7" };
        assert_eq!(LiteCoordinates::of(&coordinates.to_string()), Some(coordinates));
        assert_eq!(LiteCoordinates::of("0.12.abc.7"), None);
    }
}
