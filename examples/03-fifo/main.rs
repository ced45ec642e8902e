//! Handles the messages of one message group in the order in which they were sent, and different groups concurrently.
//!
//!     rocketmq-thin-proxy topic create parcels --type fifo
//!     rocketmq-thin-proxy group create tracking --fifo
//!     cargo run --bin example-03-fifo HOST:PORT
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{collections::BTreeMap, env, error::Error, time::Duration};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, ConsumeResult, Message, ProducerOptions, PushConsumerOptions,
};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new(["parcels"])).await?;
    let consumer = client.push_consumer(PushConsumerOptions::new("tracking", ["parcels"])).await?;

    let (handled, mut results) = mpsc::unbounded_channel();
    consumer.start(move |delivery| {
        let handled = handled.clone();
        async move {
            if delivery.body == "packed" && delivery.attempt == 1 {
                // The next message of this parcel is not delivered before this message is acknowledged.
                return ConsumeResult::RetryAfter(Duration::from_secs(1));
            }
            let parcel = delivery.message_group.unwrap_or_default();
            let _ = handled.send((parcel, String::from_utf8_lossy(&delivery.body).into_owned()));
            ConsumeResult::Ack
        }
    })?;

    for step in ["packed", "shipped", "delivered"] {
        for parcel in ["parcel 1", "parcel 2"] {
            producer.send(Message::new("parcels", step).message_group(parcel)).await?;
        }
    }

    let mut steps: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while steps.values().map(Vec::len).sum::<usize>() < 6 {
        let Some((parcel, step)) = results.recv().await else { break };
        steps.entry(parcel).or_default().push(step);
    }
    for (parcel, steps) in steps {
        println!("{parcel}     {}", steps.join(", "));
    }

    client.close(CLOSE_DEADLINE).await;
    Ok(())
}
