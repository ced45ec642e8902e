//! The hostile peers. Each goes on until it is stopped, whatever the proxy answers.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;
use prost::Message as _;
use rocketmq_thin_proto::v2 as pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::peer::Peer;

/// What a peer does once with a connection or several.
const ATTACKS: [(&str, Attack); 11] = [
    ("probes", Attack::Probe),
    ("half-open connections", Attack::HalfOpen),
    ("stopped requests", Attack::Stop),
    ("gzip bombs", Attack::Bomb),
    ("giant requests", Attack::Giant),
    ("tiny requests", Attack::Tiny),
    ("requests of tiny fields", Attack::Fields),
    ("filters", Attack::Filter),
    ("slow readers", Attack::SlowRead),
    ("resets", Attack::Reset),
    ("large settings", Attack::Settings),
];
/// A pause between two attacks of one kind: this machine has to serve both sides.
const PAUSE: Duration = Duration::from_millis(100);
/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
enum Attack {
    Probe,
    HalfOpen,
    Stop,
    Bomb,
    Giant,
    Tiny,
    Fields,
    Filter,
    SlowRead,
    Reset,
    Settings,
}

/// All hostile peers.
pub(crate) struct Hostile {
    tasks: Vec<JoinHandle<()>>,
    counts: Vec<(&'static str, Arc<AtomicU64>)>,
}

/// How often each attack was made.
pub(crate) struct Attacks(Vec<(&'static str, u64)>);

impl Hostile {
    pub(crate) fn start(address: &str) -> Self {
        let (mut tasks, mut counts) = (Vec::new(), Vec::new());
        for (name, attack) in ATTACKS {
            let (address, count) = (address.to_owned(), Arc::new(AtomicU64::new(0)));
            counts.push((name, count.clone()));
            tasks.push(tokio::spawn(async move {
                loop {
                    // A refusal is what an attack is meant to meet.
                    let _ = attack.run(&address).await;
                    count.fetch_add(1, Ordering::Relaxed);
                    sleep(PAUSE).await;
                }
            }));
        }
        Self { tasks, counts }
    }

    pub(crate) async fn stop(self) -> Attacks {
        for task in &self.tasks {
            task.abort();
        }
        join_all(self.tasks).await;
        let counted = |(name, count): (&'static str, Arc<AtomicU64>)| (name, count.load(Ordering::Relaxed));
        Attacks(self.counts.into_iter().map(counted).collect())
    }
}

impl fmt::Display for Attacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attacks: Vec<_> = self.0.iter().map(|(name, count)| format!("{name} x{count}")).collect();
        f.write_str(&attacks.join(", "))
    }
}

impl Attack {
    async fn run(self, address: &str) -> Result<()> {
        match self {
            Self::Probe => probe(address).await,
            Self::HalfOpen => half_open(address).await,
            Self::Stop => stop(address).await,
            Self::Bomb => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&vec![0; 64 << 20])?;
                ask(address, "SendMessage", &encoder.finish()?, true).await
            }
            Self::Giant => {
                let body = vec![7; 5 << 20].into();
                let messages =
                    vec![pb::Message { topic: resource("hostile"), body, ..Default::default() }; 3];
                ask(address, "SendMessage", &pb::SendMessageRequest { messages }.encode_to_vec(), false).await
            }
            Self::Tiny => tiny(address).await,
            Self::Fields => ask(address, "SendMessage", &[10, 0].repeat(1 << 20), false).await,
            Self::Filter => filter(address).await,
            Self::SlowRead => slow_read(address).await,
            Self::Reset => reset(address).await,
            Self::Settings => settings(address).await,
        }
    }
}

fn resource(name: &str) -> Option<pb::Resource> {
    Some(pb::Resource { name: name.to_owned(), ..Default::default() })
}

async fn ask(address: &str, method: &str, request: &[u8], gzip: bool) -> Result<()> {
    let mut peer = Peer::connect(address).await?;
    let mut call = peer.call(method, gzip).await?;
    call.send(request, gzip)?;
    timeout(PATIENCE, call.finish()).await?
}

