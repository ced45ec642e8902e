//! QueryRoute and QueryAssignment.

use rocketmq_thin_proto::v2 as pb;

use super::shared::Shared;
use super::{convert, status};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::front::route_addresses::{Authority, RouteAddresses};
use crate::processor::{AssignmentCommand, RouteCommand};
use crate::service::{Permission, TopicKind};

pub(super) async fn query_route(
    shared: &Shared,
    context: &Context,
    request: pb::QueryRouteRequest,
) -> Result<pb::QueryRouteResponse, Error> {
    let topic = request.topic.unwrap_or_default();
    check_echo(&topic, request.endpoints.as_ref())?;
    let route = shared.processor.run(context, RouteCommand { topic: topic.name.clone() }).await?;
    let endpoints = route_endpoints(request.endpoints, &shared.served.route);
    let accept_message_types: Vec<i32> =
        accepted_types(route.kind).iter().map(|kind| (*kind).into()).collect();
    let message_queues = route.queues.into_iter().map(|queue| pb::MessageQueue {
        topic: Some(topic.clone()),
        id: queue.id,
        permission: permission(queue.permission).into(),
        broker: Some(pb::Broker {
            name: queue.broker,
            id: queue.replica,
            endpoints: Some(endpoints.clone()),
        }),
        accept_message_types: accept_message_types.clone(),
    });
    Ok(pb::QueryRouteResponse { status: Some(status::ok()), message_queues: message_queues.collect() })
}

pub(super) async fn query_assignment(
    shared: &Shared,
    context: &Context,
    request: pb::QueryAssignmentRequest,
) -> Result<pb::QueryAssignmentResponse, Error> {
    let topic = request.topic.unwrap_or_default();
    check_echo(&topic, request.endpoints.as_ref())?;
    let command = AssignmentCommand { topic: topic.name.clone(), group: convert::name(request.group) };
    let assigned = shared.processor.run(context, command).await?;
    let endpoints = route_endpoints(request.endpoints, &shared.served.route);
    let assignments = assigned.into_iter().map(|assignment| pb::Assignment {
        message_queue: Some(pb::MessageQueue {
            topic: Some(topic.clone()),
            id: assignment.id,
            permission: permission(assignment.permission).into(),
            broker: Some(pb::Broker { name: assignment.broker, id: 0, endpoints: Some(endpoints.clone()) }),
            accept_message_types: Vec::new(),
        }),
    });
    Ok(pb::QueryAssignmentResponse { status: Some(status::ok()), assignments: assignments.collect() })
}

/// The maximum number of bytes of a request that the answer repeats for each queue.
const MAX_ECHO_BYTES: usize = 8 << 10;

/// Checks the size of the fields that the answer repeats for each queue, so that a small request can't cause a huge
/// answer. The processor checks the topic's name.
///
/// # Errors
/// `BadRequest`.
fn check_echo(topic: &pb::Resource, endpoints: Option<&pb::Endpoints>) -> Result<(), Error> {
    const PER_ADDRESS: usize = 16;
    let addresses = endpoints.into_iter().flat_map(|endpoints| &endpoints.addresses);
    let addresses = addresses.map(|address| address.host.len() + PER_ADDRESS).sum::<usize>();
    if topic.resource_namespace.len() + addresses > MAX_ECHO_BYTES {
        let message = format!("namespace and endpoints have more than {MAX_ECHO_BYTES} bytes");
        return Err(Error::new(ErrorKind::BadRequest, message));
    }
    Ok(())
}

/// The endpoints in a route: the addresses configured for the entry, or else the hosts that the client has dialled,
/// with the port of this proxy. So routes work through any name or load balancer. A missing scheme is derived from the
/// hosts.
fn route_endpoints(dialled: Option<pb::Endpoints>, route: &RouteAddresses) -> pb::Endpoints {
    let mut endpoints = dialled.unwrap_or_default();
    match route {
        RouteAddresses::Named(addresses) => {
            let addresses = addresses.iter();
            let address = |Authority { host, port }: &Authority| pb::Address {
                host: host.clone(),
                port: i32::from(*port),
            };
            endpoints =
                pb::Endpoints { addresses: addresses.map(address).collect(), ..pb::Endpoints::default() };
        }
        RouteAddresses::Reached { port: Some(port), .. } => {
            endpoints.addresses.iter_mut().for_each(|address| address.port = i32::from(*port));
        }
        RouteAddresses::Reached { port: None, .. } => {}
    }
    if pb::AddressScheme::try_from(endpoints.scheme).unwrap_or_default() == pb::AddressScheme::Unspecified {
        let mut schemes = endpoints.addresses.iter().map(|address| scheme(&address.host));
        let first = schemes.next().unwrap_or(pb::AddressScheme::IPv4);
        // If the hosts have different schemes, clients must resolve them like names.
        let scheme = if schemes.all(|other| other == first) { first } else { pb::AddressScheme::DomainName };
        endpoints.scheme = scheme.into();
    }
    endpoints
}

