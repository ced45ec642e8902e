//! Requests of classic clients, to a running proxy.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use rocketmq_thin_proxy::remoting::{CommandCodec, HeaderType, RemotingCommand, request, response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::codec::{Decoder, Encoder};

/// The number of every request.
const OPAQUE: i32 = 77;
/// Stands in an input between its fields, and before the body.
const SEPARATOR: u8 = b'\n';

/// The requests that the front end has a handler for, and one that it does not have.
pub(crate) const CODES: [i32; 46] = [
    request::SEND_MESSAGE,
    request::SEND_MESSAGE_V2,
    request::SEND_BATCH_MESSAGE,
    request::SEND_REPLY_MESSAGE_V2,
    request::PULL_MESSAGE,
    request::LITE_PULL_MESSAGE,
    request::QUERY_MESSAGE,
    request::QUERY_CONSUMER_OFFSET,
    request::UPDATE_CONSUMER_OFFSET,
    request::UPDATE_AND_CREATE_TOPIC,
    request::SEARCH_OFFSET_BY_TIMESTAMP,
    request::GET_MAX_OFFSET,
    request::GET_MIN_OFFSET,
    request::VIEW_MESSAGE_BY_ID,
    request::HEART_BEAT,
    request::UNREGISTER_CLIENT,
    request::CONSUMER_SEND_MSG_BACK,
    request::END_TRANSACTION,
    request::GET_CONSUMER_LIST_BY_GROUP,
    request::LOCK_BATCH_MQ,
    request::UNLOCK_BATCH_MQ,
    request::CHECK_CLIENT_CONFIG,
    request::GET_KV_CONFIG,
    request::GET_ROUTEINFO_BY_TOPIC,
    request::GET_BROKER_CLUSTER_INFO,
    request::UPDATE_AND_CREATE_SUBSCRIPTION_GROUP,
    request::GET_TOPIC_STATS_INFO,
    request::GET_CONSUMER_CONNECTION_LIST,
    request::GET_CONSUME_STATS,
    request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
    request::GET_CONSUMER_RUNNING_INFO,
    request::INVOKE_BROKER_TO_RESET_OFFSET,
    request::GET_TOPIC_CONFIG,
    request::RECALL_MESSAGE,
    request::QUERY_ASSIGNMENT,
    request::POP_MESSAGE,
    request::ACK_MESSAGE,
    request::BATCH_ACK_MESSAGE,
    request::CHANGE_MESSAGE_INVISIBLE_TIME,
    request::PEEK_MESSAGE,
    request::NOTIFICATION,
    request::SET_MESSAGE_REQUEST_MODE,
    request::GET_BROKER_CONFIG,
    request::QUERY_TOPIC_CONSUME_BY_WHO,
    request::GET_EARLIEST_MSG_STORE_TIME,
    i32::MAX,
];

/// A connection to a proxy.
pub(crate) struct Classic {
    address: SocketAddr,
    /// With the bytes that have arrived after the last answer: the proxy also sends requests.
    stream: Option<(TcpStream, BytesMut)>,
    connections: u32,
}

impl Classic {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, connections: 0 }
    }

    /// Sends an input, and reads what comes back. The first byte says whether the rest is a request to encode or the bytes
    /// of a connection.
    pub(crate) async fn exchange(&mut self, input: &[u8]) {
        let Some((choice, rest)) = input.split_first() else { return };
        if choice % 8 == 0 {
            return self.connection(rest).await;
        }
        if let Some(command) = request(*choice, rest) {
            self.call(&command).await;
        }
    }

    /// Whether the proxy answers a request with these fields that lists the topics.
    pub(crate) async fn lists_topics(&mut self, fields: &[(&'static str, String)]) -> bool {
        let mut command = RemotingCommand::request(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER);
        command.opaque = OPAQUE;
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            command = command.field(name, value);
        }
        self.call(&command).await == Some(response::SUCCESS)
    }

    /// Sends a request, and returns the code of its answer. `None` if there is none.
    async fn call(&mut self, command: &RemotingCommand) -> Option<i32> {
        let mut frame = BytesMut::new();
        // Not every code fits every kind of header.
        CommandCodec.encode(command, &mut frame).ok()?;
        let (mut stream, mut buffer) = match self.stream.take() {
            Some(open) => open,
            None => (self.connect().await, BytesMut::new()),
        };
        stream.write_all(&frame).await.ok()?;
        let code = answered(&mut stream, &mut buffer).await?;
        self.stream = Some((stream, buffer));
        Some(code)
    }

    /// A connection that ends after these bytes.
    async fn connection(&mut self, bytes: &[u8]) {
        // The first byte tells the protocol.
        let bytes = [&[0][..], bytes].concat();
        let mut stream = self.connect().await;
        // The proxy may close it before.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }

    /// Connections that have just ended take up a port for a while, so they come from several addresses.
    async fn connect(&mut self) -> TcpStream {
        self.connections = self.connections.wrapping_add(1);
        let [_, _, a, b] = (self.connections / 1000).to_be_bytes();
        let socket = TcpSocket::new_v4().expect("a socket");
        // Other systems than Linux have only one.
        let _ = socket.bind((Ipv4Addr::new(127, 1, a, b.max(1)), 0).into());
        socket.connect(self.address).await.expect("a connection")
    }
}

/// A request that is made of fields `key=value` in lines, and of a body behind an empty line.
fn request(choice: u8, text: &[u8]) -> Option<RemotingCommand> {
    let (code, text) = text.split_first()?;
    let (fields, body) = split(text);
    let mut command = RemotingCommand::request(CODES[usize::from(*code) % CODES.len()]);
    command.opaque = OPAQUE;
    if choice & 0x10 != 0 {
        command.header_type = HeaderType::Binary;
    }
    for line in fields.split(|byte| *byte == SEPARATOR) {
        let line = String::from_utf8_lossy(line);
        if let Some((key, value)) = line.split_once('=') {
            command.fields.insert(key.to_owned().into(), value.to_owned());
        }
    }
    Some(command.body(Bytes::copy_from_slice(body)))
}

fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.windows(2).position(|pair| pair == [SEPARATOR; 2]);
    end.map_or((text, &[]), |end| (&text[..end], &text[end + 2..]))
}

/// Reads until the answer to the last request is there, and returns its code. `None` if the proxy closes the connection
/// instead.
async fn answered(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<i32> {
    loop {
        match CommandCodec.decode(buffer) {
            Ok(Some(command)) if command.is_response() => {
                assert_eq!(command.opaque, OPAQUE, "an answer to another request");
                return Some(command.code);
            }
            // A request to the client.
            Ok(Some(_)) => {}
            Ok(None) => match stream.read_buf(buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            },
            Err(error) => panic!("the proxy sends {error}"),
        }
    }
}
