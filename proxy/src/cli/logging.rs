use std::error::Error;
use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry, reload};

use crate::config::{Finding, LogConfig, LogFormat, Setting, Severity};
use crate::log_level::LogControl;

/// Sends log lines to standard error from now on. Returns what changes their level.
pub(super) fn start(config: &LogConfig) -> Result<LogControl, Box<dyn Error>> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
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

/// What is wrong with the settings, if anything is.
pub(super) fn check(config: &LogConfig) -> Option<Finding> {
    let problem = filter(&config.level).err()?.to_string();
    Some(Finding {
        severity: Severity::Error,
        setting: Setting::from("log.level"),
        line: None,
        problem,
        remedy: "write a level such as \"info\"".to_owned(),
    })
}

/// The filter of a list such as `warn,rocketmq_thin_proxy=debug`. A word alone must be a level. `EnvFilter` would take
/// any other word for a module, and hide the lines of all others.
fn filter(list: &str) -> Result<EnvFilter, Box<dyn Error>> {
    let is_wrong = |word: &&str| !word.contains(['=', '[']) && word.parse::<LevelFilter>().is_err();
    if let Some(word) = list.split(',').map(str::trim).find(is_wrong) {
        return Err(format!(
            "{word:?} is no level; the levels are off, error, warn, info, debug and trace, and MODULE=LEVEL is \
             that of one module"
        )
        .into());
    }
    Ok(EnvFilter::try_new(list)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for right in
            ["warn", "INFO", "off", "warn,rocketmq_thin_proxy=debug", "rocketmq_thin_proxy[send]=trace"]
        {
            assert!(filter(right).is_ok(), "{right}");
        }
        for wrong in ["loud", "warn,loud", "a=b"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }
}
