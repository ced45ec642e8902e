//! `cargo x console`: the proxy's console in a real browser.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use crate::{
    artefacts::{Artefacts, Profile},
    registry, step,
    tool::Tool,
    workspace::Workspace,
};

/// What drives the browser, and what checks accessibility. They have no dependencies of their own.
const PACKAGES: &[&str] = &["playwright-core@1.65.1", "axe-core@4.14.1"];
/// What Chromium is called where it is installed.
const CHROMIUM: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Builds everything and runs the tests. With a folder, pictures of all views are kept there.
pub(crate) fn run(workspace: &Workspace, screenshots: Option<&Path>) -> Result<()> {
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace, Profile::Tested)?;
    let Some(mut tests) = command(workspace, &artefacts)? else { return Ok(()) };
    if let Some(folder) = screenshots {
        std::fs::create_dir_all(folder)?;
        tests.env("SCREENSHOTS", folder.canonicalize()?);
    }
    step::heading("The console in a browser");
    ensure!(tests.status()?.success(), "the console does not do what it should");
    Ok(())
}

/// The tests. There are none, which is said, where no browser can be had.
pub(crate) fn command(workspace: &Workspace, artefacts: &Artefacts) -> Result<Option<Command>> {
    let Some(chromium) = installed().or_else(|| install(workspace)) else {
        println!(
            "  console in a browser … left out: there is no Chromium, and apt-get could not install it \
             (see target/x/log/install-chromium.log)"
        );
        return Ok(None);
    };
    let packages = registry::node_packages(workspace, "console", PACKAGES)?;
    let mut tests = Tool::Node.command();
    // A browser at a time is enough for a small machine. The limit is for all tests of a file. What failed is said last,
    // where `cargo x test` looks for it.
    let options = ["--test", "--test-concurrency=1", "--test-timeout=600000", "--test-reporter=spec"];
    tests.current_dir(workspace.root().join("tests/console")).args(options);
    tests.env("ROCKETMQ_THIN_PROXY", artefacts.program("rocketmq-thin-proxy"));
    tests.env("CONSOLE_PACKAGES", packages).env("CHROMIUM", chromium);
    Ok(Some(tests))
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    CHROMIUM
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

/// Installs it with Debian's package manager, if that is there and may be used.
fn install(workspace: &Workspace) -> Option<PathBuf> {
    let log = File::create(workspace.cache("log").ok()?.join("install-chromium.log")).ok()?;
    let run = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        // Where no server can be reached, that is known soon.
        apt.args([
            "-o",
            "Acquire::Retries=1",
            "-o",
            "Acquire::http::Timeout=20",
            "-o",
            "DPkg::Lock::Timeout=60",
        ]);
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        let done = apt.stdout(log.try_clone().ok()?).stderr(log.try_clone().ok()?).status().ok()?;
        done.success().then_some(())
    };
    run(&["update"])?;
    run(&["install", "-y", "--no-install-recommends", "chromium"])?;
    installed()
}
