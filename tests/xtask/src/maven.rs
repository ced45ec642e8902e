//! Runs Maven and fetches Java packages.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX, EXE_SUFFIX},
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    artefacts::Artefacts, fresh::is_fresh, publish::Platform, step, tool::Tool, workspace::Workspace,
};

/// The goal that writes a class path to a file. The version is fixed for reproducible results.
const BUILD_CLASSPATH: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath";

/// A non-interactive Maven for the project file `pom`.
pub(crate) fn command(workspace: &Workspace, pom: &str) -> Command {
    let mut command = Tool::Maven.command();
    command.args(["--batch-mode", "--no-transfer-progress", "--file"]).arg(workspace.root().join(pom));
    command
}

/// Returns a Maven command for the Kotlin binding, with the native library that cargo has built.
pub(crate) fn binding(workspace: &Workspace, artefacts: &Artefacts) -> Command {
    let mut command = command(workspace, "bindings/kotlin/pom.xml");
    command.args(generation(&artefacts.folder()));
    if let Some(platform) = Platform::here() {
        command.arg(property("native.platform", platform.jna()));
    }
    command
}

/// The properties that tell Maven the native library and the generator. `folder` is cargo's output folder.
pub(crate) fn generation(folder: &Path) -> [OsString; 3] {
    [
        property("native.directory", folder),
        property("native.file", format!("{DLL_PREFIX}rocketmq_thin_kotlin{DLL_SUFFIX}")),
        property("native.bindgen", folder.join(format!("{GENERATOR}{EXE_SUFFIX}"))),
    ]
}

/// The crate that generates Kotlin from a native library.
pub(crate) const GENERATOR: &str = "rocketmq-thin-kotlin-bindgen";

/// An argument that sets a property.
pub(crate) fn property(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut property = OsString::from(format!("-D{name}="));
    property.push(value);
    property
}

/// Fetches the dependencies of the project file `pom` and returns a Java class path.
pub(crate) fn class_path(workspace: &Workspace, pom: &str) -> Result<String> {
    let file = workspace.cache("maven")?.join(format!("{}.classpath", pom.replace(['/', '\\'], "-")));
    if !is_usable(&file, &workspace.root().join(pom)) {
        let mut fetch = command(workspace, pom);
        fetch.arg(BUILD_CLASSPATH).arg(format!("-Dmdep.outputFile={}", file.display()));
        step::run(workspace, &format!("fetch the Java packages of {pom}"), &mut fetch)?;
    }
    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}

/// Whether the class path is at least as new as the project file and all its files still exist. Maven's repository may
/// have been cleaned.
fn is_usable(file: &Path, pom: &Path) -> bool {
    let listed = fs::read_to_string(file).unwrap_or_default();
    is_fresh(file, &[PathBuf::from(pom)]) && std::env::split_paths(&listed).all(|jar| jar.exists())
}
