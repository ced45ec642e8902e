//! What breaks under load.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use cluster::Cluster;
use conformance::proxy::Proxy;
use tokio::time::{Instant, interval_at, sleep};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// A proxy after the other is killed with -9.
    Proxies,
    /// A broker is killed with -9, and started again later.
    Broker,
    /// A broker is asked to end, answers whoever asks it something that they should go away, and is started again.
    Shutdown,
    /// A broker hangs, with all its connections, and goes on later.
    Hang,
    /// A name server is killed and started again, and the other is killed before brokers have registered anew: for a
    /// while the only name server there is knows nothing.
    NameServers,
}

impl Fault {
    /// Whether messages that can go to one queue alone can't be sent for a while.
    pub(crate) fn takes_queues_away(self) -> bool {
        matches!(self, Self::Broker | Self::Shutdown | Self::Hang)
    }

    /// Breaks what shall break until the load ends; says what that was.
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
