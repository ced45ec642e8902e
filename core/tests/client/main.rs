//! Tests of the client against a scripted server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod brokers;
mod export;
mod gateway;
mod health;
mod life;
mod lite;
mod log;
mod message_types;
mod network;
mod observe;
mod ordered_group;
mod push;
mod push_failed;
mod push_put_back;
mod push_settled;
mod push_subscribe;
mod receive;
mod relay;
mod security;
mod send;
mod server;
mod settle;
mod startup;
mod stream;
mod subscribe;
mod transaction;

use rocketmq_thin::{Client, ClientOptions};
use tokio::net::TcpListener;

use self::server::TestServer;

/// A client of one test server.
async fn client(server: &TestServer) -> Client {
    Client::connect(ClientOptions::new(server.endpoints())).await.unwrap()
}

/// An address where nothing listens.
async fn unused_address() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}
