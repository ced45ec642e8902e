//! Problems found in a configuration, each with a remedy.

use std::fmt;

/// The path of a setting: names of tables, indexes of arrays from 0, and the setting's own name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingPath(pub(super) Vec<String>);

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The proxy can't start.
    Error,
    /// The proxy starts, but probably does not do what was intended.
    Warning,
}

/// A problem with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the proxy can start in spite of it.
    pub severity: Severity,
    /// The setting, or the root path for a problem with the whole file.
    pub setting: SettingPath,
    /// The line in the file, from 1, if known.
    pub line: Option<usize>,
    /// The problem, without a full stop.
    pub problem: String,
    /// The remedy, as an imperative sentence without a full stop.
    pub remedy: String,
}

/// All problems found in a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl SettingPath {
    /// The setting with this path.
    #[must_use]
    pub fn of<'a>(steps: impl IntoIterator<Item = &'a str>) -> Self {
        Self(steps.into_iter().map(str::to_owned).collect())
    }

    /// The names and indexes, from the outermost to the innermost.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether this path is `outer`, or lies inside it.
    #[must_use]
    pub fn is_in(&self, outer: &Self) -> bool {
        self.0.starts_with(&outer.0)
    }
}

/// Splits a path at its dots, as in `tls.key`. Names of clusters may contain dots: use [`SettingPath::of`] for them.
impl From<&str> for SettingPath {
    fn from(path: &str) -> Self {
        Self::of(path.split('.'))
    }
}

impl fmt::Display for SettingPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step.parse::<usize>() {
                // Users count from 1.
                Ok(index) if depth > 0 => write!(f, "[{}]", index.saturating_add(1))?,
                _ if depth > 0 => write!(f, ".{step}")?,
                _ => f.write_str(step)?,
            }
        }
        Ok(())
    }
}

impl Finding {
    fn new(severity: Severity, setting: SettingPath, problem: String, remedy: String) -> Self {
        Self { severity, setting, line: None, problem, remedy }
    }
}

impl Findings {
    pub(super) fn error(
        &mut self,
        setting: impl Into<SettingPath>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding::new(Severity::Error, setting.into(), problem.into(), remedy.into()));
    }

    pub(super) fn warn(
        &mut self,
        setting: impl Into<SettingPath>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding::new(Severity::Warning, setting.into(), problem.into(), remedy.into()));
    }

    /// The first error, with the path of its setting. `None` if there is no error.
    #[must_use]
    pub fn first_error(&self) -> Option<String> {
        let error = self.0.iter().find(|finding| finding.severity == Severity::Error)?;
        Some(format!("{}: {}", error.setting, error.problem))
    }

    /// The number of findings with this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }
}
