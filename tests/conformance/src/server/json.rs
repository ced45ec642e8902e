//! Wire messages as JSON, with the field names of the `.proto` files.

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use rocketmq_thin_proto::DESCRIPTORS;
use serde_json::{Map, Value};

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

    /// The message that a JSON form stands for.
    pub(super) fn read<M: Message + Default>(&self, name: &str, value: &Value) -> Result<M> {
        let dynamic = DynamicMessage::deserialize(self.descriptor(name)?, value)
            .with_context(|| format!("{value} is no {name}"))?;
        Ok(M::decode(dynamic.encode_to_vec().as_slice())?)
    }

    /// The message with a merge patch (RFC 7396) applied to its JSON form.
    pub(super) fn patched<M: Message + Default>(&self, name: &str, message: &M, patch: &Value) -> Result<M> {
        let mut value = self.show(name, message)?;
        merge(&mut value, patch);
        self.read(name, &value)
    }

    fn descriptor(&self, name: &str) -> Result<prost_reflect::MessageDescriptor> {
        let full = format!("apache.rocketmq.v2.{name}");
        self.pool.get_message_by_name(&full).with_context(|| format!("the contract has no {full}"))
    }
}

/// Objects are merged, `null` removes, everything else replaces.
fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        value.clone_from(patch);
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(merged) = value else { return };
    for (key, patch) in fields {
        match patch {
            Value::Null => drop(merged.remove(key)),
            _ => merge(merged.entry(key).or_insert(Value::Null), patch),
        }
    }
}
