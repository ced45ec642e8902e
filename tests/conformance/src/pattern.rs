//! Comparing what was seen with a pattern: a subset of the value, with `$` words for the rest.

use serde_json::Value;

/// The words that stand for a comparison and not for a value.
const WORDS: [&str; 3] = ["$any", "$contains:", "$len:"];

/// Whether the text is a comparison.
#[must_use]
pub fn is_comparison(text: &str) -> bool {
    WORDS.iter().any(|word| if word.ends_with(':') { text.starts_with(word) } else { text == *word })
}

/// Compares; `Err` says where and why the value does not fit.
///
/// # Errors
/// The first place at which the value differs from the pattern.
pub fn check(pattern: &Value, seen: &Value) -> Result<(), String> {
    at("", pattern, seen)
}

fn at(path: &str, pattern: &Value, seen: &Value) -> Result<(), String> {
    match (pattern, seen) {
        (Value::String(word), _) if is_comparison(word) => {
            compare(word, seen).map_err(|why| here(path, &why))
        }
        (Value::Object(wanted), _) if wanted.contains_key("$each") => each(path, &wanted["$each"], seen),
        (Value::Object(wanted), _) if wanted.contains_key("$unordered") => {
            unordered(path, &wanted["$unordered"], seen)
        }
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().try_for_each(|(key, pattern)| {
            at(&format!("{path}.{key}"), pattern, found.get(key).unwrap_or(&Value::Null))
        }),
        (Value::Array(wanted), Value::Array(found)) => {
            if wanted.len() != found.len() {
                return Err(here(path, &format!("{} elements expected, not {}", wanted.len(), found.len())));
            }
            wanted
                .iter()
                .zip(found)
                .enumerate()
                .try_for_each(|(n, (pattern, seen))| at(&format!("{path}.{n}"), pattern, seen))
        }
        _ if same(pattern, seen) => Ok(()),
        _ => Err(here(path, &format!("{pattern} expected, not {}", shortened(seen)))),
    }
}

/// Numbers are equal whatever their JSON form (1 and 1.0).
fn same(pattern: &Value, seen: &Value) -> bool {
    pattern == seen || (pattern.is_number() && pattern.as_f64() == seen.as_f64())
}

fn compare(word: &str, seen: &Value) -> Result<(), String> {
    let (fits, wanted) = if let Some(part) = word.strip_prefix("$contains:") {
        (seen.as_str().is_some_and(|text| text.contains(part)), format!("a text with {part:?}"))
    } else if let Some(length) = word.strip_prefix("$len:") {
        (seen.as_array().is_some_and(|list| list.len().to_string() == length), format!("{length} elements"))
    } else {
        (!seen.is_null(), "something".to_owned())
    };
    if fits { Ok(()) } else { Err(format!("{wanted} expected, not {}", shortened(seen))) }
}

fn each(path: &str, pattern: &Value, seen: &Value) -> Result<(), String> {
    let found = seen.as_array().ok_or_else(|| here(path, "a list expected"))?;
    found.iter().enumerate().try_for_each(|(n, seen)| at(&format!("{path}.{n}"), pattern, seen))
}

fn unordered(path: &str, patterns: &Value, seen: &Value) -> Result<(), String> {
    let (Some(patterns), Some(found)) = (patterns.as_array(), seen.as_array()) else {
        return Err(here(path, "a list expected"));
    };
    if patterns.len() != found.len() {
        return Err(here(path, &format!("{} elements expected, not {}", patterns.len(), found.len())));
    }
    let mut left: Vec<&Value> = found.iter().collect();
    for pattern in patterns {
        let Some(place) = left.iter().position(|seen| check(pattern, seen).is_ok()) else {
            return Err(here(path, &format!("no element fits {pattern}")));
        };
        left.remove(place);
    }
    Ok(())
}

fn here(path: &str, why: &str) -> String {
    if path.is_empty() { why.to_owned() } else { format!("{}: {why}", &path[1..]) }
}

/// A value as text, cut where it would flood the report.
#[must_use]
pub fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(600) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pattern_is_a_subset() {
        let seen = json!({"kind": "Timeout", "code": 50400, "list": [1, 2], "none": null});
        for pattern in [
            json!({"kind": "Timeout"}),
            json!({"code": "$any", "list": "$len:2"}),
            json!({"code": 50400, "kind": "$contains:ime"}),
            json!({"list": {"$unordered": [2, 1]}}),
            json!({"list": {"$each": "$any"}}),
            json!({"none": null, "missing": null}),
        ] {
            assert_eq!(check(&pattern, &seen), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn a_mismatch_says_where() {
        let seen = json!({"list": [{"a": 1}], "none": null});
        for (pattern, why) in [
            (json!({"list": [{"a": 2}]}), "list.0.a: 2 expected, not 1"),
            (json!({"list": []}), "list: 0 elements expected, not 1"),
            (json!({"none": "$any"}), "none: something expected, not null"),
        ] {
            assert_eq!(check(&pattern, &seen), Err(why.to_owned()));
        }
    }
}
