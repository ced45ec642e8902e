//! Wire messages as JSON, with the field names of the `.proto` files.

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use rocketmq_thin_proto::DESCRIPTORS;
use serde_json::Value;

/// Converts wire messages to JSON.
#[derive(Debug)]
pub(super) struct Json {
    pool: DescriptorPool,
}

impl Json {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { pool: DescriptorPool::decode(DESCRIPTORS).context("reading the contract's descriptors")? })
    }

    /// Converts a message. `name` is its name inside the package.
    pub(super) fn show(&self, name: &str, message: &impl Message) -> Result<Value> {
        let dynamic = DynamicMessage::decode(self.descriptor(name)?, message.encode_to_vec().as_slice())?;
        let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
        Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
    }

    fn descriptor(&self, name: &str) -> Result<prost_reflect::MessageDescriptor> {
        let full = format!("apache.rocketmq.v2.{name}");
        self.pool.get_message_by_name(&full).with_context(|| format!("the contract has no {full}"))
    }
}
