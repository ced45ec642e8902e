//! The bindings' own tests, in their own languages: what is specific to a language and not in the
//! conformance suite.

use std::process::Command;

use anyhow::Result;

use crate::{installed::Installed, language::Language, maven, tool::Tool, workspace::Workspace};

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
            let mut command = Command::new(installed.python()?);
            // Run outside of the sources, so that the installed package is imported.
            command.current_dir(workspace.root()).env("PYTHONDONTWRITEBYTECODE", "1");
            command.args(["-m", "unittest", "discover", "--start-directory"]).arg(sources.join("tests"));
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
