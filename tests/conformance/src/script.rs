//! What a case tells the scripted server to do.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

/// The scripted server's part in a case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What differs from a healthy proxy; the first rule that fits a call decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What ReceiveMessage hands out, in order, each once.
    #[serde(default)]
    pub messages: Vec<StoredMessage>,
    /// What QueryRoute answers: per topic the permission of each queue. Other topics have one `READ_WRITE` queue.
    #[serde(default)]
    pub topics: BTreeMap<String, Vec<String>>,
    /// TLS with a certificate for this name; absent: plaintext.
    pub tls: Option<TlsScript>,
    /// It does not say that it keeps the messages of one request apart, as Apache's proxies don't.
    #[serde(default)]
    pub silent_about_batches: bool,
    /// The address to listen on, without a port; absent: `127.0.0.1`.
    pub listen: Option<String>,
}

/// TLS of the scripted server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsScript {
    /// The name in the certificate.
    pub name: String,
    /// Only clients with a certificate of the trusted authority are let in.
    #[serde(default)]
    pub client_certificates: bool,
}

/// A message as the scripted server hands it out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoredMessage {
    /// Its topic; empty: whichever is asked for first.
    pub topic: String,
    /// The body as text, before it is encoded.
    pub body: String,
    /// How the body is compressed.
    pub encoding: Option<Compression>,
    /// The digest does not fit the body.
    pub corrupt: bool,
    /// The body cannot be decompressed.
    pub broken: bool,
    /// Its tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its user properties.
    pub properties: BTreeMap<String, String>,
    /// The delivery attempt; 0 means 1.
    pub attempt: i32,
    /// Its id; empty: made from its place in the list.
    pub id: String,
    /// Its receipt handle; empty: made from its place in the list.
    pub handle: String,
    /// How many copies of it are handed out; 0 means 1.
    pub copies: usize,
    /// What its system properties have beyond that, as protobuf JSON.
    pub system: Value,
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Zlib,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// What happens to calls that fit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// The RPC; `Settings` for settings on a telemetry stream.
    pub rpc: String,
    /// Which of the calls of this RPC, counted from 1.
    pub calls: Calls,
    /// A pattern of the request.
    pub request: Option<Value>,
    /// Only requests signed with this access key.
    pub access_key: Option<String>,
    /// Name of the in-band code.
    pub code: Option<String>,
    /// Name of the gRPC code, such as `UNAVAILABLE`.
    pub grpc: Option<String>,
    /// Text of the status.
    pub text: String,
    /// Names of the codes of the answer's entries, in order.
    pub entries: Vec<String>,
    /// Names of the codes by receipt handle.
    pub handles: BTreeMap<String, String>,
    /// One result whatever the number of messages.
    pub one_entry: bool,
    /// No answer until the server is told to release.
    pub hang: bool,
    /// The connection is cut.
    pub drop: bool,
    /// A telemetry stream on which nothing is said.
    pub silent: bool,
    /// A received batch without its delivery timestamp.
    pub no_delivery_timestamp: bool,
    /// What the answer to settings has beyond that of a healthy proxy: a merge patch of protobuf JSON.
    pub settings: Value,
}

/// A range of calls, `2`, `1-3` or `2-`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    first: usize,
    last: usize,
}

impl Default for Calls {
    fn default() -> Self {
        Self { first: 1, last: usize::MAX }
    }
}

impl Calls {
    /// Whether the call with this number, counted from 1, is in the range.
    #[must_use]
    pub const fn contains(self, number: usize) -> bool {
        self.first <= number && number <= self.last
    }

    fn parse(text: &str) -> Result<Self> {
        let number =
            |text: &str| text.trim().parse().with_context(|| format!("calls: {text:?} is no number"));
        Ok(match text.split_once('-') {
            None => Self { first: number(text)?, last: number(text)? },
            Some((first, "")) => Self { first: number(first)?, last: usize::MAX },
            Some((first, last)) => Self { first: number(first)?, last: number(last)? },
        })
    }
}

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_calls() {
        for (text, inside, outside) in [("2", 2, 3), ("1-3", 3, 4), ("2-", 900, 1)] {
            let calls = Calls::parse(text).unwrap();
            assert!(calls.contains(inside) && !calls.contains(outside), "{text}");
        }
        assert!(Calls::parse("some").is_err());
    }
}
