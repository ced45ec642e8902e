//! The wire contract of RocketMQ 5 clients, `apache.rocketmq.v2`: message types, client and server stubs
//! generated from the `.proto` files of this folder, and [`classify`], the one place that says what a
//! [`Code`](v2::Code) means to a client.
//!
//! Names, numbers and types are those of the published rocketmq-proto 2.1.2.

mod code;

pub use code::{Class, ErrorKind, classify};

/// Package `apache.rocketmq.v2`, generated.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v2 {
    tonic::include_proto!("apache.rocketmq.v2");
}

/// Package `rocketmq.thin.v1`, generated: the administration of our own proxy, which Apache has no calls for.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod thin {
    tonic::include_proto!("rocketmq.thin.v1");
}

/// The part of package `opentelemetry.proto.collector.metrics.v1` that an export of metrics uses, generated.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod otlp {
    tonic::include_proto!("opentelemetry.proto.collector.metrics.v1");
}

/// Metadata with which a server announces, in any answer and with any value, that the messages of one request keep their
/// own ids, tags, keys and properties.
///
/// Apache's proxies do not announce it: brokers up to 5.3 overwrite those of all messages with those of the first
/// (`MessageExtEncoder`), and no answer says which brokers are behind a proxy.
pub const KEEPS_BATCHES: &str = "x-mq-keeps-batches";

/// Metadata of a receive, with which a client that checks every type of digest asks for one, by the name of its
/// [`DigestType`](v2::DigestType). Servers that don't know it, such as Apache's, take the one that they like: MD5, whose
/// computation is the largest single part of what it costs a client to receive a message.
pub const BODY_DIGEST: &str = "x-mq-body-digest";

/// The descriptors of both packages as an encoded `google.protobuf.FileDescriptorSet`, for server
/// reflection and for the comparison with the published package.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
