//! `cargo x bench`: CPU per message of the release build.

mod apache;
mod earlier;
mod footprint;
mod nats;

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    artefacts::{Artefacts, Profile},
    installed::{Installed, KotlinProgram},
    language::Language,
    maven, step,
    tool::{self, Tool},
    workspace::Workspace,
};

/// The programs of the benchmark.
const SOURCES: &str = "tests/bench";

/// Builds, installs and measures. The tables are written to standard output.
pub(crate) fn run(workspace: &Workspace, languages: &[Language]) -> Result<()> {
    step::heading("Getting ready");
    let installed = Installed::prepare(workspace, languages, Profile::Release)?;
    let mut clients = Vec::new();
    for language in languages {
        clients.push(json!({
            "language": language.key(),
            "ours": ours(workspace, &installed, *language)?,
            "apache": apache::side(workspace, *language)?,
        }));
    }
    let list = workspace.cache("bench")?.join("clients.json");
    fs::write(&list, serde_json::to_string_pretty(&clients)?)?;
    let program = || {
        let mut bench = Command::new(installed.artefacts().program("bench"));
        bench.current_dir(workspace.root()).arg("--proxy");
        bench.arg(installed.artefacts().program("rocketmq-thin-proxy"));
        bench
    };
    step::heading("CPU per message");
    ensure!(program().arg("--clients").arg(list).status()?.success(), "the benchmark failed");

    step::heading("In front of a real broker, beside Apache's own proxy");
    let missing = tool::missing(&[Tool::Jdk, Tool::Maven]);
    tool::refuse(&missing, "Without them there is no Apache RocketMQ to measure beside.")?;
    let mut beside = program();
    beside.arg("--cluster").arg(workspace.cache("cluster")?);
    ensure!(beside.status()?.success(), "the benchmark in front of a real broker failed");
    Ok(())
}

/// Measures the embedded broker beside others. What can't be had is left out.
pub(crate) fn broker(workspace: &Workspace) -> Result<()> {
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace, Profile::Release)?;
    let mut bench = Command::new(artefacts.program("bench"));
    bench.current_dir(workspace.root()).arg("--broker");
    bench.arg("--proxy").arg(artefacts.program("rocketmq-thin-proxy"));
    if tool::missing(&[Tool::Jdk, Tool::Maven]).is_empty() {
        bench.arg("--cluster").arg(workspace.cache("cluster")?);
    }
    if let Some(programs) = nats::programs(workspace)? {
        bench.arg("--nats").args(programs);
    }
    step::heading("The embedded broker, every send on the disk");
    ensure!(bench.status()?.success(), "the benchmark failed");
    Ok(())
}

/// Measures what Apache's classic client costs servers.
pub(crate) fn classic(workspace: &Workspace) -> Result<()> {
    let missing = tool::missing(&[Tool::Jdk, Tool::Maven]);
    tool::refuse(&missing, "Without them there is no classic client to measure with.")?;
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace, Profile::Release)?;
    let class_path = maven::class_path(workspace, "tests/interop/java/classic/5.5.0.xml")?;
    let mut bench = Command::new(artefacts.program("bench"));
    bench.current_dir(workspace.root()).arg("--proxy").arg(artefacts.program("rocketmq-thin-proxy"));
    bench.arg("--cluster").arg(workspace.cache("cluster")?).args(["--classic", class_path.trim()]);
    bench.arg(workspace.root().join(SOURCES).join("apache/Classic.java"));
    step::heading("What a message of Apache's classic client costs servers");
    ensure!(bench.status()?.success(), "the benchmark failed");
    Ok(())
}

/// Measures how well quotas hold. Without Apache's brokers, the fleet is left out.
pub(crate) fn limits(workspace: &Workspace) -> Result<()> {
    step::heading("Getting ready");
    let artefacts = Artefacts::build(workspace, Profile::Release)?;
    let mut bench = Command::new(artefacts.program("bench"));
    bench.arg("--limits").arg("--proxy").arg(artefacts.program("rocketmq-thin-proxy"));
    if tool::missing(&[Tool::Jdk, Tool::Maven]).is_empty() {
        bench.arg("--cluster").arg(workspace.cache("cluster")?);
    }
    step::heading("A client at ten times its quota beside another one");
    ensure!(bench.status()?.success(), "the benchmark failed");
    Ok(())
}

/// Measures the proxy beside that of an earlier revision.
pub(crate) fn since(workspace: &Workspace, revision: &str) -> Result<()> {
    step::heading("Getting ready");
    let earlier = earlier::proxy(workspace, revision)?;
    let artefacts = Artefacts::build(workspace, Profile::Release)?;
    let mut bench = Command::new(artefacts.program("bench"));
    bench.arg("--proxy").arg(artefacts.program("rocketmq-thin-proxy")).arg("--earlier").arg(earlier);
    step::heading(&format!("The proxy beside that of {revision}"));
    ensure!(bench.status()?.success(), "the benchmark failed");
    Ok(())
}

/// Our client of a language in the list for the benchmark.
fn ours(workspace: &Workspace, installed: &Installed<'_>, language: Language) -> Result<Value> {
    let sources = workspace.root().join(SOURCES).join("clients");
    Ok(match language {
        Language::Rust => {
            json!({ "command": [apache::text(&installed.artefacts().program("bench")), "rust-client"] })
        }
        Language::Python => {
            let python = installed.python()?;
            let environment = python.ancestors().nth(2).map(PathBuf::from).unwrap_or_default();
            let python = apache::text(&python);
            json!({
                "command": [python, apache::text(&sources.join("client.py"))],
                "import": [python, "-c", "import rocketmq_thin.aio"],
                "installed": footprint::python(&environment)?,
            })
        }
        Language::Node => {
            let folder = installed.node_programs(&sources, "bench")?;
            let packages = folder.parent().map(PathBuf::from).unwrap_or_default();
            let load =
                format!("require({})", json!(apache::text(&packages.join("node_modules/rocketmq-thin"))));
            json!({
                "command": ["node", apache::text(&folder.join("client.mjs"))],
                "import": ["node", "-e", load],
                "installed": footprint::node(&packages)?,
            })
        }
        Language::Kotlin => {
            let name = "bench".to_owned();
            let classes = installed.class_path(&installed.kotlin_classes(&name)?)?;
            let source = sources.join("Client.kt");
            installed.compile_kotlin(&[KotlinProgram { name, source }])?;
            json!({
                "command": ["java", "-cp", classes.to_string_lossy(), "ClientKt"],
                "installed": footprint::jars(&installed.jars()?)?,
            })
        }
    })
}
