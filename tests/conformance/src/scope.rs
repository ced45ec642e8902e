//! The values that a running case can name: saved replies and properties of the server.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use crate::pattern;

/// Named values of one run of a case.
#[derive(Debug, Default)]
pub struct Scope {
    values: BTreeMap<String, Value>,
}

impl Scope {
    /// Sets a named value.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), value.into());
    }

    /// Replaces `$name` (a whole string) and `${name}` (a part of a string) by the named values. Comparisons such as
    /// `$any` are kept.
    ///
    /// A path selects a part of a value, as in `$reply.messages.0`. Without a path, an object with `handle` is
    /// replaced by its handle. `$b64:TEXT` is the text in base64, `$b64x:N` is N times `x` in base64, and `$in_ms:N`
    /// is the time in N ms, in ms since 1970.
    ///
    /// # Errors
    /// If a name is unknown.
    pub fn fill(&self, value: &Value) -> Result<Value> {
        Ok(match value {
            Value::Array(list) => {
                Value::Array(list.iter().map(|value| self.fill(value)).collect::<Result<_>>()?)
            }
            Value::Object(fields) => Value::Object(self.fill_fields(fields)?),
            Value::String(text) => self.fill_text(text)?,
            other => other.clone(),
        })
    }

    /// Replaces names in the fields of an object.
    ///
    /// # Errors
    /// If a name is unknown.
    pub fn fill_fields(&self, fields: &Map<String, Value>) -> Result<Map<String, Value>> {
        fields.iter().map(|(key, value)| Ok((key.clone(), self.fill(value)?))).collect()
    }

    fn fill_text(&self, text: &str) -> Result<Value> {
        let inner = self.expand(text)?;
        match inner.strip_prefix('$') {
            None => Ok(Value::String(inner)),
            Some(_) if pattern::is_comparison(&inner) => Ok(Value::String(inner)),
            Some(name) => self.lookup(name),
        }
    }

    /// Replaces the `${name}` parts of a text.
    fn expand(&self, text: &str) -> Result<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) =
                after.split_once('}').with_context(|| format!("no closing brace in {text:?}"))?;
            out.push_str(before);
            match self.lookup(name)? {
                Value::String(value) => out.push_str(&value),
                other => out.push_str(&other.to_string()),
            }
            rest = behind;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn lookup(&self, name: &str) -> Result<Value> {
        if let Some(text) = name.strip_prefix("b64:") {
            return Ok(BASE64_STANDARD.encode(text).into());
        }
        if let Some(length) = name.strip_prefix("b64x:") {
            let length = length.parse().with_context(|| format!("{length:?} is no number of bytes"))?;
            return Ok(BASE64_STANDARD.encode(vec![b'x'; length]).into());
        }
        if let Some(milliseconds) = name.strip_prefix("in_ms:") {
            let wait: u64 = milliseconds.parse().with_context(|| format!("{milliseconds:?} is no number"))?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?;
            return Ok((u64::try_from(now.as_millis())? + wait).into());
        }
        let (head, path) = name.split_once('.').map_or((name, None), |(head, path)| (head, Some(path)));
        let Some(value) = self.values.get(head) else { bail!("unknown name ${head}") };
        match path {
            Some(path) => {
                let pointer = format!("/{}", path.replace('.', "/"));
                value.pointer(&pointer).cloned().with_context(|| format!("${head} has no {path}: {value}"))
            }
            None => Ok(value.get("handle").unwrap_or(value).clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_replaced() {
        let mut scope = Scope::default();
        scope.set("client", json!({"handle": "c1"}));
        scope.set("got", json!({"messages": [{"delivery": "d1"}]}));
        scope.set("u", "7");
        for (value, filled) in [
            (json!("$client"), json!("c1")),
            (json!(["$got.messages.0.delivery"]), json!(["d1"])),
            (json!({"topic": "orders-${u}"}), json!({"topic": "orders-7"})),
            (json!("$b64:hi"), json!("aGk=")),
            (json!("$contains:orders-${u}"), json!("$contains:orders-7")),
            (json!("$any"), json!("$any")),
        ] {
            assert_eq!(scope.fill(&value).unwrap(), filled);
        }
        assert!(scope.fill(&json!("$missing")).is_err());
    }
}
