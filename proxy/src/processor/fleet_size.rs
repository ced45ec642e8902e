//! Learns from the brokers how many proxies share the quotas.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::environment::Environment;
use crate::layer::Quotas;

/// How often the proxy announces itself, and asks for the others.
const INTERVAL: Duration = Duration::from_secs(10);

/// Keeps the number of proxies up to date until the proxy drains. While it is unknown, `configured` applies.
pub(super) async fn learn(environment: &Environment, quotas: &Quotas, configured: NonZeroU32) {
    let brokers = &environment.clusters.default_services().broker_requests;
    // Proxies of other fleets may use the same brokers.
    let fleet = environment.handle_sealer.fleet_name();
    let learning = async {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut previous = None;
        loop {
            ticks.tick().await;
            let known = brokers.join_fleet(&fleet).await;
            if let Err(error) = &known {
                tracing::debug!(%error, "the number of proxies is unknown");
            }
            let known = known.ok().and_then(NonZeroU32::new);
            // The larger of the last two. A broker that was restarted knows a proxy only after its next announcement.
            let size = known.max(previous).filter(|_| known.is_some()).unwrap_or(configured);
            previous = known;
            if quotas.fleet() != size {
                tracing::info!(
                    size,
                    is_known = known.is_some(),
                    "the number of proxies that share the quotas has changed"
                );
                quotas.set_fleet(size);
            }
        }
    };
    let _: Option<()> = environment.draining.run_until_cancelled(learning).await;
}
