//! The types of the Python package, as two type checkers see them.

use std::{fs, process::Command};

use anyhow::Result;

use crate::{
    installed::Installed,
    registry,
    step::{self, Outcome},
    workspace::Workspace,
};

const CHECKERS: &[&str] = &["mypy==2.4.1", "pyright==1.1.414"];

/// The program that uses every feature.
const USAGE: &str = "bindings/python/tests/usage.py";

/// Checks a program of all features against the installed package, in the strictest mode.
pub(crate) fn check(workspace: &Workspace, installed: &Installed<'_>) -> Result<Vec<Outcome>> {
    let programs = registry::python_programs(workspace, "types", CHECKERS)?;
    // A folder of its own: pyright looks for settings and sources beside what it checks.
    let folder = workspace.cache("types")?;
    fs::copy(workspace.root().join(USAGE), folder.join("usage.py"))?;
    fs::write(folder.join("pyrightconfig.json"), "{\"typeCheckingMode\": \"strict\"}\n")?;
    let python = installed.python()?;

    let mut mypy = Command::new(programs.join("mypy"));
    mypy.current_dir(&folder).args(["--strict", "usage.py", "--python-executable"]).arg(&python);
    let mut pyright = Command::new(programs.join("pyright"));
    // It fetches the checker itself from the npm registry when it is first used.
    pyright.env("PYRIGHT_PYTHON_CACHE_DIR", workspace.cache("tools/pyright")?);
    pyright.env("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1");
    pyright.current_dir(&folder).args(["--project", ".", "--pythonpath"]).arg(&python);
    [("mypy", mypy), ("pyright", pyright)]
        .iter_mut()
        .map(|(name, command)| step::attempt(workspace, &format!("types of Python by {name}"), command))
        .collect()
}
