//! Values of request metadata.

use std::{str::FromStr, time::SystemTime};

use tonic::metadata::{Ascii, MetadataValue};

use crate::error::{Error, ErrorKind};

/// How long a value from user input may be, in bytes. Java's gRPC servers accept this much for all headers of a request by
/// default, and their refusal does not name the header.
const MAX_LENGTH: usize = 8 * 1024;

/// Formats a time in UTC as `20260102T030405Z`.
pub(super) fn date_time(now: SystemTime) -> String {
    humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "")
}

/// A metadata value that is known to be printable ASCII, because this crate generated it or [`ascii`] accepted its parts.
pub(super) fn known_ascii(value: &str) -> MetadataValue<Ascii> {
    MetadataValue::from_str(value).expect("ids, dates and signatures are printable ASCII")
}

/// A metadata value from user input. `what` names the input in the error.
pub(super) fn ascii(what: &str, value: &str) -> Result<MetadataValue<Ascii>, Error> {
    if value.len() > MAX_LENGTH {
        return Err(invalid(what, &format!("it is longer than {MAX_LENGTH} bytes")));
    }
    let printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let value = printable.then(|| MetadataValue::from_str(value).ok()).flatten();
    value.ok_or_else(|| invalid(what, "it must be printable ASCII"))
}

/// The error for an option that can't be used as metadata.
pub(super) fn invalid(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidOptions, "connect", format!("the {what} can't be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_servers_would_refuse_is_refused() {
        assert!(ascii("namespace", &"x".repeat(MAX_LENGTH)).is_ok());
        for value in ["x".repeat(MAX_LENGTH + 1), "\n".into(), "ü".into()] {
            assert_eq!(ascii("namespace", &value).unwrap_err().kind(), ErrorKind::InvalidOptions);
        }
    }
}
