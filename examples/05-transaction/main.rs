//! Delivers a message only if a local change succeeded, even if the program does not decide about the transaction.
//!
//!     rocketmq-thin-proxy topic create payments --type transaction
//!     cargo run --bin example-05-transaction HOST:PORT
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{env, error::Error};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Decision, Message, OrphanCheck, ProducerOptions, ReceiveOptions,
    SimpleConsumer, SimpleConsumerOptions,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new(["payments"])).await?;
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("ledger", ["payments"])).await?;

    // The server asks about transactions without a decision. A real program reads its database.
    producer.check_orphans(async |check: OrphanCheck| {
        println!("asked        {}", String::from_utf8_lossy(&check.message.body));
        Decision::Commit
    });

    let transaction = producer.begin()?;
    transaction.send(Message::new("payments", "payment 1")).await?;
    transaction.commit().await?;
    println!("committed    payment 1");

    let transaction = producer.begin()?;
    transaction.send(Message::new("payments", "payment 2")).await?;
    transaction.rollback().await?;
    println!("rolled back  payment 2");

    receive_one(&consumer).await?;

    // The program forgets to decide about this transaction.
    producer.begin()?.send(Message::new("payments", "payment 3")).await?;
    println!("forgot       payment 3");

    receive_one(&consumer).await?;

    client.close(CLOSE_DEADLINE).await;
    Ok(())
}

/// Waits for one message and acknowledges it.
async fn receive_one(consumer: &SimpleConsumer) -> Result<(), Box<dyn Error>> {
    loop {
        let received = consumer.receive(ReceiveOptions::default().max_messages(1)).await?;
        if let Some(delivery) = received.first() {
            println!("received     {}", String::from_utf8_lossy(&delivery.body));
            consumer.ack(delivery).await?;
            return Ok(());
        }
    }
}
