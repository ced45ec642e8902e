//! Programs from package registries that a verb needs. They are kept below `target/x/tools`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{step, tool::Tool, workspace::Workspace};

/// Installs packages from PyPI into a virtual environment, and returns the folder of its programs.
pub(crate) fn python_programs(workspace: &Workspace, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = workspace.cache(&format!("tools/{name}"))?;
    let programs = folder.join(if cfg!(windows) { "Scripts" } else { "bin" });
    once(&folder, packages, || {
        let title = format!("make a Python environment for {name}");
        step::run(workspace, &title, Tool::Python.command().args(["-m", "venv", "--clear"]).arg(&folder))?;
        let mut install = Command::new(programs.join("python"));
        install.args(["-m", "pip", "install", "--disable-pip-version-check"]).args(packages);
        step::run(workspace, &title_of(packages), &mut install).map(drop)
    })?;
    Ok(programs)
}

/// Installs packages from the npm registry into a folder, and returns the folder.
pub(crate) fn node_packages(workspace: &Workspace, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = workspace.cache(&format!("tools/{name}"))?;
    once(&folder, packages, || {
        fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
        let mut install = Tool::Npm.command();
        install.current_dir(&folder).args(["install", "--no-audit", "--no-fund", "--no-save"]).args(packages);
        step::run(workspace, &title_of(packages), &mut install).map(drop)
    })?;
    Ok(folder)
}

fn title_of(packages: &[&str]) -> String {
    format!("install {}", packages.join(", "))
}

/// Runs `install` unless it has succeeded before with the same packages.
fn once(folder: &Path, packages: &[&str], install: impl FnOnce() -> Result<()>) -> Result<()> {
    let (stamp, wanted) = (folder.join("installed"), packages.join("\n"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    install().with_context(|| {
        format!(
            "{} could not be installed. The first run needs network access to its registry",
            packages.join(", ")
        )
    })?;
    Ok(fs::write(stamp, wanted)?)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn what_is_installed_is_not_installed_again_until_versions_change() {
        let folder = tempfile::tempdir().unwrap();
        once(folder.path(), &["a==1"], || Ok(())).unwrap();
        once(folder.path(), &["a==1"], || bail!("again")).unwrap();
        let error = once(folder.path(), &["a==2"], || bail!("no route")).unwrap_err();
        assert!(format!("{error:#}").contains("a==2 could not be installed"), "{error:#}");
    }
}
