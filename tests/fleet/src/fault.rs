//! The faults that are injected under load.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use cluster::Cluster;
use conformance::proxy::Proxy;
use tokio::time::{Instant, interval_at, sleep};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// Kills one proxy after the other with -9.
    Proxies,
    /// Kills a broker with -9 and starts it again later.
    Broker,
    /// Stops a broker with SIGTERM and starts it again. It answers GO_AWAY meanwhile.
    Shutdown,
    /// Suspends a broker with its connections open, and resumes it later.
    Hang,
    /// Kills a name server and starts it again, and kills the other one before the brokers have registered: for a while
    /// the only running name server knows no broker.
    NameServers,
}

impl Fault {
    /// Whether messages that are bound to one queue may fail for a while.
    pub(crate) fn takes_queues_away(self) -> bool {
        matches!(self, Self::Broker | Self::Shutdown | Self::Hang)
    }

    /// Injects the fault until the load ends, and returns a description of what was done.
    pub(crate) async fn strike(
        self,
        (load, every): (Duration, Duration),
        proxies: &mut [Proxy],
        cluster: &mut Cluster,
    ) -> Result<String> {
        let third = load / 3;
        let told = match self {
            Self::Proxies => return kill(proxies, (load, every)).await,
            Self::Broker | Self::Shutdown => {
                sleep(third).await;
                let told = if self == Self::Broker {
                    cluster.kill_broker(0).await?;
                    "a broker was killed with -9 and started again"
                } else {
                    cluster.stop_broker(0).await?;
                    "a broker was asked to end, and started again"
                };
                sleep(third).await;
                cluster.start_broker(0).await?;
                told
            }
            Self::Hang => {
                sleep(third).await;
                cluster.freeze_broker(0)?;
                sleep(third).await;
                cluster.thaw_broker(0)?;
                "a broker hung, and went on"
            }
            Self::NameServers => {
                cluster.kill_name_server(0).await?;
                sleep(third).await;
                cluster.start_name_server(0).await?;
                cluster.kill_name_server(1).await?;
                sleep(third).await;
                cluster.start_name_server(1).await?;
                "both name servers were killed with -9 and started again, the second right after the first was up"
            }
        };
        Ok(told.to_owned())
    }
}

async fn kill(proxies: &mut [Proxy], (load, every): (Duration, Duration)) -> Result<String> {
    let end = Instant::now() + load;
    let mut kills = 0;
    let mut ticks = interval_at(Instant::now() + every, every);
    loop {
        ticks.tick().await;
        if Instant::now() >= end {
            return Ok(format!("{kills} proxies were killed with -9"));
        }
        let count = proxies.len();
        proxies[kills % count].kill_and_restart().await?;
        kills += 1;
    }
}
