use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;

const RESPONSE: i32 = 1;
const ONE_WAY: i32 = 2;

/// The protocol version this implementation speaks: the ordinal of 5.5.0 in Apache's `MQVersion`.
pub(super) const VERSION: i32 = 513;

/// A header's fields by name.
pub type Fields = BTreeMap<Cow<'static, str>, String>;

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// A request code ([`super::request`]) or a response code ([`super::response`]).
    pub code: i32,
    /// The sender's language.
    pub language: Language,
    /// The sender's version.
    pub version: i32,
    /// Matches a response to its request on one connection.
    pub opaque: i32,
    /// Bit 0: a response. Bit 1: a one-way request, without an answer.
    pub flag: i32,
    /// A response's text.
    pub remark: Option<String>,
    /// The header's fields, sorted as the signature requires.
    pub fields: Fields,
    /// The payload.
    pub body: Bytes,
    /// How the header is encoded.
    pub header_type: HeaderType,
}

/// How a header is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderType {
    /// As JSON: the only form that can carry codes above 32767, which all codes of the pop family are.
    #[default]
    Json,
    /// In RocketMQ's binary form.
    Binary,
}

/// The sender's language, as Apache's `LanguageCode` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Language(pub u8);

impl Language {
    /// None of those that have a number.
    pub const OTHER: Self = Self(7);

    const NAMES: [&'static str; 14] = [
        "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS",
        "RUST", "NODE_JS",
    ];

    /// The name in JSON headers. An unknown number is OTHER.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self.0)).copied().unwrap_or("OTHER")
    }

    /// The language of this name. An unknown name is OTHER.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let known = Self::NAMES.iter().position(|known| *known == name);
        Self(known.and_then(|index| u8::try_from(index).ok()).unwrap_or(Self::OTHER.0))
    }
}

/// OTHER: clients of version 4.0 close the connection when they are told of RUST, which they don't know.
impl Default for Language {
    fn default() -> Self {
        Self::OTHER
    }
}

impl Command {
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

    /// Makes a request one that is not answered.
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

    /// Sets how the header is encoded.
    #[must_use]
    pub fn header(self, header_type: HeaderType) -> Self {
        Self { header_type, ..self }
    }

    /// Sets the payload.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Whether this answers a request.
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.flag & RESPONSE != 0
    }

    /// Whether this is a request that is not answered.
    #[must_use]
    pub fn is_one_way(&self) -> bool {
        self.flag & ONE_WAY != 0
    }

    /// Approximately how many bytes the header takes.
    pub(super) fn header_size_hint(&self) -> usize {
        const BESIDE_THE_FIELDS: usize = 128;
        const BESIDE_A_FIELD: usize = 6;
        let fields = self.fields.iter().map(|(key, value)| key.len() + value.len() + BESIDE_A_FIELD);
        BESIDE_THE_FIELDS + fields.sum::<usize>()
    }

    /// A header field as text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key).map(String::as_str)
    }

    /// A header field as a number; `None` if it is absent or unreadable.
    #[must_use]
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }
}
