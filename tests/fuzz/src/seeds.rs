//! Valid inputs, from which most others are made.

use bytes::BytesMut;
use prost::Message;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::remoting::message::{BatchEntry, put_batch_entry};
use rocketmq_thin_proxy::remoting::{CommandCodec, HeaderType, RemotingCommand, properties, request};
use tokio_util::codec::Encoder;

use crate::Target;
use crate::classic::CODES;

pub(crate) fn of(target: Target) -> Vec<Vec<u8>> {
    match target {
        Target::Grpc => requests(),
        Target::Sql => texts(&[
            "a > 3 AND b <> 'x'",
            "TRUE OR NOT (a IS NULL)",
            "n BETWEEN 1 AND 2 OR n NOT BETWEEN -1.5 AND 9e3",
            "a CONTAINS 'x' AND a NOT STARTSWITH '' /* or */ OR a NOT ENDSWITH 'y' -- end",
            "region IN ('east', 'it''s') AND n = -9223372036854775808",
            "((((a))))",
        ]),
        Target::Handle => [0u8, 1, 2, 4]
            .into_iter()
            .flat_map(|choice| {
                let handles =
                    ["18c0a1b2c3d.7530..q.0.0.1", "0.0.east.x", "ffffffffffffffff.ffffffffffffffff..0.0"];
                handles.map(|text| [&[choice][..], text.as_bytes()].concat())
            })
            .collect(),
        Target::ProxyHeader => {
            let mut seeds = texts(&[
                "PROXY TCP4 7.7.7.7 8.8.8.8 777 888\r\nPRI",
                "PROXY TCP6 ::1 ::2 1 2\r\n",
                "PROXY UNKNOWN\r\n",
            ]);
            let version_2 = b"\r\n\r\n\0\r\nQUIT\n";
            seeds.push([&version_2[..], &[0x21, 0x11, 0, 12, 7, 7, 7, 7, 8, 8, 8, 8, 3, 9, 3, 120]].concat());
            seeds.push([&version_2[..], &[0x21, 0x21, 0, 36], &[1; 36]].concat());
            seeds
        }
        Target::Remoting => {
            let header = br#"{"code":105,"language":"JAVA","version":1,"opaque":2,"flag":0,"extFields":{"topic":"t"}}"#;
            let lengths = u16::try_from(header.len()).expect("short").to_be_bytes();
            let json = |choice: u8| [&[choice][..], &lengths, header, b"body"].concat();
            let fields = b"\x05KEYS\x01a\x02TAGS\x01b\x02";
            let mut seeds = vec![json(1), json(2), [&[4][..], header].concat(), fields.to_vec(), vec![3; 91]];
            seeds.extend(classic_requests());
            seeds
        }
        Target::Classic => classic_fields(),
        Target::Http => http_requests(),
        Target::Token => credentials(),
    }
}

