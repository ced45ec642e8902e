//! Apache's classic Java client, of several versions, through our proxy: the proxy is its name server and its broker.

use std::path::Path;

use anyhow::Result;

use crate::{Place, Tally, client, kinds, report};

/// A program of the client.
pub(crate) struct Program {
    pub(crate) source: &'static str,
    pub(crate) checks: &'static [&'static str],
    /// The ends of the names of its topics, and their types.
    topics: &'static [(&'static str, &'static str)],
}

const PRODUCERS: Program = Program {
    source: "java/Classic.java",
    checks: &["send", "batch", "queue", "one_way", "delay", "transaction", "orphan_check", "refusals"],
    topics: &[("normal", "normal"), ("delay", "delay"), ("transaction", "transaction")],
};

const CONSUMERS: Program = Program {
    source: "java/ClassicConsumers.java",
    checks: &["concurrently", "sent_back", "in_order", "pull", "lite_pull"],
    topics: &[("consumed", "normal")],
};

/// The versions of the client.
const VERSIONS: [&str; 2] = ["5.5.0", "4.9.3"];

/// Runs the programs in every version against one proxy. Consumers run with the embedded broker only: the older client does
/// not tell which of several brokers it means.
pub(crate) async fn visit(cache: &Path, place: &Place<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let server = place.start(&["--remoting", "true"].map(str::to_owned)).await?;
    let consumers = matches!(place, Place::Merged(_)).then_some(&CONSUMERS);
    for version in VERSIONS {
        for program in std::iter::once(&PRODUCERS).chain(consumers) {
            let name = format!("classic-{}-{}", version.replace('.', "-"), std::process::id());
            let client = client::classic_program(cache, program, version, &name).await?;
            for (suffix, kind) in program.topics {
                let topic = format!("{name}-{suffix}");
                let arguments = ["topic", "create", &topic, "--type", kind];
                kinds::create(place.program(), server.address(), &arguments).await?;
            }
            let outcome = client.run(server.address()).await;
            report(&format!("classic {version} · {}", place.mode()), &client, outcome, &mut tally);
        }
    }
    Ok(tally)
}
