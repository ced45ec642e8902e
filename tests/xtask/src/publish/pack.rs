//! Packs collected libraries as each registry takes them.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{licences, natives::Natives, platform::Platform};
use crate::{
    language::Language,
    maven::{self, property},
    registry, step,
    tool::Tool,
    workspace::{Workspace, cargo},
};

/// Checks the metadata of Python packages as PyPI does.
const TWINE: &[&str] = &["twine==7.0.0"];

/// The published crates. A crate comes after those that it depends on.
const CRATES: &[&str] = &["rocketmq-thin-proto", "rocketmq-thin"];

/// What is packed.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) natives: &'a Natives,
    pub(super) platforms: &'a [Platform],
    pub(super) languages: &'a [Language],
}

impl Order<'_> {
    /// The library of each platform for a language.
    fn libraries(&self, language: Language) -> Result<Vec<(Platform, PathBuf)>> {
        let libraries = self.platforms.iter();
        libraries.map(|platform| Ok((*platform, self.natives.library(*platform, language)?))).collect()
    }
}

/// Packs each language into a folder of its own.
pub(super) fn run(workspace: &Workspace, order: &Order<'_>) -> Result<()> {
    for language in order.languages {
        let out = folder(workspace, *language)?;
        clear(&out)?;
        match language {
            Language::Rust => crates(workspace, &out)?,
            Language::Python => wheels(workspace, order, &out)?,
            Language::Node => tarballs(workspace, order, &out)?,
            Language::Kotlin => jars(workspace, order, &out)?,
        }
        println!("    {}", out.display());
    }
    Ok(())
}

/// Where the packages of a language are put.
pub(super) fn folder(workspace: &Workspace, language: Language) -> Result<PathBuf> {
    workspace.cache(match language {
        Language::Rust => "publish/crates",
        Language::Python => "publish/pypi",
        Language::Node => "publish/npm",
        Language::Kotlin => "publish/maven",
    })
}

/// Where Maven works, apart from the daily build.
pub(super) fn maven_output(workspace: &Workspace) -> Result<PathBuf> {
    workspace.cache("publish/work/maven")
}

