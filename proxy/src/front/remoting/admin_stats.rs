//! Requests of tools for statistics of topics and groups, and for stored messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::answer::{self, Answered, Refusal, success};
use super::answer_bodies::{AnswerBodies, Fit};
use super::log_position::{self, LogPosition};
use super::message::{self, StoreLocation};
use super::request::Request;
use crate::error::Error;
use crate::processor::{BrokersCommand, ListBrokersCommand, Page};
use crate::remoting::broker_stats::{self, BrokerStats, DELIVERED, PeriodStats, SETTLED, STORED};
use crate::remoting::response;
use crate::service::{EventCounts, ReadMessage, ReadQueue, WantedMessage, millis, time};

/// The maximum number of messages that a search returns.
const MAX_FOUND: usize = 64;
/// The maximum number of pages of a queue that a search reads.
const MAX_PAGES: usize = 50;

/// A queue as the key of a table in an answer. Tools expect an object as the key, which is not valid JSON.
pub(super) fn queue_key(topic: &str, broker: &str, queue: i32) -> String {
    json!({"brokerName": broker, "queueId": queue, "topic": topic}).to_string()
}

/// Milliseconds since 1970, or 0.
fn millis_or_zero(at: Option<SystemTime>) -> i64 {
    at.map(millis).unwrap_or_default()
}

/// GET_TOPIC_STATS_INFO.
pub(super) async fn topic_stats(request: Request) -> Answered {
    let topic = request.text("topic")?;
    let stats = request.shared.processor.topic_stats(topic, None).await.map_err(Refusal::from)?;
    let mut table = String::new();
    for queue in &stats.queues {
        let value = json!({
            "lastUpdateTimestamp": millis_or_zero(queue.newest),
            "maxOffset": queue.next,
            "minOffset": queue.first,
        });
        let separator = if table.is_empty() { "" } else { "," };
        let _ = write!(table, "{separator}{}:{value}", queue_key(topic, &queue.broker, queue.id));
    }
    let rate = stats.rate_in.unwrap_or_default();
    Ok(success().body(format!("{{\"offsetTable\":{{{table}}},\"topicPutTps\":{rate:?}}}")))
}

/// GET_CONSUME_STATS.
pub(super) async fn consume_stats(request: Request) -> Answered {
    let group = request.text("consumerGroup")?;
    let topic = request.command.text("topic").filter(|topic| !topic.is_empty());
    let stats = request.shared.processor.group_stats(group, topic).await.map_err(Refusal::from)?;
    let (mut table, mut rate) = (String::new(), 0.0);
    for topic in &stats.topics {
        rate += topic.rate_settled.unwrap_or_default();
        for queue in &topic.queues {
            let value = json!({
                "brokerOffset": queue.end,
                "consumerOffset": queue.settled,
                "lastTimestamp": millis_or_zero(queue.oldest),
                "pullOffset": queue.next,
            });
            let separator = if table.is_empty() { "" } else { "," };
            let _ = write!(table, "{separator}{}:{value}", queue_key(&topic.topic, &queue.broker, queue.id));
        }
    }
    Ok(success().body(format!("{{\"consumeTps\":{rate:?},\"offsetTable\":{{{table}}}}}")))
}