async fn probe(address: &str) -> Result<()> {
    for greeting in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\0\x05hello",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"\0\0\0\0",
    ] {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(greeting).await?;
        if !greeting.is_empty() {
            let _ = timeout(PATIENCE, stream.read(&mut [0; 64])).await;
        }
    }
    Ok(())
}

async fn half_open(address: &str) -> Result<()> {
    let mut streams = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(address).await?;
        let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
        stream.write_all([&b""[..], b"PRI ", preface][number % 3]).await?;
        streams.push(stream);
    }
    sleep(PATIENCE).await;
    Ok(())
}

async fn stop(address: &str) -> Result<()> {
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut peer = Peer::connect(address).await?;
        let mut call = peer.call("SendMessage", false).await?;
        call.send_part(60 << 20, 8 << 20)?;
        held.push((peer, call));
    }
    sleep(PATIENCE).await;
    Ok(())
}

async fn tiny(address: &str) -> Result<()> {
    let mut peer = Peer::connect(address).await?;
    let mut calls = Vec::new();
    for _ in 0..500 {
        let mut call = peer.call("Heartbeat", false).await?;
        call.send(&[], false)?;
        calls.push(call.finish());
    }
    timeout(PATIENCE, join_all(calls)).await?;
    Ok(())
}

async fn filter(address: &str) -> Result<()> {
    let long = vec!["TRUE"; 8000].join(" OR ");
    let doubling = format!("n {}", "BETWEEN 1 AND 2 ".repeat(30));
    let nested = format!("{}TRUE{}", "(".repeat(10_000), ")".repeat(10_000));
    for expression in [long, doubling, nested] {
        let filter = pb::FilterExpression { r#type: pb::FilterType::Sql.into(), expression };
        let receive =
            pb::ReceiveMessageRequest { filter_expression: Some(filter), ..receive("honest", "filters") };
        let mut peer = Peer::connect(address).await?;
        let mut call = peer.call("ReceiveMessage", false).await?;
        call.send(&receive.encode_to_vec(), false)?;
        let _ = timeout(Duration::from_millis(200), call.finish()).await;
    }
    Ok(())
}

fn receive(topic: &str, group: &str) -> pb::ReceiveMessageRequest {
    pb::ReceiveMessageRequest {
        group: resource(group),
        message_queue: Some(pb::MessageQueue { topic: resource(topic), ..Default::default() }),
        batch_size: 32,
        invisible_duration: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..Default::default()
    }
}

async fn slow_read(address: &str) -> Result<()> {
    let system_properties = Some(pb::SystemProperties { message_id: "m".to_owned(), ..Default::default() });
    let body = vec![7; 256 << 10].into();
    let message = pb::Message { topic: resource("slow"), system_properties, body, ..Default::default() };
    ask(address, "SendMessage", &pb::SendMessageRequest { messages: vec![message] }.encode_to_vec(), false)
        .await?;
    let mut peer = Peer::with_window(address, 1).await?;
    let mut calls = Vec::new();
    for number in 0..20 {
        let mut call = peer.call("ReceiveMessage", false).await?;
        call.send(&receive("slow", &format!("slow-{number}")).encode_to_vec(), false)?;
        calls.push(call);
    }
    sleep(PATIENCE).await;
    Ok(())
}

async fn reset(address: &str) -> Result<()> {
    let mut peer = Peer::connect(address).await?;
    for _ in 0..2000 {
        peer.call("ReceiveMessage", false).await?.reset();
    }
    Ok(())
}

async fn settings(address: &str) -> Result<()> {
    let topics = vec![pb::Resource { name: "hostile".to_owned(), ..Default::default() }; 5_000];
    let publishing = pb::settings::PubSub::Publishing(pb::Publishing { topics, ..Default::default() });
    let settings = pb::Settings { pub_sub: Some(publishing), ..Default::default() };
    let command = Some(pb::telemetry_command::Command::Settings(settings));
    ask(address, "Telemetry", &pb::TelemetryCommand { status: None, command }.encode_to_vec(), false).await
}
