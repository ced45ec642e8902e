//! Moves messages that can't be processed to the dead letters, after the last attempt or at once, and reads them.
//!
//!     rocketmq-thin-proxy group create parsers --max-retries 1
//!     cargo run --bin example-07-dead-letters HOST:PORT
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{env, error::Error, time::Duration};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Delivery, Message, ProducerOptions, ReceiveOptions,
    SimpleConsumer, SimpleConsumerOptions,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new(["documents"])).await?;
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("parsers", ["documents"])).await?;

    producer.send(Message::new("documents", "half a document")).await?;
    for _ in 0..2 {
        let delivery = receive_one(&consumer).await?;
        println!("failed       {}, attempt {}", String::from_utf8_lossy(&delivery.body), delivery.attempt);
        // Delivered again at once. The group allows one retry.
        consumer.nack(&delivery, Duration::ZERO).await?;
    }

    producer.send(Message::new("documents", "no document")).await?;
    let delivery = receive_one(&consumer).await?;
    println!("gave up      {}", String::from_utf8_lossy(&delivery.body));
    consumer.dead_letter(&delivery).await?;

    // Each group has a topic for its dead letters.
    let reader = client.simple_consumer(SimpleConsumerOptions::new("support", ["%DLQ%parsers"])).await?;
    let mut letters = Vec::new();
    while letters.len() < 2 {
        let delivery = receive_one(&reader).await?;
        letters.push(String::from_utf8_lossy(&delivery.body).into_owned());
        reader.ack(&delivery).await?;
    }
    letters.sort();
    for letter in letters {
        println!("dead letter  {letter}");
    }

    client.close(CLOSE_DEADLINE).await;
    Ok(())
}

async fn receive_one(consumer: &SimpleConsumer) -> Result<Delivery, Box<dyn Error>> {
    loop {
        let received = consumer.receive(ReceiveOptions::default().max_messages(1)).await?;
        if let Some(delivery) = received.into_iter().next() {
            return Ok(delivery);
        }
    }
}
