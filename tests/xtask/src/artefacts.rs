//! The one build of everything that ships or runs.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX, EXE_SUFFIX},
    path::PathBuf,
    process::Command,
};

use anyhow::Result;

use crate::{
    step,
    workspace::{Workspace, cargo},
};

/// How the build is optimised. Each profile has one set of packages, and always the same: another set would
/// change the features of the dependencies, and cargo would build those again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// What is run and tested.
    Tested,
    /// What is published and measured: with link-time optimisation, which takes minutes.
    Release,
}

impl Profile {
    fn key(self) -> &'static str {
        match self {
            Self::Tested => "tested",
            Self::Release => "release",
        }
    }

    /// The packages, as cargo wants them.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Tested => &["--workspace", "--exclude=xtask"],
            // The tools of the tests are not published.
            Self::Release => &[
                "--package=bench",
                "--package=rocketmq-thin-kotlin",
                "--package=rocketmq-thin-kotlin-bindgen",
                "--package=rocketmq-thin-node",
                "--package=rocketmq-thin-proxy",
                "--package=rocketmq-thin-python",
            ],
        }
    }

    /// The name of a folder in the cache, so that what comes of one profile never stands in for the other.
    pub(crate) fn cache(self, name: &str) -> String {
        match self {
            Self::Tested => name.to_owned(),
            Self::Release => format!("release/{name}"),
        }
    }
}

/// What the build has made.
#[derive(Debug)]
pub(crate) struct Artefacts {
    profile: Profile,
    folder: PathBuf,
}

impl Artefacts {
    /// Builds all packages in one call.
    pub(crate) fn build(workspace: &Workspace, profile: Profile) -> Result<Self> {
        let mut build = Command::new(cargo());
        build.current_dir(workspace.root()).arg("build").args(profile.packages());
        build.args(["--profile", profile.key()]);
        let folder = workspace.target().join(profile.key());
        if !folder.exists() {
            println!("  the first build compiles all dependencies, which takes some minutes");
        }
        step::run(workspace, "build everything", &mut build)?;
        Ok(Self { profile, folder })
    }

    /// How they are optimised.
    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    /// Where they lie.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// A program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{EXE_SUFFIX}"))
    }

    /// A shared library, by the name of its target.
    pub(crate) fn library(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"))
    }
}
