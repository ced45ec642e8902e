//! Receives only some messages of a topic: by their tags, or by an SQL expression on their properties.
//!
//!     cargo run --bin example-06-filters HOST:PORT
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{env, error::Error};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Filter, Message, ProducerOptions, ReceiveOptions, SimpleConsumer,
    SimpleConsumerOptions, Subscription,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new(["orders"])).await?;

    let tagged = Subscription::new("orders", Filter::tags(["paid", "refunded"]));
    let tagged = client.simple_consumer(SimpleConsumerOptions::new("treasury", [tagged])).await?;
    let expensive = Subscription::new("orders", Filter::sql("amount > 100 AND region = 'eu'"));
    let expensive = client.simple_consumer(SimpleConsumerOptions::new("fraud-eu", [expensive])).await?;

    for (order, tag, amount, region) in [
        ("order 1", "paid", "250", "eu"),
        ("order 2", "new", "120", "eu"),
        ("order 3", "paid", "15", "us"),
        ("order 4", "new", "900", "us"),
    ] {
        let message = Message::new("orders", order).tag(tag);
        producer.send(message.property("amount", amount).property("region", region)).await?;
    }

    println!("by tag       {}", receive_two(&tagged).await?);
    println!("by SQL       {}", receive_two(&expensive).await?);

    client.close(CLOSE_DEADLINE).await;
    Ok(())
}

/// Waits for two messages and acknowledges them.
async fn receive_two(consumer: &SimpleConsumer) -> Result<String, Box<dyn Error>> {
    let mut orders = Vec::new();
    while orders.len() < 2 {
        for delivery in consumer.receive(ReceiveOptions::default()).await? {
            orders.push(String::from_utf8_lossy(&delivery.body).into_owned());
            consumer.ack(&delivery).await?;
        }
    }
    orders.sort();
    Ok(orders.join(", "))
}
