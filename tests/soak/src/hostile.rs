//! The hostile peers. Each goes on until it is stopped, whatever the proxy answers.

mod other_protocols;

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

/// How much an attack sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As much as the proxy should bear for hours.
    Full,
    /// A twentieth, and shorter waits.
    Small,
}

/// What a peer does once with a connection or several.
const ATTACKS: [(&str, Attack); 14] = [
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
    ("streams that hold memory", Attack::IdleStreams),
    ("classic requests", Attack::Classic),
    ("HTTP requests", Attack::Http),
];
/// A pause between two attacks of one kind: this machine has to serve both sides.
const PAUSE: Duration = Duration::from_millis(100);

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
    IdleStreams,
    Classic,
    Http,
}

/// All hostile peers.
pub struct Hostile {
    tasks: Vec<JoinHandle<()>>,
    counts: Vec<(&'static str, Arc<AtomicU64>)>,
}

/// How often each attack was made.
pub struct Attacks(Vec<(&'static str, u64)>);

/// Makes each attack so many times.
pub async fn attack(address: &str, scale: Scale, times: usize) {
    join_all(ATTACKS.map(|(_, attack)| async move {
        for _ in 0..times {
            // A refusal is what an attack is meant to meet.
            let _ = Run { address, scale }.make(attack).await;
        }
    }))
    .await;
}

impl Hostile {
    /// Begins all attacks.
    #[must_use]
    pub fn start(address: &str) -> Self {
        let (mut tasks, mut counts) = (Vec::new(), Vec::new());
        for (name, attack) in ATTACKS {
            let (address, count) = (address.to_owned(), Arc::new(AtomicU64::new(0)));
            counts.push((name, count.clone()));
            tasks.push(tokio::spawn(async move {
                loop {
                    let _ = Run { address: &address, scale: Scale::Full }.make(attack).await;
                    count.fetch_add(1, Ordering::Relaxed);
                    sleep(PAUSE).await;
                }
            }));
        }
        Self { tasks, counts }
    }

    /// Ends all attacks, and closes their connections.
    pub async fn stop(self) -> Attacks {
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

impl Scale {
    fn of(self, count: usize) -> usize {
        match self {
            Self::Full => count,
            Self::Small => count.div_ceil(20),
        }
    }

    /// How long to wait for an answer.
    fn patience(self) -> Duration {
        match self {
            Self::Full => Duration::from_secs(5),
            Self::Small => Duration::from_millis(250),
        }
    }
}

/// One attack on a proxy.
struct Run<'a> {
    address: &'a str,
    scale: Scale,
}

impl Run<'_> {
    async fn make(&self, attack: Attack) -> Result<()> {
        match attack {
            Attack::Probe => self.probe().await,
            Attack::HalfOpen => self.half_open().await,
            Attack::Stop => self.stop().await,
            Attack::Bomb => self.ask("SendMessage", &gzip(&vec![0; self.scale.of(64 << 20)])?, true).await,
            Attack::Giant => {
                let body = vec![7; self.scale.of(5 << 20)].into();
                let messages =
                    vec![pb::Message { topic: resource("hostile"), body, ..Default::default() }; 3];
                self.ask("SendMessage", &pb::SendMessageRequest { messages }.encode_to_vec(), false).await
            }
            Attack::Tiny => self.tiny().await,
            Attack::Fields => self.ask("SendMessage", &[10, 0].repeat(self.scale.of(1 << 20)), false).await,
            Attack::Filter => self.filter().await,
            Attack::SlowRead => self.slow_read().await,
            Attack::Reset => self.reset().await,
            Attack::Settings => self.settings().await,
            Attack::IdleStreams => self.idle_streams().await,
            Attack::Classic => self.classic().await,
            Attack::Http => self.http().await,
        }
    }

    async fn ask(&self, method: &str, request: &[u8], gzip: bool) -> Result<()> {
        let mut peer = Peer::connect(self.address).await?;
        let mut call = peer.call(method, gzip).await?;
        call.send(request, gzip)?;
        timeout(self.scale.patience(), call.finish()).await?
    }

    async fn probe(&self) -> Result<()> {
        for greeting in [
            &b""[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\0\x05hello",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            b"\0\0\0\0",
        ] {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(greeting).await?;
            if !greeting.is_empty() {
                let _ = timeout(self.scale.patience(), stream.read(&mut [0; 64])).await;
            }
        }
        Ok(())
    }

    async fn half_open(&self) -> Result<()> {
        let mut streams = Vec::new();
        for number in 0..self.scale.of(200) {
            let mut stream = TcpStream::connect(self.address).await?;
            let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
            stream.write_all([&b""[..], b"PRI ", preface][number % 3]).await?;
            streams.push(stream);
        }
        sleep(self.scale.patience()).await;
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        let mut held = Vec::new();
        for _ in 0..self.scale.of(20) {
            let mut peer = Peer::connect(self.address).await?;
            let mut call = peer.call("SendMessage", false).await?;
            call.send_part(60 << 20, 8 << 20)?;
            held.push((peer, call));
        }
        sleep(self.scale.patience()).await;
        Ok(())
    }

    async fn tiny(&self) -> Result<()> {
        let mut peer = Peer::connect(self.address).await?;
        let mut calls = Vec::new();
        for _ in 0..self.scale.of(500) {
            let mut call = peer.call("Heartbeat", false).await?;
            call.send(&[], false)?;
            calls.push(call.finish());
        }
        timeout(self.scale.patience(), join_all(calls)).await?;
        Ok(())
    }

    async fn filter(&self) -> Result<()> {
        let long = vec!["TRUE"; 8000].join(" OR ");
        let doubling = format!("n {}", "BETWEEN 1 AND 2 ".repeat(30));
        let nested = format!("{}TRUE{}", "(".repeat(10_000), ")".repeat(10_000));
        for expression in [long, doubling, nested] {
            let filter = pb::FilterExpression { r#type: pb::FilterType::Sql.into(), expression };
            let receive =
                pb::ReceiveMessageRequest { filter_expression: Some(filter), ..receive("honest", "filters") };
            let mut peer = Peer::connect(self.address).await?;
            let mut call = peer.call("ReceiveMessage", false).await?;
            call.send(&receive.encode_to_vec(), false)?;
            let _ = timeout(Duration::from_millis(200), call.finish()).await;
        }
        Ok(())
    }

    async fn slow_read(&self) -> Result<()> {
        let system_properties =
            Some(pb::SystemProperties { message_id: "m".to_owned(), ..Default::default() });
        let body = vec![7; 256 << 10].into();
        let message = pb::Message { topic: resource("slow"), system_properties, body, ..Default::default() };
        let send = pb::SendMessageRequest { messages: vec![message] };
        self.ask("SendMessage", &send.encode_to_vec(), false).await?;
        let mut peer = Peer::with_window(self.address, 1).await?;
        let mut calls = Vec::new();
        for number in 0..self.scale.of(20) {
            let mut call = peer.call("ReceiveMessage", false).await?;
            call.send(&receive("slow", &format!("slow-{number}")).encode_to_vec(), false)?;
            calls.push(call);
        }
        sleep(self.scale.patience()).await;
        Ok(())
    }

    async fn reset(&self) -> Result<()> {
        let mut peer = Peer::connect(self.address).await?;
        for _ in 0..self.scale.of(2000) {
            peer.call("ReceiveMessage", false).await?.reset();
        }
        Ok(())
    }

    async fn settings(&self) -> Result<()> {
        let topic = pb::Resource { name: "hostile".to_owned(), ..Default::default() };
        let topics = vec![topic; self.scale.of(5_000)];
        let publishing = pb::settings::PubSub::Publishing(pb::Publishing { topics, ..Default::default() });
        let settings = pb::Settings { pub_sub: Some(publishing), ..Default::default() };
        let command = Some(pb::telemetry_command::Command::Settings(settings));
        self.ask("Telemetry", &pb::TelemetryCommand { status: None, command }.encode_to_vec(), false).await
    }

    /// Telemetry streams that say nothing after a large message.
    async fn idle_streams(&self) -> Result<()> {
        let status = Some(pb::Status { code: 0, message: "x".repeat(self.scale.of(3 << 20)) });
        let message = gzip(&pb::TelemetryCommand { status, command: None }.encode_to_vec())?;
        let mut peer = Peer::connect(self.address).await?;
        let mut calls = Vec::new();
        for _ in 0..self.scale.of(40) {
            let mut call = peer.call("Telemetry", true).await?;
            call.send_first(&message, true)?;
            calls.push(call);
        }
        sleep(self.scale.patience()).await;
        Ok(())
    }
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn resource(name: &str) -> Option<pb::Resource> {
    Some(pb::Resource { name: name.to_owned(), ..Default::default() })
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
