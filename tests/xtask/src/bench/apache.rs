//! Installs Apache's clients from their registries, and the benchmark's programs that use them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{SOURCES, footprint};
use crate::{
    fresh::is_fresh,
    language::Language,
    maven, registry, step,
    tool::Tool,
    workspace::{Workspace, cargo},
};

/// Where the interoperability tests name the versions of Apache's packages.
const VERSIONS: &str = "tests/interop";

/// Apache's Rust client has dependencies of its own, some of them no longer maintained, so it is built outside of the
/// workspace.
const RUST: &str = r#"[package]
name = "apache-client"
version = "0.0.0"
edition = "2024"

[dependencies]
futures = "0.3"
rocketmq = "=5.0.0"
# `rocketmq` needs this feature, but does not enable it.
time = { version = "0.3", features = ["local-offset"] }
tokio = { version = "1", features = ["full"] }

[profile.release]
lto = "thin"

[workspace]
"#;

/// The entry of a language's official client in the benchmark's list of clients.
pub(super) fn side(workspace: &Workspace, language: Language) -> Result<Value> {
    let mut side = match language {
        Language::Rust => rust(workspace)?,
        Language::Python => python(workspace)?,
        Language::Node => node(workspace)?,
        Language::Kotlin => java(workspace)?,
    };
    side["quiet"] = json!(true);
    Ok(side)
}

fn source(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.root().join(SOURCES).join("apache").join(name)
}

/// A command with a home directory for Apache's clients, which write their logs there.
fn with_bench_home(workspace: &Workspace, command: &[&str]) -> Result<Vec<String>> {
    let home = format!("HOME={}", workspace.cache("bench/home")?.display());
    Ok(["env", &home].iter().chain(command).map(|word| (*word).to_owned()).collect())
}

fn rust(workspace: &Workspace) -> Result<Value> {
    let folder = workspace.cache("bench/rust")?;
    fs::create_dir_all(folder.join("src"))?;
    write_if_changed(&folder.join("Cargo.toml"), RUST)?;
    let program = fs::read_to_string(source(workspace, "client.rs"))?;
    write_if_changed(&folder.join("src/main.rs"), &program)?;
    let mut build = Command::new(cargo());
    build.current_dir(&folder).args(["build", "--release", "--target-dir"]).arg(folder.join("target"));
    let built = step::attempt(workspace, "build the program on Apache's Rust client", &mut build)?;
    if !built.ok {
        return Ok(json!({ "command": [], "missing": "it could not be built" }));
    }
    let program = folder.join("target/release/apache-client");
    Ok(json!({ "command": with_bench_home(workspace, &[&text(&program)])? }))
}

fn python(workspace: &Workspace) -> Result<Value> {
    let requirements = workspace.root().join(VERSIONS).join("python/requirements.txt");
    let named = fs::read_to_string(&requirements)?;
    let client = named.lines().find(|line| line.starts_with("rocketmq-python-client"));
    let client = client.context("the requirements do not list rocketmq-python-client")?;
    let programs = registry::python_programs(workspace, "apache-client", &[client])?;
    let interpreter = text(&programs.join("python"));
    let environment = programs.parent().context("the environment of the programs")?;
    Ok(json!({
        "command": with_bench_home(workspace, &[&interpreter, &text(&source(workspace, "client.py"))])?,
        "import": with_bench_home(workspace, &[&interpreter, "-c", "import rocketmq"])?,
        "installed": footprint::python(environment)?,
    }))
}

fn node(workspace: &Workspace) -> Result<Value> {
    let manifest = workspace.root().join(VERSIONS).join("node/package.json");
    let folder = workspace.cache("bench/node")?;
    let stamp = folder.join("installed");
    if !is_fresh(&stamp, std::slice::from_ref(&manifest)) {
        fs::copy(manifest, folder.join("package.json"))?;
        let mut install = Tool::Npm.command();
        install.current_dir(&folder);
        install.args(["install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]);
        step::run(workspace, "install Apache's Node client", &mut install)?;
        fs::write(stamp, "")?;
    }
    // Node looks for packages beside the program.
    let program = folder.join("client.mjs");
    fs::copy(source(workspace, "client.mjs"), &program)?;
    let package = text(&folder.join("node_modules/rocketmq-client-nodejs"));
    let load = format!("require({})", json!(package));
    Ok(json!({
        "command": with_bench_home(workspace, &["node", &text(&program)])?,
        "import": with_bench_home(workspace, &["node", "-e", &load])?,
        "installed": footprint::node(&folder)?,
    }))
}

fn java(workspace: &Workspace) -> Result<Value> {
    let class_path = maven::class_path(workspace, &format!("{VERSIONS}/java/pom.xml"))?;
    let home = format!("-Duser.home={}", workspace.cache("bench/home")?.display());
    let class_path = class_path.trim();
    let program = text(&source(workspace, "Client.java"));
    let jars: Vec<PathBuf> = std::env::split_paths(class_path).collect();
    Ok(json!({
        "command": ["java", home, "-cp", class_path, program],
        "installed": footprint::jars(&jars)?,
    }))
}

/// Leaves the file alone if it is the same, so that cargo does not build again.
pub(super) fn write_if_changed(path: &Path, content: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|written| written == content) {
        return Ok(());
    }
    fs::write(path, content).with_context(|| format!("writing {}", path.display()))
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}
