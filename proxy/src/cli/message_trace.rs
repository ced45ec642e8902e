//! `message trace`: shows the recorded steps of a message.

use std::fmt::Write;
use std::time::SystemTime;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::admin_error::AdminError;
use super::output::{Report, Table, one_line, show};
use super::server_args::ServerArgs;
use super::units;
use crate::layer::{TraceEvent, TraceStep};
use crate::processor::{FoundTrace, TraceSearch};
use crate::service::time;

#[derive(ClapArgs)]
pub(super) struct TraceArgs {
    /// The id of the message
    id: String,
    /// Only steps that were recorded at this time or later
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    from: Option<SystemTime>,
    /// Only steps that were recorded at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    to: Option<SystemTime>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs `message trace`.
pub(super) async fn run(TraceArgs { id, from, to, server }: TraceArgs) -> Result<(), AdminError> {
    let mut admin = server.connect().await?;
    let found = admin.message_trace(TraceSearch { message_id: id.clone(), from, to }).await?;
    Ok(show(&TraceReport::new(id, found), server.json)?)
}

#[derive(Serialize)]
struct TraceReport {
    id: String,
    events: Vec<EventView>,
    /// Whether all records were searched.
    complete: bool,
}

#[derive(Serialize)]
struct EventView {
    at: String,
    step: TraceStep,
    topic: String,
    group: String,
    tag: String,
    keys: Vec<String>,
    client: String,
    address: String,
    cost_ms: i64,
    result: String,
    attempt: i32,
    delivery_id: String,
}

impl TraceReport {
    fn new(id: String, found: FoundTrace) -> Self {
        let view = |event: TraceEvent| EventView {
            at: units::format_time(time(event.at_ms)),
            step: event.step,
            keys: event.keys().map(str::to_owned).collect(),
            topic: event.topic,
            group: event.group,
            tag: event.tag,
            client: event.client.id,
            address: event.client.address,
            cost_ms: event.cost_ms,
            result: event.result,
            attempt: event.attempt,
            delivery_id: event.delivery_id,
        };
        Self { id, events: found.events.into_iter().map(view).collect(), complete: found.complete }
    }
}

impl Report for TraceReport {
    fn text(&self) -> String {
        let mut text = String::new();
        if self.events.is_empty() {
            let _ = writeln!(
                text,
                "no records of message {}: check that its topic or its user is in [message_trace]",
                one_line(&self.id, 255)
            );
        } else {
            let mut table = Table::new(["WHEN", "WHAT", "CLIENT", "GROUP", "ADDRESS", "COST", "RESULT"]);
            for event in &self.events {
                table.row([
                    event.at.clone(),
                    event.what(),
                    one_line(&event.client, 64),
                    one_line(&event.group, 40),
                    one_line(&event.address, 50),
                    if event.step == TraceStep::Delivered {
                        String::new()
                    } else {
                        format!("{} ms", event.cost_ms)
                    },
                    one_line(&event.result, 40),
                ]);
            }
            text.push_str(&table.text());
        }
        if !self.complete {
            text.push_str("the search stopped early: narrow it with --from and --to\n");
        }
        text
    }
}

impl EventView {
    fn what(&self) -> String {
        let step = <&str>::from(self.step).replace('_', "-");
        if self.attempt > 1 { format!("{step} ({})", self.attempt) } else { step }
    }
}
