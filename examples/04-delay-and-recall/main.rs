//! Sends delayed messages, and recalls one before it is delivered.
//!
//!     rocketmq-thin-proxy topic create reminders --type delay
//!     cargo run --bin example-04-delay-and-recall HOST:PORT
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{
    env,
    error::Error,
    time::{Duration, SystemTime},
};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Message, ProducerOptions, ReceiveOptions, SimpleConsumerOptions,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new(["reminders"])).await?;
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("people", ["reminders"])).await?;

    let sent_at = SystemTime::now();
    let delay = Duration::from_secs(2);
    producer.send(Message::new("reminders", "drink water").delay(delay)).await?;
    println!("sent         drink water, for 2 s later");

    let later = sent_at + Duration::from_secs(8);
    let receipt = producer.send(Message::new("reminders", "go home").deliver_at(later)).await?;
    println!("sent         go home, for 8 s later");

    producer.recall(&receipt).await?;
    println!("recalled     go home");

    for delivery in consumer.receive(ReceiveOptions::default()).await? {
        let early = SystemTime::now() < sent_at + delay;
        println!(
            "received     {}, {}",
            String::from_utf8_lossy(&delivery.body),
            if early { "early" } else { "not early" }
        );
        consumer.ack(&delivery).await?;
    }

    let wait = ReceiveOptions::default().await_duration(Duration::from_secs(10));
    println!("received     {} more", consumer.receive(wait).await?.len());

    client.close(CLOSE_DEADLINE).await;
    Ok(())
}
