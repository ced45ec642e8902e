//! How much the program logs, as an administrator may change it while it runs.

/// How much the program logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Errors, and what needs attention.
    Warn,
    /// Also what happens normally.
    Info,
    /// Also details for developers.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Its name in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Changes how much is logged, by a function of the program that set up the log.
pub struct LogControl(Option<Change>);

type Change = Box<dyn Fn(LogLevel) -> Result<(), String> + Send + Sync>;

impl LogControl {
    /// A control that calls this function.
    pub fn new(change: impl Fn(LogLevel) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(change)))
    }

    /// A control of a log that can't be changed.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Changes the level; `None` if that is not possible.
    pub(crate) fn set(&self, level: LogLevel) -> Option<Result<(), String>> {
        self.0.as_ref().map(|change| change(level))
    }
}
