//! Mixed load: messages of every type are sent, received and settled until the server is killed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rocketmq_thin::{
    Client, ClientOptions, Message, Producer, ProducerOptions, Receipt, RetryOptions, Transaction,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::ledger::{Kind, Ledger, Plan, Step};

/// The message groups and the lite topics.
pub(crate) const GROUPS: u32 = 4;
/// The longest pause of a producer between two messages, in ms.
const PACE: u64 = 8;
/// Delayed messages are due after this time at the latest, in ms.
const MAX_DELAY: u64 = 2_500;

/// The ledger, shared by all clients.
pub(crate) type SharedLedger = Arc<Mutex<Ledger>>;

/// The name of a message group or lite topic.
pub(crate) fn group_name(group: u32) -> String {
    format!("group-{group}")
}

/// A client whose requests are made once: a request without an answer may have been carried out.
pub(crate) async fn connect(address: &str) -> Result<Client> {
    let options = ClientOptions::new(address).retry(RetryOptions::default().max_attempts(1));
    Ok(Client::connect(options).await?)
}

/// Starts the producers. They run until they are aborted.
pub(crate) async fn produce(
    address: &str,
    ledger: &SharedLedger,
    random: &mut StdRng,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let client = connect(address).await?;
    let producer = client.producer(ProducerOptions::new(Kind::ALL.map(Kind::name))).await?;
    for kind in Kind::ALL {
        // A message group and a lite topic have one producer, so that their order is known.
        let groups = match kind {
            Kind::Fifo | Kind::Lite => vec![vec![0, 1], vec![2, 3]],
            _ => vec![Vec::new(), Vec::new()],
        };
        for groups in groups {
            let source = Source {
                kind,
                groups,
                producer: producer.clone(),
                ledger: ledger.clone(),
                random: StdRng::seed_from_u64(random.random()),
                _client: client.clone(),
            };
            tasks.spawn(source.run());
        }
    }
    Ok(())
}

/// A producer of one type.
struct Source {
    kind: Kind,
    groups: Vec<u32>,
    producer: Producer,
    ledger: SharedLedger,
    random: StdRng,
    _client: Client,
}

impl Source {
    async fn run(mut self) {
        loop {
            let pause = Duration::from_millis(self.random.random_range(0..=PACE));
            sleep(pause).await;
            self.send_one().await;
        }
    }

    async fn send_one(&mut self) {
        let random = &mut self.random;
        let length = match random.random_range(0..200) {
            0 => 600_000,
            1..10 => random.random_range(10_000..80_000),
            _ => random.random_range(20..2_000),
        };
        let due = (self.kind == Kind::Delay)
            .then(|| SystemTime::now() + Duration::from_millis(random.random_range(0..MAX_DELAY)));
        let group = (!self.groups.is_empty()).then(|| self.groups[random.random_range(0..self.groups.len())]);
        let plan = Plan { kind: self.kind, group, due: due.map(whole_milliseconds), length };
        let (number, body) = self.ledger.lock().plan(plan);
        let mut message = Message::new(self.kind.name(), body);
        match self.kind {
            Kind::Fifo => message = message.message_group(group_name(group.unwrap_or_default())),
            Kind::Lite => message = message.lite_topic(group_name(group.unwrap_or_default())),
            Kind::Priority => message = message.priority(random.random_range(0..8)),
            Kind::Normal | Kind::Delay | Kind::Transaction => message.deliver_at = due,
        }
        if self.kind == Kind::Transaction {
            return self.send_half(number, message).await;
        }
        let Ok(receipt) = self.producer.send(message).await else { return };
        self.ledger.lock().sent(number);
        if self.kind == Kind::Delay && self.random.random_bool(0.2) {
            self.recall(number, &receipt).await;
        }
    }

    async fn send_half(&mut self, number: usize, message: Message) {
        let Ok(transaction) = self.producer.begin() else { return };
        if transaction.send(message).await.is_err() {
            return;
        }
        self.ledger.lock().sent(number);
        match self.random.random_range(0..100) {
            0..60 => self.decide(number, &transaction, true).await,
            60..85 => self.decide(number, &transaction, false).await,
            // Nobody decides.
            _ => {}
        }
    }

    async fn decide(&self, number: usize, transaction: &Transaction, commit: bool) {
        self.ledger.lock().decide(number, commit, Step::Asked);
        let answer = if commit { transaction.commit().await } else { transaction.rollback().await };
        if answer.is_ok() {
            self.ledger.lock().decide(number, commit, Step::Answered);
        }
    }

    async fn recall(&self, number: usize, receipt: &Receipt) {
        if receipt.recall_handle.is_none() {
            return;
        }
        self.ledger.lock().recall(number, Step::Asked);
        match self.producer.recall(receipt).await {
            Ok(_) => self.ledger.lock().recall(number, Step::Answered),
            // It was too late.
            Err(error) if !error.maybe_delivered() && error.code().is_some() => {
                self.ledger.lock().recall_refused(number);
            }
            Err(_) => {}
        }
    }
}

/// Times on the wire may have whole milliseconds only.
fn whole_milliseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_millis(since.as_millis() as u64)
}
