//! Counts the fields of a request before it is decoded. A field of two bytes can decode to a struct of hundreds, so the
//! number of fields bounds the memory of the decoded request.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Buf;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use rocketmq_thin_proto::{DESCRIPTORS, v2 as pb};

/// A request message of the contract.
pub(super) trait Request: Message + Default {
    /// The name of the message type.
    const NAME: &'static str;
}

macro_rules! requests {
    ($($request:ident),+ $(,)?) => {
        $(impl Request for pb::$request {
            const NAME: &'static str = stringify!($request);
        })+
    };
}

requests!(
    QueryRouteRequest,
    QueryAssignmentRequest,
    SendMessageRequest,
    ReceiveMessageRequest,
    AckMessageRequest,
    ChangeInvisibleDurationRequest,
    ForwardMessageToDeadLetterQueueRequest,
    EndTransactionRequest,
    RecallMessageRequest,
    SyncLiteSubscriptionRequest,
    PullMessageRequest,
    UpdateOffsetRequest,
    GetOffsetRequest,
    QueryOffsetRequest,
    HeartbeatRequest,
    NotifyClientTerminationRequest,
    TelemetryCommand,
);

/// Message type by name -> the fields that are messages themselves, and their types.
type Shapes = HashMap<String, HashMap<u32, String>>;

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(DESCRIPTORS).expect("the build wrote the descriptors");
    let mut shapes = Shapes::new();
    for file in files.file.iter().filter(|file| file.package() == "apache.rocketmq.v2") {
        for message in &file.message_type {
            add(&mut shapes, message, &format!(".{}", file.package()));
        }
    }
    shapes
});

fn add(shapes: &mut Shapes, message: &DescriptorProto, parent: &str) {
    let name = format!("{parent}.{}", message.name());
    for nested in &message.nested_type {
        add(shapes, nested, &name);
    }
    let fields = message.field.iter().filter(|field| field.r#type() == Type::Message);
    let fields =
        fields.filter_map(|field| Some((u32::try_from(field.number()).ok()?, field.type_name().to_owned())));
    shapes.insert(name, fields.collect());
}

/// Why a request can't be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Misshapen {
    /// It has too many fields.
    TooLarge,
    /// It is not a valid message.
    Malformed,
}

/// Checks that a request has at most this many fields, including those of the messages in it.
pub(super) fn check<M: Request>(request: &[u8], max_fields: usize) -> Result<(), Misshapen> {
    // A field has at least two bytes.
    if request.len() / 2 <= max_fields {
        return Ok(());
    }
    let mut left = max_fields;
    count(request, SHAPES.get(&format!(".apache.rocketmq.v2.{}", M::NAME)), &mut left)
}

// The contract nests messages a few levels deep, and no type contains itself, so this recursion is bounded.
fn count(mut bytes: &[u8], shape: Option<&HashMap<u32, String>>, left: &mut usize) -> Result<(), Misshapen> {
    let malformed = |_| Misshapen::Malformed;
    while bytes.has_remaining() {
        *left = left.checked_sub(1).ok_or(Misshapen::TooLarge)?;
        let (number, wire_type) = decode_key(&mut bytes).map_err(malformed)?;
        let length = match wire_type {
            WireType::Varint => {
                decode_varint(&mut bytes).map_err(malformed)?;
                continue;
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut bytes).map_err(malformed)?,
            // Groups, which the contract has none of.
            WireType::StartGroup | WireType::EndGroup => return Err(Misshapen::Malformed),
        };
        let length = usize::try_from(length).map_err(|_| Misshapen::Malformed)?;
        let (content, rest) = bytes.split_at_checked(length).ok_or(Misshapen::Malformed)?;
        bytes = rest;
        if wire_type == WireType::LengthDelimited
            && let Some(inner) = shape.and_then(|shape| shape.get(&number))
        {
            count(content, SHAPES.get(inner), left)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Vec<u8> {
        let entries = vec![pb::AckMessageEntry::default(); count];
        pb::AckMessageRequest { entries, ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn fields_are_counted_at_all_levels() {
        assert_eq!(check::<pb::AckMessageRequest>(&entries(100), 100), Ok(()));
        assert_eq!(check::<pb::AckMessageRequest>(&entries(101), 100), Err(Misshapen::TooLarge));
        let keys = pb::SystemProperties { keys: vec![String::new(); 200], ..Default::default() };
        let message = pb::Message { system_properties: Some(keys), ..Default::default() };
        let request = pb::SendMessageRequest { messages: vec![message] }.encode_to_vec();
        assert_eq!(check::<pb::SendMessageRequest>(&request, 202), Ok(()));
        assert_eq!(check::<pb::SendMessageRequest>(&request, 199), Err(Misshapen::TooLarge));
    }

    #[test]
    fn a_body_is_one_field_whatever_it_contains() {
        let message = pb::Message { body: entries(1000).into(), ..Default::default() };
        let request = pb::SendMessageRequest { messages: vec![message] }.encode_to_vec();
        assert_eq!(check::<pb::SendMessageRequest>(&request, 2), Ok(()));
    }

    #[test]
    fn every_request_has_a_shape() {
        assert!(SHAPES.contains_key(".apache.rocketmq.v2.TelemetryCommand"));
        assert!(SHAPES.contains_key(".apache.rocketmq.v2.Message.UserPropertiesEntry"));
    }
}
