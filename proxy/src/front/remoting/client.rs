//! Registers clients with their groups by their heartbeats, and removes them from their groups.

use std::sync::Arc;

use super::answer::{Answered, Refusal, success};
use super::client_connection::{ClientInfo, Registration};
use super::consume;
use super::heartbeat::{Consumer, Heartbeat, SubscriptionData};
use super::request::Request;
use super::shared::Shared;
use crate::context::{Context, WireProtocol};
use crate::layer::OperationKind;
use crate::processor::{CheckFilterCommand, ClassicClientCommand, ClassicGroup, is_blank};
use crate::remoting::{RemotingCommand, response};
use serde::Deserialize;

/// The producer group that every consumer of Apache's client uses internally.
const INTERNAL_PRODUCER: &str = "CLIENT_INNER_PRODUCER";
/// The longest body of a heartbeat in bytes. It stays in memory while the client is registered.
const MAX_HEARTBEAT_BYTES: usize = 1 << 20;

/// HEART_BEAT: registers the producers and consumers of a client.
pub(super) async fn heartbeat(request: Request) -> Answered {
    if request.command.body.len() > MAX_HEARTBEAT_BYTES {
        let text = format!("the heartbeat is longer than {MAX_HEARTBEAT_BYTES} bytes");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    }
    let heartbeat: Heartbeat = request.json()?;
    if is_blank(&heartbeat.client_id) {
        return Err(Refusal::new(response::SYSTEM_ERROR, "clientID is blank"));
    }
    let producers = heartbeat.producers.into_iter().map(|producer| producer.group_name);
    let registration = Registration {
        client: ClientInfo {
            id: heartbeat.client_id.into(),
            language: request.command.language,
            version: request.command.version,
        },
        producers: producers.filter(|group| group != INTERNAL_PRODUCER).collect(),
        consumers: heartbeat
            .consumers
            .into_iter()
            .map(|consumer| (consumer.group_name.clone(), Arc::new(Consumer::from(consumer))))
            .collect(),
    };
    register(&request, &registration)
        .await
        .map_err(|error| Refusal { code: response::SYSTEM_ERROR, ..error })?;
    let left = request.shared.members.register(&request.connection, registration);
    for group in left {
        consume::on_group_left(&request.shared, &request.connection, &group);
    }
    Ok(RemotingCommand { remark: Some(String::new()), ..success() })
}

/// Registers a client with the processor, and closes its connection when the access that this needs is revoked.
async fn register(request: &Request, registration: &Registration) -> Result<(), Refusal> {
    let consumers = registration.consumers.iter().map(|(group, consumer)| ClassicGroup {
        name: group.clone(),
        topics: consumer.subscriptions.keys().cloned().collect(),
    });
    let command = ClassicClientCommand {
        producers: registration.producers.clone(),
        consumers: consumers.collect(),
        bytes: request.command.body.len(),
        stream: request.connection.pushes().clone(),
    };
    let context = request.context_of(&registration.client.id);
    let ((), granted) = request.shared.processor.begin(&context, command).await?;
    request.connection.depend_on(granted).await;
    Ok(())
}

/// UNREGISTER_CLIENT: removes a client from a producer group and a consumer group.
pub(super) async fn unregister(request: Request) -> Answered {
    let group = request.command.text("consumerGroup").unwrap_or_default().to_owned();
    request.check(OperationKind::Terminate, &(), &group)?;
    let client_id = request.text("clientID")?;
    let mut registration = request.connection.registration();
    if *registration.client.id == *client_id {
        let given = |key| request.command.text(key).filter(|group| !group.is_empty());
        if let Some(group) = given("producerGroup") {
            registration.producers.remove(group);
        }
        if let Some(group) = given("consumerGroup") {
            registration.consumers.remove(group);
        }
        if registration.producers.is_empty() && registration.consumers.is_empty() {
            request.shared.processor.client_gone(&request.context(), request.connection.pushes());
        } else {
            register(&request, &registration).await?;
        }
        for group in request.shared.members.register(&request.connection, registration) {
            consume::on_group_left(&request.shared, &request.connection, &group);
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
        if let Some(kind) = subscription.unknown_filter_type() {
            let text = format!("{kind:.64} is not a type of filter; expected TAG or SQL92");
            return Err(Refusal::new(response::SUBSCRIPTION_PARSE_FAILED, text));
        }
        let expression = subscription.expression();
        let check = CheckFilterCommand { group: config.group, topic: subscription.topic, expression };
        request.run(check).await?;
    }
    Ok(success())
}

impl Shared {
    /// Removes the client of a connection from its groups, and from the processor.
    pub(super) fn leave(self: &Arc<Self>, connection: &Arc<super::client_connection::ClientConnection>) {
        let client = connection.client();
        for group in self.members.leave(connection) {
            consume::on_group_left(self, connection, &group);
        }
        if !client.id.is_empty() {
            let context = Context::of_connection(WireProtocol::Remoting, &client.id, connection.peer());
            self.processor.client_gone(&context, connection.pushes());
        }
    }
}
