//! Sends a message, receives it, changes its invisible time, receives it again, and acknowledges it.
//!
//!     cargo run --bin example-01-send-receive HOST:PORT
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{env, error::Error, time::Duration};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Filter, Message, ProducerOptions, ReceiveOptions,
    SimpleConsumerOptions, Subscription,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new(["greetings"])).await?;
    let everything = Subscription::new("greetings", Filter::All);
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("readers", [everything])).await?;

    producer.send(Message::new("greetings", "hello").tag("en")).await?;
    println!("sent         hello");

    // Waits for a message. It is invisible to other consumers of the group for 30 s, the default.
    for delivery in consumer.receive(ReceiveOptions::default()).await? {
        println!("received     {}, attempt {}", String::from_utf8_lossy(&delivery.body), delivery.attempt);
        // Not processed: after one second, any consumer of the group may receive it again.
        consumer.change_invisible(&delivery, Duration::from_secs(1)).await?;
        println!("put back     for 1 s");
    }

    for delivery in consumer.receive(ReceiveOptions::default()).await? {
        println!("received     {}, attempt {}", String::from_utf8_lossy(&delivery.body), delivery.attempt);
        // Processed: it is not delivered again. Without the ack, it would be, after the invisible time.
        consumer.ack(&delivery).await?;
        println!("acknowledged");
    }

    client.close(CLOSE_DEADLINE).await;
    Ok(())
}
