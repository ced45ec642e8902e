//! The answers of a healthy proxy, and what a rule makes of them.

use rocketmq_thin_proto::v2::*;

use super::state::State;
use crate::script::Rule;

/// A request of which the scripted server knows the answer.
pub(super) trait Answerable: prost::Message + Sized {
    /// The answer's type.
    type Answer: prost::Message + Default;
    /// Name of the RPC.
    const RPC: &'static str;

    /// An answer that consists of a status.
    fn refused(status: Status) -> Self::Answer;

    /// What a healthy proxy answers, with the rule's codes per entry.
    fn answer(self, state: &State, rule: &Rule) -> Self::Answer;
}

/// The code of that name, which stands for 50001 when no code has it.
pub(super) fn code(name: &str) -> Code {
    Code::from_str_name(name).unwrap_or(Code::InternalServerError)
}

pub(super) fn status(code: Code, text: &str) -> Status {
    let message = if text.is_empty() { code.as_str_name().to_owned() } else { text.to_owned() };
    Status { code: code.into(), message }
}

fn ok() -> Status {
    status(Code::Ok, "OK")
}

/// The one common code of the entries, or MULTIPLE_RESULTS.
fn common<'a>(mut statuses: impl Iterator<Item = &'a Option<Status>>) -> Status {
    let first = statuses.next().cloned().flatten().unwrap_or_else(ok);
    let same = statuses.all(|other| other.as_ref().is_some_and(|other| other.code == first.code));
    if same { first } else { status(Code::MultipleResults, "") }
}

macro_rules! only_status {
    ($request:ident => $answer:ident, $rpc:literal) => {
        impl Answerable for $request {
            type Answer = $answer;
            const RPC: &'static str = $rpc;

            fn refused(status: Status) -> $answer {
                $answer { status: Some(status) }
            }

            fn answer(self, _: &State, _: &Rule) -> $answer {
                Self::refused(ok())
            }
        }
    };
}

only_status!(HeartbeatRequest => HeartbeatResponse, "Heartbeat");
only_status!(NotifyClientTerminationRequest => NotifyClientTerminationResponse, "NotifyClientTermination");
only_status!(EndTransactionRequest => EndTransactionResponse, "EndTransaction");
only_status!(SyncLiteSubscriptionRequest => SyncLiteSubscriptionResponse, "SyncLiteSubscription");
only_status!(ForwardMessageToDeadLetterQueueRequest => ForwardMessageToDeadLetterQueueResponse,
    "ForwardMessageToDeadLetterQueue");

/// Every topic takes every type.
const TYPES: [MessageType; 6] = [
    MessageType::Normal,
    MessageType::Fifo,
    MessageType::Delay,
    MessageType::Transaction,
    MessageType::Lite,
    MessageType::Priority,
];

fn queues(state: &State, topic: Option<Resource>) -> Vec<MessageQueue> {
    let (host, port) = state.advertised().clone();
    let scheme = match host.parse() {
        Ok(std::net::IpAddr::V4(_)) => AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => AddressScheme::IPv6,
        Err(_) => AddressScheme::DomainName,
    };
    let endpoints =
        Endpoints { scheme: scheme.into(), addresses: vec![Address { host, port: i32::from(port) }] };
    let permissions = state.queues(topic.as_ref().map_or("", |topic| &topic.name));
    let queue = |(id, permission): (i32, String)| MessageQueue {
        topic: topic.clone(),
        id,
        permission: Permission::from_str_name(&permission).unwrap_or_default().into(),
        broker: Some(Broker { name: "broker-a".to_owned(), id: 0, endpoints: Some(endpoints.clone()) }),
        accept_message_types: TYPES.map(Into::into).to_vec(),
    };
    (0..).zip(permissions).map(queue).collect()
}

impl Answerable for QueryRouteRequest {
    type Answer = QueryRouteResponse;
    const RPC: &'static str = "QueryRoute";

    fn refused(status: Status) -> QueryRouteResponse {
        QueryRouteResponse { status: Some(status), message_queues: Vec::new() }
    }

    fn answer(self, state: &State, _: &Rule) -> QueryRouteResponse {
        QueryRouteResponse { status: Some(ok()), message_queues: queues(state, self.topic) }
    }
}

impl Answerable for QueryAssignmentRequest {
    type Answer = QueryAssignmentResponse;
    const RPC: &'static str = "QueryAssignment";

    fn refused(status: Status) -> QueryAssignmentResponse {
        QueryAssignmentResponse { status: Some(status), assignments: Vec::new() }
    }

