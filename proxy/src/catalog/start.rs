//! The start position of a group in declarations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::service::{GroupStart, time};

/// Where a group starts in a topic from which it has not received yet: `earliest`, `latest`, or a time in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "http", schema(value_type = crate::json_schema::Start))]
pub struct StartSpec(pub GroupStart);

impl FromStr for StartSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let start = match text {
            "default" => GroupStart::Default,
            "earliest" => GroupStart::Earliest,
            "latest" => GroupStart::Latest,
            text => {
                let at = humantime::parse_rfc3339_weak(text).map_err(|_| {
                    format!(
                        "{text:?} is not a start position; expected earliest, latest, default, \
                         or a time such as 2026-11-29T10:00:00Z"
                    )
                })?;
                // Times are stored in whole milliseconds.
                GroupStart::Time(time(crate::service::millis(at)))
            }
        };
        Ok(Self(start))
    }
}

impl fmt::Display for StartSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            GroupStart::Default => f.write_str("default"),
            GroupStart::Earliest => f.write_str("earliest"),
            GroupStart::Latest => f.write_str("latest"),
            GroupStart::Time(at) => write!(f, "{}", humantime::format_rfc3339_millis(at)),
        }
    }
}

impl TryFrom<String> for StartSpec {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<StartSpec> for String {
    fn from(start: StartSpec) -> Self {
        start.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_as_it_is_written() {
        for text in ["default", "earliest", "latest", "2026-11-29T10:00:00.500Z"] {
            assert_eq!(text.parse::<StartSpec>().map(|start| start.to_string()).as_deref(), Ok(text));
        }
        assert!("tomorrow".parse::<StartSpec>().is_err());
    }
}
