//! `quota`: lists, sets and removes the quotas of a running proxy.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

use super::admin_error::AdminError;
use super::output::{ActionReport, Report, Table, show};
use super::server_args::{NameArgs, ServerArgs};
use super::units;
use crate::duration;
use crate::layer::{OnExcess, Per, Quota, QuotaStatus};

#[derive(Subcommand)]
pub(super) enum QuotaCommand {
    /// List the quotas in force, and how many requests they have refused and delayed
    List(#[command(flatten)] ServerArgs),
    /// Add a quota, or replace the one with this name, until the next start of the proxy
    #[command(after_help = "\
The quota takes effect immediately, at this proxy only. Permanent quotas belong in the configuration file, as [[quotas]].
In a pattern, * matches any characters. With fleet_size in the configuration, each proxy enforces its share of the limits.

Examples:
  rocketmq-thin-proxy quota set each --per client --send-messages-per-second 1000 --long-polls 16
  rocketmq-thin-proxy quota set guests --per user --user 'guest-*' --send-bytes-per-second 1MiB
  rocketmq-thin-proxy quota set reports --per group --group 'report-*' --receive-messages-per-second 50 --on-excess delay
  rocketmq-thin-proxy quota set strangers --per address --requests-per-second 100 --burst 5s")]
    Set(Box<SetQuota>),
    /// Remove a quota until the next start of the proxy
    Remove(#[command(flatten)] NameArgs),
}

#[derive(ClapArgs)]
pub(super) struct SetQuota {
    #[command(flatten)]
    quota: NameArgs,
    /// The scope: the limits apply to each client, each user, each topic and so on separately
    #[arg(long)]
    per: Per,
    /// Only for clients whose id matches
    #[arg(long, value_name = "PATTERN")]
    client: Option<String>,
    /// Only for users whose name matches
    #[arg(long, value_name = "PATTERN")]
    user: Option<String>,
    /// Only for requests with a group whose name matches
    #[arg(long, value_name = "PATTERN")]
    group: Option<String>,
    /// Only for requests with a topic whose name matches
    #[arg(long, value_name = "PATTERN")]
    topic: Option<String>,
    /// Only at addresses of the proxy whose name matches: main, or the name of an entry
    #[arg(long, value_name = "PATTERN")]
    entry: Option<String>,
    /// Requests of any kind per second
    #[arg(long, value_name = "N")]
    requests_per_second: Option<NonZeroU64>,
    /// Sent messages per second
    #[arg(long, value_name = "N")]
    send_messages_per_second: Option<NonZeroU64>,
    /// Bytes of sent bodies per second, such as 1MiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    send_bytes_per_second: Option<NonZeroU64>,
    /// Delivered messages per second
    #[arg(long, value_name = "N")]
    receive_messages_per_second: Option<NonZeroU64>,
    /// Bytes of delivered bodies per second, such as 1MiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    receive_bytes_per_second: Option<NonZeroU64>,
    /// Concurrent receives and pulls
    #[arg(long, value_name = "N")]
    long_polls: Option<NonZeroU32>,
    /// Other concurrent requests
    #[arg(long, value_name = "N")]
    requests_in_flight: Option<NonZeroU32>,
    /// The largest body of a sent message, such as 64KiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    message_bytes: Option<NonZeroU64>,
    /// How much may arrive at once: the amount that the limits allow in this time
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "400ms")]
    burst: Duration,
    /// What happens to a request that exceeds the quota
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    on_excess: OnExcess,
    /// The longest delay of a request
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "1s")]
    max_delay: Duration,
}

/// Runs `quota`.
pub(super) async fn run(command: QuotaCommand) -> Result<(), AdminError> {
    match command {
        QuotaCommand::List(server) => {
            let quotas = server.connect().await?.quotas().await?;
            Ok(show(&QuotaList(quotas.into_iter().map(QuotaLine::from).collect()), server.json)?)
        }
        QuotaCommand::Set(set) => {
            set.quota.server.connect().await?.set_quota(set.quota()).await?;
            show_done("set", set.quota)
        }
        QuotaCommand::Remove(named) => {
            named.server.connect().await?.remove_quota(named.name.clone()).await?;
            show_done("removed", named)
        }
    }
}

fn show_done(done: &'static str, NameArgs { name, server }: NameArgs) -> Result<(), AdminError> {
    Ok(show(&ActionReport { done, kind: "quota", name }, server.json)?)
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
            burst: self.burst,
            on_excess: self.on_excess,
            max_delay: self.max_delay,
        }
    }
}

fn bytes(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(units::parse_bytes(text)?).ok_or_else(|| "it must be above 0".to_owned())
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
            let (refused, delayed) = (refused.to_string(), delayed.to_string());
            table.row([quota.name.clone(), per, only(quota), limits(quota), burst, excess, refused, delayed]);
        }
        table.text()
    }
}

/// The patterns of a quota, or `-` if it has none.
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
        limit.map(|limit| format!("{} {unit}", units::format_bytes(limit.get())))
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
