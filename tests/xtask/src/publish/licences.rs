//! The licences of the crates that the native libraries contain. Most of them ask to be handed on with the binary.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace::{Workspace, cargo};

/// The file in the packages.
pub(super) const FILE: &str = "THIRD-PARTY-LICENSES.txt";

/// How the names of licence files begin, in lower case.
const NAMES: &[&str] = &["license", "licence", "copying", "copyright", "notice", "unlicense"];

const HEADER: &str =
    "The native library contains the following crates, and Rust's standard library (MIT OR Apache-2.0).\n";

/// Writes the licences of everything that the crates `roots` are linked from, and returns the file.
pub(super) fn write(workspace: &Workspace, roots: &[&str]) -> Result<PathBuf> {
    let output = Command::new(cargo())
        .current_dir(workspace.root())
        .args(["metadata", "--format-version=1", "--locked"])
        .output()
        .context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let linked = linked(&metadata, roots);
    let packages = list(&metadata["packages"]).iter();
    let foreign =
        packages.filter(|package| linked.contains(text(&package["id"])) && !package["source"].is_null());
    let file = workspace.cache("publish")?.join(FILE);
    fs::write(&file, document(foreign)?).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

/// The ids of the packages that `roots` need at run time, on any platform.
fn linked<'a>(metadata: &'a Value, roots: &[&str]) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();
    let is_root = |package: &&Value| roots.contains(&text(&package["name"]));
    let mut open: Vec<&str> =
        list(&metadata["packages"]).iter().filter(is_root).map(|package| text(&package["id"])).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !found.insert(id) {
            continue;
        }
        let dependencies = nodes.get(id).map(|node| list(&node["deps"])).unwrap_or_default();
        // The kind of a normal dependency is null.
        let normal = dependencies
            .iter()
            .filter(|dependency| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()));
        open.extend(normal.map(|dependency| text(&dependency["pkg"])));
    }
    found
}

/// Each licence text once, below the names of its crates.
fn document<'a>(packages: impl Iterator<Item = &'a Value>) -> Result<String> {
    let mut crates_by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        let (licence, manifest) = (text(&package["license"]), Path::new(text(&package["manifest_path"])));
        let title = format!("{} {} ({licence})", text(&package["name"]), text(&package["version"]));
        let mut texts = texts(manifest.parent().context("a manifest's folder")?, licence)?;
        if texts.is_empty() {
            texts.push(format!("See {}", text(&package["repository"])));
        }
        for text in texts {
            crates_by_text.entry(text).or_default().insert(title.clone());
        }
    }
    let rule = "-".repeat(80);
    let sections = crates_by_text.iter().map(|(text, titles)| {
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        format!("\n{rule}\n{}\n\n{text}\n", titles.join("\n"))
    });
    Ok([HEADER.to_owned()].into_iter().chain(sections).collect())
}

/// The texts of the licence files in a crate's folder. Where Apache-2.0 is offered as a choice, it is chosen: its text is the
/// same for all crates.
fn texts(folder: &Path, licence: &str) -> Result<Vec<String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && NAMES.iter().any(|beginning| name.starts_with(beginning)) {
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            files.insert(name, normal(&String::from_utf8_lossy(&bytes)));
        }
    }
    let is_choice = licence.contains(" OR ") || licence.contains('/');
    if is_choice && files.keys().any(|name| is_apache(name)) {
        files.retain(|name, _| is_apache(name) || name.starts_with("notice"));
    }
    Ok(files.into_values().collect())
}

fn is_apache(name: &str) -> bool {
    name.contains("apache")
}

/// Without differences of white space at the ends of lines and of the text.
fn normal(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_only_builds_need_is_not_in_the_library() {
        let node = |id: &str, deps: Value| json!({"id": id, "deps": deps});
        let needs = |pkg: &str, kind: Value| json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [{"id": "a-id", "name": "a"}, {"id": "b-id", "name": "b"}],
            "resolve": {"nodes": [
                node("a-id", json!([needs("b-id", Value::Null), needs("c-id", json!("build"))])),
                node("b-id", json!([needs("a-id", Value::Null)])),
                node("c-id", json!([])),
            ]},
        });
        assert_eq!(linked(&metadata, &["a"]), BTreeSet::from(["a-id", "b-id"]));
    }

    #[test]
    fn crates_with_the_same_text_share_it() {
        let root = tempfile::tempdir().unwrap();
        let package = |name: &str, licence: &str, files: &[(&str, &str)]| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            for (file, text) in files {
                fs::write(folder.join(file), text).unwrap();
            }
            json!({"name": name, "version": "1.0.0", "license": licence, "manifest_path": folder.join("Cargo.toml")})
        };
        let packages = [
            package("a", "MIT OR Apache-2.0", &[("LICENSE-MIT", "MIT of a"), ("LICENSE-APACHE", "Apache")]),
            package("b", "Apache-2.0", &[("LICENSE", "Apache \n")]),
            package("c", "MIT", &[("LICENSE", "MIT of c")]),
        ];
        let document = document(packages.iter()).unwrap();
        assert!(
            document.contains("a 1.0.0 (MIT OR Apache-2.0)\nb 1.0.0 (Apache-2.0)\n\nApache\n"),
            "{document}"
        );
        assert!(document.contains("MIT of c") && !document.contains("MIT of a"), "{document}");
    }
}
