//! The health of a client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use rocketmq_thin::{Client, ClientOptions, ErrorKind, ProducerOptions, Startup, Status, StatusChanges};
use tonic::codegen::http::StatusCode;

use crate::{
    client,
    server::{Script, TestServer},
    unused_address,
};

async fn wait_for(changes: &mut StatusChanges, status: Status) -> rocketmq_thin::Health {
    loop {
        let health = changes.next().await.unwrap();
        if health.status == status {
            return health;
        }
    }
}

#[tokio::test]
async fn the_loss_and_the_return_of_a_server_are_noticed() {
    let server = TestServer::start(Script::default());
    let client = client(&server).await;
    let _producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let mut changes = client.status_changes();
    let connected = changes.next().await.unwrap();
    assert_eq!((connected.status, connected.connections), (Status::Connected, 1));
    assert!(connected.error.is_none());

    let endpoint = server.endpoints();
    let address = server.kill();
    let lost = wait_for(&mut changes, Status::Lost).await;
    assert_eq!((lost.connections, lost.endpoints.len()), (0, 1));
    assert_eq!(lost.endpoints[0].endpoint, endpoint);
    assert_eq!(lost.error.unwrap().endpoint(), Some(endpoint.as_str()));

    let _server = TestServer::at(address, Script::default(), None);
    let again = wait_for(&mut changes, Status::Connected).await;
    assert!(again.error.is_none());
    assert_eq!(client.health().status, Status::Connected);
}

#[tokio::test]
async fn a_server_that_refuses_the_client_is_a_degraded_connection() {
    let refuse = Arc::new(AtomicBool::new(true));
    let refusing = refuse.clone();
    let gateway = move |rpc: &str| {
        (rpc == "Telemetry" && refusing.load(Ordering::SeqCst)).then_some(StatusCode::UNAUTHORIZED)
    };
    let server = TestServer::start(Script { gateway: Some(Arc::new(gateway)), ..Script::default() });
    let client =
        Client::connect(ClientOptions::new(server.endpoints()).startup(Startup::Lazy)).await.unwrap();
    let _producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let mut changes = client.status_changes();
    let degraded = wait_for(&mut changes, Status::Degraded).await;
    assert_eq!(degraded.error.unwrap().kind(), ErrorKind::Unauthenticated);
    refuse.store(false, Ordering::SeqCst);
    wait_for(&mut changes, Status::Connected).await;
}

#[tokio::test]
async fn the_health_leaves_out_unused_addresses() {
    let server = TestServer::start(Script::default());
    let endpoints = format!("{},{}", unused_address().await, server.endpoints());
    let client = Client::connect(ClientOptions::new(endpoints)).await.unwrap();
    let _producer = client.producer(ProducerOptions::new(["t"])).await.unwrap();
    let health = client.health();
    assert_eq!(health.status, Status::Connected, "{health:?}");
    assert_eq!(health.endpoints.len(), 1);
}

#[tokio::test]
async fn the_changes_end_with_the_client() {
    let server = TestServer::start(Script::default());
    let closed = client(&server).await;
    let mut changes = closed.status_changes();
    assert_eq!(changes.next().await.unwrap().status, Status::Connected);
    closed.close(Duration::from_secs(5)).await;
    assert_eq!(changes.next().await.unwrap().status, Status::Closed);
    assert!(changes.next().await.is_none());
    assert_eq!(closed.health().status, Status::Closed);

    let dropped = client(&server).await;
    let changes = dropped.status_changes().into_stream();
    drop(dropped);
    let statuses: Vec<_> = changes.map(|health| health.status).collect().await;
    assert_eq!(statuses, [Status::Closed]);
}
