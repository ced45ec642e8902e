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

/// What the build has made.
#[derive(Debug)]
pub(crate) struct Artefacts {
    folder: PathBuf,
}

impl Artefacts {
    /// Builds all packages in one call and in the profile that ships. Always the same packages: another set
    /// would change the features of the dependencies, and cargo would build those again.
    pub(crate) fn build(workspace: &Workspace) -> Result<Self> {
        let mut build = Command::new(cargo());
        build.current_dir(workspace.root());
        build.args(["build", "--release", "--workspace", "--exclude", "xtask"]);
        step::run(workspace, "build everything (the first time takes some minutes)", &mut build)?;
        Ok(Self { folder: workspace.release() })
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
