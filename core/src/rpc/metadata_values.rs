//! Values of request metadata.

use std::{str::FromStr, time::SystemTime};

use tonic::metadata::{Ascii, MetadataValue};

use crate::error::{Error, ErrorKind};

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
    let printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let value = printable.then(|| MetadataValue::from_str(value).ok()).flatten();
    value.ok_or_else(|| invalid(what, "it must be printable ASCII"))
}

/// The error for an option that can't be used as metadata.
pub(super) fn invalid(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidOptions, "connect", format!("the {what} can't be used: {why}"))
}
