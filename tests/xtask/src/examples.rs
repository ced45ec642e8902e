//! Runs the examples of every language and compares their output with one expected text.
//!
//! Beside its programs, the folder of an example may have
//!
//! - `setup.txt`: what to create first, as arguments of `rocketmq-thin-proxy`, one command a line;
//! - `server.txt`: the server that it needs, see [`Server`].

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    installed::{Installed, KotlinProgram},
    language::Language,
    proxy::Proxy,
    step,
    tally::Tally,
    workspace::Workspace,
};

/// The folders below `examples`, in their order.
pub(crate) fn folders(workspace: &Workspace) -> Result<Vec<String>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(workspace.root().join("examples"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            folders.push(name);
        }
    }
    folders.sort();
    Ok(folders)
}

/// The server that an example runs against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// A merged proxy. This is the default.
    Merged,
    /// A merged proxy with a certificate. The example gets the file of its authority as a second argument.
    Tls,
}

impl Server {
    fn of(folder: &Path) -> Result<Self> {
        let file = folder.join("server.txt");
        if !file.exists() {
            return Ok(Self::Merged);
        }
        match fs::read_to_string(&file)?.trim() {
            "tls" => Ok(Self::Tls),
            other => bail!("{} names no kind of server: {other}", file.display()),
        }
    }
}

/// Runs the examples for a merged proxy in the chosen languages.
pub(crate) fn run(workspace: &Workspace, installed: &Installed<'_>, run: &Run<'_>) -> Result<Tally> {
    run_on(workspace, installed, (run, Server::Merged), &[])
}

/// Runs the examples for a proxy with a certificate.
pub(crate) fn run_with_tls(
    workspace: &Workspace,
    installed: &Installed<'_>,
    languages: &[Language],
) -> Result<Tally> {
    let folder = workspace.cache("certificates")?;
    let mut generate = Command::new(installed.artefacts().program("cluster"));
    step::run(workspace, "make a certificate", generate.args(["certificates", "--folder"]).arg(&folder))?;
    let path = |name: &str| folder.join(name).display().to_string();
    let config = toml::toml! {
        [tls]
        certificate = (path("server.pem"))
        key = (path("server.key"))
    };
    let file = folder.join("proxy.toml");
    fs::write(&file, toml::to_string(&config)?)?;
    let arguments = [OsStr::new("--config"), file.as_os_str()];
    let proxy = Proxy::start_with(workspace, installed.artefacts(), &arguments)?;
    let ca = [folder.join("ca.pem").into_os_string()];
    run_on(workspace, installed, (&Run { languages, proxy: &proxy }, Server::Tls), &ca)
}

/// Runs the examples of one kind of server side by side: some of them mostly wait. Each gets the proxy's address and
/// `arguments`.
fn run_on(
    workspace: &Workspace,
    installed: &Installed<'_>,
    (run, server): (&Run<'_>, Server),
    arguments: &[OsString],
) -> Result<Tally> {
    compile(workspace, installed, run.languages)?;
    let mut examples = Vec::new();
    for name in folders(workspace)? {
        let folder = workspace.root().join("examples").join(&name);
        if Server::of(&folder)? == server {
            examples.push(Example { workspace, installed, run, name, folder });
        }
    }
    let mut tally = Tally::default();
    for outcome in step::side_by_side(&examples, |example| example.run(arguments)) {
        tally.add(outcome?);
    }
    Ok(tally)
}

/// An example in the chosen languages.
struct Example<'a> {
    workspace: &'a Workspace,
    installed: &'a Installed<'a>,
    run: &'a Run<'a>,
    name: String,
    folder: PathBuf,
}

impl Example<'_> {
    /// Runs the languages one after the other: they use the same topics.
    fn run(&self, arguments: &[OsString]) -> Result<Tally> {
        let Self { workspace, installed, run, name, folder } = self;
        set_up(workspace, installed, folder, run.proxy)?;
        let expected = folder.join("expected.txt");
        let expected =
            fs::read_to_string(&expected).with_context(|| format!("reading {}", expected.display()))?;
        let mut tally = Tally::default();
        for language in run.languages {
            if !folder.join(main_file(*language)).exists() {
                println!("  example {name} in {language} … not written yet");
                continue;
            }
            let mut program = installed.example(*language, name)?;
            let title = format!("example {name} in {language}");
            let outcome =
                step::attempt(workspace, &title, program.arg(run.proxy.endpoint()).args(arguments))?;
            let written = outcome.log.text()?;
            let same = written.lines().eq(expected.lines());
            if outcome.ok && !same {
                println!("    expected:\n{expected}\n    written:\n{written}");
            }
            tally.add_one(outcome.ok && same);
        }
        Ok(tally)
    }
}

/// Compiles the examples that need it. What is compiled already is skipped.
pub(crate) fn compile(
    workspace: &Workspace,
    installed: &Installed<'_>,
    languages: &[Language],
) -> Result<()> {
    if !languages.contains(&Language::Kotlin) {
        return Ok(());
    }
    installed.compile_kotlin(&kotlin_programs(workspace)?)
}

/// The examples in Kotlin.
fn kotlin_programs(workspace: &Workspace) -> Result<Vec<KotlinProgram>> {
    let file = main_file(Language::Kotlin);
    let programs = folders(workspace)?.into_iter().map(|name| {
        let source = workspace.root().join("examples").join(&name).join(file);
        KotlinProgram { name, source }
    });
    Ok(programs.filter(|program| program.source.exists()).collect())
}

/// The name of an example's program.
fn main_file(language: Language) -> &'static str {
    match language {
        Language::Rust => "main.rs",
        Language::Python => "main.py",
        Language::Node => "main.mjs",
        Language::Kotlin => "Main.kt",
    }
}

/// Creates the topics and groups of an example.
fn set_up(workspace: &Workspace, installed: &Installed<'_>, folder: &Path, proxy: &Proxy) -> Result<()> {
    let file = folder.join("setup.txt");
    if !file.exists() {
        return Ok(());
    }
    for line in fs::read_to_string(&file)?.lines() {
        let mut command = Command::new(installed.artefacts().program("rocketmq-thin-proxy"));
        command.args(line.split_whitespace()).args(["--server", proxy.endpoint()]);
        step::run(workspace, &format!("rocketmq-thin-proxy {line}"), &mut command)?;
    }
    Ok(())
}

/// The arguments of an example.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) languages: &'a [Language],
    pub(crate) proxy: &'a Proxy,
}
