//! `cargo x conform`: the conformance suite with the drivers of the chosen languages.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    process::Command,
};

use anyhow::{Result, ensure};

use crate::{
    artefacts::Profile, brokers::Brokers, installed::Installed, language::Language, step,
    workspace::Workspace,
};

/// The folder of the driver programs.
const DRIVERS: &str = "tests/conformance/drivers";

/// The Kotlin driver is compiled along with the binding's tests.
const KOTLIN_TEST_CLASSES: &str = "bindings/kotlin/target/test-classes";
const KOTLIN_DRIVER: &str = "DriverKt";

/// Builds, installs and runs the cases that match `case`, and repeats them on real brokers if asked to.
pub(crate) fn run(
    workspace: &Workspace,
    languages: &[Language],
    (case, real): (Option<&str>, bool),
) -> Result<()> {
    step::heading("Getting ready");
    let installed = Installed::prepare(workspace, languages, Profile::Tested)?;
    let brokers = real.then(|| Brokers::start(workspace, installed.artefacts(), None)).transpose()?;
    step::heading("Conformance");
    let mut runner = command(workspace, &installed, languages)?;
    if let Some(brokers) = &brokers {
        brokers.tell(&mut runner);
    }
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
        for driver in drivers(workspace, installed, *language)? {
            runner.args(["--language", driver.name, "--driver"]).arg(driver.to_string());
        }
    }
    Ok(runner)
}

/// A driver program: its name in reports, and its command line.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    /// The language, with the API where a language has two.
    pub(crate) name: &'static str,
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
}

impl fmt::Display for Driver {
    /// The form that the runner's command line takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name)?;
        self.command.iter().try_for_each(|part| write!(f, "\"{}\" ", part.display()))
    }
}

/// The drivers of a language.
pub(crate) fn drivers(
    workspace: &Workspace,
    installed: &Installed<'_>,
    language: Language,
) -> Result<Vec<Driver>> {
    let source = workspace.root().join(DRIVERS).join(language.key());
    let driver =
        |name, command: &[&OsStr]| Driver { name, command: command.iter().map(OsString::from).collect() };
    Ok(match language {
        Language::Rust => {
            let program = installed.artefacts().program("conformance-driver-rust");
            vec![driver("rust", &[program.as_os_str()])]
        }
        Language::Python => {
            let (python, program) = (installed.python()?, source.join("driver.py"));
            let command = [python.as_os_str(), program.as_os_str(), "--blocking".as_ref()];
            vec![driver("python", &command[..2]), driver("python-blocking", &command)]
        }
        Language::Node => {
            let program = installed.node_programs(&source, "conformance")?.join("driver.mjs");
            vec![driver("node", &["node".as_ref(), program.as_os_str()])]
        }
        Language::Kotlin => {
            let class_path = installed.class_path(&workspace.root().join(KOTLIN_TEST_CLASSES))?;
            // A driver lives for seconds: code for long runs and parallel collection cost it more than they save.
            let flags = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"].map(OsStr::new);
            vec![driver("kotlin", &[&flags[..], &[&class_path, KOTLIN_DRIVER.as_ref()]].concat())]
        }
    })
}
