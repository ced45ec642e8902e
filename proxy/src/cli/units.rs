//! Times and sizes on the command line: parsing arguments and formatting output.

use std::time::{Duration, SystemTime};

use crate::service::time;

/// Parses `now`, an RFC 3339 time, milliseconds since 1970, or a duration before now.
pub(super) fn parse_time(text: &str) -> Result<SystemTime, String> {
    if text == "now" {
        return Ok(SystemTime::now());
    }
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(time(millis));
    }
    if let Ok(at) = humantime::parse_rfc3339_weak(text) {
        return Ok(at);
    }
    let ago = humantime::parse_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    ago.ok_or_else(|| {
        "expected a time such as 2026-11-29T10:00:00Z, milliseconds since 1970, an age such as 15m, or now"
            .to_owned()
    })
}

/// Formats a time as RFC 3339 in UTC, with milliseconds.
pub(super) fn format_time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// The age of a time, coarser the older it is: in seconds, from one hour on in minutes, from one day on in hours.
pub(super) fn format_age(time: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(time).unwrap_or_default().as_secs();
    let whole = match seconds {
        0..3600 => seconds,
        3600..86_400 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    };
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

/// Formats a number of bytes in the largest unit in which it is at least 1.
pub(super) fn format_bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Parses a number of bytes, with or without a unit such as `MiB` or `MB`.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1000),
        ("B", 1),
    ];
    let with_unit = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (number, unit) = with_unit.unwrap_or((text, 1));
    let count = number.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    count.ok_or_else(|| "expected a size such as 1000000, 500MiB or 10GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_time_is_parsed() {
        let noon = time(1_796_040_000_000);
        for text in ["2026-11-30T12:00:00Z", "2026-11-30 12:00:00", "1796040000000"] {
            assert_eq!(parse_time(text), Ok(noon), "{text}");
        }
        assert!(parse_time("2h").is_ok_and(|at| at < SystemTime::now()));
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn every_form_of_a_size_is_parsed() {
        for (text, count) in [("0", 0), ("17", 17), ("17B", 17), ("2KB", 2000), ("3 MiB", 3 << 20)] {
            assert_eq!(parse_bytes(text), Ok(count), "{text}");
        }
        for text in ["", "GiB", "-1", "1.5GiB", "99999999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_formatted_with_a_unit() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(format_bytes(count), text);
        }
    }
}
