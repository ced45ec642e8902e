//! The log level, which an administrator can change at run time.

/// The log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Errors and warnings.
    Warn,
    /// Also normal events.
    Info,
    /// Also details for developers.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name in the configuration.
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

/// Changes the log level, with a function of the program that has set up the log.
pub struct LogControl(Option<SetLevel>);

type SetLevel = Box<dyn Fn(LogLevel) -> Result<(), String> + Send + Sync>;

impl LogControl {
    /// A control that calls this function with the new level.
    pub fn new(set_level: impl Fn(LogLevel) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(set_level)))
    }

    /// A control for a log whose level can't be changed.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Changes the level; `None` if the level can't be changed.
    pub(crate) fn set(&self, level: LogLevel) -> Option<Result<(), String>> {
        self.0.as_ref().map(|set_level| set_level(level))
    }
}
