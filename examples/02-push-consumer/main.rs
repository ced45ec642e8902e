//! Handles messages as they arrive, several at a time. One fails at its first attempt, and is delivered again.
//!
//!     cargo run --bin example-02-push-consumer HOST:PORT
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{env, error::Error, time::Duration};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, ConsumeResult, Message, ProducerOptions, PushConsumerOptions,
};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new(["invoices"])).await?;
    let consumer =
        client.push_consumer(PushConsumerOptions::new("accounting", ["invoices"]).concurrency(16)).await?;

    let (handled, mut results) = mpsc::unbounded_channel();
    consumer.start(move |delivery| {
        let handled = handled.clone();
        async move {
            let invoice = String::from_utf8_lossy(&delivery.body).into_owned();
            if invoice == "invoice 2" && delivery.attempt == 1 {
                // Delivered again after 1 s. Without a time, the retry policy of the group decides when.
                return ConsumeResult::RetryAfter(Duration::from_secs(1));
            }
            let _ = handled.send((invoice, delivery.attempt));
            ConsumeResult::Ack
        }
    })?;

    for number in 1..=3 {
        producer.send(Message::new("invoices", format!("invoice {number}"))).await?;
    }

    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(results.recv().await);
    }
    seen.sort();
    for (invoice, attempt) in seen {
        println!("handled      {invoice}, attempt {attempt}");
    }

    // Waits for running handlers, settles their messages, and gives back messages that were not handled.
    client.close(CLOSE_DEADLINE).await;
    Ok(())
}
