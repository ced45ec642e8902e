//! Apache's classic Java client, of several versions, through our proxy: the proxy is its name server and its broker.

use std::path::Path;

use anyhow::Result;

use crate::{Place, Tally, client, kinds, report};

/// The checks of the program.
pub(crate) const CHECKS: &[&str] =
    &["send", "batch", "queue", "one_way", "delay", "transaction", "orphan_check", "refusals"];

/// The versions of the client.
const VERSIONS: [&str; 2] = ["5.5.0", "4.9.3"];

/// Runs the program in every version against one proxy.
pub(crate) async fn visit(cache: &Path, place: &Place<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let server = place.start(&["--remoting", "true"].map(str::to_owned)).await?;
    for version in VERSIONS {
        let name = format!("classic-{}-{}", version.replace('.', "-"), std::process::id());
        let client = client::classic_program(cache, version, &name).await?;
        for (suffix, kind) in [("normal", "normal"), ("delay", "delay"), ("transaction", "transaction")] {
            let topic = format!("{name}-{suffix}");
            let arguments = ["topic", "create", &topic, "--type", kind];
            kinds::create(place.program(), server.address(), &arguments).await?;
        }
        let outcome = client.run(server.address()).await;
        report(&format!("classic {version} · {}", place.mode()), &client, outcome, &mut tally);
    }
    Ok(tally)
}
