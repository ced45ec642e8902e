//! `cargo x docs`: the API reference of each language, in `target/x/docs`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    artefacts::{Artefacts, Profile},
    language::Language,
    maven,
    package::Packages,
    registry, step,
    tool::Tool,
    workspace::{Workspace, cargo},
};

/// Reads docstrings.
const PDOC: &[&str] = &["pdoc>=15,<17"];

/// Reads type declarations.
const TYPEDOC: &[&str] = &["typedoc@0.28.20", "typescript@5.9.3", "@types/node@22"];

/// Builds the reference of each chosen language and the page that links to them.
pub(crate) fn run(workspace: &Workspace, languages: &[Language]) -> Result<()> {
    step::heading("Documenting");
    let root = workspace.cache("docs")?;
    for language in languages {
        let out = root.join(language.key());
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        match language {
            Language::Rust => rustdoc(workspace, &out)?,
            Language::Python => pdoc(workspace, &out)?,
            Language::Node => typedoc(workspace, &out)?,
            Language::Kotlin => dokka(workspace, &out)?,
        }
    }
    let index = root.join("index.html");
    fs::write(&index, page(&root))?;
    println!("  {}", index.display());
    Ok(())
}

/// The published crates, as docs.rs shows them.
fn rustdoc(workspace: &Workspace, out: &Path) -> Result<()> {
    let command = || {
        let mut command = Command::new(cargo());
        command.current_dir(workspace.root());
        command
    };
    // Pages of other crates would be in the index and the search.
    step::run(workspace, "remove old pages", command().args(["clean", "--doc"]))?;
    let mut doc = command();
    doc.args(["doc", "--no-deps", "--package=rocketmq-thin", "--package=rocketmq-thin-proto"]);
    step::run(workspace, "Rust: rustdoc", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    copy(&workspace.target().join("doc"), out)
}

/// pdoc imports the package, so the wheel is installed beside it.
fn pdoc(workspace: &Workspace, out: &Path) -> Result<()> {
    let programs = registry::python_programs(workspace, "pdoc", PDOC)?;
    let artefacts = Artefacts::build(workspace, Profile::Tested)?;
    let packages = Packages::make(workspace, &artefacts, &[Language::Python])?;
    let wheel = packages.wheel.context("the wheel is not packed")?;
    let mut install = Command::new(programs.join("python"));
    install.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-index", "--force-reinstall"]);
    step::run(workspace, "install the wheel beside pdoc", install.arg(wheel))?;
    let mut pdoc = Command::new(programs.join("pdoc"));
    pdoc.arg("--output-directory").arg(out).arg("rocketmq_thin");
    step::run(workspace, "Python: pdoc", &mut pdoc).map(drop)
}

fn typedoc(workspace: &Workspace, out: &Path) -> Result<()> {
    let tools = registry::node_packages(workspace, "typedoc", TYPEDOC)?;
    let package = workspace.root().join("bindings/node");
    let declarations = package.join("lib/index.d.cts");
    let options = json!({
        "compilerOptions": {
            "module": "nodenext",
            "target": "es2022",
            "lib": ["es2022", "esnext.disposable"],
            "strict": true,
            "skipLibCheck": true,
            "types": ["node"],
            "typeRoots": [tools.join("node_modules/@types")],
        },
        "files": [declarations],
    });
    let project = tools.join("tsconfig.json");
    fs::write(&project, options.to_string())?;
    let mut typedoc = Tool::Node.command();
    typedoc.current_dir(&tools).arg(tools.join("node_modules/typedoc/bin/typedoc"));
    typedoc.arg("--tsconfig").arg(project).arg("--out").arg(out);
    typedoc.arg("--readme").arg(package.join("README.md"));
    typedoc.args(["--name", "rocketmq-thin", "--disableSources", "--disableGit"]).arg(declarations);
    step::run(workspace, "Node: typedoc", &mut typedoc).map(drop)
}

fn dokka(workspace: &Workspace, out: &Path) -> Result<()> {
    let mut dokka = maven::command(workspace, "bindings/kotlin/pom.xml");
    dokka.arg(maven::property("dokka.output", out)).arg("org.jetbrains.dokka:dokka-maven-plugin:dokka");
    step::run(workspace, "Kotlin: dokka", &mut dokka)
        .context("the first run needs network access, to fetch dokka from Maven Central")
        .map(drop)
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let path: PathBuf = entry?.path();
        let target = to.join(path.file_name().context("a file's name")?);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, target)?;
        }
    }
    Ok(())
}

/// The first page of each reference.
const FIRST_PAGES: &[(Language, &str)] = &[
    (Language::Rust, "rust/rocketmq_thin/index.html"),
    (Language::Python, "python/rocketmq_thin.html"),
    (Language::Node, "node/index.html"),
    (Language::Kotlin, "kotlin/index.html"),
];

/// Links to the references that have been built.
fn page(root: &Path) -> String {
    let built = FIRST_PAGES.iter().filter(|(_, path)| root.join(path).exists());
    let links: String =
        built.map(|(language, path)| format!("<li><a href=\"{path}\">{language}</a></li>\n")).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>rocketmq-thin {version}</title>\n\
         <h1>rocketmq-thin {version}</h1>\n<p>The API reference of each language.</p>\n<ul>\n{links}</ul>\n</html>\n",
        version = env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_links_to_what_has_been_built() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("node")).unwrap();
        fs::write(root.path().join("node/index.html"), "").unwrap();
        let page = page(root.path());
        assert!(page.contains("<a href=\"node/index.html\">Node</a>"), "{page}");
        assert!(!page.contains("kotlin/"), "{page}");
    }

    #[test]
    fn a_folder_is_copied_with_its_folders() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("from/inner")).unwrap();
        fs::write(root.path().join("from/inner/page"), "text").unwrap();
        copy(&root.path().join("from"), &root.path().join("to")).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("to/inner/page")).unwrap(), "text");
    }
}
