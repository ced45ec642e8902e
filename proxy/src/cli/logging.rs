use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{EnvFilter, ParseError};

use crate::config::{LogConfig, LogFormat};

/// Sends log lines to standard error from now on.
pub(super) fn start(config: &LogConfig) -> Result<(), ParseError> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&config.level)?)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr);
    match config.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
