//! Rules about files: their length, name and folder, and what a library must not do.

use std::path::Path;

use super::{Finding, source::Source};

/// The most lines of a source file. There is no list of exceptions.
const MOST_LINES: usize = 500;

/// File names without meaning.
const BANNED_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// The extensions of source files.
const SOURCES: &[&str] = &["cjs", "cts", "java", "js", "kt", "kts", "mjs", "mts", "py", "pyi", "rs", "ts"];

/// The allowed entries of the checkout's root.
const ROOT: &[&str] = &[
    ".cargo",
    ".ci",
    ".editorconfig",
    ".gitattributes",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bindings",
    "clippy.toml",
    "core",
    "deny.toml",
    "examples",
    "proto",
    "proxy",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
];

fn is_source(source: &Source) -> bool {
    SOURCES.contains(&source.extension())
}

/// A file over the limit has more than one reason to change.
pub(super) fn length(source: &Source) -> Vec<Finding> {
    let lines = source.text().lines().count();
    if !is_source(source) || lines <= MOST_LINES {
        return Vec::new();
    }
    vec![Finding::new(source, MOST_LINES + 1, format!("{lines} lines: split it by its reasons to change"))]
}

/// A module is named after its content.
pub(super) fn names(source: &Source) -> Vec<Finding> {
    let path = Path::new(source.path());
    let banned = path.with_extension("").iter().find_map(|part| {
        BANNED_NAMES.iter().find(|banned| part.to_str().is_some_and(|part| part.eq_ignore_ascii_case(banned)))
    });
    let Some(banned) = banned.filter(|_| is_source(source)) else { return Vec::new() };
    vec![Finding::new(source, 1, format!("`{banned}` says nothing: name it after what it holds"))]
}

/// The root has no unknown entries.
pub(super) fn root(source: &Source) -> Vec<Finding> {
    let first = source.path().split('/').next().unwrap_or_default();
    if ROOT.contains(&first) {
        return Vec::new();
    }
    vec![Finding::new(source, 1, "nothing new at the root of the checkout")]
}

/// Whether a Rust file is the entry point of a program, which may read the environment and print.
fn is_rim(source: &Source) -> bool {
    let path = source.path();
    source.is_test()
        || path.starts_with("proxy/src/cli/")
        || path.ends_with("/main.rs")
        || path.ends_with("/build.rs")
        || path.contains("/src/bin/")
}

/// A library does not read the environment.
pub(super) fn environment(source: &Source) -> Vec<Finding> {
    if is_rim(source) {
        return Vec::new();
    }
    let lines = [source.find(&["std", "::", "env"]), source.find(&["env", "::", "var"])].concat();
    lines
        .into_iter()
        .map(|line| Finding::new(source, line, "only a program's main reads the environment"))
        .collect()
}

/// A library reports by errors and `tracing`, and does not print.
pub(super) fn printing(source: &Source) -> Vec<Finding> {
    let lines = match source.extension() {
        "rs" if !is_rim(source) => ["print", "println", "eprint", "eprintln", "dbg"]
            .iter()
            .flat_map(|name| source.find(&[name, "!"]))
            .collect(),
        "py" | "js" | "mjs" | "cjs" | "ts" | "kt" => printing_in_binding(source),
        _ => Vec::new(),
    };
    lines.into_iter().map(|line| Finding::new(source, line, "a library doesn't print")).collect()
}

/// Whether a line begins with a print call of its language. The packaging scripts of bindings are programs.
fn printing_in_binding(source: &Source) -> Vec<usize> {
    let packs = source.path().rsplit('/').next().is_some_and(|name| name.starts_with("package."));
    if packs || source.is_test() || !source.path().starts_with("bindings/") {
        return Vec::new();
    }
    let prints = |line: &&str| {
        ["print(", "println(", "console."].iter().any(|call| line.trim_start().starts_with(call))
    };
    source.text().lines().enumerate().filter(|(_, line)| prints(line)).map(|(index, _)| index + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_hundred_lines_are_enough() {
        assert!(length(&Source::of("core/src/a.rs", &"\n".repeat(500))).is_empty());
        assert_eq!(length(&Source::of("bindings/python/a.py", &"\n".repeat(501))).len(), 1);
        assert!(length(&Source::of("Cargo.lock", &"\n".repeat(9000))).is_empty());
    }

    #[test]
    fn a_name_must_say_something() {
        assert_eq!(names(&Source::of("core/src/utils.rs", "")).len(), 1);
        assert_eq!(names(&Source::of("bindings/node/common/index.ts", "")).len(), 1);
        assert!(names(&Source::of("core/src/client.rs", "")).is_empty());
    }

    #[test]
    fn the_root_is_closed() {
        assert_eq!(root(&Source::of("scripts/build.sh", "")).len(), 1);
        assert!(root(&Source::of("core/src/lib.rs", "")).is_empty());
    }

    #[test]
    fn only_main_reads_the_environment() {
        let text = "use std::env;\nfn f() { env::var(\"A\"); }";
        assert_eq!(environment(&Source::of("core/src/options.rs", text)).len(), 2);
        assert!(environment(&Source::of("proxy/src/main.rs", text)).is_empty());
        assert!(environment(&Source::of("core/src/lib.rs", "const V: &str = env!(\"X\");")).is_empty());
    }

    #[test]
    fn a_library_does_not_print() {
        assert_eq!(printing(&Source::of("proxy/src/app/mod.rs", "fn f() { println!(\"x\"); }")).len(), 1);
        assert_eq!(printing(&Source::of("bindings/python/rocketmq_thin/a.py", "  print(1)")).len(), 1);
        assert!(printing(&Source::of("examples/01-send-receive/main.py", "print(1)")).is_empty());
        assert!(printing(&Source::of("proxy/src/main.rs", "fn f() { println!(\"x\"); }")).is_empty());
    }
}
