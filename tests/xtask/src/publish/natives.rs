//! The native libraries of each platform: one cargo invocation builds those of all languages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::{
    licences,
    platform::{GLIBC, Platform},
};
use crate::{
    language::Language,
    registry, step,
    workspace::{Workspace, cargo},
};

/// The crates with a native library; `cargo build` of one alone would change the features of shared dependencies.
const CRATES: &[(Language, &str)] = &[
    (Language::Python, "rocketmq-thin-python"),
    (Language::Node, "rocketmq-thin-node"),
    (Language::Kotlin, "rocketmq-thin-kotlin"),
];

/// The cross linker, from PyPI.
const ZIG: &[&str] = &["cargo-zigbuild==0.24.1", "ziglang==0.17.1"];

/// The folder of collected libraries, `target/x/publish/native`, with a folder for each platform. Those of other systems can
/// be put there, too.
#[derive(Debug)]
pub(super) struct Natives {
    folder: PathBuf,
}

impl Natives {
    pub(super) fn new(workspace: &Workspace) -> Result<Self> {
        Ok(Self { folder: workspace.cache("publish/native")? })
    }

    /// The platforms whose libraries are there.
    pub(super) fn platforms(&self) -> Vec<Platform> {
        let all = Platform::value_variants().iter().copied();
        all.filter(|platform| CRATES.iter().all(|(_, name)| self.path(*platform, name).exists())).collect()
    }

    /// The library of a language, or an error that says how to build it.
    pub(super) fn library(&self, platform: Platform, language: Language) -> Result<PathBuf> {
        let (_, name) =
            CRATES.iter().find(|(of, _)| *of == language).context("Rust has no native library")?;
        let path = self.path(platform, name);
        let key = platform.key();
        ensure!(
            path.exists(),
            "no library for {key}: cargo x package --release --only build --platform {key}"
        );
        Ok(path)
    }

    /// The licences of what the libraries contain, in one file.
    pub(super) fn licences(&self, workspace: &Workspace) -> Result<PathBuf> {
        let names: Vec<&str> = CRATES.iter().map(|(_, name)| *name).collect();
        licences::write(workspace, &names)
    }

    fn path(&self, platform: Platform, name: &str) -> PathBuf {
        self.folder.join(platform.key()).join(platform.file(&name.replace('-', "_")))
    }

    /// Builds the libraries of a platform and collects them.
    pub(super) fn build(&self, workspace: &Workspace, platform: Platform) -> Result<()> {
        require_target(platform)?;
        let mut build = if platform.is_linux() { zig_build(workspace)? } else { plain_build() };
        build.current_dir(workspace.root()).args(["--release", "--locked", "--target"]);
        let oldest = if platform.is_glibc() { format!(".{GLIBC}") } else { String::new() };
        build.arg(format!("{}{oldest}", platform.target()));
        build.args(CRATES.iter().flat_map(|(_, name)| ["--package", name]));
        // The stable ABI needs no interpreter, and one of this machine says nothing about another.
        build.env("PYO3_NO_PYTHON", "1");
        step::run(workspace, &format!("build for {}", platform.key()), &mut build)?;

        let output = workspace.target().join(platform.target()).join("release");
        fs::create_dir_all(self.folder.join(platform.key()))?;
        for (_, name) in CRATES {
            let built = output.join(platform.file(&name.replace('-', "_")));
            check_glibc(platform, &built)?;
            fs::copy(&built, self.path(platform, name))
                .with_context(|| format!("taking {}", built.display()))?;
        }
        Ok(())
    }
}

fn plain_build() -> Command {
    let mut build = Command::new(cargo());
    build.arg("build");
    build
}

/// zig links against the glibc of any version and against musl, on any system.
fn zig_build(workspace: &Workspace) -> Result<Command> {
    let programs = registry::python_programs(workspace, "zig", ZIG)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut build = Command::new(programs.join("cargo-zigbuild"));
    build
        .arg("zigbuild")
        .env("PATH", std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)))?);
    Ok(build)
}

/// Whether the Rust toolchain has the standard library of a platform.
fn require_target(platform: Platform) -> Result<()> {
    let target = platform.target();
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("running rustc")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let is_there =
        output.status.success() && fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some());
    ensure!(
        is_there,
        "the Rust toolchain cannot compile for {key}:\n    rustup target add {target}\nOr choose the platforms, as in \
         --platform {here}",
        key = platform.key(),
        here = Platform::here().unwrap_or(Platform::LinuxX64Gnu).key()
    );
    Ok(())
}

/// A library that needs a later glibc would not load where its package says that it does.
fn check_glibc(platform: Platform, library: &Path) -> Result<()> {
    if !platform.is_glibc() {
        return Ok(());
    }
    let bytes = fs::read(library).with_context(|| format!("reading {}", library.display()))?;
    let newest = newest_glibc(&bytes).with_context(|| format!("{} needs no glibc", library.display()))?;
    ensure!(
        Some(newest) <= minor(GLIBC.as_bytes()),
        "{} needs glibc 2.{newest}, later than {GLIBC}",
        library.display()
    );
    Ok(())
}

/// The minor version of the newest glibc whose symbols a library needs. Their versions are named in its string table.
fn newest_glibc(library: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"GLIBC_";
    let names = library.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    names.filter_map(|(at, _)| minor(&library[at + NAME.len()..])).max()
}

/// The second number of `2.17…`.
fn minor(version: &[u8]) -> Option<u32> {
    let digits: String = version
        .strip_prefix(b"2.")?
        .iter()
        .map(|byte| char::from(*byte))
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_counts() {
        assert_eq!(newest_glibc(b"\0memcpy\0GLIBC_2.14\0GLIBC_2.2.5\0GLIBC_PRIVATE\0"), Some(14));
        assert_eq!(newest_glibc(b"\0GLIBC_2.3\0GLIBC_2.28\0"), Some(28));
        assert_eq!(newest_glibc(b"no version"), None);
    }

    #[test]
    fn a_later_glibc_than_promised_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("library.so");
        fs::write(&library, "\0GLIBC_2.17\0").unwrap();
        check_glibc(Platform::LinuxX64Gnu, &library).unwrap();
        fs::write(&library, "\0GLIBC_2.18\0").unwrap();
        let error = check_glibc(Platform::LinuxX64Gnu, &library).unwrap_err();
        assert!(error.to_string().ends_with("needs glibc 2.18, later than 2.17"), "{error}");
        check_glibc(Platform::LinuxX64Musl, &library).unwrap();
    }
}
