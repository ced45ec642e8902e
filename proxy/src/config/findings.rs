//! What is wrong with a configuration, and what helps.

use std::fmt;

/// The way to a setting: names of tables, indexes of arrays, and its own name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting(pub(super) Vec<String>);

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The proxy can't start.
    Error,
    /// It starts, and probably does not do what is wanted.
    Warning,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The setting that it is about.
    pub setting: Setting,
    /// The line of the file, from 1, where it is known already.
    pub line: Option<usize>,
    /// What is wrong, without a full stop.
    pub problem: String,
    /// What helps, as an imperative sentence without a full stop.
    pub remedy: String,
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl Setting {
    /// The setting at the end of these steps.
    #[must_use]
    pub fn of<'a>(steps: impl IntoIterator<Item = &'a str>) -> Self {
        Self(steps.into_iter().map(str::to_owned).collect())
    }

    /// The names and indexes, from the outermost on.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether it is in the table or array at the end of these steps, or that itself.
    #[must_use]
    pub fn is_in(&self, outer: &Self) -> bool {
        self.0.starts_with(&outer.0)
    }
}

/// A path with dots, as in `tls.key`. Names of clusters may have dots: use [`Setting::of`] for them.
impl From<&str> for Setting {
    fn from(path: &str) -> Self {
        Self::of(path.split('.'))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step.parse::<usize>() {
                // People count from 1.
                Ok(index) if place > 0 => write!(f, "[{}]", index.saturating_add(1))?,
                _ if place > 0 => write!(f, ".{step}")?,
                _ => f.write_str(step)?,
            }
        }
        Ok(())
    }
}

impl Findings {
    pub(super) fn error(
        &mut self,
        setting: impl Into<Setting>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Error, setting.into(), (problem.into(), remedy.into()));
    }

    pub(super) fn warn(
        &mut self,
        setting: impl Into<Setting>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Warning, setting.into(), (problem.into(), remedy.into()));
    }

    fn add(&mut self, severity: Severity, setting: Setting, (problem, remedy): (String, String)) {
        self.0.push(Finding { severity, setting, line: None, problem, remedy });
    }

    /// The problem of the first error.
    #[must_use]
    pub fn first_error(&self) -> Option<String> {
        let error = self.0.iter().find(|finding| finding.severity == Severity::Error)?;
        Some(format!("{}: {}", error.setting, error.problem))
    }

    /// How many there are of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }
}
