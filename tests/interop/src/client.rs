//! Apache's clients: how each is installed and started.

use std::{fs, path::Path, process::Output, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{process::Command, time::timeout};

use crate::{
    Guest, classic,
    install::{Installation, source},
    kinds, succeed,
};

/// The checks of every program, in this order.
pub(crate) const CHECKS: &[&str] = &["send", "receive", "change_invisible", "ack", "push"];

/// The time limit of a client.
const HANG: Duration = Duration::from_secs(180);

/// A client with its way of connecting, ready to run.
pub(crate) struct Client {
    /// Its name in reports, such as `java-tls`.
    pub(crate) name: String,
    /// Its checks, in this order.
    pub(crate) checks: &'static [&'static str],
    command: Vec<String>,
    transport: Option<&'static str>,
    home: String,
}

impl Client {
    /// Runs the program. Its output names the checks that passed.
    pub(crate) async fn run(&self, endpoint: &str) -> Result<Output> {
        let (program, arguments) = self.command.split_first().context("no program")?;
        let (topic, group) = (format!("interop-{}", self.name), format!("interop-group-{}", self.name));
        // The program with every message type chooses its topics and groups itself.
        let names = if self.checks == CHECKS { vec![topic, group] } else { vec![self.name.clone()] };
        let mut command = Command::new(program);
        command.args(arguments).arg(endpoint).args(names).args(self.transport);
        // The clients write their logs into the home directory.
        command.env("HOME", &self.home).kill_on_drop(true);
        timeout(HANG, command.output())
            .await
            .context("the client did not finish in time")?
            .with_context(|| format!("starting {program}"))
    }
}

/// Installs a client. Those that use TLS by default are run with TLS and with plaintext.
pub(crate) async fn prepare(guest: Guest, cache: &Path) -> Result<Vec<Client>> {
    let (name, command, transports) = match guest {
        Guest::Java => {
            ("java", java(cache, "java/Interop.java").await?, vec![Some("tls"), Some("plaintext")])
        }
        Guest::Go => ("go", go(cache).await?, vec![Some("tls"), Some("plaintext")]),
        Guest::Python => ("python", python(cache).await?, vec![None]),
        Guest::Node => ("node", node(cache).await?, vec![None]),
        Guest::Classic | Guest::Transcripts | Guest::Access | Guest::Remoting => {
            bail!("not a client of apache.rocketmq.v2")
        }
    };
    let home = home(cache)?;
    let client = |transport: Option<&'static str>| Client {
        name: transport.map_or_else(|| name.to_owned(), |transport| format!("{name}-{transport}")),
        checks: CHECKS,
        command: command.clone(),
        transport,
        home: home.clone(),
    };
    Ok(transports.into_iter().map(client).collect())
}

/// Another program of Apache's Java client, under this name.
pub(crate) async fn java_program(cache: &Path, program: &str, name: &str) -> Result<Client> {
    Ok(Client {
        name: name.to_owned(),
        checks: kinds::CHECKS,
        command: java(cache, program).await?,
        transport: None,
        home: home(cache)?,
    })
}

/// A program of Apache's classic Java client in this version, under this name.
pub(crate) async fn classic_program(
    cache: &Path,
    program: &classic::Program,
    version: &str,
    name: &str,
) -> Result<Client> {
    Ok(Client {
        name: name.to_owned(),
        checks: program.checks,
        command: classic_java(cache, version, program.source).await?,
        transport: None,
        home: home(cache)?,
    })
}

/// A program of Apache's classic Go client, under this name.
pub(crate) async fn classic_go_program(
    cache: &Path,
    program: &classic::Program,
    name: &str,
) -> Result<Client> {
    Ok(Client {
        name: name.to_owned(),
        checks: program.checks,
        command: go_in(cache, "go-classic").await?,
        transport: None,
        home: home(cache)?,
    })
}

fn home(cache: &Path) -> Result<String> {
    let home = cache.join("home");
    fs::create_dir_all(&home)?;
    Ok(home.display().to_string())
}

async fn java(cache: &Path, program: &str) -> Result<Vec<String>> {
    let installation = Installation::new(cache, "java", &["java/pom.xml"])?;
    let class_path = class_path(&installation, "java/pom.xml").await?;
    installation.done()?;
    Ok(java_command(cache, &class_path, &source(program).display().to_string()))
}

