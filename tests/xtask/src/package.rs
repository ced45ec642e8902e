//! `cargo x package`: builds what users install, in `target/x/dist`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};

use crate::{
    artefacts::{Artefacts, Profile},
    fresh::is_fresh,
    language::Language,
    maven, step,
    tool::Tool,
    workspace::Workspace,
};

/// The requested packages.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    /// For pip.
    pub(crate) wheel: Option<PathBuf>,
    /// For npm: the package, and that of the native library where it is not in the package.
    pub(crate) tarballs: Vec<PathBuf>,
    /// For Maven.
    pub(crate) jar: Option<PathBuf>,
    /// The folder of the jars that the jar depends on.
    pub(crate) jar_dependencies: PathBuf,
}

impl Packages {
    /// Packs the chosen languages. Rust's package is the crate itself.
    pub(crate) fn make(workspace: &Workspace, artefacts: &Artefacts, languages: &[Language]) -> Result<Self> {
        let mut packages =
            Self { jar_dependencies: workspace.root().join(KOTLIN).join("target/lib"), ..Self::default() };
        for language in languages {
            match language {
                Language::Rust => {}
                Language::Python => packages.wheel = Some(wheel(workspace, artefacts)?),
                Language::Node => packages.tarballs = vec![tarball(workspace, artefacts)?],
                Language::Kotlin => packages.jar = Some(jar(workspace, artefacts)?),
            }
        }
        Ok(packages)
    }

    /// The paths of all packages.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.wheel.iter().chain(&self.tarballs).chain(&self.jar).map(PathBuf::as_path)
    }
}

/// Builds and packs the chosen languages, and prints the paths of the packages.
pub(crate) fn run(workspace: &Workspace, languages: &[Language]) -> Result<()> {
    step::heading("Packing");
    let artefacts = Artefacts::build(workspace, Profile::Tested)?;
    let packages = Packages::make(workspace, &artefacts, languages)?;
    for package in packages.paths() {
        println!("  {}", package.display());
    }
    Ok(())
}

/// Where the bindings are.
const PYTHON: &str = "bindings/python";
const NODE: &str = "bindings/node";
const KOTLIN: &str = "bindings/kotlin";

fn wheel(workspace: &Workspace, artefacts: &Artefacts) -> Result<PathBuf> {
    let sources = workspace.root().join(PYTHON);
    let library = artefacts.library("rocketmq_thin_python");
    let inputs = [library.clone(), sources.clone()];
    pack(&Target { workspace, profile: artefacts.profile(), extension: "whl" }, &inputs, |folder| {
        let mut command = Tool::Python.command();
        command.arg(sources.join("package.py")).arg("wheel").arg(&library).arg(folder);
        step::run(workspace, "pack the Python wheel", &mut command).map(drop)
    })
}

fn tarball(workspace: &Workspace, artefacts: &Artefacts) -> Result<PathBuf> {
    let sources = workspace.root().join(NODE);
    let library = artefacts.library("rocketmq_thin_node");
    let inputs = [library.clone(), sources.clone()];
    pack(&Target { workspace, profile: artefacts.profile(), extension: "tgz" }, &inputs, |folder| {
        let mut command = Tool::Node.command();
        command.arg(sources.join("package.mjs")).arg("--out").arg(folder).arg("--binary").arg(&library);
        step::run(workspace, "pack the npm tarball", &mut command).map(drop)
    })
}

fn jar(workspace: &Workspace, artefacts: &Artefacts) -> Result<PathBuf> {
    let sources = workspace.root().join(KOTLIN);
    // The conformance driver is compiled together with the tests.
    let driver = workspace.root().join("tests/conformance/drivers/kotlin");
    let inputs = [artefacts.library("rocketmq_thin_kotlin"), sources.clone(), driver];
    pack(&Target { workspace, profile: artefacts.profile(), extension: "jar" }, &inputs, |folder| {
        let mut command = maven::binding(workspace, artefacts);
        command.args(["package", "-DskipTests"]);
        step::run(workspace, "pack the Kotlin jar", &mut command)?;
        let name = format!("rocketmq-thin-{}.jar", env!("CARGO_PKG_VERSION"));
        fs::copy(sources.join("target").join(&name), folder.join(name)).context("taking the jar")?;
        Ok(())
    })
}

/// The kind of a package.
struct Target<'a> {
    workspace: &'a Workspace,
    profile: Profile,
    extension: &'static str,
}

/// The package of a kind in the output folder. `make` builds it again if one of `inputs` has changed.
fn pack(target: &Target<'_>, inputs: &[PathBuf], make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let Target { workspace, profile, extension } = *target;
    let folder = workspace.cache(&profile.cache("dist"))?;
    // Each gets its own folder: a tool may write more files than its package.
    let work = workspace.cache(&profile.cache("packing"))?.join(extension);
    if let Some(package) = find(&folder, extension)? {
        if is_fresh(&package, inputs) {
            return Ok(package);
        }
        fs::remove_file(&package)?;
    }
    fs::create_dir_all(&work)?;
    make(&work)?;
    let made = find(&work, extension)?.with_context(|| format!("no .{extension} was made"))?;
    let package = folder.join(made.file_name().context("the package's name")?);
    fs::rename(made, &package)?;
    // A tool may have kept the modification time of an older file.
    fs::File::options().append(true).open(&package)?.set_modified(SystemTime::now())?;
    Ok(package)
}

fn find(folder: &Path, extension: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