fn scheme(host: &str) -> pb::AddressScheme {
    match host.trim_matches(['[', ']']).parse() {
        Ok(std::net::IpAddr::V4(_)) => pb::AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => pb::AddressScheme::IPv6,
        Err(_) => pb::AddressScheme::DomainName,
    }
}

fn permission(permission: Permission) -> pb::Permission {
    match (permission.read, permission.write) {
        (true, true) => pb::Permission::ReadWrite,
        (true, false) => pb::Permission::Read,
        (false, true) => pb::Permission::Write,
        (false, false) => pb::Permission::None,
    }
}

// The message types that a topic accepts. A MIXED topic also accepts PRIORITY messages, but does not advertise them.
fn accepted_types(kind: TopicKind) -> &'static [pb::MessageType] {
    use pb::MessageType as Type;
    match kind {
        TopicKind::Unspecified => &[Type::Unspecified],
        TopicKind::Normal | TopicKind::Undeclared => &[Type::Normal],
        TopicKind::Fifo => &[Type::Fifo],
        TopicKind::Delay => &[Type::Delay],
        TopicKind::Transaction => &[Type::Transaction],
        TopicKind::Mixed => &[Type::Normal, Type::Fifo, Type::Delay, Type::Transaction],
        TopicKind::Priority => &[Type::Priority],
        TopicKind::Lite => &[Type::Lite],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(scheme: pb::AddressScheme, hosts: &[&str]) -> pb::Endpoints {
        let addresses = hosts.iter().map(|host| pb::Address { host: (*host).to_owned(), port: 443 });
        pb::Endpoints { scheme: scheme.into(), addresses: addresses.collect() }
    }

    #[test]
    fn the_fields_that_are_repeated_per_queue_are_bounded() {
        let topic =
            |namespace: &str| pb::Resource { resource_namespace: namespace.to_owned(), name: "t".to_owned() };
        let hosts = |count| endpoints(pb::AddressScheme::DomainName, &vec!["proxy.example"; count]);
        assert!(check_echo(&topic("ns"), Some(&hosts(50))).is_ok());
        assert!(check_echo(&topic("ns"), Some(&hosts(1000))).is_err());
        assert!(check_echo(&topic(&"n".repeat(MAX_ECHO_BYTES + 1)), None).is_err());
    }

    #[test]
    fn routes_name_the_hosts_that_the_client_dialled() {
        use pb::AddressScheme::{DomainName, IPv4, IPv6, Unspecified};
        let reached = |port| RouteAddresses::Reached { port, others: Vec::new() };
        for (asked, scheme) in [
            (endpoints(DomainName, &["a.example", "b.example"]), DomainName),
            (endpoints(IPv4, &["not.an.ip"]), IPv4),
            (endpoints(Unspecified, &["10.0.0.1"]), IPv4),
            (endpoints(Unspecified, &["::1"]), IPv6),
            (endpoints(Unspecified, &["mq.example"]), DomainName),
            (endpoints(Unspecified, &[]), IPv4),
        ] {
            let ours = route_endpoints(Some(asked.clone()), &reached(Some(8081)));
            assert_eq!(ours.scheme(), scheme);
            assert_eq!(ours.addresses.len(), asked.addresses.len());
            assert!(ours.addresses.iter().all(|address| address.port == 8081));
            assert_eq!(route_endpoints(Some(asked.clone()), &reached(None)).addresses, asked.addresses);
        }
        assert_eq!(route_endpoints(None, &reached(Some(1))).scheme(), IPv4);
    }

    #[test]
    fn routes_of_an_entry_with_addresses_name_those() {
        let asked = endpoints(pb::AddressScheme::IPv4, &["10.0.0.1"]);
        let named = |texts: &[&str]| {
            let addresses = texts.iter().map(|text| text.parse().expect("an address")).collect();
            route_endpoints(Some(asked.clone()), &RouteAddresses::Named(addresses))
        };
        let ours = named(&["mq.example:8443", "[2001:db8::1]:2"]);
        assert_eq!(ours.scheme(), pb::AddressScheme::DomainName);
        let addresses: Vec<_> = ours.addresses.iter().map(|address| (&*address.host, address.port)).collect();
        assert_eq!(addresses, [("mq.example", 8443), ("2001:db8::1", 2)]);
        assert_eq!(named(&["10.1.0.1:1", "10.1.0.2:1"]).scheme(), pb::AddressScheme::IPv4);
    }
}
