//! Times and sizes, as people write and read them.

use std::time::{Duration, SystemTime};

use crate::service::time;

/// Reads a time: RFC 3339, milliseconds since 1970, or how long ago it is.
pub(super) fn parse(text: &str) -> Result<SystemTime, String> {
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
        "a time is 2026-11-29T10:00:00Z, milliseconds since 1970, or how long ago it is, such as 15m"
            .to_owned()
    })
}

/// A time, in UTC.
pub(super) fn at(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// How long ago a time is.
pub(super) fn age(time: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(time).unwrap_or_default().as_secs();
    let whole = match seconds {
        0..60 => seconds,
        60..3600 => seconds,
        3600..86_400 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    };
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

/// Bytes in the largest unit that fits.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Reads a number of bytes, with or without a unit such as `MiB` or `MB`.
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
    count.ok_or_else(|| "a size is a number of bytes, such as 1000000, 500MiB or 10GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let noon = time(1_796_040_000_000);
        for text in ["2026-11-30T12:00:00Z", "2026-11-30 12:00:00", "1796040000000"] {
            assert_eq!(parse(text), Ok(noon), "{text}");
        }
        assert!(parse("2h").is_ok_and(|at| at < SystemTime::now()));
        assert!(parse("yesterday").is_err());
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, count) in [("0", 0), ("17", 17), ("17B", 17), ("2KB", 2000), ("3 MiB", 3 << 20)] {
            assert_eq!(parse_bytes(text), Ok(count), "{text}");
        }
        for text in ["", "GiB", "-1", "1.5GiB", "99999999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(bytes(count), text);
        }
    }
}
