//! The schemas accept exactly the bodies that the handlers accept. Only rules that depend on the configuration, on other
//! members or on stored data are the handlers' alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use axum::extract::Query;
use parking_lot::Mutex;
use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::super::admin_dead_letters::Resend;
use super::super::admin_groups::{GroupChange, Reset};
use super::super::admin_topics::TopicChange;
use super::super::admin_users::{PolicyToAdd, SecretToSet, UserChanges, UserToAdd};
use super::super::call::Object;
use super::super::cloud_events;
use super::super::message::NewMessage;
use super::super::receive::ReceiveParams;
use super::super::send::{EndTransaction, Recall};
use super::super::settle::{Extend, Handles, Nack};
use super::*;
use crate::catalog::{GroupSpec, TopicSpec};
use crate::context::EntryPoint;
use crate::front::route_addresses::RouteAddresses;
use crate::layer::{NewUser, PolicyEntry, Quota, SecretKey, StoredAcl};

fn description_of(messaging: bool, administration: bool) -> Value {
    let served = ServedEntry {
        messaging,
        administration,
        entry: Arc::new(EntryPoint { name: "main".into(), is_trusted: false }),
        route: Arc::new(RouteAddresses::Named(Vec::new())),
    };
    describe(&routes(&served).into_openapi())
}

/// Whether a handler can read a body.
type Reads = fn(&Value) -> bool;

fn read<T: DeserializeOwned>(body: &Value) -> Option<T> {
    serde_json::from_str::<Object<T>>(&body.to_string()).ok().map(|Object(value)| value)
}

fn reads<T: DeserializeOwned>(body: &Value) -> bool {
    read::<T>(body).is_some()
}

static KEY: LazyLock<SecretKey> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    SecretKey::of_file(&folder.path().join("key")).expect("a key")
});

/// Users and policies: the user `u`.
fn with_user() -> StoredAcl {
    let mut acl = StoredAcl::default();
    let user = NewUser { name: "u".to_owned(), ..NewUser::admin() };
    acl.add_user(user, &KEY).expect("a user");
    acl
}

/// Each schema of a body with valid content, and what the handler does with it.
fn bodies() -> Vec<(&'static str, Value, Reads)> {
    let handles = || json!({"handles": ["h"]});
    vec![
        ("NewMessage", json!({"text": "x"}), |body| {
            let draft = read::<NewMessage>(body).and_then(|message| message.into_draft("t").ok());
            draft.is_some_and(|draft| {
                !draft.body.is_empty() && draft.priority.is_none_or(|priority| priority >= 0)
            })
        }),
        ("CloudEvent", json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t"}), |body| {
            let body = body.to_string();
            let event = serde_json::from_str::<BTreeMap<String, &RawValue>>(&body);
            event.is_ok_and(|event| cloud_events::draft("t", event).is_ok())
        }),
        ("Handles", handles(), |body| read::<Handles>(body).is_some_and(|body| body.entries().is_ok())),
        ("Nack", handles(), |body| read::<Nack>(body).is_some_and(|body| body.action().is_ok())),
        ("Extend", json!({"handles": ["h"], "invisible": "30s"}), |body| {
            read::<Extend>(body).is_some_and(|body| body.action().is_ok())
        }),
        ("Recall", json!({"recall_handle": "h"}), reads::<Recall>),
        (
            "EndTransaction",
            json!({"transaction_id": "t", "message_id": "m", "decision": "commit"}),
            reads::<EndTransaction>,
        ),
        ("Resend", json!({"id": "m"}), |body| {
            read::<Resend>(body).is_some_and(|body| body.selection().is_ok())
        }),
        ("Reset", json!({"topic": "t", "to": "latest"}), |body| {
            read::<Reset>(body).is_some_and(|body| body.of_group("g".to_owned()).is_ok())
        }),
        ("TopicSpec", json!({"name": "t"}), reads::<TopicSpec>),
        ("TopicChange", json!({}), reads::<TopicChange>),
        ("GroupSpec", json!({"name": "g"}), reads::<GroupSpec>),
        ("GroupChange", json!({}), reads::<GroupChange>),
        ("UserChanges", json!({}), |body| {
            let update = read::<UserChanges>(body).map(Into::into);
            update.is_some_and(|update| with_user().update_user("u", update, &KEY).is_ok())
        }),
        ("SecretToSet", json!({}), |body| {
            let secret = read::<SecretToSet>(body).map(Into::into);
            secret.is_some_and(|secret| with_user().set_secret("u", secret, &KEY).is_ok())
        }),
        ("UserToAdd", json!({"name": "new"}), |body| {
            let user = read::<UserToAdd>(body).map(Into::into);
            user.is_some_and(|user| with_user().add_user(user, &KEY).is_ok())
        }),
        ("PolicyToAdd", json!({"user": "u", "resource": "*", "actions": ["pub"]}), |body| {
            let policy = read::<PolicyToAdd>(body).map(PolicyEntry::from);
            policy.is_some_and(|policy| {
                with_user().add_policy(PolicyEntry { user: "u".to_owned(), ..policy }).is_ok()
            })
        }),
        ("Quota", json!({"name": "q", "per": "client", "long_polls": 1}), reads::<Quota>),
    ]
}

