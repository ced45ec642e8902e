//! Replies between clients that are connected to different proxies of a fleet. The broker between the proxies does what Apache's
//! `ReplyMessageProcessor` does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use futures::StreamExt;
use rocketmq_thin_proxy::remoting::{CommandCodec, RemotingCommand, properties, request, response};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{Encoder, FramedRead};

use crate::classic::{Classic, code, send};
use crate::support::Proxy;

/// A name server and a broker in one.
#[derive(Clone, Default)]
struct Broker {
    address: String,
    /// The connections on which clients were announced.
    clients: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Call>>>>,
}

/// A request to a proxy, and where its answer goes.
type Call = (RemotingCommand, oneshot::Sender<RemotingCommand>);

impl Broker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let broker = Self { address, ..Self::default() };
        let serving = broker.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        broker
    }

    async fn serve(self, stream: TcpStream) {
        let (read, mut write) = stream.into_split();
        let mut commands = FramedRead::new(read, CommandCodec);
        let (answers, mut answered) = mpsc::unbounded_channel();
        let (calls, mut called) = mpsc::unbounded_channel::<Call>();
        let mut waiting = HashMap::new();
        loop {
            let outgoing = tokio::select! {
                command = commands.next() => match command {
                    Some(Ok(answer)) if answer.is_response() => {
                        let waiting: oneshot::Sender<_> = waiting.remove(&answer.opaque).expect("a call");
                        waiting.send(answer).expect("somebody who waits");
                        continue;
                    }
                    Some(Ok(request)) => {
                        let (broker, calls, answers) = (self.clone(), calls.clone(), answers.clone());
                        tokio::spawn(async move {
                            let (opaque, flag) = (request.opaque, 1);
                            let answer = RemotingCommand { opaque, flag, ..broker.answer(&request, calls).await };
                            // The proxy may have disconnected.
                            let _ = answers.send(answer);
                        });
                        continue;
                    }
                    _ => return,
                },
                Some(answer) = answered.recv() => answer,
                Some((call, answer)) = called.recv() => {
                    waiting.insert(call.opaque, answer);
                    call
                }
            };
            let mut frame = BytesMut::new();
            CommandCodec.encode(&outgoing, &mut frame).expect("a frame");
            if write.write_all(&frame).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, command: &RemotingCommand, calls: mpsc::UnboundedSender<Call>) -> RemotingCommand {
        match command.code {
            request::GET_ROUTEINFO_BY_TOPIC if command.text("topic") == Some("DefaultCluster") => {
                let broker = json!({"brokerName": "b", "brokerAddrs": {"0": self.address}, "cluster": "DefaultCluster"});
                let queues = json!({"brokerName": "b", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6});
                let route = json!({"brokerDatas": [broker], "queueDatas": [queues]});
                RemotingCommand::response(response::SUCCESS).body(route.to_string())
            }
            request::GET_ROUTEINFO_BY_TOPIC => RemotingCommand::response(response::TOPIC_NOT_EXIST),
            request::HEART_BEAT => {
                let body: Value = serde_json::from_slice(&command.body).expect("JSON");
                if body["producerDataSet"].as_array().is_some_and(|groups| !groups.is_empty()) {
                    let client = body["clientID"].as_str().expect("a client").to_owned();
                    self.clients.lock().expect("a lock").insert(client, calls);
                }
                RemotingCommand::response(response::SUCCESS)
            }
            request::UNREGISTER_CLIENT => {
                let client = command.text("clientID").expect("a client");
                self.clients.lock().expect("a lock").remove(client);
                RemotingCommand::response(response::SUCCESS)
            }
            request::SEND_REPLY_MESSAGE => self.pass_on(command).await,
            _ => RemotingCommand::response(response::SYSTEM_ERROR),
        }
    }

    async fn pass_on(&self, reply: &RemotingCommand) -> RemotingCommand {
        let text = reply.text("properties").expect("properties");
        let client = properties::decode(text).find(|(key, _)| *key == "REPLY_TO_CLIENT").expect("a client").1;
        let calls = self.clients.lock().expect("a lock").get(client).cloned();
        let Some(calls) = calls else { return RemotingCommand::response(response::SYSTEM_ERROR) };
        let (answer, answered) = oneshot::channel();
        let push = RemotingCommand {
            opaque: 4711,
            fields: reply.fields.clone(),
            ..RemotingCommand::request(code::PUSH_REPLY)
        };
        calls.send((push.body(reply.body.clone()), answer)).expect("a connection");
        RemotingCommand::response(answered.await.expect("an answer").code)
    }
}

async fn proxy(broker: &Broker) -> Proxy {
    Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.handle_key = Some("fleet".to_owned());
        config.backend.remote.name_server.clone_from(&broker.address);
    })
    .await
}

fn reply(client: &str) -> RemotingCommand {
    let pairs = [("REPLY_TO_CLIENT", client), ("CORRELATION_ID", "7")];
    RemotingCommand {
        code: code::SEND_REPLY_MESSAGE_V2,
        ..send("DefaultCluster_REPLY_TOPIC", 0, &pairs, "answer")
    }
}

#[tokio::test]
async fn a_reply_reaches_a_client_of_another_proxy() {
    let broker = Broker::start().await;
    let (here, there) = (proxy(&broker).await, proxy(&broker).await);
    let connected = async |address: SocketAddr| Classic::connect(address).await;
    let (mut requester, mut replier) = (connected(here.address).await, connected(there.address).await);
    requester.heartbeat("asks", &["pg"], &[]).await;
    // The client is announced at the broker by its request, even if the request is refused.
    let asked = send("t", 0, &[("REPLY_TO_CLIENT", "asks"), ("CORRELATION_ID", "7")], "question");
    assert_eq!(requester.call(asked).await.code, code::MESSAGE_ILLEGAL);

    let answered = replier.call(reply("asks")).await;
    assert_eq!(answered.code, code::SUCCESS, "{:?}", answered.remark);
    let push = requester.pushed().await;
    assert_eq!((push.code, push.body.as_ref()), (code::PUSH_REPLY, &b"answer"[..]));
    assert!(push.text("properties").expect("properties").contains("CORRELATION_ID\u{1}7"));
}
