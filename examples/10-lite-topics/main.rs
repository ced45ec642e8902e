//! Uses lite topics, small topics within a topic: a consumer receives only the lite topics that it subscribes to.
//!
//!     rocketmq-thin-proxy topic create chats --type lite
//!     rocketmq-thin-proxy group create phones --lite-bind-topic chats
//!     cargo run --bin example-10-lite-topics HOST:PORT
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{env, error::Error};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, ConsumeResult, Message, ProducerOptions, PushConsumerOptions,
};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new(["chats"])).await?;
    let consumer = client.push_consumer(PushConsumerOptions::lite("phones", "chats")).await?;

    let (handled, mut results) = mpsc::unbounded_channel();
    consumer.start(move |delivery| {
        let _ = handled.send(delivery);
        async { ConsumeResult::Ack }
    })?;
    consumer.subscribe_lite("alice").await?;

    producer.send(Message::new("chats", "hello Bob").lite_topic("bob")).await?;
    producer.send(Message::new("chats", "hello Alice").lite_topic("alice")).await?;

    if let Some(delivery) = results.recv().await {
        let chat = delivery.lite_topic.unwrap_or_default();
        println!("received     {} in {chat}", String::from_utf8_lossy(&delivery.body));
    }
    consumer.unsubscribe_lite("alice").await?;

    client.close(CLOSE_DEADLINE).await;
    Ok(())
}
