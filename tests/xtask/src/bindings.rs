//! The bindings' own tests, in their own languages: what is specific to a language and not in the
//! conformance suite.

use std::process::Command;

use anyhow::Result;

use crate::{installed::Installed, language::Language, maven, step, tool::Tool, workspace::Workspace};

/// The runner of the Python tests; the package itself depends on nothing.
const PYTEST: &str = "pytest>=8,<10";

/// How the tests of a language are run, on the installed package and the built proxy.
pub(crate) fn tests(
    workspace: &Workspace,
    installed: &Installed<'_>,
    language: Language,
) -> Result<Option<Command>> {
    let sources = workspace.root().join("bindings").join(language.key());
    let mut command = match language {
        Language::Rust => return Ok(None),
        Language::Python => {
            let python = installed.python()?;
            let mut probe = Command::new(&python);
            if !probe.args(["-c", "import pytest"]).output()?.status.success() {
                let mut install = Command::new(&python);
                install.args(["-m", "pip", "install", "--disable-pip-version-check", PYTEST]);
                step::run(workspace, "install pytest", &mut install)?;
            }
            let mut command = Command::new(python);
            // Not from the sources: they would stand in for what is installed.
            command.current_dir(workspace.root()).args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
            command.arg(sources.join("tests"));
            command
        }
        Language::Node => {
            let mut command = Tool::Node.command();
            command.current_dir(installed.node_programs(&sources.join("tests"), "tests")?).arg("--test");
            command
        }
        Language::Kotlin => {
            let mut command = maven::binding(workspace, installed.artefacts());
            command.arg("test");
            command
        }
    };
    command.env("ROCKETMQ_THIN_PROXY", installed.artefacts().program("rocketmq-thin-proxy"));
    Ok(Some(command))
}
