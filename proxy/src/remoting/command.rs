//! The commands of the remoting protocol: requests and responses.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;

const RESPONSE: i32 = 1;
const ONE_WAY: i32 = 2;

/// The protocol version that this implementation announces: the ordinal of 5.5.0 in Apache's `MQVersion`.
pub(super) const VERSION: i32 = 513;

/// The fields of a header by name.
pub type Fields = BTreeMap<Cow<'static, str>, String>;

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemotingCommand {
    /// A request code ([`super::request`]) or a response code ([`super::response`]).
    pub code: i32,
    /// The sender's language.
    pub language: Language,
    /// The sender's version.
    pub version: i32,
    /// The number that matches a response to its request on one connection.
    pub opaque: i32,
    /// Bit 0: the command is a response. Bit 1: the request is one-way, without a response.
    pub flag: i32,
    /// The text of a response.
    pub remark: Option<String>,
    /// The header's fields, sorted by name as the signature requires.
    pub fields: Fields,
    /// The body.
    pub body: Bytes,
    /// The encoding of the header.
    pub header_type: HeaderType,
}

/// The encoding of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderType {
    /// JSON. Only this form supports codes above 32767, which all pop requests have.
    #[default]
    Json,
    /// RocketMQ's binary form.
    Binary,
}

/// A programming language, by its number in Apache's `LanguageCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Language(pub u8);

impl Language {
    /// A language without a number of its own.
    pub const OTHER: Self = Self(7);

    const NAMES: [&'static str; 14] = [
        "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS",
        "RUST", "NODE_JS",
    ];

    /// The language's name in JSON headers; `OTHER` for an unknown number.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or("OTHER")
    }

    /// The language with this name; [`Language::OTHER`] for an unknown name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let known = Self::NAMES.iter().position(|known| *known == name);
        Self(known.and_then(|index| u8::try_from(index).ok()).unwrap_or(Self::OTHER.0))
    }
}

/// [`Language::OTHER`]. Clients of version 4.0 close the connection if the language is `RUST`, which they don't know.
impl Default for Language {
    fn default() -> Self {
        Self::OTHER
    }
}

impl RemotingCommand {
    /// A request with a JSON header.
    #[must_use]
    pub fn request(code: i32) -> Self {
        Self { code, version: VERSION, ..Self::default() }
    }

    /// A response with a JSON header.
    #[must_use]
    pub fn response(code: i32) -> Self {
        Self { code, version: VERSION, flag: RESPONSE, ..Self::default() }
    }

    /// Makes this a one-way request, which is not answered.
    #[must_use]
    pub fn one_way(self) -> Self {
        Self { flag: ONE_WAY, ..self }
    }

    /// Adds a header field.
    #[must_use]
    pub fn field(mut self, key: &'static str, value: impl ToString) -> Self {
        self.fields.insert(key.into(), value.to_string());
        self
    }

    /// Sets the encoding of the header.
    #[must_use]
    pub fn header(self, header_type: HeaderType) -> Self {
        Self { header_type, ..self }
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Whether this is a response.
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.flag & RESPONSE != 0
    }

    /// Whether this is a one-way request, which is not answered.
    #[must_use]
    pub fn is_one_way(&self) -> bool {
        self.flag & ONE_WAY != 0
    }

    /// The approximate length of the encoded header, in bytes.
    pub(super) fn header_size_hint(&self) -> usize {
        const FIXED: usize = 128;
        const PER_FIELD: usize = 6;
        let fields = self.fields.iter().map(|(key, value)| key.len() + value.len() + PER_FIELD);
        FIXED + fields.sum::<usize>()
    }

    /// A header field as text; `None` if it is absent.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key).map(String::as_str)
    }

    /// A header field as a number; `None` if it is absent or not such a number.
    #[must_use]
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }
}
