//! The body of a heartbeat: the groups and subscriptions of a client (Apache's `HeartbeatData` and `SubscriptionData`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::processor::Expression;

/// The types of filters.
const TAGS: &str = "TAG";
const SQL: &str = "SQL92";

/// The body of a heartbeat.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Heartbeat {
    #[serde(rename = "clientID")]
    pub(super) client_id: String,
    #[serde(rename = "producerDataSet")]
    pub(super) producers: Vec<ProducerData>,
    #[serde(rename = "consumerDataSet")]
    pub(super) consumers: Vec<ConsumerData>,
}

/// A producer group of a client.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ProducerData {
    pub(super) group_name: String,
}

/// A consumer group of a client.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ConsumerData {
    pub(super) group_name: String,
    consume_type: ConsumeType,
    message_model: MessageModel,
    consume_from_where: ConsumeFrom,
    subscription_data_set: Vec<SubscriptionData>,
}

/// How a client consumes in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consumer {
    pub(super) consume_type: ConsumeType,
    pub(super) model: MessageModel,
    pub(super) from: ConsumeFrom,
    /// The subscriptions by topic.
    pub(super) subscriptions: BTreeMap<String, SubscriptionData>,
}

/// How a consumer gets its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ConsumeType {
    /// The application pulls them, from offsets that it may choose.
    #[serde(rename = "CONSUME_ACTIVELY")]
    Actively,
    /// The client library pulls them, and passes them to the application.
    #[default]
    #[serde(rename = "CONSUME_PASSIVELY")]
    Passively,
    /// The client library pops them, and passes them to the application.
    #[serde(rename = "CONSUME_POP")]
    Pop,
}

/// Which clients of a group get a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MessageModel {
    /// One client.
    #[default]
    #[serde(rename = "CLUSTERING")]
    Clustering,
    /// Every client.
    #[serde(rename = "BROADCASTING")]
    Broadcasting,
    /// One client that has subscribed to the lite topic.
    #[serde(rename = "LITE_SELECTIVE")]
    Lite,
}

/// Where a group begins to consume a topic from which it has not received yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ConsumeFrom {
    /// After the last stored message. The aliases are deprecated names.
    #[default]
    #[serde(
        rename = "CONSUME_FROM_LAST_OFFSET",
        alias = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        alias = "CONSUME_FROM_MIN_OFFSET",
        alias = "CONSUME_FROM_MAX_OFFSET"
    )]
    Last,
    /// At the first stored message.
    #[serde(rename = "CONSUME_FROM_FIRST_OFFSET")]
    First,
    /// At a time, which the heartbeat does not contain.
    #[serde(rename = "CONSUME_FROM_TIMESTAMP")]
    Timestamp,
}

/// A client's subscription to one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SubscriptionData {
    pub(super) class_filter_mode: bool,
    pub(super) code_set: BTreeSet<i32>,
    pub(super) expression_type: Option<String>,
    pub(super) sub_string: String,
    pub(super) sub_version: i64,
    pub(super) tags_set: BTreeSet<String>,
    pub(super) topic: String,
}

impl From<ConsumerData> for Consumer {
    fn from(data: ConsumerData) -> Self {
        let by_topic = data.subscription_data_set.into_iter();
        Self {
            consume_type: data.consume_type,
            model: data.message_model,
            from: data.consume_from_where,
            subscriptions: by_topic.map(|data| (data.topic.clone(), data)).collect(),
        }
    }
}

impl SubscriptionData {
    /// The type of the filter, if it is neither TAG nor SQL92.
    pub(super) fn unknown_filter_type(&self) -> Option<&str> {
        self.expression_type.as_deref().filter(|kind| !["", TAGS, SQL].contains(kind))
    }

    /// The filter of the subscription.
    pub(super) fn expression(&self) -> Expression {
        expression(self.expression_type.as_deref(), &self.sub_string)
    }
}

/// A filter with the type and the text that a request contains. Every type except SQL92 means tags.
pub(super) fn expression(kind: Option<&str>, text: &str) -> Expression {
    match kind {
        Some(SQL) => Expression::Sql(text.to_owned()),
        _ => Expression::Tags(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_of_apaches_client() {
        let body = r#"{"clientID":"10.0.0.1@1#2","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET",
            "consumeType":"CONSUME_PASSIVELY","groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":[
            {"classFilterMode":false,"codeSet":[2598919],"expressionType":"TAG","subString":"A||B",
             "subVersion":1700000000000,"tagsSet":["A","B"],"topic":"t"}],"unitMode":false}],
            "heartbeatFingerprint":0,"producerDataSet":[{"groupName":"CLIENT_INNER_PRODUCER"}],"withoutSub":false}"#;
        let mut heartbeat: Heartbeat = serde_json::from_str(body).expect("a heartbeat");
        assert_eq!(heartbeat.client_id, "10.0.0.1@1#2");
        assert_eq!(heartbeat.producers[0].group_name, "CLIENT_INNER_PRODUCER");
        let consumer = Consumer::from(heartbeat.consumers.remove(0));
        assert_eq!((consumer.from, consumer.model), (ConsumeFrom::First, MessageModel::Clustering));
        assert_eq!(consumer.subscriptions["t"].expression(), Expression::Tags("A||B".to_owned()));
    }
}
