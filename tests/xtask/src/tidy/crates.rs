//! Rules for every `Cargo.toml`: allowed dependencies, and the lints of the workspace.

use toml::{Table, Value};

use super::{Finding, source::Source};

/// The crates of this project that the crate in a folder may depend on. A folder that is not listed (the tests) may
/// depend on any, except that a published crate never joins core and proxy.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("core", &["rocketmq-thin-proto"]),
    ("proxy", &["rocketmq-thin-proto"]),
    ("bindings/bridge", &["rocketmq-thin"]),
    ("bindings/python", &["rocketmq-thin", "rocketmq-thin-bridge"]),
    ("bindings/node", &["rocketmq-thin", "rocketmq-thin-bridge"]),
    ("bindings/kotlin", &["rocketmq-thin", "rocketmq-thin-bridge"]),
    ("bindings/kotlin/bindgen", &[]),
    ("examples", &["rocketmq-thin"]),
    ("tests/xtask", &[]),
];

/// The kinds of dependencies. The rules hold for dev-dependencies, too.
const TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

fn manifest(source: &Source) -> Option<(&str, Table)> {
    let folder = source.path().strip_suffix("/Cargo.toml")?;
    Some((folder, source.text().parse().ok()?))
}

/// A crate depends only on the allowed crates of this project.
pub(super) fn dependencies(source: &Source) -> Vec<Finding> {
    let Some((folder, manifest)) = manifest(source) else { return Vec::new() };
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == folder) else { return Vec::new() };
    TABLES
        .iter()
        .filter_map(|table| manifest.get(*table).and_then(Value::as_table))
        .flat_map(|table| table.keys())
        .filter(|name| name.starts_with("rocketmq-thin") && !allowed.contains(&name.as_str()))
        .map(|name| {
            Finding::new(source, 1, format!("{folder} must not depend on {name} (see ARCHITECTURE.md)"))
        })
        .collect()
}

/// A crate uses the lints and the dependency versions of the workspace.
pub(super) fn lints(source: &Source) -> Vec<Finding> {
    let Some((_, manifest)) = manifest(source) else { return Vec::new() };
    let mut findings = Vec::new();
    if manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&Value::Boolean(true)) {
        findings.push(Finding::new(source, 1, "`[lints] workspace = true` is missing"));
    }
    let own_version = TABLES
        .iter()
        .filter_map(|table| manifest.get(*table).and_then(Value::as_table))
        .flatten()
        .filter(|(_, spec)| spec.get("workspace").is_none());
    findings.extend(own_version.map(|(name, _)| {
        Finding::new(
            source,
            1,
            format!("the version of {name} belongs in the root's [workspace.dependencies]"),
        )
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    #[test]
    fn core_and_proxy_never_import_each_other() {
        let text = format!("[dependencies]\nrocketmq-thin-proxy.workspace = true\n{LINTS}");
        assert_eq!(dependencies(&Source::of("core/Cargo.toml", &text)).len(), 1);
        let text = format!("[dev-dependencies]\nrocketmq-thin.workspace = true\n{LINTS}");
        assert_eq!(dependencies(&Source::of("proxy/Cargo.toml", &text)).len(), 1);
    }

    #[test]
    fn a_binding_reaches_the_core_through_the_bridge() {
        let text = format!("[dependencies]\nrocketmq-thin-bridge.workspace = true\n{LINTS}");
        assert!(dependencies(&Source::of("bindings/node/Cargo.toml", &text)).is_empty());
        assert_eq!(dependencies(&Source::of("proxy/Cargo.toml", &text)).len(), 1);
    }

    #[test]
    fn lints_and_versions_come_from_the_workspace() {
        assert_eq!(lints(&Source::of("core/Cargo.toml", "[dependencies]\nbytes = \"1\"\n")).len(), 2);
        assert!(
            lints(&Source::of(
                "core/Cargo.toml",
                &format!("[dependencies]\nbytes.workspace = true\n{LINTS}")
            ))
            .is_empty()
        );
        assert!(lints(&Source::of("core/src/lib.rs", "")).is_empty());
    }
}
