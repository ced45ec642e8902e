//! `cargo x conform`: the conformance suite with the drivers of the chosen languages.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};

use crate::{installed::Installed, language::Language, step, workspace::Workspace};

/// The folder of the driver programs.
const DRIVERS: &str = "tests/conformance/drivers";

/// The Kotlin driver is compiled along with the binding's tests.
const KOTLIN_TEST_CLASSES: &str = "bindings/kotlin/target/test-classes";
const KOTLIN_DRIVER: &str = "DriverKt";

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
        let drivers = drivers(workspace, installed, *language)?;
        if drivers.is_empty() {
            // The runner finds Rust's driver beside itself.
            runner.args(["--language", language.key()]);
        }
        for (name, command) in drivers {
            runner.args(["--language", name, "--driver"]).arg(format!("{name}={command}"));
        }
    }
    Ok(runner)
}

/// How the drivers of a language are started, by the name that the runner shall give them.
fn drivers(
    workspace: &Workspace,
    installed: &Installed<'_>,
    language: Language,
) -> Result<Vec<(&'static str, String)>> {
    let source = workspace.root().join(DRIVERS).join(language.key());
    let quote = |path: PathBuf| format!("\"{}\"", path.display());
    Ok(match language {
        Language::Rust => Vec::new(),
        Language::Python => {
            let driver = format!("{} {}", quote(installed.python()?), quote(source.join("driver.py")));
            vec![("python-blocking", format!("{driver} --blocking")), ("python", driver)]
        }
        Language::Node => {
            let programs = installed.node_programs(&source, "conformance")?;
            vec![("node", format!("node {}", quote(programs.join("driver.mjs"))))]
        }
        Language::Kotlin => {
            let class_path = installed.class_path(&workspace.root().join(KOTLIN_TEST_CLASSES))?;
            vec![("kotlin", format!("java -cp {} {KOTLIN_DRIVER}", quote(class_path.into())))]
        }
    })
}
