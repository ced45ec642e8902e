//! Telemetry streams: answers to settings and to commands, and what the server says on its own.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::StreamExt;
use rocketmq_thin_proto::v2::{Code, Settings, Status, TelemetryCommand, telemetry_command::Command};
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::{Status as GrpcStatus, Streaming};

use super::{
    answer::{code, status},
    connection::Cut,
    seen::Call,
    service::Service,
    settings,
    state::State,
};
use crate::{pattern, script::Rule};

type Sender = mpsc::UnboundedSender<Result<TelemetryCommand, GrpcStatus>>;

/// The server's side of a telemetry stream.
pub(super) struct Replies {
    pub(super) sender: Sender,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) cut: Option<Cut>,
}

/// A telemetry stream on which settings were exchanged.
#[derive(Debug)]
pub(super) struct Listener {
    sender: Sender,
    /// The client's settings, as JSON.
    client: Value,
    /// What the server answered last.
    settings: Settings,
}

impl Service {
    /// Answers the commands of one telemetry stream until the client ends it, or the server refuses settings:
    /// then it returns true.
    pub(super) async fn converse(&self, mut commands: Streaming<TelemetryCommand>, replies: Replies) -> bool {
        while let Some(Ok(command)) = commands.next().await {
            let Some(Command::Settings(wanted)) = &command.command else {
                let shown = self.state.show("TelemetryCommand", &command);
                self.state.note(Call { rpc: "Reply", metadata: replies.metadata.clone(), request: shown });
                continue;
            };
            let client = self.state.show("Settings", wanted);
            let call = Call { rpc: "Settings", metadata: replies.metadata.clone(), request: client.clone() };
            let rule = self.state.note(call);
            if rule.silent {
                continue;
            }
            let reply = match self.interfere(&rule, replies.cut.clone()).await {
                Err(error) => Err(error),
                Ok(()) => match &rule.code {
                    None => self.state.agree(&replies.sender, client, (wanted.clone(), &rule)),
                    Some(name) => {
                        Ok(TelemetryCommand { status: Some(status(code(name), &rule.text)), command: None })
                    }
                },
            };
            let refused = reply.is_err() || rule.code.is_some();
            if replies.sender.send(reply).is_err() || refused {
                return refused;
            }
        }
        false
    }
}

impl State {
    /// The answer to a client's settings; the stream listens from now on.
    fn agree(
        &self,
        sender: &Sender,
        client: Value,
        (wanted, rule): (Settings, &Rule),
    ) -> Result<TelemetryCommand, GrpcStatus> {
        let mut settings = settings::filled_in(wanted);
        if !rule.settings.is_null() {
            let patched = self.json().patched("Settings", &settings, &rule.settings);
            settings = patched.map_err(|error| GrpcStatus::internal(format!("{error:#}")))?;
        }
        let mut listeners = self.listeners();
        listeners.retain(|listener| !listener.sender.is_closed() && !listener.sender.same_channel(sender));
        listeners.push(Listener { sender: sender.clone(), client, settings: settings.clone() });
        self.listening().send_replace(());
        Ok(said(Command::Settings(settings)))
    }

    /// Sends a command on the streams of the clients whose settings fit `to`, once there is one.
    pub(super) async fn tell(&self, to: &Value, command: &Value) -> Result<()> {
        let mut listening = self.listening().subscribe();
        while self.told(to, command)? == 0 {
            listening.changed().await?;
        }
        Ok(())
    }

    /// The number of streams on which it was said.
    fn told(&self, to: &Value, command: &Value) -> Result<usize> {
        let mut listeners = self.listeners();
        let mut told = 0;
        for listener in listeners.iter_mut().filter(|listener| pattern::check(to, &listener.client).is_ok()) {
            let command = match command.get("settings") {
                Some(patch) => {
                    listener.settings = self.json().patched("Settings", &listener.settings, patch)?;
                    said(Command::Settings(listener.settings.clone()))
                }
                None => {
                    let read: TelemetryCommand = self.json().read("TelemetryCommand", command)?;
                    said(read.command.context("no command")?)
                }
            };
            told += usize::from(listener.sender.send(Ok(command)).is_ok());
        }
        Ok(told)
    }
}

fn said(command: Command) -> TelemetryCommand {
    let status = Status { code: Code::Ok.into(), message: "OK".to_owned() };
    TelemetryCommand { status: Some(status), command: Some(command) }
}
