//! Response codes that this proxy uses (Apache's `ResponseCode`).

/// Success.
pub const SUCCESS: i32 = 0;
/// A failure without a code of its own.
pub const SYSTEM_ERROR: i32 = 1;
/// The broker is overloaded.
pub const SYSTEM_BUSY: i32 = 2;
/// The peer does not know this request.
pub const REQUEST_CODE_NOT_SUPPORTED: i32 = 3;
/// The message is stored, but not yet on the disk.
pub const FLUSH_DISK_TIMEOUT: i32 = 10;
/// The message is stored, but there is no replica.
pub const SLAVE_NOT_AVAILABLE: i32 = 11;
/// The message is stored, but not yet on a replica.
pub const FLUSH_SLAVE_TIMEOUT: i32 = 12;
/// The message is invalid.
pub const MESSAGE_ILLEGAL: i32 = 13;
/// The broker can't store messages now, for example because its disk is full.
pub const SERVICE_NOT_AVAILABLE: i32 = 14;
/// The topic, the group or the user's rights don't allow the request.
pub const NO_PERMISSION: i32 = 16;
/// No such topic.
pub const TOPIC_NOT_EXIST: i32 = 17;
/// The topic exists already.
pub const TOPIC_EXIST_ALREADY: i32 = 18;
/// There is no message at the offset yet.
pub const PULL_NOT_FOUND: i32 = 19;
/// No message matched the filter. The client should pull again at once.
pub const PULL_RETRY_IMMEDIATELY: i32 = 20;
/// The offset is outside of the queue.
pub const PULL_OFFSET_MOVED: i32 = 21;
/// The requested item, for example a group's offset, does not exist.
pub const QUERY_NOT_FOUND: i32 = 22;
/// The filter expression can't be parsed.
pub const SUBSCRIPTION_PARSE_FAILED: i32 = 23;
/// The client's subscription is unknown.
pub const SUBSCRIPTION_NOT_EXIST: i32 = 24;
/// No such group.
pub const SUBSCRIPTION_GROUP_NOT_EXIST: i32 = 26;
/// A field is out of range.
pub const INVALID_PARAMETER: i32 = 29;
/// No client consumes in the group.
pub const CONSUMER_NOT_ONLINE: i32 = 206;
/// A client did not answer in time.
pub const CONSUME_MSG_TIMEOUT: i32 = 207;
/// There is no message at the offset.
pub const NO_MESSAGE: i32 = 208;
/// Too many pops are waiting.
pub const POLLING_FULL: i32 = 209;
/// A pop found no message in time.
pub const POLLING_TIMEOUT: i32 = 210;
/// The broker throttles such requests now.
pub const FLOW_CONTROL: i32 = 215;
/// The operation is not allowed in this state.
pub const ILLEGAL_OPERATION: i32 = 604;
/// The peer is shutting down. The client should repeat the request on a new connection.
pub const GO_AWAY: i32 = 1500;
/// The broker's limit of lite topics is reached.
pub const LMQ_QUOTA_EXCEEDED: i32 = 2017;
/// The broker's limit of subscriptions to lite topics is reached.
pub const LITE_SUBSCRIPTION_QUOTA_EXCEEDED: i32 = 2018;
/// No such user of access control.
pub const USER_NOT_EXIST: i32 = 3001;
/// No such policy of access control.
pub const POLICY_NOT_EXIST: i32 = 3002;
