//! Builds QueryRoute requests, and reads the queues of their responses.

use std::sync::Arc;

use rocketmq_thin_proto::v2;

use super::settings::endpoints;
use crate::{
    error::Error,
    message::MessageType,
    options::{Address, Endpoints},
    route::{AcceptedTypes, Queue, TopicRoute},
    rpc::CallContext,
};

/// Builds a request for the queues of `topic`. A proxy returns the endpoints in `access` as those of the queues.
pub(crate) fn build_query_route(topic: v2::Resource, access: &Endpoints) -> v2::QueryRouteRequest {
    v2::QueryRouteRequest { topic: Some(topic), endpoints: Some(endpoints(access)) }
}

/// Returns the queues of a topic.
pub(crate) fn process_query_route(
    call: &CallContext,
    response: v2::QueryRouteResponse,
) -> Result<TopicRoute, Error> {
    call.check(response.status.as_ref())?;
    Ok(TopicRoute::new(response.message_queues.into_iter().filter_map(queue).collect()))
}

/// Converts a queue; `None` unless its broker is a master with an address. Slaves accept no messages.
fn queue(queue: v2::MessageQueue) -> Option<Queue> {
    let (readable, writable) = match queue.permission() {
        v2::Permission::ReadWrite => (true, true),
        v2::Permission::Read => (true, false),
        v2::Permission::Write => (false, true),
        v2::Permission::None | v2::Permission::Unspecified => (false, false),
    };
    let accepts = accepted_types(&queue);
    let broker = queue.broker.filter(|broker| broker.id == 0)?;
    let endpoints: Endpoints = broker
        .endpoints?
        .addresses
        .into_iter()
        .filter_map(|address| Some(Address::new(address.host, u16::try_from(address.port).ok()?)))
        .collect();
    (!endpoints.addresses().is_empty()).then_some(Queue {
        id: queue.id,
        broker: Arc::from(broker.name),
        endpoints,
        readable,
        writable,
        accepts,
    })
}

/// The accepted types. Empty, so that the server decides, if the types are not specified.
fn accepted_types(queue: &v2::MessageQueue) -> AcceptedTypes {
    let types: Option<Vec<_>> = queue.accept_message_types().map(message_type).collect();
    AcceptedTypes::new(types.unwrap_or_default())
}

fn message_type(wire: v2::MessageType) -> Option<MessageType> {
    match wire {
        v2::MessageType::Unspecified => None,
        v2::MessageType::Normal => Some(MessageType::Normal),
        v2::MessageType::Fifo => Some(MessageType::Fifo),
        v2::MessageType::Delay => Some(MessageType::Delay),
        v2::MessageType::Transaction => Some(MessageType::Transaction),
        v2::MessageType::Lite => Some(MessageType::Lite),
        v2::MessageType::Priority => Some(MessageType::Priority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(id: i32, port: i32) -> v2::Broker {
        v2::Broker {
            name: "b".into(),
            id,
            endpoints: Some(v2::Endpoints {
                scheme: v2::AddressScheme::IPv4.into(),
                addresses: vec![v2::Address { host: "127.0.0.1".into(), port }],
            }),
        }
    }

    fn wire(permission: v2::Permission, broker: v2::Broker, types: &[v2::MessageType]) -> v2::MessageQueue {
        v2::MessageQueue {
            topic: None,
            id: 1,
            permission: permission.into(),
            broker: Some(broker),
            accept_message_types: types.iter().map(|kind| *kind as i32).collect(),
        }
    }

    #[test]
    fn only_queues_of_masters_with_addresses_are_used() {
        use v2::{MessageType, Permission};
        for (wire, expected) in [
            (wire(Permission::ReadWrite, broker(0, 1), &[]), Some((true, true, true))),
            (wire(Permission::Read, broker(0, 1), &[MessageType::Normal]), Some((true, false, true))),
            (wire(Permission::Write, broker(0, 1), &[MessageType::Fifo]), Some((false, true, false))),
            (wire(Permission::None, broker(0, 1), &[MessageType::Unspecified]), Some((false, false, true))),
            (wire(Permission::ReadWrite, broker(1, 1), &[]), None),
            (wire(Permission::ReadWrite, broker(0, 70_000), &[]), None),
            (v2::MessageQueue::default(), None),
        ] {
            let found = queue(wire.clone()).map(|it| {
                (it.readable, it.writable, it.accepts.check(crate::message::MessageType::Normal).is_ok())
            });
            assert_eq!(found, expected, "{wire:?}");
        }
    }
}