/// A program on the classic client. The programs share code, so they are compiled before they run.
async fn classic_java(cache: &Path, version: &str, main: &str) -> Result<Vec<String>> {
    const SOURCES: [&str; 3] =
        ["java/classic/Checks.java", "java/classic/Consumers.java", "java/classic/Producers.java"];
    let pom = format!("java/classic/{version}.xml");
    let inputs = [&SOURCES[..], &[&pom]].concat();
    let installation = Installation::new(cache, &format!("java-classic-{version}"), &inputs)?;
    let class_path = class_path(&installation, &pom).await?;
    let classes = installation.folder.join("classes");
    if !installation.is_fresh() {
        let mut compiler = Command::new("javac");
        compiler.args(["-nowarn", "-cp", &class_path, "-d"]).arg(&classes).args(SOURCES.map(source));
        succeed(&mut compiler).await?;
        installation.done()?;
    }
    Ok(java_command(cache, &format!("{}:{class_path}", classes.display()), main))
}

/// The class path of a pom's dependencies, which Maven has fetched.
async fn class_path(installation: &Installation, pom: &str) -> Result<String> {
    let file = installation.folder.join("class-path");
    if !installation.is_fresh() {
        let mut maven = Command::new("mvn");
        maven.args(["--batch-mode", "--quiet", "dependency:build-classpath", "--file"]).arg(source(pom));
        maven.arg(format!("-Dmdep.outputFile={}", file.display()));
        succeed(&mut maven).await?;
    }
    Ok(fs::read_to_string(&file)?.trim().to_owned())
}

/// Runs a class, or a source file.
fn java_command(cache: &Path, class_path: &str, program: &str) -> Vec<String> {
    let home = format!("-Duser.home={}", cache.join("home").display());
    ["java", &home, "-cp", class_path, program].map(str::to_owned).to_vec()
}

async fn go(cache: &Path) -> Result<Vec<String>> {
    go_in(cache, "go").await
}

/// Builds the Go program of a folder.
async fn go_in(cache: &Path, folder: &str) -> Result<Vec<String>> {
    let inputs = ["go.mod", "go.sum", "main.go"].map(|file| format!("{folder}/{file}"));
    let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
    let installation = Installation::new(cache, folder, &inputs)?;
    let program = installation.folder.join("interop").display().to_string();
    if !installation.is_fresh() {
        let mut build = Command::new("go");
        build.current_dir(source(folder)).args(["build", "-o", &program, "."]);
        succeed(&mut build).await?;
        installation.done()?;
    }
    Ok(vec![program])
}

async fn python(cache: &Path) -> Result<Vec<String>> {
    let interpreter = python_environment(cache).await?;
    Ok(vec![interpreter, source("python/interop.py").display().to_string()])
}

/// The Python interpreter of a virtual environment with Apache's client and the packages of the transcripts.
pub(crate) async fn python_environment(cache: &Path) -> Result<String> {
    let installation = Installation::new(cache, "python", &["python/requirements.txt"])?;
    let interpreter = installation.folder.join("bin/python");
    if !installation.is_fresh() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&installation.folder)).await?;
        let mut pip = Command::new(&interpreter);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        succeed(pip.arg(source("python/requirements.txt"))).await?;
        installation.done()?;
    }
    Ok(interpreter.display().to_string())
}

/// Copies the program beside its packages, because Node looks for them there.
async fn node(cache: &Path) -> Result<Vec<String>> {
    let installation = Installation::new(cache, "node", &["node/package.json"])?;
    if !installation.is_fresh() {
        fs::copy(source("node/package.json"), installation.folder.join("package.json"))?;
        let mut npm = Command::new("npm");
        npm.current_dir(&installation.folder).args(["install", "--no-package-lock", "--ignore-scripts"]);
        succeed(npm.args(["--no-audit", "--no-fund"])).await?;
        installation.done()?;
    }
    let program = installation.folder.join("interop.mjs");
    fs::copy(source("node/interop.mjs"), &program)?;
    Ok(vec!["node".to_owned(), program.display().to_string()])
}