    fn answer(self, state: &State, _: &Rule) -> QueryAssignmentResponse {
        let queue = queues(state, self.topic).into_iter().next();
        let assignment = Assignment { message_queue: queue.map(|queue| MessageQueue { id: -1, ..queue }) };
        QueryAssignmentResponse { status: Some(ok()), assignments: vec![assignment] }
    }
}

impl Answerable for SendMessageRequest {
    type Answer = SendMessageResponse;
    const RPC: &'static str = "SendMessage";

    fn refused(status: Status) -> SendMessageResponse {
        SendMessageResponse { status: Some(status), entries: Vec::new() }
    }

    fn answer(self, _: &State, rule: &Rule) -> SendMessageResponse {
        let properties =
            self.messages.into_iter().map(|message| message.system_properties.unwrap_or_default());
        let sent: Vec<(String, MessageType)> =
            properties.map(|properties| (properties.message_id.clone(), properties.message_type())).collect();
        let sent = match rule.one_entry {
            true => {
                let ids: Vec<&str> = sent.iter().map(|(id, _)| id.as_str()).collect();
                vec![(ids.join(","), MessageType::Normal)]
            }
            false => sent,
        };
        let only = |wanted: MessageType, of: MessageType, text: String| {
            if of == wanted { text } else { String::new() }
        };
        let entry = |(place, (message_id, of)): (usize, (String, MessageType))| SendResultEntry {
            status: Some(rule.entries.get(place).map_or_else(ok, |name| status(code(name), ""))),
            transaction_id: only(MessageType::Transaction, of, format!("transaction-{message_id}")),
            recall_handle: only(MessageType::Delay, of, format!("recall-{message_id}")),
            message_id,
            offset: i64::try_from(place).unwrap_or_default(),
        };
        let entries: Vec<SendResultEntry> = sent.into_iter().enumerate().map(entry).collect();
        SendMessageResponse { status: Some(common(entries.iter().map(|entry| &entry.status))), entries }
    }
}

impl Answerable for AckMessageRequest {
    type Answer = AckMessageResponse;
    const RPC: &'static str = "AckMessage";

    fn refused(status: Status) -> AckMessageResponse {
        AckMessageResponse { status: Some(status), entries: Vec::new() }
    }

    fn answer(self, _: &State, rule: &Rule) -> AckMessageResponse {
        let entry = |(place, entry): (usize, AckMessageEntry)| AckMessageResultEntry {
            status: Some(
                rule.handles
                    .get(&entry.receipt_handle)
                    .or_else(|| rule.entries.get(place))
                    .map_or_else(ok, |name| status(code(name), "")),
            ),
            message_id: entry.message_id,
            receipt_handle: entry.receipt_handle,
        };
        let entries: Vec<AckMessageResultEntry> = self.entries.into_iter().enumerate().map(entry).collect();
        AckMessageResponse { status: Some(common(entries.iter().map(|entry| &entry.status))), entries }
    }
}

impl Answerable for ChangeInvisibleDurationRequest {
    type Answer = ChangeInvisibleDurationResponse;
    const RPC: &'static str = "ChangeInvisibleDuration";

    fn refused(status: Status) -> ChangeInvisibleDurationResponse {
        ChangeInvisibleDurationResponse { status: Some(status), receipt_handle: String::new() }
    }

    /// Every change makes a new handle: the old one with a `+`.
    fn answer(self, _: &State, rule: &Rule) -> ChangeInvisibleDurationResponse {
        match rule.handles.get(&self.receipt_handle) {
            Some(name) => Self::refused(status(code(name), "")),
            None => ChangeInvisibleDurationResponse {
                status: Some(ok()),
                receipt_handle: format!("{}+", self.receipt_handle),
            },
        }
    }
}

impl Answerable for RecallMessageRequest {
    type Answer = RecallMessageResponse;
    const RPC: &'static str = "RecallMessage";

    fn refused(status: Status) -> RecallMessageResponse {
        RecallMessageResponse { status: Some(status), message_id: String::new() }
    }

    fn answer(self, _: &State, _: &Rule) -> RecallMessageResponse {
        match self.recall_handle.strip_prefix("recall-") {
            Some(message_id) => {
                RecallMessageResponse { status: Some(ok()), message_id: message_id.to_owned() }
            }
            None => Self::refused(status(Code::InvalidReceiptHandle, "no such recall handle")),
        }
    }
}
