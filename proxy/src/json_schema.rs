//! JSON schemas of strings, for the OpenAPI description of the HTTP API. Each type describes what a parser accepts.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, schema::SchemaType};
use utoipa::{PartialSchema, ToSchema};

/// A pattern for times in UTC, in RFC 3339 or without the zone. It does not compare the day with the length of the month.
macro_rules! time {
    () => {
        r"(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]*)?(Z|\+00:00)?"
    };
}

/// Defines a type for strings that match a pattern.
macro_rules! text {
    ($name:ident, $description:literal, $example:literal, $pattern:expr) => {
        text!($name, $description, $example, $pattern, None);
    };
    ($name:ident, $description:literal, $example:literal, $pattern:expr, $max_length:expr) => {
        #[doc = $description]
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                text($description, ($example, $pattern), $max_length)
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    };
}

text!(
    Duration,
    "A duration of at most 100 years: numbers with units, such as `1500ms`, `30s`, `1h 30m` or `7d`.",
    "30s",
    r"^(0|\s*([0-9][0-9\s]*(\.\s*[0-9][0-9\s]*)?(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y)\s*)+)$"
);
text!(Time, "A time in UTC, in RFC 3339.", "2026-11-29T10:00:00Z", concat!("^", time!(), "$"));
text!(
    Place,
    "`earliest`, `latest`, or a time in UTC, in RFC 3339.",
    "2026-11-29T10:00:00Z",
    concat!("^(earliest|latest|", time!(), ")$")
);
text!(
    Start,
    "`default`, `earliest`, `latest`, or a time in UTC, in RFC 3339.",
    "latest",
    concat!("^(default|earliest|latest|", time!(), ")$")
);
text!(
    Resource,
    "`Topic:NAME`, `Group:NAME` or `Cluster:*`, where `NAME` may end with `*`; or `*` for everything.",
    "Topic:orders",
    r"^(\*|[Cc][Ll][Uu][Ss][Tt][Ee][Rr]:\*|([Tt][Oo][Pp][Ii][Cc]|[Gg][Rr][Oo][Uu][Pp]):([^*]+\*?|\*))$",
    Some(255)
);

text!(
    UserName,
    "The access key of a user: 1 to 255 bytes of UTF-8, without whitespace, control characters and `/ , = :`; not `.` or `..`.",
    "alice",
    r"^([^\s/,=:\x00-\x1f\x7f-\x9f.][^\s/,=:\x00-\x1f\x7f-\x9f]*|\.[^\s/,=:\x00-\x1f\x7f-\x9f.][^\s/,=:\x00-\x1f\x7f-\x9f]*|\.\.[^\s/,=:\x00-\x1f\x7f-\x9f]+)$",
    Some(255)
);
text!(
    CertificateName,
    "A name in a client certificate, up to 255 bytes.",
    "billing.example.com",
    r"^[\s\S]+$",
    Some(255)
);
text!(Network, "An IP network in CIDR notation.", "10.0.0.0/8", r"^[0-9a-fA-F:.]{2,45}/[0-9]{1,3}$");

fn text(description: &str, (example, pattern): (&str, &str), max_length: Option<usize>) -> RefOr<Schema> {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .description(Some(description))
        .examples([example])
        .pattern(Some(pattern))
        .max_length(max_length);
    RefOr::T(Schema::Object(schema.build()))
}