/// An empty folder: files of earlier runs must not be published.
fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("clearing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}

/// `cargo package` also compiles each crate from its package.
fn crates(workspace: &Workspace, out: &Path) -> Result<()> {
    let mut package = Command::new(cargo());
    package.current_dir(workspace.root()).args(["package", "--locked", "--allow-dirty"]);
    package.args(CRATES.iter().flat_map(|name| ["--package", name]));
    step::run(workspace, "pack the crates", &mut package)?;
    for name in CRATES {
        let file = format!("{name}-{}.crate", env!("CARGO_PKG_VERSION"));
        let made = workspace.target().join("package").join(&file);
        fs::copy(&made, out.join(file)).with_context(|| format!("taking {}", made.display()))?;
    }
    Ok(())
}

fn wheels(workspace: &Workspace, order: &Order<'_>, out: &Path) -> Result<()> {
    let packer = workspace.root().join("bindings/python/package.py");
    let licences = order.natives.licences(workspace)?;
    for (platform, library) in order.libraries(Language::Python)? {
        let mut command = Tool::Python.command();
        command.arg(&packer).arg("wheel").arg(library).arg(out).arg(platform.wheel()).arg(&licences);
        step::run(workspace, &format!("pack the wheel for {}", platform.key()), &mut command)?;
    }
    let mut command = Tool::Python.command();
    step::run(workspace, "pack the sdist", command.arg(&packer).arg("sdist").arg(out))?;

    let programs = registry::python_programs(workspace, "twine", TWINE)?;
    let mut check = Command::new(programs.join("twine"));
    check.args(["check", "--strict"]).args(super::trial::files(out)?);
    step::run(workspace, "check the metadata as PyPI does", &mut check).map(drop)
}

fn tarballs(workspace: &Workspace, order: &Order<'_>, out: &Path) -> Result<()> {
    // The script leaves the unpacked packages beside the tarballs.
    let work = workspace.cache("publish/work/npm")?;
    clear(&work)?;
    let mut command = Tool::Node.command();
    command.arg(workspace.root().join("bindings/node/package.mjs")).arg("--separate").arg("--out").arg(&work);
    command.arg("--licenses").arg(order.natives.licences(workspace)?);
    for (platform, library) in order.libraries(Language::Node)? {
        let mut binary = OsString::from(format!("{}=", platform.key()));
        binary.push(library);
        command.arg("--binary").arg(binary);
    }
    step::run(workspace, "pack the npm tarballs", &mut command)?;
    for tarball in super::trial::files(&work)? {
        fs::rename(&tarball, out.join(tarball.file_name().context("the tarball's name")?))?;
    }
    Ok(())
}

/// The output is a Maven repository. What Maven Central takes is its content, signed.
fn jars(workspace: &Workspace, order: &Order<'_>, out: &Path) -> Result<()> {
    let libraries = order.libraries(Language::Kotlin)?;
    let licences = order.natives.licences(workspace)?;
    let (jar, musl) = (workspace.cache("publish/work/jar")?, workspace.cache("publish/work/jar-musl")?);
    clear(&jar)?;
    clear(&musl)?;
    for (platform, library) in &libraries {
        let root = if *platform == Platform::LinuxX64Musl { &musl } else { &jar };
        let folder = root.join(platform.jna());
        fs::create_dir_all(&folder)?;
        fs::copy(library, folder.join(library.file_name().context("the library's name")?))?;
        let information = root.join("META-INF");
        fs::create_dir_all(&information)?;
        fs::copy(&licences, information.join(licences::FILE))?;
        fs::copy(workspace.root().join("LICENSE"), information.join("LICENSE"))?;
    }
    let build = maven_output(workspace)?;
    clear(&build)?;

    // The code is generated from the symbols of a library, which the published ones do not have.
    let mut generator = Command::new(cargo());
    generator.current_dir(workspace.root()).args(["build", "--locked", "--package", maven::GENERATOR]);
    generator.args(["--package", "rocketmq-thin-kotlin"]);
    step::run(workspace, "build what the Kotlin layer is generated from", &mut generator)?;
    let cargo_output = workspace.target().join("debug");

    let mut deploy = maven::command(workspace, "bindings/kotlin/pom.xml");
    deploy.args([
        "-Prelease",
        "deploy",
        "-Dmaven.test.skip=true",
        "-Dnative.pattern=**",
        "-Dnative.platform=",
    ]);
    deploy.args(maven::generation(&cargo_output));
    deploy.arg(property("output.directory", build));
    deploy.arg(property("native.resources", jar));
    deploy.arg(property("native.musl", musl));
    deploy.arg(property("altDeploymentRepository", format!("made::{}", url(out))));
    step::run(workspace, "pack the jars", &mut deploy)?;
    let made = main_jar(workspace)?;
    ensure!(made.exists(), "Maven made no {}", made.display());
    Ok(())
}

/// A folder as a URL.
fn url(folder: &Path) -> String {
    let path = folder.display().to_string().replace('\\', "/");
    format!("file:///{}", path.trim_start_matches('/'))
}

/// The jar that users depend on.
pub(super) fn main_jar(workspace: &Workspace) -> Result<PathBuf> {
    let version = env!("CARGO_PKG_VERSION");
    let folder = format!("io/github/rocketmq-thin/rocketmq-thin/{version}");
    Ok(folder_of_kotlin(workspace)?.join(folder).join(format!("rocketmq-thin-{version}.jar")))
}

fn folder_of_kotlin(workspace: &Workspace) -> Result<PathBuf> {
    folder(workspace, Language::Kotlin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_any_system_is_a_url() {
        assert_eq!(url(Path::new("/a/b")), "file:///a/b");
        assert_eq!(url(Path::new("C:\\a\\b")), "file:///C:/a/b");
    }
}
