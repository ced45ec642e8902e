//! The single build of everything that is shipped or run.

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

/// How the build is optimised. A profile always builds the same set of packages: another set would
/// change the features of the dependencies, and cargo would build those again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For running and testing. Unit tests have it, too.
    Tested,
    /// For publishing and measuring. Link-time optimisation takes minutes.
    Release,
}

impl Profile {
    fn key(self) -> &'static str {
        match self {
            Self::Tested => "tested",
            Self::Release => "release",
        }
    }

    /// The packages, as arguments for cargo.
    fn packages(self) -> &'static [&'static str] {
        match self {
            // With a test among the targets, dependencies get the features that the unit tests need.
            Self::Tested => &["--workspace", "--exclude=xtask", "--lib", "--bins", "--test=published"],
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

    /// The profile's folder in the cache. The two profiles share no output.
    pub(crate) fn cache(self, name: &str) -> String {
        match self {
            Self::Tested => name.to_owned(),
            Self::Release => format!("release/{name}"),
        }
    }
}

/// The output of the build.
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

    /// The profile of this build.
    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    /// The output folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// The path of a program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{EXE_SUFFIX}"))
    }

    /// The path of a shared library, by the name of its target.
    pub(crate) fn library(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"))
    }
}
