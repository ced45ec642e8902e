//! Evaluates compiled SQL92 filters for a message.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::instruction::{Comparison, Constant, Instruction, SearchPosition};
use crate::service::Message;
use crate::service::names::properties;

/// A value on the stack. `Null` is also the third truth value.
#[derive(Clone, Debug, PartialEq)]
enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
}

/// Whether the operations leave `true` for this message.
pub(super) fn is_true(operations: &[Instruction], message: &Message) -> bool {
    let mut stack = Stack(Vec::with_capacity(8));
    for operation in operations {
        let value = stack.apply(operation, message);
        stack.0.push(value);
    }
    stack.pop() == Value::Bool(true)
}

struct Stack<'a>(Vec<Value<'a>>);

impl<'a> Stack<'a> {
    fn pop(&mut self) -> Value<'a> {
        self.0.pop().expect("the parser emits the operands of each operation before it")
    }

    fn apply(&mut self, operation: &'a Instruction, message: &'a Message) -> Value<'a> {
        match operation {
            Instruction::Property(name) => property(name, message).map_or(Value::Null, Value::Text),
            Instruction::Constant(constant) => constant.into(),
            Instruction::Compare(comparison) => {
                let (right, left) = (self.pop(), self.pop());
                truth(compare(*comparison, &left, &right))
            }
            Instruction::Between { negated } => {
                let (high, low, value) = (self.pop(), self.pop(), self.pop());
                let above = compare(Comparison::GreaterOrEqual, &value, &low);
                let below = compare(Comparison::LessOrEqual, &value, &high);
                truth(and(above, below).map(|inside| inside != *negated))
            }
            Instruction::In(texts) => match self.pop() {
                Value::Text(text) => {
                    Value::Bool(texts.binary_search_by(|listed| listed.as_str().cmp(&text)).is_ok())
                }
                _ => Value::Null,
            },
            Instruction::Search { place, text: searched, negated } => match self.pop() {
                Value::Text(text) if !searched.is_empty() => {
                    let found = match place {
                        SearchPosition::Anywhere => text.contains(searched),
                        SearchPosition::Start => text.starts_with(searched),
                        SearchPosition::End => text.ends_with(searched),
                    };
                    Value::Bool(found != *negated)
                }
                _ => Value::Bool(false),
            },
            Instruction::IsNull => Value::Bool(self.pop() == Value::Null),
            Instruction::And => {
                let (right, left) = (self.pop(), self.pop());
                truth(and(as_truth(&left), as_truth(&right)))
            }
            Instruction::Or => {
                let (right, left) = (self.pop(), self.pop());
                truth(or(as_truth(&left), as_truth(&right)))
            }
            Instruction::Not => truth(as_truth(&self.pop()).map(|truth| !truth)),
            Instruction::Negate => match number(&self.pop()) {
                Some(Number::Integer(number)) => Value::Integer(number.saturating_neg()),
                Some(Number::Float(number)) => Value::Float(-number),
                None => Value::Null,
            },
        }
    }
}

impl<'a> From<&'a Constant> for Value<'a> {
    fn from(constant: &'a Constant) -> Self {
        match constant {
            Constant::Null => Self::Null,
            Constant::Bool(truth) => Self::Bool(*truth),
            Constant::Integer(number) => Self::Integer(*number),
            Constant::Float(number) => Self::Float(*number),
            Constant::Text(text) => Self::Text(Cow::Borrowed(text)),
        }
    }
}

/// Returns a property by its name. The tag and the keys are properties, too.
fn property<'a>(name: &str, message: &'a Message) -> Option<Cow<'a, str>> {
    match name {
        properties::TAGS => message.tag.as_deref().map(Cow::Borrowed),
        properties::KEYS => match message.keys.as_slice() {
            [] => own_property(name, message),
            [key] => Some(Cow::Borrowed(key)),
            keys => Some(Cow::Owned(keys.join(" "))),
        },
        _ => own_property(name, message),
    }
}

fn own_property<'a>(name: &str, message: &'a Message) -> Option<Cow<'a, str>> {
    message.properties.iter().find(|(key, _)| key == name).map(|(_, value)| Cow::Borrowed(value.as_str()))
}

fn as_truth(value: &Value<'_>) -> Option<bool> {
    if let Value::Bool(truth) = value { Some(*truth) } else { None }
}

fn truth<'a>(known: Option<bool>) -> Value<'a> {
    known.map_or(Value::Null, Value::Bool)
}

fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

fn compare(comparison: Comparison, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
    let order = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return None,
        (Value::Text(left), Value::Text(right)) if is_equality(comparison) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        // Properties are strings. They are converted to the type of the other operand.
        (Value::Text(text), Value::Bool(truth)) | (Value::Bool(truth), Value::Text(text)) => {
            text.eq_ignore_ascii_case("true").cmp(truth)
        }
        _ => order(number(left)?, number(right)?)?,
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

#[derive(Clone, Copy)]
enum Number {
    Integer(i64),
    Float(f64),
}

fn number(value: &Value<'_>) -> Option<Number> {
    match value {
        Value::Integer(number) => Some(Number::Integer(*number)),
        Value::Float(number) => Some(Number::Float(*number)),
        Value::Text(text) => {
            text.parse().map(Number::Integer).or_else(|_| text.parse().map(Number::Float)).ok()
        }
        Value::Null | Value::Bool(_) => None,
    }
}

fn order(left: Number, right: Number) -> Option<Ordering> {
    match (left, right) {
        (Number::Integer(left), Number::Integer(right)) => Some(left.cmp(&right)),
        _ => as_float(left).partial_cmp(&as_float(right)),
    }
}

fn as_float(number: Number) -> f64 {
    match number {
        Number::Integer(number) => number as f64,
        Number::Float(number) => number,
    }
}
