//! Times and durations in JSON: RFC 3339 in UTC, and durations such as `30s`.

use std::time::{Duration, SystemTime};

use super::problem::Problem;
use crate::service;

/// The last millisecond of the year 9999.
const MAX_MILLIS: i64 = 253_402_300_799_999;

/// Formats a time as RFC 3339. Times before 1970 and after 9999 are clamped.
pub(super) fn format_time(time: SystemTime) -> String {
    let time = service::time(service::millis(time).clamp(0, MAX_MILLIS));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Parses a time such as `2026-11-29T10:00:00Z`. `name` is the parameter, for the error.
pub(super) fn parse_time(name: &str, text: &str) -> Result<SystemTime, Problem> {
    let read = humantime::parse_rfc3339_weak(text);
    read.map_err(|_| {
        Problem::bad_request(format!("{name} is not a time such as 2026-11-29T10:00:00Z: {text:?}"))
    })
}

/// Parses a duration such as `30s`, and returns it in milliseconds. `name` is the parameter, for the error.
pub(super) fn parse_millis(name: &str, text: &str) -> Result<i64, Problem> {
    let invalid =
        |_| Problem::bad_request(format!("{name} is not a duration such as 30s or 1500ms: {text:?}"));
    let duration: Duration = humantime::parse_duration(text).map_err(invalid)?;
    Ok(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_can_be_formatted() {
        for (millis, expected) in [
            (-1, "1970-01-01T00:00:00.000Z"),
            (1_500, "1970-01-01T00:00:01.500Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_time(service::time(millis)), expected);
        }
        assert!(parse_time("at", "9999-12-31T23:59:59Z").is_ok());
        assert!(parse_time("at", "tomorrow").is_err() && parse_millis("wait", "-1s").is_err());
        assert_eq!(parse_millis("wait", "99999999999999999s").ok(), Some(i64::MAX));
    }
}
