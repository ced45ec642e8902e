//! Processes a message for longer than its lease: the client renews the lease, so no other consumer gets the message.
//!
//!     cargo run --bin example-08-long-work HOST:PORT
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{env, error::Error, time::Duration};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Message, ProducerOptions, ReceiveOptions, SimpleConsumerOptions,
};

/// The shortest lease that servers allow.
const LEASE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new(["videos"])).await?;
    let worker = client.simple_consumer(SimpleConsumerOptions::new("encoders", ["videos"])).await?;
    let colleague = client.simple_consumer(SimpleConsumerOptions::new("encoders", ["videos"])).await?;

    producer.send(Message::new("videos", "a long film")).await?;
    let short_lease = ReceiveOptions::default().invisible_duration(LEASE);
    for delivery in worker.receive(short_lease).await? {
        println!("received     {}, for 10 s", String::from_utf8_lossy(&delivery.body));
        // Renews the lease in the background until the delivery is settled or dropped, for at most an hour.
        worker.keep_lease(&delivery, Duration::from_secs(3600))?;

        let wait = ReceiveOptions::default().await_duration(Duration::from_secs(15));
        println!("elsewhere    {} messages in 15 s", colleague.receive(wait).await?.len());

        worker.ack(&delivery).await?;
        println!("acknowledged after 15 s");
    }

    client.close(CLOSE_DEADLINE).await;
    Ok(())
}
