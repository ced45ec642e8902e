//! `quota`: how much the clients of a running proxy may do.

use std::num::{NonZeroU32, NonZeroU64};

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

use super::admin::AdminError;
use super::commands::{Named, Server};
use super::output::{Done, Report, Table, show};
use super::times;
use crate::layer::{OnExcess, Per, Quota, QuotaStatus};

#[derive(Subcommand)]
pub(super) enum QuotaCommand {
    /// List the quotas in force, and how many requests they have refused and delayed
    List(#[command(flatten)] Server),
    /// Add a quota, or replace the one of this name, until the next start of the proxy
    #[command(after_help = "\
It takes effect at once, for this proxy only. What shall last is written in the configuration file, as [[quotas]].
In a pattern, * stands for any characters. With fleet_size in the configuration, the proxy allows its part.

Examples:
  rocketmq-thin-proxy quota set each --per client --send-messages-per-second 1000 --long-polls 16
  rocketmq-thin-proxy quota set guests --per user --user 'guest-*' --send-bytes-per-second 1MiB
  rocketmq-thin-proxy quota set reports --per group --group 'report-*' --receive-messages-per-second 50 --on-excess delay
  rocketmq-thin-proxy quota set strangers --per address --requests-per-second 100 --burst 5s")]
    Set(Box<SetQuota>),
    /// Remove a quota until the next start of the proxy
    Remove(#[command(flatten)] Named),
}

#[derive(ClapArgs)]
pub(super) struct SetQuota {
    #[command(flatten)]
    quota: Named,
    /// Who has it each
    #[arg(long)]
    per: Per,
    /// Only for these clients, by the id that a client gives itself
    #[arg(long, value_name = "PATTERN")]
    client: Option<String>,
    /// Only for these users
    #[arg(long, value_name = "PATTERN")]
    user: Option<String>,
    /// Only for these groups
    #[arg(long, value_name = "PATTERN")]
    group: Option<String>,
    /// Only for these topics
    #[arg(long, value_name = "PATTERN")]
    topic: Option<String>,
    /// Only at these addresses of the proxy: main, or the name of an entry
    #[arg(long, value_name = "PATTERN")]
    entry: Option<String>,
    /// Requests of any kind
    #[arg(long, value_name = "N")]
    requests_per_second: Option<NonZeroU64>,
    /// Messages that are sent
    #[arg(long, value_name = "N")]
    send_messages_per_second: Option<NonZeroU64>,
    /// Bytes of the bodies of messages that are sent, such as 1MiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    send_bytes_per_second: Option<NonZeroU64>,
    /// Messages that are delivered
    #[arg(long, value_name = "N")]
    receive_messages_per_second: Option<NonZeroU64>,
    /// Bytes of the bodies of messages that are delivered, such as 1MiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    receive_bytes_per_second: Option<NonZeroU64>,
    /// Receives and pulls at a time
    #[arg(long, value_name = "N")]
    long_polls: Option<NonZeroU32>,
    /// Other requests at a time
    #[arg(long, value_name = "N")]
    requests_in_flight: Option<NonZeroU32>,
    /// Bytes of the body of each message that is sent, such as 64KiB; larger ones are refused
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    message_bytes: Option<NonZeroU64>,
    /// How much may come at once: what the limits allow in this time
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    burst: humantime::Duration,
    /// What becomes of a request beyond it
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    on_excess: OnExcess,
    /// How long a request is delayed at most
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    max_delay: humantime::Duration,
}

/// Runs `quota`.
pub(super) async fn run(command: QuotaCommand) -> Result<(), AdminError> {
    let (done, Named { name, server }) = match command {
        QuotaCommand::List(server) => {
            let quotas = server.connect().await?.quotas().await?;
            return Ok(show(&QuotaList(quotas.into_iter().map(QuotaLine::from).collect()), server.json)?);
        }
        QuotaCommand::Set(set) => {
            set.quota.server.connect().await?.set_quota(set.quota()).await?;
            ("set", set.quota)
        }
        QuotaCommand::Remove(named) => {
            named.server.connect().await?.remove_quota(named.name.clone()).await?;
            ("removed", named)
        }
    };
    Ok(show(&Done { done, kind: "quota", name }, server.json)?)
}

impl SetQuota {
    fn quota(&self) -> Quota {
        Quota {
            name: self.quota.name.clone(),
            per: self.per,
            client: self.client.clone(),
            user: self.user.clone(),
            group: self.group.clone(),
            topic: self.topic.clone(),
            entry: self.entry.clone(),
            requests_per_second: self.requests_per_second,
            send_messages_per_second: self.send_messages_per_second,
            send_bytes_per_second: self.send_bytes_per_second,
            receive_messages_per_second: self.receive_messages_per_second,
            receive_bytes_per_second: self.receive_bytes_per_second,
            long_polls: self.long_polls,
            requests_in_flight: self.requests_in_flight,
            message_bytes: self.message_bytes,
            burst: self.burst.into(),
            on_excess: self.on_excess,
            max_delay: self.max_delay.into(),
        }
    }
}

fn bytes(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(times::parse_bytes(text)?).ok_or_else(|| "it must be above 0".to_owned())
}

#[derive(Serialize)]
struct QuotaLine {
    #[serde(flatten)]
    quota: Quota,
    refused: u64,
    delayed: u64,
}

impl From<QuotaStatus> for QuotaLine {
    fn from(QuotaStatus { quota, refused, delayed }: QuotaStatus) -> Self {
        Self { quota, refused, delayed }
    }
}

#[derive(Serialize)]
struct QuotaList(Vec<QuotaLine>);

impl Report for QuotaList {
    fn text(&self) -> String {
        let mut table =
            Table::new(["NAME", "PER", "ONLY", "LIMITS", "BURST", "EXCESS", "REFUSED", "DELAYED"]);
        for QuotaLine { quota, refused, delayed } in &self.0 {
            let per = format!("{:?}", quota.per).to_lowercase();
            let excess = match quota.on_excess {
                OnExcess::Refuse => "refused".to_owned(),
                OnExcess::Delay => format!("delayed {}", humantime::format_duration(quota.max_delay)),
            };
            let burst = humantime::format_duration(quota.burst).to_string();
            let counts = [refused.to_string(), delayed.to_string()];
            let [refused, delayed] = counts;
            table.row([quota.name.clone(), per, only(quota), limits(quota), burst, excess, refused, delayed]);
        }
        table.text()
    }
}

/// What a quota is only for.
fn only(quota: &Quota) -> String {
    let patterns = [
        ("client", &quota.client),
        ("user", &quota.user),
        ("group", &quota.group),
        ("topic", &quota.topic),
        ("entry", &quota.entry),
    ];
    let given =
        patterns.into_iter().filter_map(|(name, pattern)| Some(format!("{name} {}", pattern.as_ref()?)));
    let only: Vec<_> = given.collect();
    if only.is_empty() { "-".to_owned() } else { only.join(", ") }
}

fn limits(quota: &Quota) -> String {
    let count = |limit: Option<NonZeroU64>, unit: &str| limit.map(|limit| format!("{limit} {unit}"));
    let size = |limit: Option<NonZeroU64>, unit: &str| {
        limit.map(|limit| format!("{} {unit}", times::bytes(limit.get())))
    };
    let limits = [
        count(quota.requests_per_second, "requests/s"),
        count(quota.send_messages_per_second, "sent/s"),
        size(quota.send_bytes_per_second, "sent/s"),
        count(quota.receive_messages_per_second, "received/s"),
        size(quota.receive_bytes_per_second, "received/s"),
        count(quota.long_polls.map(Into::into), "long polls"),
        count(quota.requests_in_flight.map(Into::into), "requests in flight"),
        size(quota.message_bytes, "a message"),
    ];
    limits.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
