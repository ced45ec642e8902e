//! Installs the published packages as a user would, without a registry, and runs programs on them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{
    pack::{folder, main_jar, maven_output},
    platform::Platform,
};
use crate::{
    artefacts::{Artefacts, Profile},
    examples::{self, Run},
    installed::Installed,
    language::Language,
    package::Packages,
    proxy::Proxy,
    snippets, step,
    tally::Tally,
    workspace::Workspace,
};

/// Runs the examples and the programs of the READMEs on the packages for this machine.
pub(super) fn run(workspace: &Workspace, languages: &[Language]) -> Result<()> {
    // The crates are tried by `cargo package`, which compiles them.
    let languages: Vec<Language> =
        languages.iter().copied().filter(|language| *language != Language::Rust).collect();
    if languages.is_empty() {
        return Ok(());
    }
    step::heading("Trying the packages");
    let packages = packages(workspace, &languages)?;
    let artefacts = Artefacts::build(workspace, Profile::Tested)?;
    let installed = Installed::install(workspace, artefacts, packages, "publish/trial")?;
    let proxy = Proxy::start(workspace, installed.artefacts())?;
    let mut tally = Tally::default();
    tally.add(examples::run(workspace, &installed, &Run { languages: &languages, proxy: &proxy })?);
    tally.add(snippets::run(workspace, &installed, &Run { languages: &languages, proxy: &proxy })?);
    println!("\n{tally}");
    ensure!(tally.is_clean(), "the packages do not work");
    Ok(())
}

/// The packages for this machine.
fn packages(workspace: &Workspace, languages: &[Language]) -> Result<Packages> {
    let platform = Platform::here().context("no packages are published for this machine")?;
    let mut packages =
        Packages { jar_dependencies: maven_output(workspace)?.join("lib"), ..Packages::default() };
    for language in languages {
        let made = files(&folder(workspace, *language)?)?;
        let named = |part: &str| {
            let is_it =
                |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part));
            made.iter().find(is_it).cloned().with_context(|| {
                format!(
                    "there is no {language} package for {}: cargo x package --release --only pack",
                    platform.key()
                )
            })
        };
        match language {
            Language::Rust => {}
            Language::Python => packages.wheel = Some(named(platform.wheel())?),
            Language::Node => {
                let main = format!("rocketmq-thin-{}.tgz", env!("CARGO_PKG_VERSION"));
                packages.tarballs = vec![named(&main)?, named(platform.key())?];
            }
            Language::Kotlin => packages.jar = Some(main_jar(workspace)?),
        }
    }
    Ok(packages)
}

/// The files directly in a folder.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| format!("reading {}", folder.display()))?;
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.is_file()).collect())
}
