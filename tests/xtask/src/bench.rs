//! `cargo x bench`: CPU per message of the release build.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{
    artefacts::Profile,
    installed::{Installed, KotlinProgram},
    language::Language,
    step,
    tool::{self, Tool},
    workspace::Workspace,
};

/// The clients under measurement.
const CLIENTS: &str = "tests/bench/clients";

/// Builds, installs and measures. The tables are written to standard output.
pub(crate) fn run(workspace: &Workspace, languages: &[Language]) -> Result<()> {
    step::heading("Getting ready");
    let installed = Installed::prepare(workspace, languages, Profile::Release)?;
    let program = || {
        let mut bench = Command::new(installed.artefacts().program("bench"));
        bench.current_dir(workspace.root()).arg("--proxy");
        bench.arg(installed.artefacts().program("rocketmq-thin-proxy"));
        bench
    };
    let mut bench = program();
    let sources = workspace.root().join(CLIENTS);
    for language in languages {
        let client = match language {
            // The runner always measures the Rust client.
            Language::Rust => continue,
            Language::Python => {
                format!("{} {}", installed.python()?.display(), sources.join("client.py").display())
            }
            Language::Node => {
                format!("node {}", installed.node_programs(&sources, "bench")?.join("client.mjs").display())
            }
            Language::Kotlin => {
                let source = sources.join("Client.kt");
                if !source.exists() {
                    continue;
                }
                let name = "bench".to_owned();
                let classes = installed.class_path(&installed.kotlin_classes(&name)?)?;
                installed.compile_kotlin(&[KotlinProgram { name, source }])?;
                format!("java -cp {} ClientKt", classes.to_string_lossy())
            }
        };
        bench.arg("--client").arg(format!("{}={client}", language.key()));
    }
    step::heading("CPU per message");
    ensure!(bench.status()?.success(), "the benchmark failed");

    step::heading("In front of a real broker, beside Apache's own proxy");
    let missing = tool::missing(&[Tool::Jdk, Tool::Maven]);
    tool::refuse(&missing, "Without them there is no Apache RocketMQ to measure beside.")?;
    let mut beside = program();
    beside.arg("--cluster").arg(workspace.cache("cluster")?);
    ensure!(beside.status()?.success(), "the benchmark in front of a real broker failed");
    Ok(())
}
