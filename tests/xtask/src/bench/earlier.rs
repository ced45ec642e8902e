//! The proxy of an earlier revision, built in a checkout of its own.

use std::{env::consts::EXE_SUFFIX, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    step,
    workspace::{Workspace, cargo},
};

/// Builds the revision unless it was built before, and returns the program. The dependencies stay for the next revision.
pub(super) fn proxy(workspace: &Workspace, revision: &str) -> Result<PathBuf> {
    let commit = commit(workspace, revision)?;
    let folder = workspace.cache("bench/earlier")?;
    let program = folder.join(format!("rocketmq-thin-proxy-{commit}{EXE_SUFFIX}"));
    if program.exists() {
        return Ok(program);
    }
    let (checkout, target) = (folder.join("source"), folder.join("target"));
    let worktree = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(workspace.root()).arg("worktree").args(arguments).arg(&checkout);
        git
    };
    if checkout.exists() {
        // An earlier build has failed.
        step::run(workspace, "remove the earlier checkout", &mut worktree(&["remove", "--force"]))?;
    }
    let mut add = worktree(&["add", "--force", "--detach"]);
    step::run(workspace, &format!("check {revision} out"), add.arg(&commit))?;
    let mut build = Command::new(cargo());
    build.current_dir(&checkout).env("CARGO_TARGET_DIR", &target);
    build.args(["build", "--release", "--locked", "--package", "rocketmq-thin-proxy"]);
    step::run(workspace, &format!("build the proxy of {revision}"), &mut build)?;
    // Otherwise it would stay in the list of the repository's worktrees.
    step::run(workspace, "remove the checkout", &mut worktree(&["remove", "--force"]))?;
    let built = target.join("release").join(format!("rocketmq-thin-proxy{EXE_SUFFIX}"));
    fs::copy(&built, &program).with_context(|| format!("copying {}", built.display()))?;
    Ok(program)
}

fn commit(workspace: &Workspace, revision: &str) -> Result<String> {
    let mut git = Command::new("git");
    git.current_dir(workspace.root()).args(["rev-parse", "--verify", "--end-of-options"]);
    let output = git.arg(format!("{revision}^{{commit}}")).output().context("running git")?;
    ensure!(output.status.success(), "git knows no commit {revision}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
