//! Apache's classic clients for Java, of several versions, and Go, through our proxy: the proxy is their name server and their broker.

use std::path::Path;

use anyhow::Result;

use crate::{Place, Tally, client, kinds, report};

/// A program of the client.
pub(crate) struct Program {
    /// A class in `java/classic`, or a file.
    pub(crate) source: &'static str,
    pub(crate) checks: &'static [&'static str],
    /// The ends of the names of its topics, and their types.
    topics: &'static [(&'static str, &'static str)],
}

const PRODUCERS: Program = Program {
    source: "Producers",
    checks: &["send", "batch", "queue", "one_way", "delay", "transaction", "orphan_check", "refusals"],
    topics: &[("normal", "normal"), ("delay", "delay"), ("transaction", "transaction")],
};

const CONSUMERS: Program = Program {
    source: "Consumers",
    checks: &["concurrently", "sent_back", "in_order", "pull", "lite_pull"],
    topics: &[("consumed", "normal")],
};

const GO: Program = Program {
    source: "go-classic/main.go",
    checks: &["send", "push", "retry", "in_order", "broadcast", "delay", "transaction", "request_reply"],
    topics: &[
        ("normal", "normal"),
        ("ordered", "normal"),
        ("broadcast", "normal"),
        ("request", "normal"),
        ("delay", "delay"),
        ("transaction", "transaction"),
    ],
};

/// The versions of the Java client.
const VERSIONS: [&str; 2] = ["5.5.0", "4.9.3"];

/// Runs the programs against one proxy, those of Java in every version. Java consumers run with the embedded broker only: the
/// older client does not tell which of several brokers it means.
pub(crate) async fn visit(cache: &Path, place: &Place<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let server = place.start(&["--remoting", "true"].map(str::to_owned)).await?;
    let consumers = matches!(place, Place::Merged(_)).then_some(&CONSUMERS);
    let mut programs = Vec::new();
    // The other place's programs run at the same time and have the same home, in which broadcasting clients keep their offsets.
    let run = format!("{}-{}", place.mode(), std::process::id());
    for version in VERSIONS {
        let name = format!("classic-{}-{run}", version.replace('.', "-"));
        for program in std::iter::once(&PRODUCERS).chain(consumers) {
            let client = client::classic_program(cache, program, version, &name).await?;
            programs.push((format!("classic {version}"), program, client));
        }
    }
    let name = format!("classic-go-{run}");
    programs.push(("classic Go".to_owned(), &GO, client::classic_go_program(cache, &GO, &name).await?));
    for (title, program, client) in programs {
        for (suffix, kind) in program.topics {
            let topic = format!("{}-{suffix}", client.name);
            let arguments = ["topic", "create", &topic, "--type", kind];
            kinds::create(place.program(), server.address(), &arguments).await?;
        }
        let outcome = client.run(server.address()).await;
        report(&format!("{title} · {}", place.mode()), &client, outcome, &mut tally);
    }
    Ok(tally)
}
