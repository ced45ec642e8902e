//! Request codes (Apache's `RequestCode`).

/// Stores one message; short field names.
pub const SEND_MESSAGE_V2: i32 = 310;
/// Stores several messages of one topic.
pub const SEND_BATCH_MESSAGE: i32 = 320;
/// Creates or changes a topic.
pub const UPDATE_AND_CREATE_TOPIC: i32 = 17;
/// Every topic of a broker.
pub const GET_ALL_TOPIC_CONFIG: i32 = 21;
/// Moves a message to its group's retry or dead-letter topic.
pub const CONSUMER_SEND_MSG_BACK: i32 = 36;
/// A topic's brokers and queues, from a name server.
pub const GET_ROUTEINFO_BY_TOPIC: i32 = 105;
/// Creates or changes a group.
pub const UPDATE_AND_CREATE_SUBSCRIPTION_GROUP: i32 = 200;
/// Every group of a broker.
pub const GET_ALL_SUBSCRIPTION_GROUP_CONFIG: i32 = 201;
/// Deletes a group.
pub const DELETE_SUBSCRIPTION_GROUP: i32 = 207;
/// Deletes a topic on a broker.
pub const DELETE_TOPIC_IN_BROKER: i32 = 215;
/// Deletes a topic's route.
pub const DELETE_TOPIC_IN_NAMESRV: i32 = 216;
/// One topic's configuration.
pub const GET_TOPIC_CONFIG: i32 = 351;
/// One group's configuration.
pub const GET_SUBSCRIPTION_GROUP_CONFIG: i32 = 352;
/// Takes messages under a lease.
pub const POP_MESSAGE: i32 = 200_050;
/// Marks one popped message as consumed.
pub const ACK_MESSAGE: i32 = 200_051;
/// Changes the lease of a popped message.
pub const CHANGE_MESSAGE_INVISIBLE_TIME: i32 = 200_053;
