//! What a driver may lack, and which of it a case needs: that follows from the operations and fields in its steps.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::case::{Action, Case, Expected, Step};

/// The feature that an operation belongs to; the others are in every driver.
const OPERATIONS: [(&str, &str); 20] = [
    ("recall", "recall"),
    ("begin", "transactions"),
    ("commit", "transactions"),
    ("rollback", "transactions"),
    ("subscribe", "subscribe"),
    ("unsubscribe", "subscribe"),
    ("nack", "settle"),
    ("dead_letter", "settle"),
    ("keep_lease", "keep_lease"),
    ("stream", "stream"),
    ("push_consumer", "push_consumer"),
    ("pause", "push_consumer"),
    ("resume", "push_consumer"),
    ("subscribe_lite", "lite"),
    ("unsubscribe_lite", "lite"),
    ("lite_topics", "lite"),
    ("health", "health"),
    ("watch", "health"),
    ("metrics", "metrics"),
    ("drop", "drop"),
];

/// The feature that a field belongs to, in a request or in the expected reply.
const FIELDS: [(&str, &str); 19] = [
    ("message_group", "message_types"),
    ("deliver_at_ms", "message_types"),
    ("delay_ms", "message_types"),
    ("priority", "message_types"),
    ("lite_topic", "message_types"),
    ("dead_letter_origin", "message_types"),
    ("recall_handle", "recall"),
    ("transaction", "transactions"),
    ("checker", "transactions"),
    ("lite", "lite"),
    ("startup", "lazy"),
    ("cert", "tls_options"),
    ("key", "tls_options"),
    ("server_name", "tls_options"),
    ("skip_verification", "tls_options"),
    ("credentials_provider", "credentials_provider"),
    ("interceptor", "interceptors"),
    ("compress_above", "compression"),
    ("trace_parent", "trace_context"),
];

/// The features that a driver must have to play the case.
#[must_use]
pub fn needed(case: &Case) -> BTreeSet<&'static str> {
    let mut features = BTreeSet::new();
    of_steps(&case.steps, &mut features);
    features
}

fn of_steps(steps: &[Step], features: &mut BTreeSet<&'static str>) {
    for step in steps {
        match &step.action {
            Action::Request { op, fields, .. } => {
                features.extend(find(&OPERATIONS, op));
                of_fields(fields, features);
            }
            Action::Repeat { steps, .. } => of_steps(steps, features),
            _ => {}
        }
        if let Expected::Ok(pattern) = &step.expected {
            of_value(pattern, features);
        }
    }
}

fn of_value(value: &Value, features: &mut BTreeSet<&'static str>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| of_value(value, features)),
        Value::Object(fields) => of_fields(fields, features),
        _ => {}
    }
}

fn of_fields(fields: &Map<String, Value>, features: &mut BTreeSet<&'static str>) {
    for (key, value) in fields {
        // An application's own properties may be called anything.
        if key != "properties" {
            features.extend(find(&FIELDS, key));
            of_value(value, features);
        }
    }
}

fn find(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == name).map(|(_, feature)| *feature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_follow_from_steps() {
        let case: Case = serde_yaml_ng::from_str(
            "name: n
shows: s
servers: [scripted]
steps:
  - {do: producer, client: $c, checker: {'*': [commit]}}
  - repeat: 2
    steps:
      - {do: receive, consumer: $s, ok: {messages: [{priority: 1, properties: {lite: x}}]}}",
        )
        .unwrap();
        assert_eq!(needed(&case).into_iter().collect::<Vec<_>>(), ["message_types", "transactions"]);
    }
}
