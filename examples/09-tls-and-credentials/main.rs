//! Connects with TLS to a server with a private certificate authority, and signs requests with an access key.
//!
//!     cargo run --bin example-09-tls-and-credentials HOST:PORT ca.pem
#![allow(clippy::print_stdout, reason = "the program prints what happens")]

use std::{env, error::Error, fs};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Credentials, ErrorKind, Message, ProducerOptions, ReceiveOptions,
    SimpleConsumerOptions, Tls,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let ca = fs::read(arguments.next().unwrap_or_else(|| "ca.pem".to_owned()))?;

    // The certificate authorities of the system do not include this authority.
    let system_authorities = ClientOptions::new(endpoint.clone()).tls(Tls::system_roots());
    match Client::connect(system_authorities).await {
        Err(error) if error.kind() == ErrorKind::Tls => {
            println!("refused      the certificate is not trusted")
        }
        other => println!("unexpected   {other:?}"),
    }

    let options = ClientOptions::new(endpoint)
        .tls(Tls::ca(ca))
        .credentials(Credentials::new("an-access-key", "its secret key"));
    let client = Client::connect(options).await?;
    let producer = client.producer(ProducerOptions::new(["secrets"])).await?;
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("keepers", ["secrets"])).await?;

    producer.send(Message::new("secrets", "hello")).await?;
    println!("sent         hello");
    for delivery in consumer.receive(ReceiveOptions::default()).await? {
        println!("received     {}", String::from_utf8_lossy(&delivery.body));
        consumer.ack(&delivery).await?;
    }

    client.close(CLOSE_DEADLINE).await;
    Ok(())
}
