//! Compares our wire contract with the published one.

use std::process::Command;

use anyhow::Result;

use crate::{
    fresh::is_fresh,
    maven,
    step::{self, Outcome},
    workspace::{Workspace, cargo},
};

/// The test that compares the contracts, and the Maven project that names the published one.
const POM: &str = "proto/tests/published/pom.xml";
const PRINTER: &str = "proto/tests/published/PublishedContract.java";

/// Fetches the published package, writes its descriptors to a file, and runs the comparison in `proto/tests`.
pub(crate) fn compare(workspace: &Workspace, unit_tests: &[&str]) -> Result<Outcome> {
    let published = workspace.cache("published")?.join("contract.bin");
    let inputs = [workspace.root().join(POM), workspace.root().join(PRINTER)];
    if !is_fresh(&published, &inputs) {
        let class_path = maven::class_path(workspace, POM)?;
        let mut print = Command::new("java");
        print.arg("-cp").arg(class_path).arg(workspace.root().join(PRINTER)).arg(&published);
        step::run(workspace, "write down the published contract", &mut print)?;
    }
    let mut compare = Command::new(cargo());
    compare.current_dir(workspace.root()).args(unit_tests);
    compare.args(["--test", "published", "--", "--ignored"]).env("PUBLISHED_CONTRACT", published);
    step::attempt(workspace, "the wire contract is the published one", &mut compare)
}
