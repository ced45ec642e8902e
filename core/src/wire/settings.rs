//! Builds the settings that a client sends to servers, and reads the settings that servers send.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use rocketmq_thin_proto::v2::{self, settings::PubSub};

use super::consumer_settings::{self, ConsumerSettings};
use crate::{
    options::{Endpoints, Filter, Language, Subscription},
    rpc::{ClientContext, Identity, Rpc, WireLanguage},
};

/// What a session is for.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// A producer that sends to these topics.
    Producer { topics: Vec<String> },
    /// A consumer of this group with these subscriptions.
    Consumer { kind: ConsumerKind, group: String, subscriptions: Vec<Subscription> },
}

/// How a consumer receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConsumerKind {
    /// With one call at a time.
    Simple,
    /// With a handler.
    Push,
    /// With one call at a time, from lite topics.
    LiteSimple,
    /// With a handler, from lite topics.
    LitePush,
}

impl Role {
    pub(crate) fn client_type(&self) -> v2::ClientType {
        match self {
            Self::Producer { .. } => v2::ClientType::Producer,
            Self::Consumer { kind: ConsumerKind::Simple, .. } => v2::ClientType::SimpleConsumer,
            Self::Consumer { kind: ConsumerKind::Push, .. } => v2::ClientType::PushConsumer,
            Self::Consumer { kind: ConsumerKind::LiteSimple, .. } => v2::ClientType::LiteSimpleConsumer,
            Self::Consumer { kind: ConsumerKind::LitePush, .. } => v2::ClientType::LitePushConsumer,
        }
    }
}

/// The server's settings for a client.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// The limits of the first pause and of later pauses between attempts; `None` if the server sets none.
    pub(crate) pauses: Option<(Duration, Duration)>,
    /// The maximum size of a body, in bytes; `None` if the server sets no limit.
    pub(crate) max_body_size: Option<usize>,
    /// Whether clients must check that a topic accepts the type of a message.
    pub(crate) validate_message_type: bool,
    /// The settings of a consumer; `None` for a producer.
    pub(crate) consumer: Option<Arc<ConsumerSettings>>,
}

/// Builds the settings of a client, which are the first command of every telemetry stream.
pub(crate) fn build_settings(rpc: &Rpc, context: &ClientContext, role: &Role) -> v2::Settings {
    let ClientContext { options, configured_endpoints, .. } = context;
    let pub_sub = match role {
        Role::Producer { topics } => PubSub::Publishing(v2::Publishing {
            topics: topics.iter().map(|topic| rpc.resource(topic)).collect(),
            max_body_size: 0,
            validate_message_type: true,
        }),
        Role::Consumer { group, subscriptions, .. } => PubSub::Subscription(v2::Subscription {
            group: Some(rpc.resource(group)),
            subscriptions: subscriptions
                .iter()
                .map(|subscription| v2::SubscriptionEntry {
                    topic: Some(rpc.resource(&subscription.topic)),
                    expression: Some(filter(&subscription.filter)),
                })
                .collect(),
            ..Default::default()
        }),
    };
    // A push consumer uses the retry policy of its group, which only the server knows.
    let has_policy =
        !matches!(role, Role::Consumer { kind: ConsumerKind::Push | ConsumerKind::LitePush, .. });
    v2::Settings {
        client_type: Some(role.client_type().into()),
        access_point: Some(endpoints(configured_endpoints)),
        backoff_policy: has_policy.then(|| v2::RetryPolicy {
            max_attempts: i32::try_from(options.retry.max_attempts).unwrap_or(i32::MAX),
            strategy: Some(v2::retry_policy::Strategy::ExponentialBackoff(v2::ExponentialBackoff {
                initial: Some(super::duration(options.retry.initial)),
                max: Some(super::duration(options.retry.max)),
                multiplier: 2.0,
            })),
        }),
        request_timeout: Some(super::duration(options.request_timeout)),
        pub_sub: Some(pub_sub),
        user_agent: Some(user_agent(options.language)),
        metric: None,
    }
}

/// Returns the part of the server's settings that this client uses.
pub(crate) fn process_settings(settings: &v2::Settings) -> Settings {
    let exponential = settings.backoff_policy.as_ref().and_then(|policy| match &policy.strategy {
        Some(v2::retry_policy::Strategy::ExponentialBackoff(backoff)) => Some(backoff),
        _ => None,
    });
    let pauses = exponential.and_then(|backoff| {
        let limit = |duration: &Option<prost_types::Duration>| {
            duration.as_ref().and_then(|duration| Duration::try_from(*duration).ok())
        };
        Some((limit(&backoff.initial)?, limit(&backoff.max)?))
    });
    let (publishing, subscription) = match &settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => (Some(publishing), None),
        Some(PubSub::Subscription(subscription)) => (None, Some(subscription)),
        None => (None, None),
    };
    let policy = settings.backoff_policy.as_ref();
    Settings {
        pauses: pauses.filter(|(initial, max)| !initial.is_zero() && initial <= max),
        max_body_size: publishing
            .and_then(|publishing| usize::try_from(publishing.max_body_size).ok())
            .filter(|size| *size > 0),
        validate_message_type: publishing.is_some_and(|publishing| publishing.validate_message_type),
        consumer: subscription.map(|subscription| Arc::new(consumer_settings::process(policy, subscription))),
    }
}

