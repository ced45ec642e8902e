//! Consumers of every type. While there is load they settle deliveries in all ways, and leave some to come again.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rocketmq_thin::{Client, Delivery, ErrorKind, ReceiveOptions, SimpleConsumer, SimpleConsumerOptions};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::ledger::{Kind, Received, Settlement};
use crate::load::{GROUPS, SharedLedger, connect, group_name};

/// How long a delivery is leased. What is left unsettled comes again afterwards.
pub(crate) const LEASE: Duration = Duration::from_secs(4);
/// How long a receive waits.
const WAIT: Duration = Duration::from_millis(200);
/// After a failure, and before a returned message comes again.
const PAUSE: Duration = Duration::from_millis(100);

/// What consumers do with deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// They acknowledge most, return some, forget some, and make some dead letters.
    Mixed,
    /// They acknowledge all.
    Diligent,
}

/// Starts consumers of every type and of the dead letters. They run until they are aborted.
pub(crate) async fn consume(
    (address, manner): (&str, Manner),
    ledger: &SharedLedger,
    random: &mut StdRng,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let client = connect(address).await?;
    for kind in Kind::ALL {
        for _ in 0..2 {
            let worker = Worker {
                kind,
                consumer: consumer(&client, kind).await?,
                ledger: ledger.clone(),
                manner,
                random: StdRng::seed_from_u64(random.random()),
                _client: client.clone(),
            };
            tasks.spawn(worker.run());
        }
    }
    Ok(())
}

/// Starts a consumer of the dead letters, which exist if there are any.
pub(crate) async fn read_dead_letters(
    address: &str,
    ledger: &SharedLedger,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let client = connect(address).await?;
    let topic = format!("%DLQ%{}", Kind::Normal.name());
    let options = SimpleConsumerOptions::new("dead-letters", [topic.as_str()]);
    let consumer = match client.simple_consumer(options).await {
        Err(error) if error.kind() == ErrorKind::TopicNotFound => return Ok(()),
        made => made?,
    };
    let ledger = ledger.clone();
    tasks.spawn(async move {
        let _client = client;
        loop {
            let Ok(deliveries) = consumer.receive(options_of_receive(32)).await else {
                sleep(PAUSE).await;
                continue;
            };
            for delivery in &deliveries {
                ledger.lock().received_dead_letter(&delivery.body);
            }
            consumer.ack_all(&deliveries).await;
        }
    });
    Ok(())
}

async fn consumer(client: &Client, kind: Kind) -> Result<SimpleConsumer> {
    if kind != Kind::Lite {
        let options = SimpleConsumerOptions::new(kind.name(), [kind.name()]);
        return Ok(client.simple_consumer(options).await?);
    }
    let consumer = client.simple_consumer(SimpleConsumerOptions::lite(kind.name(), kind.name())).await?;
    for group in 0..GROUPS {
        consumer.subscribe_lite(&group_name(group)).await?;
    }
    Ok(consumer)
}

fn options_of_receive(max: u32) -> ReceiveOptions {
    ReceiveOptions::default().max_messages(max).invisible_duration(LEASE).await_duration(WAIT)
}

struct Worker {
    kind: Kind,
    consumer: SimpleConsumer,
    ledger: SharedLedger,
    manner: Manner,
    random: StdRng,
    _client: Client,
}

impl Worker {
    async fn run(mut self) {
        loop {
            // A receive may get what an earlier one has asked for. With the same maximum it gets all of it: the messages of a
            // group that came together are seen together.
            let max = if self.is_ordered() { 16 } else { self.random.random_range(1..=32) };
            match self.consumer.receive(options_of_receive(max)).await {
                Ok(deliveries) => self.handle(deliveries).await,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn is_ordered(&self) -> bool {
        matches!(self.kind, Kind::Fifo | Kind::Lite)
    }

    async fn handle(&mut self, deliveries: Vec<Delivery>) {
        let mut known = Vec::with_capacity(deliveries.len());
        {
            let now = SystemTime::now();
            let mut ledger = self.ledger.lock();
            let mut before = Vec::new();
            for delivery in deliveries {
                let received = Received { bytes: &delivery.body, attempt: delivery.attempt, now };
                let number = ledger.received(received, &before);
                before.extend(number);
                known.extend(number.map(|number| (number, delivery)));
            }
        }
        // The messages of a group are settled together, so that none of them overtakes another.
        let together = self.random.random_range(0..100);
        let mut acknowledged = Vec::new();
        for (number, delivery) in known {
            let choice = if self.is_ordered() { together } else { self.random.random_range(0..100) };
            match (self.manner, self.kind, choice) {
                (Manner::Diligent, ..) | (_, _, 0..80) => acknowledged.push((number, delivery)),
                (_, Kind::Normal, 80..87) => self.make_dead_letter(number, &delivery).await,
                // A lite message is returned without counting an attempt.
                (_, Kind::Normal | Kind::Fifo | Kind::Delay, 87..94) => {
                    // Without an answer its lease ends.
                    let _ = self.consumer.nack(&delivery, PAUSE).await;
                }
                // Its lease ends.
                _ => {}
            }
        }
        self.acknowledge(acknowledged).await;
    }

    async fn acknowledge(&self, entries: Vec<(usize, Delivery)>) {
        let (numbers, deliveries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let asked: Vec<_> = {
            let mut ledger = self.ledger.lock();
            numbers.iter().map(|number| ledger.settle(*number, Settlement::Acknowledged)).collect()
        };
        let answers = self.consumer.ack_all(&deliveries).await;
        let mut ledger = self.ledger.lock();
        for ((number, delivery), answer) in numbers.into_iter().zip(asked).zip(answers) {
            match answer {
                Ok(()) => ledger.settled(number),
                Err(error) if error.kind() == ErrorKind::InvalidReceipt => {
                    ledger.settle_refused(number, delivery);
                }
                Err(_) => {}
            }
        }
    }

    async fn make_dead_letter(&self, number: usize, delivery: &Delivery) {
        let asked = self.ledger.lock().settle(number, Settlement::DeadLetter);
        let answer = self.consumer.dead_letter(delivery).await;
        let mut ledger = self.ledger.lock();
        match answer {
            Ok(()) => ledger.settled(number),
            Err(error) if error.kind() == ErrorKind::InvalidReceipt => ledger.settle_refused(number, asked),
            Err(_) => {}
        }
    }
}