/// GET_BROKER_RUNTIME_INFO: the version of the proxy, and the rates of all topics and groups together, or of as many as a
/// page of their lists contains. Tools fail without the other rates and counters, which are zero.
pub(super) async fn runtime_info(request: Request) -> Answered {
    const RATES: [&str; 2] = ["getMissTps", "getTransferedTps"];
    const COUNTERS: [&str; 11] = [
        "msgGetTotalTodayMorning",
        "msgGetTotalTodayNow",
        "msgGetTotalYesterdayMorning",
        "msgPutTotalTodayMorning",
        "msgPutTotalTodayNow",
        "msgPutTotalYesterdayMorning",
        "pageCacheLockTimeMills",
        "pullThreadPoolQueueHeadWaitTimeMills",
        "pullThreadPoolQueueSize",
        "sendThreadPoolQueueHeadWaitTimeMills",
        "sendThreadPoolQueueSize",
    ];
    let processor = &request.shared.processor;
    let brokers = request.run(ListBrokersCommand).await?.len().max(1) as f64;
    let (topics, groups) = tokio::join!(processor.topic_summaries(None), processor.group_summaries(None));
    let stored = total_rate(topics, |topic| topic.rate_in);
    let delivered = total_rate(groups, |group| group.rate_delivered);
    // A broker has the rates of ten seconds, a minute and ten minutes. Tools add those of all brokers.
    let rates = |rate: f64| {
        let rate = rate / brokers;
        format!("{rate:?} {rate:?} {rate:?}")
    };
    let delivered = rates(delivered);
    let version = concat!("rocketmq-thin-proxy ", env!("CARGO_PKG_VERSION"));
    let mut table = BTreeMap::from([
        ("brokerActive", "true".to_owned()),
        ("brokerVersionDesc", version.to_owned()),
        ("putTps", rates(stored)),
        ("getFoundTps", delivered.clone()),
        ("getTotalTps", delivered.clone()),
        ("getTransferredTps", delivered),
    ]);
    table.extend(RATES.map(|name| (name, rates(0.0))));
    table.extend(COUNTERS.map(|name| (name, "0".to_owned())));
    Ok(success().body(json!({ "table": table }).to_string()))
}

/// The sum of the rates of a page. Rates that are not known count as zero: an error would make tools fail to show the
/// cluster while one of its brokers can't be called.
fn total_rate<T>(page: Result<Page<T>, Error>, rate: impl Fn(&T) -> Option<f64>) -> f64 {
    match page {
        // `Iterator::sum` would return -0.0 for no rates.
        Ok(page) => page.lines.iter().filter_map(rate).fold(0.0, |total, rate| total + rate),
        Err(error) => {
            tracing::debug!(%error, "failed to query rates for a tool");
            0.0
        }
    }
}

/// VIEW_BROKER_STATS_DATA: the messages that were stored in a topic lately, or that a group got or settled.
pub(super) async fn broker_stats(request: Request) -> Answered {
    let (name, key) = (request.text("statsName")?, request.text("statsKey")?);
    let Some(Events { rate, counts, brokers }) = events(&request, name, key).await? else {
        let text = format!("The stats <{name}> <{key}> not exist");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    };
    // Tools ask each broker, and add the answers.
    let part = |of_all: f64| of_all / brokers.max(1) as f64;
    let period = |count: u64, tps: f64| PeriodStats {
        sum: part(count as f64).round() as i64,
        tps: part(tps),
        avgpt: 0.0,
    };
    answer::json(&BrokerStats {
        stats_minute: period(counts.minute, rate),
        stats_hour: period(counts.hour, counts.hour as f64 / 3600.0),
        stats_day: period(counts.day, counts.day as f64 / 86400.0),
    })
}

/// A statistic of all brokers together.
struct Events {
    /// Per second over the last minute.
    rate: f64,
    counts: EventCounts,
    brokers: usize,
}

/// A statistic by its name and key; `None` if the proxy does not have it.
async fn events(request: &Request, name: &str, key: &str) -> Result<Option<Events>, Refusal> {
    let processor = &request.shared.processor;
    let (rate, counts, brokers): (_, _, BTreeSet<_>) = if name == STORED {
        let stats = processor.topic_stats(key, None).await?;
        (stats.rate_in, stats.stored, stats.queues.into_iter().map(|queue| queue.broker).collect())
    } else {
        let Some((topic, group)) = broker_stats::topic_and_group(key) else { return Ok(None) };
        let stats = processor.group_stats(group, Some(topic)).await?;
        let Some(of_topic) = stats.topics.into_iter().next() else { return Ok(None) };
        let (rate, counts) = match name {
            DELIVERED => (of_topic.rate_delivered, of_topic.delivered),
            SETTLED => (of_topic.rate_settled, of_topic.settled),
            _ => (None, None),
        };
        (rate, counts, of_topic.queues.into_iter().map(|queue| queue.broker).collect())
    };
    let events = rate.zip(counts);
    Ok(events.map(|(rate, counts)| Events { rate, counts, brokers: brokers.len() }))
}

