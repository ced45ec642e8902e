//! The wire contract of RocketMQ 5 clients, `apache.rocketmq.v2`: message types and client and server stubs, generated
//! from the `.proto` files of this folder. [`classify`] defines what a [`Code`](v2::Code) means to a client.
//!
//! Names, numbers and types are those of the published rocketmq-proto 2.1.2.

mod code;

pub use code::{Class, ErrorKind, classify};

/// Package `apache.rocketmq.v2`, generated.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v2 {
    tonic::include_proto!("apache.rocketmq.v2");
}

/// Package `rocketmq.thin.v1`, generated: the administration of our own proxy. Apache's contract has no calls for it.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod thin {
    tonic::include_proto!("rocketmq.thin.v1");
}

// The generated code refers to other packages by their path from a common root.
#[allow(missing_docs, clippy::all, unreachable_pub)]
mod opentelemetry {
    pub mod proto {
        pub mod common {
            pub mod v1 {
                tonic::include_proto!("opentelemetry.proto.common.v1");
            }
        }
        pub mod collector {
            pub mod metrics {
                pub mod v1 {
                    tonic::include_proto!("opentelemetry.proto.collector.metrics.v1");
                }
            }
            pub mod trace {
                pub mod v1 {
                    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
                }
            }
        }
    }
}

/// The part of OTLP that exports of metrics and traces use, generated.
pub mod otlp {
    pub use super::opentelemetry::proto::collector::metrics::v1::*;
    pub use super::opentelemetry::proto::collector::trace::v1::*;
    pub use super::opentelemetry::proto::common::v1::*;
}

/// The response header by which a server announces that the messages of one request keep their own ids, tags, keys and
/// properties. It may have any value, and be in any response.
///
/// Apache's proxies do not announce it: brokers up to 5.3 overwrite these fields of all messages with those of the first
/// (`MessageExtEncoder`), and a proxy does not report the version of its brokers.
pub const KEEPS_BATCHES: &str = "x-mq-keeps-batches";

/// The request header by which a client that can check every type of digest chooses one for the bodies that it receives.
/// The value is the name of a [`DigestType`](v2::DigestType). Servers that don't support the header, such as Apache's, use
/// MD5, whose computation is the largest single cost of receiving a message.
pub const BODY_DIGEST: &str = "x-mq-body-digest";

/// The descriptors of `apache.rocketmq.v2` and `rocketmq.thin.v1` as an encoded `google.protobuf.FileDescriptorSet`, for
/// server reflection and for the comparison with the published package.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