/// Values at the edges of what members accept.
fn edges() -> Vec<Value> {
    let mut edges = vec![
        json!(null),
        json!(true),
        json!(1.5),
        json!([]),
        json!([""]),
        json!(["x"]),
        json!(["10.0.0.0/8", "::1/128"]),
        json!(["10.0.0.1"]),
        json!(["pub", "sub", "pub"]),
        json!(vec!["h"; 100]),
        json!(vec!["h"; 101]),
        json!([1]),
        json!([null]),
        json!(["1s", "2m"]),
        json!(["soon"]),
        json!(vec!["h"; 1000]),
        json!(vec!["h"; 1001]),
        json!([["x"]]),
        json!({}),
        json!({"x": "y"}),
        json!({"x": 1}),
        json!({"queue_id": 1, "offset": 2}),
        json!({"broker": "b", "queue_id": 1, "offset": 2}),
        json!({"broker": "b", "queue_id": 1, "offset": 2, "x": 1}),
        json!(["b", 1, 2]),
        json!({"initial": "1s", "max": "2s", "multiplier": 2.0}),
        json!({"initial": "1s", "max": "2s"}),
        json!({"initial": "1s", "max": "soon", "multiplier": 2.0}),
        json!(0),
        json!(-1),
        json!(1),
        json!(100),
        json!(101),
        json!(i32::MAX),
        json!(i32::MIN),
        json!(i64::from(i32::MAX) + 1),
        json!(i64::from(i32::MIN) - 1),
        json!(u32::MAX),
        json!(u64::from(u32::MAX) + 1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
    ];
    let texts = [
        "",
        "x",
        "a b",
        "ä",
        "0",
        "0s",
        "1s",
        "10s",
        "5 m",
        " 1h 30m ",
        "1 0s",
        "1s2m",
        "1.5s",
        "1.s",
        "1s 2",
        "7days",
        "2months",
        "1y",
        "1fortnight",
        "-1s",
        "s",
        "2026-11-29T10:00:00Z",
        "2026-11-29 10:00:00",
        "2026-11-29T10:00",
        "2026-11-29T10:00:00.123Z",
        "2026-11-29T10:00:00+00:00",
        "2026-11-29T10:00:00+01:00",
        "1969-12-31T23:59:59Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "9999-12-31T23:59:60Z",
        "earliest",
        "latest",
        "default",
        "eA==",
        "eB==",
        "eA",
        "eHk=",
        "eHl=",
        "eHl6",
        "e===",
        "1.0",
        "normal",
        "super",
        "Super",
        "fifo",
        "rw",
        "commit",
        "rollback",
        "client",
        "proxy",
        "delay",
        "refuse",
        "pub",
        "*",
        "Topic:a",
        "topic:a*",
        "Topic:*",
        "Topic:",
        "Topic:a*b",
        "Group:g",
        "Cluster:*",
        "Cluster:c",
        "a/b",
        ".",
        "..",
        "...",
        ".a",
        "a:b",
        "allow",
    ];
    edges.extend(texts.map(Value::from));
    edges
}

#[test]
fn schemas_accept_what_handlers_accept() {
    let description = description_of(true, true);
    let mut differences = Vec::new();
    for (name, valid, reads) in bodies() {
        let schema = &description["components"]["schemas"][name];
        let mut check = |body: &Value| {
            let (described, read) = (accepts(&description, schema, body), reads(body));
            if described != read {
                let body: String = body.to_string().chars().take(200).collect();
                differences.push(format!("{name}: schema {described}, handler {read}: {body}"));
            }
        };
        assert!(reads(&valid), "{name}");
        check(&valid);
        edges().iter().for_each(&mut check);
        let members: Vec<_> = schema["properties"].as_object().expect("members").keys().cloned().collect();
        for member in members.iter().map(String::as_str).chain(["unknown", "Unknown"]) {
            let mut body = valid.clone();
            body.as_object_mut().expect("an object").remove(member);
            check(&body);
            for edge in edges() {
                let mut body = valid.clone();
                body[member] = edge;
                check(&body);
            }
        }
    }
    assert!(differences.is_empty(), "{}\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn the_parameters_of_a_receive_are_what_the_handler_accepts() {
    let description = description_of(true, true);
    let parameters = &description["paths"]["/v1/groups/{group}/topics/{topic}/receive"]["post"]["parameters"];
    for parameter in parameters.as_array().expect("parameters").iter().filter(|one| one["in"] == "query") {
        let name = parameter["name"].as_str().expect("a name");
        for edge in edges() {
            let text = edge.as_str().map_or_else(|| edge.to_string(), str::to_owned);
            let value = text.parse::<i64>().ok().map(Value::from);
            let value = value
                .filter(|_| parameter["schema"]["type"] == "integer")
                .unwrap_or_else(|| text.as_str().into());
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let uri = format!("http://a/?{name}={encoded}").parse().expect("a URI");
            let read = Query::<ReceiveParams>::try_from_uri(&uri);
            let read = read.is_ok_and(|Query(params)| params.command("g", "t").is_ok());
            assert_eq!(accepts(&description, &parameter["schema"], &value), read, "{name}={text}");
        }
    }
}

#[test]
fn references_are_defined_wherever_the_api_is_served() {
    for (messaging, administration) in [(true, false), (false, true), (true, true)] {
        let description = description_of(messaging, administration);
        let text = description.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().expect("a reference");
            assert!(description.pointer(pointer).is_some(), "{messaging} {administration}: {pointer}");
        }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock();
    let regex = compiled.entry(pattern.to_owned());
    regex.or_insert_with(|| Regex::new(pattern).expect("a pattern")).is_match(text)
}

/// Whether a schema accepts a value. Covers the keywords that our description uses.
fn accepts(root: &Value, schema: &Value, value: &Value) -> bool {
    let Value::Object(keywords) = schema else { return schema != &Value::Bool(false) };
    keywords.iter().all(|(keyword, wanted)| {
        let all = |schemas: &Value| -> Vec<bool> {
            schemas.as_array().expect("schemas").iter().map(|schema| accepts(root, schema, value)).collect()
        };
        let matches = |text: &str| matches(wanted.as_str().expect("a pattern"), text);
        let bound = |ordering: std::cmp::Ordering| {
            let (Some(value), Some(bound)) = (integer(value), integer(wanted)) else { return true };
            value.cmp(&bound) != ordering
        };
        let length = |of: Option<usize>| of.zip(wanted.as_u64());
        match keyword.as_str() {
            "$ref" => {
                let name = wanted.as_str().and_then(|name| name.strip_prefix('#')).expect("a reference");
                accepts(root, root.pointer(name).expect("a schema"), value)
            }
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|name| is_of_type(value, name)),
                name => is_of_type(value, name),
            },
            "enum" => wanted.as_array().is_some_and(|values| values.contains(value)),
            "oneOf" => all(wanted).into_iter().filter(|accepted| *accepted).count() == 1,
            "allOf" => all(wanted).into_iter().all(|accepted| accepted),
            "anyOf" => all(wanted).into_iter().any(|accepted| accepted),
            "not" => !accepts(root, wanted, value),
            "required" => value.as_object().is_none_or(|value| {
                wanted
                    .as_array()
                    .expect("names")
                    .iter()
                    .all(|name| value.contains_key(name.as_str().expect("a name")))
            }),
            "properties" => value.as_object().is_none_or(|value| {
                value
                    .iter()
                    .all(|(name, value)| wanted.get(name).is_none_or(|schema| accepts(root, schema, value)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|value| {
                let others = value.iter().filter(|(name, _)| {
                    keywords.get("properties").is_none_or(|known| known.get(name).is_none())
                });
                others.map(|(_, value)| value).all(|value| accepts(root, wanted, value))
            }),
            "propertyNames" => value.as_object().is_none_or(|value| {
                value.keys().all(|name| accepts(root, wanted, &Value::from(name.as_str())))
            }),
            "items" => {
                value.as_array().is_none_or(|values| values.iter().all(|value| accepts(root, wanted, value)))
            }
            "minItems" => {
                length(value.as_array().map(Vec::len)).is_none_or(|(length, least)| length as u64 >= least)
            }
            "maxItems" => {
                length(value.as_array().map(Vec::len)).is_none_or(|(length, most)| length as u64 <= most)
            }
            "minLength" => length(value.as_str().map(|text| text.chars().count()))
                .is_none_or(|(length, least)| length as u64 >= least),
            "maxLength" => length(value.as_str().map(|text| text.chars().count()))
                .is_none_or(|(length, most)| length as u64 <= most),
            "pattern" => value.as_str().is_none_or(matches),
            "minimum" => bound(std::cmp::Ordering::Less),
            "maximum" => bound(std::cmp::Ordering::Greater),
            "description" | "format" | "example" | "examples" | "default" | "title" | "contentEncoding"
            | "contentMediaType" | "propertyOrder" | "deprecated" => true,
            _ => panic!("the test does not know the keyword {keyword}"),
        }
    })
}

fn integer(value: &Value) -> Option<i128> {
    value
        .as_i64()
        .map(i128::from)
        .or_else(|| value.as_u64().map(i128::from))
        .or_else(|| value.as_f64().map(|value| value as i128))
}

fn is_of_type(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => panic!("the test does not know the type {name}"),
    }
}
