//! Parses JSON with unquoted keys, which Apache's brokers and clients write. Some keys are unquoted numbers:
//! `{"brokerAddrs":{0:"127.0.0.1:10911"}}`. Some keys are objects:
//! `{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:5}}`.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses a body whose keys may be unquoted numbers or objects. An object key becomes a string with its JSON text.
///
/// # Errors
/// The body is malformed even after its keys were quoted.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(&quote_keys(body))
}

/// Puts quotes around keys that are unquoted numbers or objects. Standard JSON is not changed.
fn quote_keys(body: &[u8]) -> Cow<'_, [u8]> {
    let (mut quoted, mut copied) = (Vec::new(), 0);
    // One item per open bracket: whether it is a `{`.
    let mut open = Vec::new();
    let mut key_may_follow = false;
    let mut at = 0;
    while at < body.len() {
        let end = match body[at] {
            b'"' => {
                at = string_end(body, at);
                key_may_follow = false;
                continue;
            }
            b'{' if key_may_follow => object_end(body, at),
            byte if key_may_follow && (byte == b'-' || byte.is_ascii_digit()) => {
                at + 1 + body[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count()
            }
            byte => {
                match byte {
                    b'{' | b'[' => open.push(byte == b'{'),
                    b'}' | b']' => drop(open.pop()),
                    _ => {}
                }
                key_may_follow = match byte {
                    b'{' | b',' => open.last() == Some(&true),
                    _ => key_may_follow && byte.is_ascii_whitespace(),
                };
                at += 1;
                continue;
            }
        };
        key_may_follow = false;
        let colon = end + body[end..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if body.get(colon) == Some(&b':') {
            quoted.extend_from_slice(&body[copied..at]);
            quoted.extend(Value::from(String::from_utf8_lossy(&body[at..end])).to_string().into_bytes());
            copied = end;
        }
        at = end;
    }
    if copied == 0 {
        return Cow::Borrowed(body);
    }
    quoted.extend_from_slice(&body[copied..]);
    Cow::Owned(quoted)
}

/// The index after the object that begins at `start`.
fn object_end(body: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while at < body.len() {
        match body[at] {
            b'"' => {
                at = string_end(body, at);
                continue;
            }
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    body.len()
}

/// The index after the string that begins at `start`.
fn string_end(body: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < body.len() {
        match body[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn quotes_unquoted_number_and_object_keys() {
        for (body, value) in [
            (r#"{"a":{0:"x:1",1:"y"},"n":[1,2]}"#, json!({"a": {"0": "x:1", "1": "y"}, "n": [1, 2]})),
            (r#"{ 10 : -1 , -2:{}}"#, json!({"10": -1, "-2": {}})),
            (
                r#"{"t":{{"q":1,"n":"}"}:5,{} : 6},"a":[{},{"b":1}]}"#,
                json!({"t": {r#"{"q":1,"n":"}"}"#: 5, "{}": 6}, "a": [{}, {"b": 1}]}),
            ),
            (r#"{"k":"{0:\"no\"}"}"#, json!({"k": "{0:\"no\"}"})),
            (r#"{"n":[{0:1},3]}"#, json!({"n": [{"0": 1}, 3]})),
        ] {
            assert_eq!(from_slice::<Value>(body.as_bytes()).unwrap(), value, "{body}");
        }
    }

    proptest! {
        #[test]
        fn standard_json_is_parsed_unchanged(text in "\\PC{0,40}", number: i64) {
            let value = json!({"t": text, "l": [number, {"0": number}, [number]], "5": {"k": number}});
            let body = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(from_slice::<Value>(&body).unwrap(), value);
        }

        #[test]
        fn no_input_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_slice::<Value>(&body);
        }
    }
}
