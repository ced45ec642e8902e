//! The programs of other languages that a verb may need: is it there, and if not, why it is wanted and how
//! to get it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A program that has to be on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// CPython with its `venv` module.
    Python,
    /// The JavaScript runtime.
    Node,
    /// Node's package manager.
    Npm,
    /// A Java development kit.
    Jdk,
    /// Maven.
    Maven,
    /// The Go toolchain.
    Go,
}

impl Tool {
    /// The program as it is called.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Python if cfg!(windows) => "python",
            Self::Python => "python3",
            Self::Node => "node",
            // Rust starts a batch file only by its whole name.
            Self::Npm if cfg!(windows) => "npm.cmd",
            Self::Npm => "npm",
            Self::Jdk => "javac",
            Self::Maven if cfg!(windows) => "mvn.cmd",
            Self::Maven => "mvn",
            Self::Go => "go",
        }
    }

    /// The arguments of a call that succeeds only where the tool is fit for use.
    fn probe(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["-c", "import ensurepip, venv, sys; assert sys.version_info >= (3, 9)"],
            Self::Node => &["-e", "process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)"],
            Self::Jdk => &["--release", "17", "-version"],
            Self::Go => &["version"],
            Self::Npm | Self::Maven => &["--version"],
        }
    }

    fn wanted_for(self) -> &'static str {
        match self {
            Self::Python => "Python 3.9 or newer with venv: the Python binding",
            Self::Node => "Node.js 20 or newer: the Node binding",
            Self::Npm => "npm: installs the Node packages",
            Self::Jdk => "a JDK 17 or newer: the Kotlin binding and Apache's Java packages",
            Self::Maven => "Maven 3.8 or newer: builds Kotlin and fetches Apache's Java packages",
            Self::Go => "Go 1.22 or newer: Apache's Go client",
        }
    }

    fn how_to_get(self) -> &'static str {
        match self {
            Self::Python => {
                "apt install python3 python3-venv, brew install python, or https://www.python.org"
            }
            Self::Node | Self::Npm => "apt install nodejs npm, brew install node, or https://nodejs.org",
            Self::Jdk => "apt install openjdk-17-jdk-headless, brew install openjdk, or https://adoptium.net",
            Self::Maven => "apt install maven, brew install maven, or https://maven.apache.org",
            Self::Go => "apt install golang, brew install go, or https://go.dev",
        }
    }

    fn is_there(self) -> bool {
        let probed = Command::new(self.program())
            .args(self.probe())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        probed.is_ok_and(|status| status.success())
    }

    fn explain(self) -> String {
        let (program, wanted_for, how_to_get) = (self.program(), self.wanted_for(), self.how_to_get());
        format!("  {program} is missing or too old. Wanted: {wanted_for}.\n    {how_to_get}")
    }

    /// The command line of this tool, to be completed.
    pub(crate) fn command(self) -> Command {
        Command::new(self.program())
    }
}

/// Those of `tools` that the machine lacks.
pub(crate) fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().copied().filter(|tool| !tool.is_there()).collect()
}

/// Fails with the list of what is missing, if anything is; `leave_out` says how to do without.
pub(crate) fn refuse(missing: &[Tool], leave_out: &str) -> Result<()> {
    let mut lines: Vec<String> = missing.iter().map(|tool| tool.explain()).collect();
    lines.sort();
    lines.dedup();
    if lines.is_empty() {
        return Ok(());
    }
    bail!("this machine lacks what is needed:\n{}\n{leave_out}", lines.join("\n"))
}
