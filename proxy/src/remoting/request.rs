//! Request codes (Apache's `RequestCode`). Each comment says what the request does or returns.

/// Stores one message.
pub const SEND_MESSAGE: i32 = 10;
/// Stores one message; short field names.
pub const SEND_MESSAGE_V2: i32 = 310;
/// A statistic of a broker, such as the messages that were stored in a topic during the last minute.
pub const VIEW_BROKER_STATS_DATA: i32 = 315;
/// Moves a group to another position in a topic.
pub const INVOKE_BROKER_TO_RESET_OFFSET: i32 = 222;
/// Stores several messages of one topic.
pub const SEND_BATCH_MESSAGE: i32 = 320;
/// Reads a queue from an offset on.
pub const PULL_MESSAGE: i32 = 11;
/// A group's offset in a queue.
pub const QUERY_CONSUMER_OFFSET: i32 = 14;
/// Stores a group's offset in a queue.
pub const UPDATE_CONSUMER_OFFSET: i32 = 15;
/// Creates or changes a topic.
pub const UPDATE_AND_CREATE_TOPIC: i32 = 17;
/// Creates or changes several topics.
pub const UPDATE_AND_CREATE_TOPIC_LIST: i32 = 18;
/// All topics of a broker.
pub const GET_ALL_TOPIC_CONFIG: i32 = 21;
/// The first offset of a queue whose message was stored at a time or later.
pub const SEARCH_OFFSET_BY_TIMESTAMP: i32 = 29;
/// The offset after the last message of a queue.
pub const GET_MAX_OFFSET: i32 = 30;
/// The offset of the first message of a queue.
pub const GET_MIN_OFFSET: i32 = 31;
/// Registers the producers and consumers of a client.
pub const HEART_BEAT: i32 = 34;
/// Unregisters a producer or consumer group of a client.
pub const UNREGISTER_CLIENT: i32 = 35;
/// Moves a message to its group's retry or dead-letter topic.
pub const CONSUMER_SEND_MSG_BACK: i32 = 36;
/// Commits or rolls back a half message.
pub const END_TRANSACTION: i32 = 37;
/// From a broker to a producer: asks whether to commit a half message.
pub const CHECK_TRANSACTION_STATE: i32 = 39;
/// Locks queues for a client of a group.
pub const LOCK_BATCH_MQ: i32 = 41;
/// Releases a client's locks of queues.
pub const UNLOCK_BATCH_MQ: i32 = 42;
/// Reads a queue from an offset on, for Apache's lite pull consumer.
pub const LITE_PULL_MESSAGE: i32 = 361;
/// The queues that a client is to consume.
pub const QUERY_ASSIGNMENT: i32 = 400;
/// A topic's brokers and queues, from a name server.
pub const GET_ROUTEINFO_BY_TOPIC: i32 = 105;
/// All brokers that a name server knows.
pub const GET_BROKER_CLUSTER_INFO: i32 = 106;
/// Creates or changes a group.
pub const UPDATE_AND_CREATE_SUBSCRIPTION_GROUP: i32 = 200;
/// Creates or changes several groups.
pub const UPDATE_AND_CREATE_SUBSCRIPTION_GROUP_LIST: i32 = 225;
/// All groups of a broker.
pub const GET_ALL_SUBSCRIPTION_GROUP_CONFIG: i32 = 201;
/// Deletes a group.
pub const DELETE_SUBSCRIPTION_GROUP: i32 = 207;
/// Deletes a topic on a broker.
pub const DELETE_TOPIC_IN_BROKER: i32 = 215;
/// Deletes a topic's route.
pub const DELETE_TOPIC_IN_NAMESRV: i32 = 216;
/// The topics that a group has received from.
pub const QUERY_TOPICS_BY_CONSUMER: i32 = 343;
/// One topic's configuration.
pub const GET_TOPIC_CONFIG: i32 = 351;
/// One group's configuration.
pub const GET_SUBSCRIPTION_GROUP_CONFIG: i32 = 352;
/// Recalls a delayed message.
pub const RECALL_MESSAGE: i32 = 370;
/// Takes messages under a lease.
pub const POP_MESSAGE: i32 = 200_050;
/// Marks one popped message as consumed.
pub const ACK_MESSAGE: i32 = 200_051;
/// Marks several popped messages as consumed.
pub const BATCH_ACK_MESSAGE: i32 = 200_151;
/// Changes the lease of a popped message.
pub const CHANGE_MESSAGE_INVISIBLE_TIME: i32 = 200_053;
/// Takes messages of a client's lite topics under a lease.
pub const POP_LITE_MESSAGE: i32 = 200_070;
/// Changes the lite topics of a client.
pub const LITE_SUBSCRIPTION_CTL: i32 = 200_071;
/// From a broker to a client: another client took over a lite topic.
pub const NOTIFY_UNSUBSCRIBE_LITE: i32 = 200_073;
/// From a client: checks that a subscription's filter can be parsed.
pub const CHECK_CLIENT_CONFIG: i32 = 46;
/// The ids of a consumer group's members.
pub const GET_CONSUMER_LIST_BY_GROUP: i32 = 38;
/// To a client: the members of a group have changed.
pub const NOTIFY_CONSUMER_IDS_CHANGED: i32 = 40;
/// An entry of a name server's key-value configuration.
pub const GET_KV_CONFIG: i32 = 101;
/// The entries of a namespace of a name server's key-value configuration.
pub const GET_KVLIST_BY_NAMESPACE: i32 = 219;
/// All topics that a name server knows.
pub const GET_ALL_TOPIC_LIST_FROM_NAMESERVER: i32 = 206;
/// All topics of a cluster.
pub const GET_TOPICS_BY_CLUSTER: i32 = 224;
/// The topics that are not those of applications, from a name server.
pub const GET_SYSTEM_TOPIC_LIST_FROM_NAMESERVER: i32 = 304;
/// A reply to a message; long field names.
pub const SEND_REPLY_MESSAGE: i32 = 324;
/// A reply to a message; short field names.
pub const SEND_REPLY_MESSAGE_V2: i32 = 325;
/// To a client: a reply to its message.
pub const PUSH_REPLY_MESSAGE_TO_CLIENT: i32 = 326;
/// The consumers of a group.
pub const GET_CONSUMER_CONNECTION_LIST: i32 = 203;
/// The producers of a group.
pub const GET_PRODUCER_CONNECTION_LIST: i32 = 204;
/// All producers, by group.
pub const GET_ALL_PRODUCER_INFO: i32 = 328;
/// The offsets of a topic's queues.
pub const GET_TOPIC_STATS_INFO: i32 = 202;
/// The progress of a group.
pub const GET_CONSUME_STATS: i32 = 208;
/// The message at a position in the commit log.
pub const VIEW_MESSAGE_BY_ID: i32 = 33;
/// The messages with a key.
pub const QUERY_MESSAGE: i32 = 12;
/// To a client: asks for its state.
pub const GET_CONSUMER_RUNNING_INFO: i32 = 307;
/// Deletes an entry of a name server's key-value configuration.
pub const DELETE_KV_CONFIG: i32 = 102;
/// A broker's version and load.
pub const GET_BROKER_RUNTIME_INFO: i32 = 28;
/// The messages that a group would receive next.
pub const PEEK_MESSAGE: i32 = 200_052;
/// Sets whether a group's clients pull or pop from a topic.
pub const SET_MESSAGE_REQUEST_MODE: i32 = 401;
/// A broker's configuration.
pub const GET_BROKER_CONFIG: i32 = 26;
/// The groups that consume from a topic.
pub const QUERY_TOPIC_CONSUME_BY_WHO: i32 = 300;
/// The time at which the first message of a queue was stored.
pub const GET_EARLIEST_MSG_STORE_TIME: i32 = 32;
/// To a client: consumes a message at once, and returns the result.
pub const CONSUME_MESSAGE_DIRECTLY: i32 = 309;
/// Changes a broker's configuration.
pub const UPDATE_BROKER_CONFIG: i32 = 25;
/// The offsets of a group's clients in a topic.
pub const INVOKE_BROKER_TO_GET_CONSUMER_STATUS: i32 = 223;
/// To a client: asks for its offsets in a topic.
pub const GET_CONSUMER_STATUS_FROM_CLIENT: i32 = 221;
/// To a client: resets the offsets of its queues.
pub const RESET_CONSUMER_CLIENT_OFFSET: i32 = 220;
/// Whether a pop would return a message.
pub const NOTIFICATION: i32 = 200_054;
/// Adds a user of access control.
pub const AUTH_CREATE_USER: i32 = 3001;
/// Changes a user.
pub const AUTH_UPDATE_USER: i32 = 3002;
/// Deletes a user.
pub const AUTH_DELETE_USER: i32 = 3003;
/// One user.
pub const AUTH_GET_USER: i32 = 3004;
/// The users of a broker.
pub const AUTH_LIST_USER: i32 = 3005;
/// Adds policies of a user.
pub const AUTH_CREATE_ACL: i32 = 3006;
/// Changes policies of a user.
pub const AUTH_UPDATE_ACL: i32 = 3007;
/// Deletes policies of a user.
pub const AUTH_DELETE_ACL: i32 = 3008;
/// The policies of one user.
pub const AUTH_GET_ACL: i32 = 3009;
/// The ACLs of a broker.
pub const AUTH_LIST_ACL: i32 = 3010;