/// Requests of classic clients by their fields, and connections of theirs.
fn classic_fields() -> Vec<Vec<u8>> {
    let heartbeat = "\n\n{\"clientID\":\"c\",\"producerDataSet\":[{\"groupName\":\"p\"}],\"consumerDataSet\":[{\"groupName\":\"g\",\
        \"consumeType\":\"CONSUME_PASSIVELY\",\"messageModel\":\"CLUSTERING\",\"subscriptionDataSet\":[{\"topic\":\"t\",\
        \"subString\":\"*\",\"subVersion\":1}]}]}";
    let queue = "topic=t\nqueueId=0\nbname=x\nconsumerGroup=g";
    let texts = [
        (request::HEART_BEAT, heartbeat.to_owned()),
        (request::SEND_MESSAGE_V2, "a=p\nb=t\ne=0\nf=0\ng=1\ni=KEYS\u{1}k\u{2}DELAY\u{1}3\n\nbody".to_owned()),
        (request::SEND_MESSAGE, "producerGroup=p\ntopic=t\nqueueId=-1\nsysFlag=1\nbornTimestamp=1\n\nbody".to_owned()),
        (request::PULL_MESSAGE, format!("{queue}\nqueueOffset=0\nmaxMsgNums=32\nsysFlag=5\ncommitOffset=1\nsubscription=*")),
        (request::PULL_MESSAGE, format!("{queue}\nqueueOffset=1152921504606846977\nmaxMsgNums=32\nsysFlag=0")),
        (request::UPDATE_CONSUMER_OFFSET, format!("{queue}\ncommitOffset=1152921504606846980")),
        (request::QUERY_CONSUMER_OFFSET, queue.to_owned()),
        (request::SEARCH_OFFSET_BY_TIMESTAMP, format!("{queue}\ntimestamp=1\nboundaryType=UPPER")),
        (request::POP_MESSAGE, format!("{queue}\nmaxMsgNums=32\ninvisibleTime=10\npollTime=0\nbornTime=0\ninitMode=0\nexp=*")),
        (request::ACK_MESSAGE, format!("{queue}\noffset=0\nextraInfo=0 1 2 0 0 x 0 0 1handle")),
        (request::CHANGE_MESSAGE_INVISIBLE_TIME, format!("{queue}\noffset=0\ninvisibleTime=10\nextraInfo=0 1 2 0 0 x 0 0")),
        (request::BATCH_ACK_MESSAGE, "\n\n{\"acks\":[{\"b\":\"AQ==\",\"c\":\"g\",\"it\":1,\"pt\":1,\"q\":0,\"r\":\"0\",\"rq\":0,\"so\":0,\"t\":\"t\"}]}".to_owned()),
        (request::LOCK_BATCH_MQ, "\n\n{\"clientId\":\"c\",\"consumerGroup\":\"g\",\"mqSet\":[{\"brokerName\":\"x\",\"queueId\":0,\"topic\":\"t\"}]}".to_owned()),
        (request::QUERY_ASSIGNMENT, "\n\n{\"clientId\":\"c\",\"consumerGroup\":\"g\",\"strategyName\":\"AVG\",\"topic\":\"t\"}".to_owned()),
        (request::CONSUMER_SEND_MSG_BACK, "group=g\noffset=0\ndelayLevel=3\noriginTopic=t\nmaxReconsumeTimes=3".to_owned()),
        (request::END_TRANSACTION, "topic=t\nproducerGroup=p\ncommitOrRollback=8\ntransactionId=x\nmsgId=y".to_owned()),
        (request::QUERY_MESSAGE, "topic=t\nkey=k\nmaxNum=3\nbeginTimestamp=0\nendTimestamp=9999999999999".to_owned()),
        (request::VIEW_MESSAGE_BY_ID, "topic=t\noffset=0".to_owned()),
        (request::GET_ROUTEINFO_BY_TOPIC, "topic=t".to_owned()),
        (request::GET_TOPIC_STATS_INFO, "topic=t".to_owned()),
    ];
    let code = |code: i32| CODES.iter().position(|known| *known == code).unwrap_or(0) as u8;
    let texts = texts.iter().map(|(kind, text)| [&[1, code(*kind)][..], text.as_bytes()].concat());
    // The first byte of each connection, which is 0, is not part of an input.
    let connections = classic_requests().into_iter().map(|frame| [&[0][..], &frame[2..]].concat());
    texts.chain(connections).collect()
}

/// Frames of classic clients, as a connection carries them: a heartbeat, a send, a batch, and a compressed body.
fn classic_requests() -> Vec<Vec<u8>> {
    let heartbeat = r#"{"clientID":"c","producerDataSet":[{"groupName":"p"}],"consumerDataSet":[{"groupName":"g",
        "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET",
        "subscriptionDataSet":[{"topic":"t","subString":"a||b","subVersion":1,"tagsSet":["a"],"codeSet":[97]}]}]}"#;
    let heartbeat = RemotingCommand::request(34).body(heartbeat);
    let send = RemotingCommand::request(310).header(HeaderType::Binary);
    let send = send.field("a", "p").field("b", "t").field("e", 0).field("g", 1);
    let properties = properties::encode([("UNIQ_KEY", "id"), ("DELAY", "3"), ("KEYS", "a b"), ("own", "x")]);
    let mut batch = BytesMut::new();
    for (body, properties) in [("one", ""), ("two", properties.as_str())] {
        let entry = BatchEntry { flag: 0, properties: properties.to_owned(), body: body.into() };
        put_batch_entry(&mut batch, &entry);
    }
    let zstd = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 7 << 3, 0x03, 0x00, 0x10, b'x'];
    let compressed = send.clone().field("f", 0x201).body(zstd.to_vec());
    let batch = send.clone().field("m", true).body(batch.freeze());
    let single = send.field("i", properties).body("body");
    let frame = |command: &RemotingCommand| {
        let mut frame = BytesMut::from(&[0][..]);
        CommandCodec.encode(command, &mut frame).expect("a frame");
        frame.to_vec()
    };
    [heartbeat, single, batch, compressed].iter().map(frame).collect()
}

