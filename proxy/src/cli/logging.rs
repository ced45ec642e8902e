//! Sets up logging to standard error.

use std::error::Error;
use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry, reload};

use crate::config::{Finding, LogConfig, LogFormat, SettingPath, Severity};
use crate::log_level::LogControl;

/// Starts logging to standard error. Returns a control that changes the level while the proxy runs.
pub(super) fn init(config: &LogConfig) -> Result<LogControl, Box<dyn Error>> {
    let (filter, handle) = reload::Layer::new(parse_filter(&config.level)?);
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

/// Returns the error in the log settings, if there is one.
pub(super) fn check(config: &LogConfig) -> Option<Finding> {
    let problem = parse_filter(&config.level).err()?.to_string();
    Some(Finding {
        severity: Severity::Error,
        setting: SettingPath::from("log.level"),
        line: None,
        problem,
        remedy: "write a level such as \"info\"".to_owned(),
    })
}

/// Parses a filter such as `warn,rocketmq_thin_proxy=debug`. A word without `=` must be a level: `EnvFilter` would treat any
/// other word as a module, and suppress the lines of all other modules.
fn parse_filter(list: &str) -> Result<EnvFilter, Box<dyn Error>> {
    let is_wrong = |word: &&str| !word.contains(['=', '[']) && word.parse::<LevelFilter>().is_err();
    if let Some(word) = list.split(',').map(str::trim).find(is_wrong) {
        return Err(format!(
            "{word:?} is not a level; expected off, error, warn, info, debug or trace, or MODULE=LEVEL for a single \
             module"
        )
        .into());
    }
    Ok(EnvFilter::try_new(list)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_not_a_level_is_refused() {
        for right in
            ["warn", "INFO", "off", "warn,rocketmq_thin_proxy=debug", "rocketmq_thin_proxy[send]=trace"]
        {
            assert!(parse_filter(right).is_ok(), "{right}");
        }
        for wrong in ["loud", "warn,loud", "a=b"] {
            assert!(parse_filter(wrong).is_err(), "{wrong}");
        }
    }
}
