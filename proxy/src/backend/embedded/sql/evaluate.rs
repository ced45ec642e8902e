use std::cmp::Ordering;

use super::{Comparison, Node, Value};
use crate::service::Message;

/// The value for a message; `Null` is also the third truth value.
pub(super) fn evaluate(node: &Node, message: &Message) -> Value {
    match node {
        Node::Property(name) => property(name, message).map_or(Value::Null, Value::Text),
        Node::Constant(value) => value.clone(),
        Node::Compare(comparison, left, right) => {
            truth(compare(*comparison, &evaluate(left, message), &evaluate(right, message)))
        }
        Node::In(value, texts) => match evaluate(value, message) {
            Value::Text(text) => Value::Bool(texts.contains(&text)),
            _ => Value::Null,
        },
        Node::IsNull(value) => Value::Bool(evaluate(value, message) == Value::Null),
        Node::And(left, right) => {
            let (left, right) = (as_truth(&evaluate(left, message)), as_truth(&evaluate(right, message)));
            truth(match (left, right) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            })
        }
        Node::Or(left, right) => {
            let (left, right) = (as_truth(&evaluate(left, message)), as_truth(&evaluate(right, message)));
            truth(match (left, right) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            })
        }
        Node::Not(value) => truth(as_truth(&evaluate(value, message)).map(|truth| !truth)),
        Node::Negative(value) => match number(&evaluate(value, message)) {
            Some(Value::Integer(number)) => Value::Integer(number.saturating_neg()),
            Some(Value::Float(number)) => Value::Float(-number),
            _ => Value::Null,
        },
    }
}

/// A property by its name; tag and keys are properties too.
fn property(name: &str, message: &Message) -> Option<String> {
    match name {
        "TAGS" => message.tag.clone(),
        "KEYS" if !message.keys.is_empty() => Some(message.keys.join(" ")),
        _ => message.properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()),
    }
}

fn as_truth(value: &Value) -> Option<bool> {
    if let Value::Bool(truth) = value { Some(*truth) } else { None }
}

fn truth(known: Option<bool>) -> Value {
    known.map_or(Value::Null, Value::Bool)
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> Option<bool> {
    let order = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return None,
        (Value::Text(left), Value::Text(right)) if is_equality(comparison) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        // Properties are texts: they take the type of what they are compared with.
        (Value::Text(text), Value::Bool(truth)) | (Value::Bool(truth), Value::Text(text)) => {
            text.eq_ignore_ascii_case("true").cmp(truth)
        }
        _ => order(&number(left)?, &number(right)?)?,
    };
    Some(match comparison {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::NotEqual => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
    })
}

fn is_equality(comparison: Comparison) -> bool {
    matches!(comparison, Comparison::Equal | Comparison::NotEqual)
}

fn number(value: &Value) -> Option<Value> {
    match value {
        Value::Integer(_) | Value::Float(_) => Some(value.clone()),
        Value::Text(text) => {
            text.parse().map(Value::Integer).or_else(|_| text.parse().map(Value::Float)).ok()
        }
        Value::Null | Value::Bool(_) => None,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => Some(left.cmp(right)),
        _ => as_float(left)?.partial_cmp(&as_float(right)?),
    }
}

fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}
