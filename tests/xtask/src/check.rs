//! `cargo x check`: static checks of the source.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{
    step, tidy,
    workspace::{Workspace, cargo},
};

/// The release of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

/// Runs all checks, stopping at the first that fails.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    step::heading("Checking");
    step::perform("tidy", || tidy::run(workspace.root()))?;
    step::run(workspace, "fmt", cargo_in(workspace).args(["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    step::run(workspace, "clippy", cargo_in(workspace).args(clippy))?;
    // The internal documentation includes private items. The client's is built as docs.rs builds it.
    let internal = "-D warnings -A rustdoc::private_intra_doc_links";
    document(workspace, "doc", &["--workspace", "--document-private-items"], internal)?;
    document(workspace, "doc as docs.rs shows it", &["--package", "rocketmq-thin"], "-D warnings")?;
    deny(workspace)
}

fn document(workspace: &Workspace, name: &str, what: &[&str], lints: &str) -> Result<()> {
    let mut doc = cargo_in(workspace);
    doc.args(["doc", "--no-deps"]).args(what).env("RUSTDOCFLAGS", lints);
    step::run(workspace, name, &mut doc).map(drop)
}

fn cargo_in(workspace: &Workspace) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(workspace.root());
    command
}

/// Licences, bans and sources are checked from the lock file. Advisories need a database from the network:
/// without it that check is skipped, and the output says so.
fn deny(workspace: &Workspace) -> Result<()> {
    let tools = workspace.cache("tools")?;
    let program = tools.join("bin").join("cargo-deny");
    if !program.exists() {
        println!("  cargo-deny {CARGO_DENY} is not there yet: it is built once, which takes some minutes");
        let mut install = cargo_in(workspace);
        install.args(["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root"]).arg(&tools);
        step::run(workspace, "install cargo-deny", &mut install)?;
    }
    let judge = |what: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(workspace.root()).args(["--workspace", "check"]).args(what);
        command
    };
    step::run(workspace, "deny: bans, licences, sources", &mut judge(&["bans", "licenses", "sources"]))?;
    if advisories_can_be_had(workspace, &program) {
        step::run(workspace, "deny: advisories", &mut judge(&["advisories"]))?;
    } else {
        println!("  deny: advisories … left out: the advisory database can't be fetched from here");
    }
    Ok(())
}

fn advisories_can_be_had(workspace: &Workspace, program: &Path) -> bool {
    let mut fetch = Command::new(program);
    fetch.current_dir(workspace.root()).args(["fetch", "db"]);
    fetch.output().is_ok_and(|output| output.status.success())
}
