//! The Rust driver of the conformance suite: requests as JSON lines on stdin, replies on stdout. It converts
//! and decides nothing; `tests/conformance/README.md` is the protocol.

mod answers;
mod client;
mod consume;
mod convert;
mod observe;
mod operation;
mod push;

use std::{collections::HashMap, process::ExitCode, sync::Arc};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout},
    sync::mpsc,
    task::AbortHandle,
};

use operation::Handles;

#[tokio::main]
async fn main() -> ExitCode {
    let (replies, mut outgoing) = mpsc::unbounded_channel::<Value>();
    let writer = tokio::spawn(async move {
        let mut stdout = stdout();
        while let Some(reply) = outgoing.recv().await.filter(|reply| !reply.is_null()) {
            let written = stdout.write_all(format!("{reply}\n").as_bytes()).await;
            if written.is_err() || stdout.flush().await.is_err() {
                return;
            }
        }
    });
    let handles = Arc::new(Handles::new(replies.clone()));
    let mut running: HashMap<u64, AbortHandle> = HashMap::new();
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(request) = serde_json::from_str::<Value>(&line) else { continue };
        let id = request["id"].as_u64().unwrap_or_default();
        match request["op"].as_str() {
            Some("exit") => {
                let _ = replies.send(json!({"id": id, "ok": {}}));
                break;
            }
            Some("cancel") => {
                let cancelled = request["request"].as_u64().and_then(|id| Some((id, running.remove(&id)?)));
                if let Some((id, task)) = cancelled {
                    task.abort();
                    let _ = replies.send(json!({"id": id, "error": {"kind": "Cancelled"}}));
                }
                let _ = replies.send(json!({"id": id, "ok": {}}));
            }
            _ => {
                running.retain(|_, task| !task.is_finished());
                let (handles, replies) = (Arc::clone(&handles), replies.clone());
                let task = tokio::spawn(async move {
                    let reply = match handles.perform(request).await {
                        Ok(value) => json!({"id": id, "ok": value}),
                        Err(error) => json!({"id": id, "error": error}),
                    };
                    let _ = replies.send(reply);
                });
                running.insert(id, task.abort_handle());
            }
        }
    }
    for task in running.into_values() {
        task.abort();
    }
    // Handlers may still hold a sender: null ends the output.
    let _ = replies.send(Value::Null);
    let _ = writer.await;
    ExitCode::SUCCESS
}
