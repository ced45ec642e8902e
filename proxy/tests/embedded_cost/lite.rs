//! Measures the cost of many lite topics.

use std::ops::Range;
use std::time::{Duration, Instant};

use rocketmq_thin_proxy::backend::embedded::{EmbeddedConfig, open};
use rocketmq_thin_proxy::service::{
    Delivered, GroupConfig, LiteAction, LiteChange, Message, Receive, Services, TopicConfig, TopicKind,
};

use super::{GROUP, TOPIC, acknowledge, cpu_time, message, open_again, request, resident};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark"]
async fn lite_topics() {
    const COUNT: usize = 100_000;
    const OF_CLIENT: usize = 10_000;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
    let broker = open(config.clone()).await.expect("a fresh directory opens");
    create_lite(&broker.services()).await;
    println!("before: {} MB resident", resident());
    let start = Instant::now();
    for first in (0..COUNT).step_by(32) {
        send_lite(&broker.services(), first..(first + 32).min(COUNT)).await;
    }
    println!("{COUNT} lite topics created in {:?}, {} MB resident", start.elapsed(), resident());
    broker.close().await;

    let start = Instant::now();
    let broker = open_again(&config).await;
    let services = broker.services();
    println!("opened in {:?}, {} MB resident", start.elapsed(), resident());
    let start = Instant::now();
    let lite_topics = (0..OF_CLIENT).map(|number| number.to_string()).collect();
    services.lite.sync(subscription(lite_topics)).await.expect("a subscription");
    println!("subscribed to {OF_CLIENT} in {:?}", start.elapsed());
    let (start, cpu, mut received, mut receives) = (Instant::now(), cpu_time(), 0, 0);
    while received < OF_CLIENT {
        received += receive_lite(&services).await;
        receives += 1;
    }
    println!(
        "{received} received and acknowledged by {receives} receives in {:?}, CPU {:?}, {} MB resident",
        start.elapsed(),
        cpu_time() - cpu,
        resident()
    );
    for _ in 0..4 {
        let (start, cpu) = (Instant::now(), cpu_time());
        let stats = services.administration.group_stats(GROUP, None).await.expect("statistics");
        let found = stats.topics.first().map(|topic| (topic.queues[0].settled, topic.queues[0].lag));
        let (settled, lag) = found.unwrap_or_default();
        let truncated = if stats.truncated { ", truncated" } else { "" };
        println!(
            "statistics of the group in {:?}, CPU {:?}: {settled} settled, lag {lag}{truncated}",
            start.elapsed(),
            cpu_time() - cpu
        );
    }
    let mut delays = Vec::new();
    for number in 0..200 {
        let waiting = tokio::spawn({
            let services = services.clone();
            async move { (receive_lite(&services).await, Instant::now()) }
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
        send_lite(&services, number..number + 1).await;
        let sent = Instant::now();
        delays.push(waiting.await.expect("a receive").1.saturating_duration_since(sent));
    }
    delays.sort_unstable();
    println!(
        "received and acknowledged after a send was answered: p50 {:?}, p99 {:?}",
        delays[100], delays[198]
    );
}

async fn create_lite(services: &Services) {
    let topic = TopicConfig::new(TOPIC, TopicKind::Lite, 1);
    services.metadata.create_topic(topic, false).await.expect("a topic");
    let group = services.metadata.group(GROUP).await.expect("a group");
    let group = GroupConfig { lite_bind_topic: Some(TOPIC.to_owned()), ..group };
    services.metadata.create_group(group, true).await.expect("a group");
}

async fn send_lite(services: &Services, numbers: Range<usize>) {
    let message = |number: usize| Message { lite_topic: Some(number.to_string()), ..message() };
    let messages = numbers.map(message).collect();
    let sent = services.messages.send(TOPIC, messages, Instant::now() + Duration::from_secs(60)).await;
    sent.expect("a send").into_iter().for_each(|sent| drop(sent.expect("it is stored")));
}

fn subscription(lite_topics: Vec<String>) -> LiteChange {
    LiteChange {
        client_id: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        action: LiteAction::Replace,
        quota: lite_topics.len(),
        lite_topics,
        start: None,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

/// Receives up to 32 messages of lite topics, and acknowledges them.
async fn receive_lite(services: &Services) -> usize {
    let request = Receive { lite_client: Some(GROUP.to_owned()), ..request(32) };
    let Delivered::Messages(deliveries) = services.messages.receive(request).await.expect("a receive") else {
        panic!("no message was delivered")
    };
    acknowledge(&*services.messages, &deliveries).await
}