/// VIEW_MESSAGE_BY_ID: the message at a log position.
pub(super) async fn view(request: Request) -> Answered {
    Ok(success().body(message_at(&request, request.number("offset")?).await?))
}

/// The encoded message at a log position. The request names the topic.
pub(super) async fn message_at(request: &Request, at: i64) -> Result<Bytes, Refusal> {
    let LogPosition { queue_id, offset, .. } = log_position::decode(at);
    let not_found =
        || Refusal::new(response::SYSTEM_ERROR, format!("can not find message by the offset, {at}"));
    let topic = request.command.text("topic").ok_or_else(not_found)?.to_owned();
    let route = request.run(BrokersCommand { topic: topic.clone() }).await?;
    for range in &route.queues {
        let read = ReadQueue { max: 1, ..read_from(&topic, &range.broker, queue_id, offset) };
        let Ok(page) = request.shared.processor.read(read).await else { continue };
        let found = page.messages.into_iter().find(|message| message.delivery.queue_offset == offset);
        let Some(ReadMessage { mut delivery, .. }) = found else { continue };
        if AnswerBodies::new(&request.charge).add(&mut delivery.message).await? != Fit::Fits {
            let text = format!("message {} is too long for the remoting protocol", delivery.message.id);
            return Err(Refusal::new(response::SYSTEM_ERROR, text));
        }
        let location = StoreLocation::of(&delivery, request.connection.local(), &range.cluster);
        return Ok(message::record(&delivery, location).encode());
    }
    Err(not_found())
}

/// QUERY_MESSAGE: the messages with a key, or with an id.
pub(super) async fn query(request: Request) -> Answered {
    let (topic, key) = (request.text("topic")?.to_owned(), request.text("key")?.to_owned());
    let max: usize = request.number("maxNum")?;
    let (begin, end): (i64, i64) = (request.number("beginTimestamp")?, request.number("endTimestamp")?);
    let wanted = match request.flag("_UNIQUE_KEY_QUERY") {
        true => WantedMessage::Id(key),
        false => WantedMessage::Key(key),
    };
    let route = request.run(BrokersCommand { topic: topic.clone() }).await?;
    let mut found = BytesMut::new();
    let (mut number, max) = (0, max.min(MAX_FOUND));
    let mut bodies = AnswerBodies::new(&request.charge);
    'search: for range in &route.queues {
        for queue_id in 0..range.read_queues {
            let mut read = ReadQueue {
                from: Some(time(begin)),
                to: Some(time(end)),
                wanted: wanted.clone(),
                ..read_from(&topic, &range.broker, queue_id, 0)
            };
            for _ in 0..MAX_PAGES {
                let page = request.shared.processor.read(read.clone()).await.map_err(Refusal::from)?;
                for ReadMessage { mut delivery, .. } in page.messages {
                    if number >= max {
                        break 'search;
                    }
                    match bodies.add(&mut delivery.message).await? {
                        Fit::Fits => {}
                        Fit::Later => break 'search,
                        Fit::Never => continue,
                    }
                    let location = StoreLocation::of(&delivery, request.connection.local(), &range.cluster);
                    found.extend_from_slice(&message::record(&delivery, location).encode());
                    number += 1;
                }
                if page.finished {
                    break;
                }
                read.offset = page.next_offset;
            }
        }
    }
    if number == 0 {
        let text = "can not find message, maybe time range not correct";
        return Err(Refusal::new(response::QUERY_NOT_FOUND, text));
    }
    let now = millis(SystemTime::now());
    Ok(success().field("indexLastUpdateTimestamp", now).field("indexLastUpdatePhyoffset", 0).body(found))
}

/// A read of all messages of a queue from this offset on.
fn read_from(topic: &str, broker: &str, queue_id: i32, offset: i64) -> ReadQueue {
    ReadQueue {
        topic: topic.to_owned(),
        lite_topic: None,
        broker: broker.to_owned(),
        queue_id,
        offset,
        max: MAX_FOUND,
        max_body: usize::MAX,
        from: None,
        to: None,
        wanted: WantedMessage::Any,
    }
}
