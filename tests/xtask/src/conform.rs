//! `cargo x conform`: the conformance suite with the drivers of the chosen languages.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};

use crate::{installed::Installed, language::Language, step, workspace::Workspace};

/// The folder of the driver programs.
const DRIVERS: &str = "tests/conformance/drivers";

/// The Kotlin driver is compiled along with the binding's tests.
const KOTLIN_TEST_CLASSES: &str = "bindings/kotlin/target/test-classes";
const KOTLIN_DRIVER: &str = "MainKt";

/// Builds, installs and runs the cases that `case` matches; the runner speaks for itself.
pub(crate) fn run(workspace: &Workspace, languages: &[Language], case: Option<&str>) -> Result<()> {
    step::heading("Getting ready");
    let installed = Installed::prepare(workspace, languages)?;
    step::heading("Conformance");
    let mut runner = command(workspace, &installed, languages)?;
    if let Some(case) = case {
        runner.args(["--case", case]);
    }
    ensure!(runner.status()?.success(), "not every case passed");
    Ok(())
}

/// The runner, ready to run all cases in these languages.
pub(crate) fn command(
    workspace: &Workspace,
    installed: &Installed<'_>,
    languages: &[Language],
) -> Result<Command> {
    let mut runner = Command::new(installed.artefacts().program("conformance"));
    runner.current_dir(workspace.root());
    for language in languages {
        runner.args(["--language", language.key()]);
        if let Some(driver) = driver(workspace, installed, *language)? {
            runner.arg("--driver").arg(format!("{}={driver}", language.key()));
        }
    }
    Ok(runner)
}

/// How a driver is started; the runner finds Rust's beside itself.
fn driver(workspace: &Workspace, installed: &Installed<'_>, language: Language) -> Result<Option<String>> {
    let source = workspace.root().join(DRIVERS).join(language.key());
    let quote = |path: PathBuf| format!("\"{}\"", path.display());
    Ok(match language {
        Language::Rust => None,
        Language::Python => Some(format!("{} {}", quote(installed.python()?), quote(source.join("main.py")))),
        Language::Node => {
            let programs = installed.node_programs(&source, "conformance")?;
            Some(format!("node {}", quote(programs.join("main.mjs"))))
        }
        Language::Kotlin => {
            let class_path = installed.class_path(&workspace.root().join(KOTLIN_TEST_CLASSES))?;
            Some(format!("java -cp {} {KOTLIN_DRIVER}", quote(class_path.into())))
        }
    })
}
