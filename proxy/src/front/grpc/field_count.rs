//! Limits the number of fields of a request before it is decoded. A field of two bytes may be decoded to a struct of
//! hundreds of bytes, so the number of fields bounds the memory of the decoded request.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Buf;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use rocketmq_thin_proto::{DESCRIPTORS, v2 as pb};

/// A request message of the contract.
pub(super) trait WireRequest: Message + Default {
    /// The name of the message type.
    const NAME: &'static str;
}

macro_rules! requests {
    ($($request:ident),+ $(,)?) => {
        $(impl WireRequest for pb::$request {
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

/// For each message type, by its name: the numbers of the fields that are messages, and the names of their types.
type MessageFields = HashMap<String, HashMap<u32, String>>;

static MESSAGE_FIELDS: LazyLock<MessageFields> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(DESCRIPTORS).expect("the build wrote the descriptors");
    let mut types = MessageFields::new();
    for file in files.file.iter().filter(|file| file.package() == "apache.rocketmq.v2") {
        for message in &file.message_type {
            add(&mut types, message, &format!(".{}", file.package()));
        }
    }
    types
});

fn add(types: &mut MessageFields, message: &DescriptorProto, parent: &str) {
    let name = format!("{parent}.{}", message.name());
    for nested in &message.nested_type {
        add(types, nested, &name);
    }
    let fields = message.field.iter().filter(|field| field.r#type() == Type::Message);
    let fields =
        fields.filter_map(|field| Some((u32::try_from(field.number()).ok()?, field.type_name().to_owned())));
    types.insert(name, fields.collect());
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FieldCountError {
    /// It has too many fields.
    TooMany,
    /// It is not a valid message.
    Malformed,
}

/// Checks that a request has at most this many fields, including those of nested messages.
pub(super) fn check<M: WireRequest>(request: &[u8], max_fields: usize) -> Result<(), FieldCountError> {
    // A field has at least two bytes.
    if request.len() / 2 <= max_fields {
        return Ok(());
    }
    let mut left = max_fields;
    count(request, MESSAGE_FIELDS.get(&format!(".apache.rocketmq.v2.{}", M::NAME)), &mut left)
}

// No type of the contract contains itself, so the recursion is only a few levels deep.
fn count(
    mut bytes: &[u8],
    message_fields: Option<&HashMap<u32, String>>,
    left: &mut usize,
) -> Result<(), FieldCountError> {
    let malformed = |_| FieldCountError::Malformed;
    while bytes.has_remaining() {
        *left = left.checked_sub(1).ok_or(FieldCountError::TooMany)?;
        let (number, wire_type) = decode_key(&mut bytes).map_err(malformed)?;
        let length = match wire_type {
            WireType::Varint => {
                decode_varint(&mut bytes).map_err(malformed)?;
                continue;
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut bytes).map_err(malformed)?,
            // The contract has no groups.
            WireType::StartGroup | WireType::EndGroup => return Err(FieldCountError::Malformed),
        };
        let length = usize::try_from(length).map_err(|_| FieldCountError::Malformed)?;
        let (content, rest) = bytes.split_at_checked(length).ok_or(FieldCountError::Malformed)?;
        bytes = rest;
        if wire_type == WireType::LengthDelimited
            && let Some(inner) = message_fields.and_then(|message_fields| message_fields.get(&number))
        {
            count(content, MESSAGE_FIELDS.get(inner), left)?;
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
        assert_eq!(check::<pb::AckMessageRequest>(&entries(101), 100), Err(FieldCountError::TooMany));
        let keys = pb::SystemProperties { keys: vec![String::new(); 200], ..Default::default() };
        let message = pb::Message { system_properties: Some(keys), ..Default::default() };
        let request = pb::SendMessageRequest { messages: vec![message] }.encode_to_vec();
        assert_eq!(check::<pb::SendMessageRequest>(&request, 202), Ok(()));
        assert_eq!(check::<pb::SendMessageRequest>(&request, 199), Err(FieldCountError::TooMany));
    }

    #[test]
    fn a_body_is_one_field_whatever_it_contains() {
        let message = pb::Message { body: entries(1000).into(), ..Default::default() };
        let request = pb::SendMessageRequest { messages: vec![message] }.encode_to_vec();
        assert_eq!(check::<pb::SendMessageRequest>(&request, 2), Ok(()));
    }

    #[test]
    fn the_fields_of_all_message_types_are_known() {
        assert!(MESSAGE_FIELDS.contains_key(".apache.rocketmq.v2.TelemetryCommand"));
        assert!(MESSAGE_FIELDS.contains_key(".apache.rocketmq.v2.Message.UserPropertiesEntry"));
    }
}
