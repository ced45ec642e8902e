use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry, reload};

use crate::config::{LogConfig, LogFormat};
use crate::log_level::LogControl;

/// Sends log lines to standard error from now on. Returns what changes their level.
pub(super) fn start(config: &LogConfig) -> Result<LogControl, ParseError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&config.level)?);
    let lines = fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr);
    let lines = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    registry().with(filter).with(lines).init();
    Ok(LogControl::new(move |level| {
        handle.reload(EnvFilter::new(level.name())).map_err(|error| error.to_string())
    }))
}
