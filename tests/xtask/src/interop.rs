//! `cargo x interop`: tests with Apache's software. Apache's clients and the recorded answers of Apache's proxy run
//! against our proxy, merged and in front of Apache's brokers. Our clients run against both proxies there. The
//! backend contract runs on the remote backend.

use std::process::Command;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::{
    artefacts::{Artefacts, Profile},
    brokers::Brokers,
    conform,
    installed::Installed,
    language::Language,
    step::{self, Outcome},
    test::UNIT_TESTS,
    tool::{self, Tool},
    workspace::{Workspace, cargo},
};

/// A part of the interoperability tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guest {
    /// Apache's Java client.
    Java,
    /// Apache's classic Java client, which speaks the remoting protocol.
    Classic,
    /// Apache's Go client.
    Go,
    /// Apache's Python client.
    Python,
    /// Apache's Node client.
    Node,
    /// The recorded answers of Apache's proxy, replayed.
    Transcripts,
    /// The recorded answers of Apache's proxy with users and policies, replayed.
    Access,
    /// The recorded answers of Apache's servers to the remoting protocol, replayed.
    Remoting,
    /// The contract suite on real brokers.
    Contract,
    /// Our clients in every language, through our separated proxy and through Apache's proxy.
    Conformance,
}

/// What to run, and on which servers.
#[derive(Debug, Args)]
pub(crate) struct Visit {
    /// Only these parts [default: all]
    #[arg(value_enum)]
    only: Vec<Guest>,
    /// Only transcripts and conformance cases whose name matches this regular expression
    #[arg(long)]
    case: Option<String>,
    /// Apache's version [default: the newest]
    #[arg(long)]
    version: Option<String>,
}

impl Guest {
    fn key(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Classic => "classic",
            Self::Go => "go",
            Self::Python => "python",
            Self::Node => "node",
            Self::Transcripts => "transcripts",
            Self::Access => "access",
            Self::Remoting => "remoting",
            Self::Contract => "contract",
            Self::Conformance => "conformance",
        }
    }

    fn tools(self) -> &'static [Tool] {
        match self {
            Self::Java | Self::Classic => &[Tool::Jdk, Tool::Maven],
            Self::Go => &[Tool::Go],
            Self::Python | Self::Transcripts | Self::Access => &[Tool::Python],
            Self::Node => &[Tool::Node, Tool::Npm],
            Self::Remoting | Self::Contract => &[],
            Self::Conformance => &[Tool::Jdk, Tool::Maven, Tool::Python, Tool::Node, Tool::Npm],
        }
    }

    /// Whether it has a runner of its own.
    fn has_own_suite(self) -> bool {
        matches!(self, Self::Contract | Self::Conformance)
    }

    /// The parts of the common runner that need only the tools of these languages, and Go unless it is left out.
    pub(crate) fn of(languages: &[Language], without_go: bool) -> Vec<Self> {
        let has = |language| languages.contains(&language);
        let mut guests = Self::value_variants().to_vec();
        guests.retain(|guest| match guest {
            Self::Java | Self::Classic => has(Language::Kotlin),
            Self::Go => !without_go,
            Self::Python | Self::Transcripts | Self::Access => has(Language::Python),
            Self::Node => has(Language::Node),
            Self::Remoting => true,
            Self::Contract | Self::Conformance => false,
        });
        guests
    }
}

/// Fails if a tool of these parts is missing. `leave_out` tells the user how to go on without it.
pub(crate) fn require(guests: &[Guest], leave_out: &str) -> Result<()> {
    let missing: Vec<Tool> = guests.iter().flat_map(|guest| tool::missing(guest.tools())).collect();
    tool::refuse(&missing, leave_out)
}

/// Builds and runs the chosen parts.
pub(crate) fn run(workspace: &Workspace, visit: &Visit) -> Result<()> {
    let guests = if visit.only.is_empty() { Guest::value_variants() } else { &visit.only };
    require(guests, "Or name the parts to run, such as: cargo x interop java python")?;
    let missing = tool::missing(&[Tool::Jdk, Tool::Maven]);
    tool::refuse(&missing, "Apache RocketMQ can't be installed or started without them")?;
    step::heading("Getting ready");
    let languages = if guests.contains(&Guest::Conformance) { Language::value_variants() } else { &[] };
    let installed = Installed::prepare(workspace, languages, Profile::Tested)?;
    let brokers = Brokers::start(workspace, installed.artefacts(), visit.version.as_deref())?;
    let mut all = true;
    if guests.contains(&Guest::Contract) {
        step::heading("The contract");
        all &= contract(workspace, &brokers)?.ok;
    }
    let mut runners = Vec::new();
    if !languages.is_empty() {
        let mut conformance = conform::command(workspace, &installed, languages)?;
        conformance.args(["--server", "separated", "--server", "apache"]);
        runners.push(("Our clients, through our proxy and Apache's", conformance));
    }
    let guests: Vec<Guest> = guests.iter().copied().filter(|guest| !guest.has_own_suite()).collect();
    if !guests.is_empty() {
        let runner = command(workspace, installed.artefacts(), &guests);
        runners.push(("Apache's clients and Apache's answers against our proxy", runner));
    }
    for (heading, mut runner) in runners {
        step::heading(heading);
        brokers.tell(&mut runner);
        runner.args(visit.case.iter().flat_map(|case| ["--case", case]));
        all &= runner.status()?.success();
    }
    ensure!(all, "not everything passed");
    Ok(())
}

/// Runs the contract suite on real brokers, in the build of the unit tests.
pub(crate) fn contract(workspace: &Workspace, brokers: &Brokers) -> Result<Outcome> {
    let mut suite = Command::new(cargo());
    suite.current_dir(workspace.root()).args(UNIT_TESTS).args(["--test", "contract", "--"]);
    // Most of each test is waiting for a lease to end, so many run at once.
    suite.args(["--ignored", "remote::", "--test-threads", "12"]);
    suite.env("CONTRACT_NAME_SERVER", &brokers.name_server);
    let mut name = "the contract of a backend, on real brokers".to_owned();
    if let Some(version) = &brokers.version {
        suite.env("CONTRACT_BROKERS", version);
        name.push_str(&format!(" of {version}"));
    }
    step::attempt(workspace, &name, &mut suite)
}

/// The command that runs these parts.
pub(crate) fn command(workspace: &Workspace, artefacts: &Artefacts, guests: &[Guest]) -> Command {
    let mut runner = Command::new(artefacts.program("interop"));
    runner.current_dir(workspace.root());
    for guest in guests {
        runner.args(["--only", guest.key()]);
    }
    runner
}
