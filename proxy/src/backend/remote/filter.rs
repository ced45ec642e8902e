//! Filters in the form of brokers.

use std::time::Instant;

use serde_json::json;

use super::answer::success;
use super::cluster::Cluster;
use crate::remoting::{RemotingCommand, request};
use crate::service::{Delivery, Filter, ServiceError};

impl Cluster {
    /// Asks one broker to parse a SQL filter. All brokers of a cluster are assumed to support the same expressions.
    pub(super) async fn check_filter(&self, filter: &Filter, deadline: Instant) -> Result<(), ServiceError> {
        let Filter::Sql(_) = filter else { return Ok(()) };
        let masters = self.masters().await?;
        let (kind, text) = expression(filter);
        let body = json!({
            "clientId": "rocketmq-thin-proxy",
            "subscriptionData": { "expressionType": kind, "subString": text },
        });
        let command = RemotingCommand::request(request::CHECK_CLIENT_CONFIG).body(body.to_string());
        let Some(master) = masters.first() else { return Ok(()) };
        let answer = self.peers.call(master, command, self.time_left(deadline)).await?;
        success(answer).map(drop)
    }
}

/// Whether a delivery passes a tag filter. Brokers compare only the hashes of tags, and in lite topics not even these.
/// SQL filters are evaluated by brokers alone.
pub(super) fn matches(filter: &Filter, delivery: &Delivery) -> bool {
    match filter {
        Filter::Tags(tags) => delivery.message.tag.as_ref().is_some_and(|tag| tags.contains(tag)),
        Filter::All | Filter::Sql(_) => true,
    }
}

/// The type of a filter's expression and its text, in the form of brokers.
pub(super) fn expression(filter: &Filter) -> (&'static str, String) {
    match filter {
        Filter::All => ("TAG", "*".to_owned()),
        // To brokers, an empty expression matches every message, and a blank one none.
        Filter::Tags(tags) if tags.is_empty() => ("TAG", " ".to_owned()),
        Filter::Tags(tags) => ("TAG", tags.join("||")),
        Filter::Sql(expression) => ("SQL92", expression.clone()),
    }
}
