//! Heartbeats, and what ends a client's part in a group.

use std::sync::Arc;

use super::heartbeat::{Consumer, Heartbeat, SubscriptionData};
use super::request::{Answered, Refusal, Request, success};
use super::session::{ClientInfo, Registered};
use super::{Shared, consume};
use crate::context::{Context, WireProtocol};
use crate::processor::{CheckFilterCommand, ClassicClientCommand, ClassicGroup, is_blank};
use crate::remoting::{Command, response};
use serde::Deserialize;

/// The group of the producer that each consumer of Apache's client has inside.
const INNER_PRODUCER: &str = "CLIENT_INNER_PRODUCER";
/// Bytes of a heartbeat that are kept of a client.
const MAX_HEARTBEAT: usize = 1 << 20;

/// HEART_BEAT: registers the producers and consumers of a client.
pub(super) async fn heartbeat(request: Request) -> Answered {
    if request.command.body.len() > MAX_HEARTBEAT {
        let text = format!("the heartbeat is longer than {MAX_HEARTBEAT} bytes");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    }
    let heartbeat: Heartbeat = request.json()?;
    if is_blank(&heartbeat.client_id) {
        return Err(Refusal::new(response::SYSTEM_ERROR, "clientID is blank"));
    }
    let producers = heartbeat.producers.into_iter().map(|producer| producer.group_name);
    let now = Registered {
        client: ClientInfo {
            id: heartbeat.client_id.into(),
            language: request.command.language,
            version: request.command.version,
        },
        producers: producers.filter(|group| group != INNER_PRODUCER).collect(),
        consumers: heartbeat
            .consumers
            .into_iter()
            .map(|consumer| (consumer.group_name.clone(), Arc::new(Consumer::from(consumer))))
            .collect(),
    };
    register(&request, &now).await.map_err(|error| Refusal { code: response::SYSTEM_ERROR, ..error })?;
    let left = request.shared.members.register(&request.session, now);
    for group in left {
        consume::left(&request.shared, &request.session, &group);
    }
    Ok(Command { remark: Some(String::new()), ..success() })
}

async fn register(request: &Request, now: &Registered) -> Result<(), Refusal> {
    let consumers = now.consumers.iter().map(|(group, consumer)| ClassicGroup {
        name: group.clone(),
        topics: consumer.subscriptions.keys().cloned().collect(),
    });
    let command = ClassicClientCommand {
        producers: now.producers.clone(),
        consumers: consumers.collect(),
        bytes: request.command.body.len(),
        stream: request.session.pushes().clone(),
    };
    let context = request.context_of(&now.client.id);
    request.shared.processor.run(&context, command).await.map_err(Refusal::from)
}

/// UNREGISTER_CLIENT: ends a client's part in a producer group and a consumer group.
pub(super) async fn unregister(request: Request) -> Answered {
    let client_id = request.text("clientID")?;
    let mut now = request.session.registered();
    if *now.client.id == *client_id {
        let given = |key| request.command.text(key).filter(|group| !group.is_empty());
        if let Some(group) = given("producerGroup") {
            now.producers.remove(group);
        }
        if let Some(group) = given("consumerGroup") {
            now.consumers.remove(group);
        }
        if now.producers.is_empty() && now.consumers.is_empty() {
            request.shared.processor.client_gone(&request.context(), request.session.pushes());
        } else {
            register(&request, &now).await?;
        }
        for group in request.shared.members.register(&request.session, now) {
            consume::left(&request.shared, &request.session, &group);
        }
    }
    Ok(success())
}

/// The body of CHECK_CLIENT_CONFIG.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckedConfig {
    #[serde(default)]
    group: String,
    subscription_data: Option<SubscriptionData>,
}

/// CHECK_CLIENT_CONFIG: checks the filter of a subscription.
pub(super) async fn check(request: Request) -> Answered {
    let config: CheckedConfig = request.json()?;
    if let Some(subscription) = config.subscription_data {
        if let Some(kind) = subscription.unknown_kind() {
            let text = format!("{kind:.64} is no kind of filter");
            return Err(Refusal::new(response::SUBSCRIPTION_PARSE_FAILED, text));
        }
        let expression = subscription.expression();
        let check = CheckFilterCommand { group: config.group, topic: subscription.topic, expression };
        request.run(check).await?;
    }
    Ok(success())
}

impl Shared {
    /// Forgets a connection's client.
    pub(super) fn leave(self: &Arc<Self>, session: &Arc<super::session::Session>) {
        let client = session.client();
        for group in self.members.leave(session) {
            consume::left(self, session, &group);
        }
        if !client.id.is_empty() {
            let context = Context::of_connection(WireProtocol::Remoting, &client.id, session.peer());
            self.processor.client_gone(&context, session.pushes());
        }
    }
}