/// Requests of every part of the HTTP front end.
fn http_requests() -> Vec<Vec<u8>> {
    let json = "content-type: application/json\n\n";
    let requests = [
        (
            "POST /v1/topics/t/messages",
            r#"{"text": "a", "tag": "x", "keys": ["k"], "delay": "1s", "properties": {"p": "1"}}"#,
        ),
        (
            "POST /v1/topics/t/messages",
            r#"{"body": "/wA=", "message_group": "g", "deliver_at": "2026-11-29T10:00:00Z"}"#,
        ),
        ("POST /v1/groups/g/topics/t/receive?max=10&wait=1ms&invisible=60s&filter=a%7C%7Cb", ""),
        ("POST /v1/groups/g/topics/t/receive?sql=a%20%3E%201&bodies=base64", ""),
        ("POST /v1/groups/g/topics/t/ack", r#"{"handles": ["a", "b"]}"#),
        ("POST /v1/groups/g/topics/t/nack", r#"{"handles": ["a"], "after": "1m"}"#),
        ("POST /v1/groups/g/topics/t/extend", r#"{"handles": ["a"], "invisible": "1m"}"#),
        ("POST /v1/groups/g/topics/t/dead-letter", r#"{"handles": ["a"], "lite_topic": "l"}"#),
        (
            "POST /v1/topics/t/transactions",
            r#"{"transaction_id": "x", "message_id": "m", "decision": "commit"}"#,
        ),
        (
            "POST /v1/topics",
            r#"{"name": "u", "type": "lite", "queues": 2, "retention": "7d", "lite_expiration": "1h"}"#,
        ),
        ("PATCH /v1/topics/t", r#"{"perm": "rw", "retention": null, "retention_bytes": 1000}"#),
        ("DELETE /v1/topics/u", ""),
        (
            "POST /v1/groups",
            r#"{"name": "h", "fifo": true, "retry": {"initial": "1s", "max": "2s", "multiplier": 2.0}}"#,
        ),
        (
            "PATCH /v1/groups/g",
            r#"{"retry": ["1s", "5s"], "max_retries": 3, "start": "2026-11-29T10:00:00Z"}"#,
        ),
        ("POST /v1/groups/g/reset", r#"{"topic": "t", "to": "earliest"}"#),
        (
            "PUT /v1/quotas/q",
            r#"{"name": "q", "per": "client", "send_bytes_per_second": 1000000000, "burst": "1s"}"#,
        ),
        ("DELETE /v1/quotas/q", ""),
        ("GET /v1/topics/t/messages?offset=0&max=5&queue=0", ""),
        ("POST /v1/topics/t/recall", r#"{"recall_handle": "x"}"#),
        ("POST /v1/groups/g/dead-letters/resend", r#"{"next": 1}"#),
        ("GET /v1/topics/t/stats", ""),
        ("GET /v1/groups/g/stats?topic=t", ""),
        ("GET /v1/topic-stats?after=a", ""),
        ("GET /v1/messages/M1/trace?topic=t", ""),
        ("GET /openapi.json", ""),
        ("GET /v1/store", ""),
        ("GET /v1/clients", ""),
    ];
    let mut seeds: Vec<_> = requests.map(|(line, body)| format!("{line}\n{json}{body}").into_bytes()).into();
    seeds.extend(texts(&[
        "POST /v1/topics/t/messages\ncontent-type: text/plain\nx-rocketmq-tag: x\nx-rocketmq-keys: a b\nx-rocketmq-delay: 1s\n\nhello",
        "POST /v1/topics/t/messages\nce-specversion: 1.0\nce-id: 1\nce-source: /s\nce-type: t\nce-time: 2026-11-29T10:00:00Z\n\
         ce-ext: %C3%A9\ncontent-type: text/plain\n\nhello",
        "POST /v1/topics/t/messages\ncontent-type: application/cloudevents+json\n\n{\"specversion\":\"1.0\",\"id\":\"1\",\
         \"source\":\"/s\",\"type\":\"t\",\"data_base64\":\"AAE=\",\"ext\":1}",
        "POST /v1/topics/t/messages\ncontent-type: application/cloudevents-batch+json\n\n[{\"specversion\":\"1.0\",\"id\":\"1\",\
         \"source\":\"/s\",\"type\":\"t\",\"data\":{\"a\":[1]}}]",
        "POST /v1/groups/g/topics/t/receive?max=2\naccept: text/event-stream\nlast-event-id: 1\n\n",
        "OPTIONS /v1/topics/t/messages\norigin: https://a.example\naccess-control-request-method: POST\n\n",
        "GET /v1/topics\naccept-encoding: gzip\nauthorization: Basic YTpi\n\n",
    ]));
    seeds
}

/// Credentials of every kind. The first byte chooses it.
fn credentials() -> Vec<Vec<u8>> {
    let token =
        "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUvIiwiYXVkIjoibXEifQ.AAAA";
    let header = r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#;
    let claims =
        |rest: &str| format!(r#"{{"iss":"https://login.example/","aud":"mq","sub":"admin",{rest}}}"#);
    let seeds = [
        (0, "MQv2-HMAC-SHA1 Credential=admin/x/Rocketmq, SignedHeaders=x-mq-date-time, Signature=00ff\n20260131T235959Z\n".to_owned()),
        (0, format!("\n\n{token}")),
        (1, format!("Bearer {token}")),
        (1, "Basic YWRtaW46c2VjcmV0".to_owned()),
        (1, "bearer YWRtaW46c2VjcmV0".to_owned()),
        (2, "admin:secret".to_owned()),
        (3, "admin\nAAECAwQFBgcICQoLDA0ODxAREhM=\n".to_owned()),
        (3, format!("\n\n{token}")),
        (4, format!("{header}\n{}", claims(r#""exp":32503680000"#))),
        (4, format!("{header}\n{}", claims(r#""exp":32503680000.5,"nbf":1,"iat":1,"aud":["mq","x"]"#))),
        (4, format!("{}\n{}", r#"{"alg":"none"}"#, claims(r#""exp":1e300"#))),
        (4, format!("{}\n{}", r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"},"crit":["x"]}"#, claims(r#""exp":-1"#))),
        (5, "20260131T235959Z".to_owned()),
        (5, "2026-01-31T23:59:59.123456789+08:00".to_owned()),
        (5, "2026-11-30T18:59:59-0530".to_owned()),
    ];
    seeds.iter().map(|(choice, text)| [&[*choice][..], text.as_bytes()].concat()).collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn requests() -> Vec<Vec<u8>> {
    let resource = |name: &str| Some(pb::Resource { name: name.to_owned(), ..Default::default() });
    let (topic, group) = (resource("t"), resource("g"));
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let message = pb::Message {
        topic: topic.clone(),
        user_properties: [("a".to_owned(), "1".to_owned())].into(),
        system_properties: Some(pb::SystemProperties {
            tag: Some("tag".to_owned()),
            keys: vec!["key".to_owned()],
            message_id: "m".to_owned(),
            message_type: pb::MessageType::Normal.into(),
            ..Default::default()
        }),
        body: "body".into(),
    };
    let filter = pb::FilterExpression { r#type: pb::FilterType::Sql.into(), expression: "a = 1".to_owned() };
    let receive = pb::ReceiveMessageRequest {
        group: group.clone(),
        message_queue: Some(pb::MessageQueue { topic: topic.clone(), ..Default::default() }),
        filter_expression: Some(filter),
        batch_size: 3,
        invisible_duration: seconds(30),
        ..Default::default()
    };
    let settings = pb::Settings {
        client_type: Some(pb::ClientType::PushConsumer.into()),
        pub_sub: Some(pb::settings::PubSub::Subscription(pb::Subscription {
            group: group.clone(),
            subscriptions: vec![pb::SubscriptionEntry { topic: topic.clone(), expression: None }],
            ..Default::default()
        })),
        ..Default::default()
    };
    let telemetry = pb::TelemetryCommand {
        status: None,
        command: Some(pb::telemetry_command::Command::Settings(settings)),
    };
    let ack = pb::AckMessageRequest {
        group: group.clone(),
        topic: topic.clone(),
        entries: vec![pb::AckMessageEntry { receipt_handle: "handle".to_owned(), ..Default::default() }; 2],
    };
    let change = pb::ChangeInvisibleDurationRequest {
        group: group.clone(),
        topic: topic.clone(),
        receipt_handle: "handle".to_owned(),
        invisible_duration: seconds(10),
        ..Default::default()
    };
    let endpoints = Some(pb::Endpoints {
        scheme: pb::AddressScheme::IPv4.into(),
        addresses: vec![pb::Address { host: "127.0.0.1".to_owned(), port: 8081 }],
    });
    let route = pb::QueryRouteRequest { topic: topic.clone(), endpoints: endpoints.clone() };
    let assignment = pb::QueryAssignmentRequest { topic: topic.clone(), group: group.clone(), endpoints };
    let heartbeat = pb::HeartbeatRequest { group: group.clone(), client_type: 3 };
    let pull = pb::PullMessageRequest { group, offset: 1, batch_size: 2, ..Default::default() };
    let encoded = [
        (0, route.encode_to_vec()),
        (1, assignment.encode_to_vec()),
        (2, pb::SendMessageRequest { messages: vec![message.clone(), message] }.encode_to_vec()),
        (3, receive.encode_to_vec()),
        (4, ack.encode_to_vec()),
        (5, change.encode_to_vec()),
        (7, heartbeat.encode_to_vec()),
        (9, telemetry.encode_to_vec()),
        (11, pull.encode_to_vec()),
    ];
    encoded.into_iter().map(|(choice, request)| [&[choice][..], &request].concat()).collect()
}
