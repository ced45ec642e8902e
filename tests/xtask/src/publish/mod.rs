//! `cargo x package --release`: makes what the registries take, in `target/x/publish`.

mod licences;
mod natives;
mod pack;
mod platform;
mod trial;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::{language::Language, step, workspace::Workspace};

use natives::Natives;
pub(crate) use platform::Platform;

/// What is made, and how much of it.
#[derive(Debug, Default, Args)]
pub(crate) struct Choice {
    /// With --release: a platform of the native libraries; may be repeated. By default those that this system can build
    #[arg(long, value_enum, requires = "release")]
    platform: Vec<Platform>,
    /// With --release: only this stage; may be repeated
    #[arg(long = "only", value_enum, value_name = "STAGE", requires = "release")]
    stages: Vec<Stage>,
}

/// The stages run in this order. The release workflow runs them on different machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Compile the native libraries into target/x/publish/native
    Build,
    /// Pack the libraries that are in that folder, those of other machines, too
    Pack,
    /// Install the packages of this machine without a registry, and run the examples and the READMEs' programs
    Try,
}

impl Choice {
    fn includes(&self, stage: Stage) -> bool {
        self.stages.is_empty() || self.stages.contains(&stage)
    }

    fn to_build(&self) -> Vec<Platform> {
        if self.platform.is_empty() { Platform::buildable() } else { self.platform.clone() }
    }

    /// What has been built in this run, or else all that has been collected.
    fn to_pack(&self, natives: &Natives) -> Vec<Platform> {
        if self.includes(Stage::Build) || !self.platform.is_empty() {
            return self.to_build();
        }
        natives.platforms()
    }
}

/// Runs the chosen stages.
pub(crate) fn run(workspace: &Workspace, languages: &[Language], choice: &Choice) -> Result<()> {
    let natives = Natives::new(workspace)?;
    // Rust's packages are sources.
    if choice.includes(Stage::Build) && languages.iter().any(|language| *language != Language::Rust) {
        step::heading("Compiling");
        for platform in choice.to_build() {
            natives.build(workspace, platform)?;
        }
    }
    if choice.includes(Stage::Pack) {
        step::heading("Packing");
        let platforms = choice.to_pack(&natives);
        ensure!(
            !platforms.is_empty(),
            "nothing has been compiled yet: cargo x package --release --only build"
        );
        pack::run(workspace, &pack::Order { natives: &natives, platforms: &platforms, languages })?;
    }
    if choice.includes(Stage::Try) {
        trial::run(workspace, languages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_runs_unless_some_are_named() {
        assert!(Choice::default().includes(Stage::Try));
        let choice = Choice { stages: vec![Stage::Build], ..Choice::default() };
        assert!(choice.includes(Stage::Build) && !choice.includes(Stage::Pack));
    }
}
