//! Tests of the client against a scripted server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gateway;
mod life;
mod message_types;
mod network;
mod push;
mod receive;
mod relay;
mod send;
mod server;
mod transaction;

use rocketmq_thin::{Client, ClientOptions};

use self::server::TestServer;

/// A client of one test server.
async fn client(server: &TestServer) -> Client {
    Client::connect(ClientOptions::new(server.endpoints())).await.unwrap()
}