/// Converts a filter.
pub(crate) fn filter(filter: &Filter) -> v2::FilterExpression {
    let (kind, expression) = match filter {
        Filter::All => (v2::FilterType::Tag, "*".to_owned()),
        Filter::Tags(tags) => (v2::FilterType::Tag, tags.join("||")),
        Filter::Sql(expression) => (v2::FilterType::Sql, expression.clone()),
    };
    v2::FilterExpression { r#type: kind.into(), expression }
}

/// Converts endpoints. Host names, and mixed kinds of addresses, are sent as domain names.
pub(crate) fn endpoints(endpoints: &Endpoints) -> v2::Endpoints {
    let addresses = endpoints.addresses();
    let scheme = if addresses.iter().all(|address| address.host.parse::<Ipv4Addr>().is_ok()) {
        v2::AddressScheme::IPv4
    } else if addresses.iter().all(|address| address.host.parse::<Ipv6Addr>().is_ok()) {
        v2::AddressScheme::IPv6
    } else {
        v2::AddressScheme::DomainName
    };
    v2::Endpoints {
        scheme: scheme.into(),
        addresses: addresses
            .iter()
            .map(|address| v2::Address { host: address.host.clone(), port: address.port.into() })
            .collect(),
    }
}

fn user_agent(language: Language) -> v2::Ua {
    v2::Ua {
        language: WireLanguage::from(language).settings.into(),
        version: Identity::VERSION.to_owned(),
        platform: platform().to_owned(),
        hostname: Identity::host(),
    }
}

const fn platform() -> &'static str {
    if cfg!(target_os = "linux") {
        "linux"
    } else if cfg!(target_os = "macos") {
        "macos"
    } else if cfg!(windows) {
        "windows"
    } else {
        "other"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        options::{Access, ClientOptions, Tls},
        rpc::{ChannelPool, CurrentCredentials},
    };

    #[test]
    fn addresses_are_of_one_scheme() {
        for (text, scheme) in [
            ("127.0.0.1,10.0.0.1:1", v2::AddressScheme::IPv4),
            ("[::1]:1", v2::AddressScheme::IPv6),
            ("localhost:1", v2::AddressScheme::DomainName),
            ("localhost:1,127.0.0.1:1", v2::AddressScheme::DomainName),
        ] {
            let wire = endpoints(&Access::parse(text).unwrap().endpoints);
            assert_eq!(wire.scheme(), scheme, "{text}");
        }
    }

    #[test]
    fn filters_are_in_the_notation_of_servers() {
        for (given, kind, expression) in [
            (Filter::All, v2::FilterType::Tag, "*"),
            (Filter::Tags(vec!["a".into(), "b".into()]), v2::FilterType::Tag, "a||b"),
            (Filter::Sql("n > 1".into()), v2::FilterType::Sql, "n > 1"),
        ] {
            let wire = filter(&given);
            assert_eq!((wire.r#type(), wire.expression.as_str()), (kind, expression));
        }
    }

    #[test]
    fn valid_limits_of_the_server_are_used() {
        let second = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let settings = |initial, max, max_body_size| v2::Settings {
            backoff_policy: Some(v2::RetryPolicy {
                max_attempts: 3,
                strategy: Some(v2::retry_policy::Strategy::ExponentialBackoff(v2::ExponentialBackoff {
                    initial: second(initial),
                    max: second(max),
                    multiplier: 2.0,
                })),
            }),
            pub_sub: Some(PubSub::Publishing(v2::Publishing {
                max_body_size,
                validate_message_type: true,
                ..Default::default()
            })),
            ..Default::default()
        };
        let good = process_settings(&settings(1, 2, 4));
        assert_eq!(good.pauses, Some((Duration::from_secs(1), Duration::from_secs(2))));
        assert_eq!((good.max_body_size, good.validate_message_type), (Some(4), true));
        let nonsense = process_settings(&settings(-1, 2, -4));
        assert_eq!((nonsense.pauses, nonsense.max_body_size), (None, None));
        assert_eq!(process_settings(&v2::Settings::default()), Settings::default());
    }

    #[test]
    fn the_settings_of_a_consumer_name_its_group_and_topics() {
        let options = ClientOptions { namespace: "ns".into(), ..ClientOptions::default() };
        let configured_endpoints = Access::parse("h:1").unwrap().endpoints;
        let context = ClientContext {
            pool: ChannelPool::new(&Tls::off(), Duration::ZERO, Arc::default()).unwrap(),
            configured_endpoints,
            credentials: CurrentCredentials::new(&options).unwrap(),
            options,
            monitor: Arc::default(),
        };
        let rpc = context.rpc().unwrap();
        let kind = ConsumerKind::LiteSimple;
        let role = Role::Consumer { kind, group: "g".into(), subscriptions: vec!["t".into()] };
        let settings = build_settings(&rpc, &context, &role);
        assert_eq!(settings.client_type(), v2::ClientType::LiteSimpleConsumer);
        let Some(PubSub::Subscription(subscription)) = settings.pub_sub else { panic!("no subscription") };
        let topic = subscription.subscriptions[0].topic.clone().unwrap();
        assert_eq!((topic.resource_namespace.as_str(), topic.name.as_str()), ("ns", "t"));
        assert_eq!(subscription.group.unwrap().resource_namespace, "ns");
    }
}
