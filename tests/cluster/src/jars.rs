//! Apache's jars, fetched by Maven.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// The class path of Apache's servers in this version. Maven resolves it once; the result is kept in `cache`.
///
/// # Errors
/// When Maven cannot fetch it; the error shows Maven's output.
pub(crate) async fn class_path(cache: &Path, version: &str) -> Result<String> {
    fs::create_dir_all(cache)?;
    let file = cache.join(format!("rocketmq-{version}.classpath"));
    if !is_usable(&file) {
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/pom.xml");
        let mut maven = Command::new("mvn");
        maven.args([
            "--batch-mode",
            "--quiet",
            "dependency:build-classpath",
            "-DincludeScope=runtime",
            "--file",
        ]);
        maven.arg(pom).arg(format!("-Drocketmq.version={version}"));
        maven.arg(format!("-Dmdep.outputFile={}", file.display())).stdin(Stdio::null());
        let output = maven.output().await.context("starting Maven (mvn), which fetches Apache's servers")?;
        ensure!(
            output.status.success(),
            "Maven can't fetch Apache RocketMQ {version}:\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}

/// Whether all jars still exist: Maven's repository may have been cleaned.
fn is_usable(file: &Path) -> bool {
    let listed = fs::read_to_string(file).unwrap_or_default();
    let jars: Vec<PathBuf> = std::env::split_paths(listed.trim()).collect();
    !listed.trim().is_empty() && jars.iter().all(|jar| jar.exists())
}
