//! `cargo x interop`: Apache's own clients, and the record of what Apache's proxy answers, against our proxy: merged,
//! and in front of Apache's brokers; and the contract of a backend, kept by the one that speaks to them.

use std::process::Command;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::{
    artefacts::{Artefacts, Profile},
    brokers::Brokers,
    language::Language,
    step,
    test::UNIT_TESTS,
    tool::{self, Tool},
    workspace::{Workspace, cargo},
};

/// Who talks to our proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guest {
    /// Apache's Java client.
    Java,
    /// Apache's Go client.
    Go,
    /// Apache's Python client.
    Python,
    /// Apache's Node client.
    Node,
    /// What Apache's proxy was seen to answer, replayed.
    Transcripts,
    /// The contract suite on real brokers.
    Contract,
}

impl Guest {
    fn key(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Go => "go",
            Self::Python => "python",
            Self::Node => "node",
            Self::Transcripts => "transcripts",
            Self::Contract => "contract",
        }
    }

    fn tools(self) -> &'static [Tool] {
        match self {
            Self::Java => &[Tool::Jdk, Tool::Maven],
            Self::Go => &[Tool::Go],
            Self::Python | Self::Transcripts => &[Tool::Python],
            Self::Node => &[Tool::Node, Tool::Npm],
            Self::Contract => &[],
        }
    }

    /// The guests that need no other tools than these languages do, and Go unless it is left out.
    pub(crate) fn of(languages: &[Language], without_go: bool) -> Vec<Self> {
        let has = |language| languages.contains(&language);
        let mut guests = Self::value_variants().to_vec();
        guests.retain(|guest| match guest {
            Self::Java => has(Language::Kotlin),
            Self::Go => !without_go,
            Self::Python | Self::Transcripts => has(Language::Python),
            Self::Node => has(Language::Node),
            // A suite of its own in a whole test run.
            Self::Contract => false,
        });
        guests
    }
}

/// Fails if a tool of these guests is missing; `leave_out` says how to do without.
pub(crate) fn require(guests: &[Guest], leave_out: &str) -> Result<()> {
    let missing: Vec<Tool> = guests.iter().flat_map(|guest| tool::missing(guest.tools())).collect();
    tool::refuse(&missing, leave_out)
}

/// Builds and runs; the runner speaks for itself.
pub(crate) fn run(workspace: &Workspace, guests: &[Guest], case: Option<&str>) -> Result<()> {
    let guests = if guests.is_empty() { Guest::value_variants() } else { guests };
    require(guests, "Or name the ones that are to run: cargo x interop java python")?;
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace, Profile::Tested)?;
    let missing = tool::missing(&[Tool::Jdk, Tool::Maven]);
    tool::refuse(&missing, "Without them there is no Apache RocketMQ to be in front of")?;
    let brokers = Brokers::start(workspace, &artefacts)?;
    step::heading("Apache's clients and Apache's answers against our proxy");
    let mut all = true;
    if guests.contains(&Guest::Contract) {
        all &= step::attempt(workspace, CONTRACT, &mut contract(workspace, &brokers))?.ok;
    }
    let guests: Vec<Guest> = guests.iter().copied().filter(|guest| *guest != Guest::Contract).collect();
    if !guests.is_empty() {
        let mut runner = command(workspace, &artefacts, &guests);
        brokers.tell(&mut runner);
        if let Some(case) = case {
            runner.args(["--case", case]);
        }
        all &= runner.status()?.success();
    }
    ensure!(all, "not everything passed");
    Ok(())
}

/// What reports call the contract suite.
pub(crate) const CONTRACT: &str = "the contract of a backend, on real brokers";

/// The contract suite on real brokers: the very build of the unit tests.
pub(crate) fn contract(workspace: &Workspace, brokers: &Brokers) -> Command {
    let mut suite = Command::new(cargo());
    suite.current_dir(workspace.root()).args(UNIT_TESTS).args(["--test", "contract", "--"]);
    // Most of each is waiting for a lease to end.
    suite.args(["--ignored", "remote::", "--test-threads", "12"]);
    suite.env("CONTRACT_NAME_SERVER", &brokers.name_server);
    suite
}

/// The runner, ready to run these.
pub(crate) fn command(workspace: &Workspace, artefacts: &Artefacts, guests: &[Guest]) -> Command {
    let mut runner = Command::new(artefacts.program("interop"));
    runner.current_dir(workspace.root());
    for guest in guests {
        runner.args(["--only", guest.key()]);
    }
    runner
}
