//! Which module may import which, and where wire types may be used.

use super::{
    Finding,
    source::{Source, Token},
};

/// In the crate at `folder`, files of `module` may not name the modules in `never`.
struct Rule {
    folder: &'static str,
    module: &'static str,
    never: &'static [&'static str],
}

/// `main -> app -> { front, processor, backend }; front -> processor -> { layer, service } <- backend`, and
/// `client, producer, simple_consumer, push_consumer -> consumer -> { route, session, rpc } -> proto` with `options, error, message` as leaves.
const RULES: &[Rule] = &[
    Rule { folder: "proxy/src/", module: "front", never: &["app", "cli", "config", "backend"] },
    Rule { folder: "proxy/src/", module: "layer", never: PROXY_ABOVE_LAYER },
    Rule { folder: "proxy/src/", module: "processor", never: PROXY_ABOVE_PROCESSOR },
    Rule { folder: "proxy/src/", module: "service", never: PROXY_ABOVE_SERVICE },
    Rule { folder: "proxy/src/", module: "backend", never: PROXY_BESIDE_BACKEND },
    Rule { folder: "proxy/src/", module: "remoting", never: PROXY_BESIDE_REMOTING },
    // The sum of what each part has to be told; only app takes it apart again.
    Rule { folder: "proxy/src/", module: "config", never: &["app", "cli"] },
    Rule { folder: "core/src/", module: "options", never: CORE_ABOVE_LEAVES },
    Rule { folder: "core/src/", module: "error", never: CORE_ABOVE_LEAVES },
    Rule { folder: "core/src/", module: "message", never: CORE_ABOVE_LEAVES },
    Rule { folder: "core/src/", module: "consumer", never: CORE_ABOVE_CONSUMER },
    Rule { folder: "core/src/", module: "rpc", never: CORE_FACE },
    Rule { folder: "core/src/", module: "route", never: CORE_FACE },
    Rule { folder: "core/src/", module: "session", never: CORE_FACE },
    Rule { folder: "core/src/", module: "wire", never: CORE_FACE },
];

const PROXY_ABOVE_PROCESSOR: &[&str] = &["app", "cli", "config", "backend", "front"];

const PROXY_ABOVE_LAYER: &[&str] = &["app", "cli", "config", "backend", "front", "processor"];

const PROXY_ABOVE_SERVICE: &[&str] = &["app", "cli", "config", "backend", "front", "layer", "processor"];

const PROXY_BESIDE_BACKEND: &[&str] = &["app", "cli", "config", "front", "layer", "processor"];

const PROXY_BESIDE_REMOTING: &[&str] =
    &["app", "cli", "config", "backend", "front", "layer", "processor", "service"];

const CORE_ABOVE_CONSUMER: &[&str] = &["client", "producer", "simple_consumer", "push_consumer"];

const CORE_FACE: &[&str] =
    &["client", "producer", "consumer", "simple_consumer", "push_consumer", "transaction"];

const CORE_ABOVE_LEAVES: &[&str] = &[
    "client",
    "producer",
    "consumer",
    "simple_consumer",
    "push_consumer",
    "transaction",
    "event",
    "route",
    "session",
    "rpc",
    "wire",
];

/// The modules that a file names must be allowed to its own module.
pub(super) fn modules(source: &Source) -> Vec<Finding> {
    let Some((rule, inner)) = RULES.iter().find_map(|rule| {
        let inner = source.path().strip_prefix(rule.folder)?;
        (inner.split(['/', '.']).next() == Some(rule.module)).then_some((rule, inner))
    }) else {
        return Vec::new();
    };
    named_modules(source.tokens(), depth(inner))
        .into_iter()
        .filter(|(module, _)| rule.never.contains(&module.as_str()))
        .map(|(module, line)| {
            Finding::new(
                source,
                line,
                format!("`{}` must not know `{module}` (see ARCHITECTURE.md)", rule.module),
            )
        })
        .collect()
}

/// How many `super`s lead from a file to the root of its crate: 1 for `a.rs` and `a/mod.rs`, 2 for `a/b.rs`.
fn depth(inner: &str) -> usize {
    let parts = inner.split('/').count();
    if inner.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The modules at the crate's root that the tokens name through `crate::` or enough `super::`.
fn named_modules(tokens: &[Token], depth: usize) -> Vec<(String, usize)> {
    let mut named = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let start = at;
        while is_pair(tokens, at, "super") {
            at += 2;
        }
        let from_root = (at - start) / 2 == depth && depth > 0;
        if is_pair(tokens, at, "crate") {
            at += 2;
            collect(tokens, at, &mut named);
        } else if from_root {
            collect(tokens, at, &mut named);
        }
        at = at.max(start + 1);
    }
    named
}

fn is_pair(tokens: &[Token], at: usize, word: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == word)
        && tokens.get(at + 1).is_some_and(|token| token.text == "::")
}

/// What follows `crate::`: one name, or the first name of each entry between braces.
fn collect(tokens: &[Token], at: usize, named: &mut Vec<(String, usize)>) {
    let Some(first) = tokens.get(at) else { return };
    if first.text != "{" {
        named.push((first.text.clone(), first.line));
        return;
    }
    let mut open = 0;
    let mut entry_starts = false;
    for token in &tokens[at..] {
        match token.text.as_str() {
            "{" => {
                open += 1;
                entry_starts = open == 1;
            }
            "}" if open == 1 => return,
            "}" => open -= 1,
            "," => entry_starts = open == 1,
            name if entry_starts => {
                named.push((name.to_owned(), token.line));
                entry_starts = false;
            }
            _ => {}
        }
    }
}

/// What speaks a protocol, and the folders and files in which it is at home.
struct Edge {
    names: &'static [&'static str],
    homes: &'static [&'static str],
    why: &'static str,
}

const EDGES: &[Edge] = &[
    Edge {
        names: &["v2", "pb"],
        homes: &[
            "proto/",
            "core/src/rpc",
            "core/src/session",
            "core/src/wire",
            "core/tests/",
            "proxy/src/front/grpc",
            "proxy/tests/",
            "tests/",
        ],
        why: "wire types stop at the edge",
    },
    Edge {
        names: &["remoting"],
        homes: &[
            "proxy/src/remoting/",
            "proxy/src/front/remoting",
            "proxy/src/backend/remote",
            "proxy/tests/",
            "tests/",
        ],
        why: "remoting commands stop at the edge",
    },
];

/// Generated types, named through `v2::` or `pb::`, and the commands of brokers appear only at the edges.
pub(super) fn wire_types(source: &Source) -> Vec<Finding> {
    let away = EDGES.iter().filter(|edge| !edge.homes.iter().any(|home| source.path().starts_with(home)));
    away.flat_map(|edge| {
        let paths =
            edge.names.iter().flat_map(|name| [source.find(&[name, "::"]), source.find(&["::", name])]);
        // A front end that is named after its protocol hides the protocol.
        let fronts: Vec<usize> =
            edge.names.iter().flat_map(|name| source.find(&["front", "::", name])).collect();
        let mut lines: Vec<usize> = paths.flatten().filter(|line| !fronts.contains(line)).collect();
        lines.sort_unstable();
        lines.dedup();
        lines.into_iter().map(|line| Finding::new(source, line, edge.why)).collect::<Vec<_>>()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        modules(&Source::of(path, text)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_service_imports_nobody() {
        assert_eq!(
            lines("proxy/src/service/mod.rs", "use crate::{service::A,\nbackend::{B, front},\nfront::C};"),
            [2, 3]
        );
    }

    #[test]
    fn the_way_over_super_is_seen_too() {
        assert_eq!(lines("proxy/src/processor/send.rs", "use super::super::front::grpc;"), [1]);
        assert_eq!(lines("proxy/src/processor/mod.rs", "use super::front::grpc;"), [1]);
        assert!(lines("proxy/src/processor/send.rs", "use super::front::grpc;").is_empty());
    }

    #[test]
    fn a_backend_may_know_the_service() {
        assert!(lines("proxy/src/backend/embedded/log.rs", "use crate::service::Messages;").is_empty());
    }

    #[test]
    fn leaves_of_the_core_know_nobody_above() {
        assert_eq!(lines("core/src/options.rs", "fn f() { crate::client::g() }"), [1]);
    }

    #[test]
    fn wire_types_stay_at_the_edge() {
        let text = "use rocketmq_thin_proto::v2;\nfn f(_: v2::Message) {}";
        assert_eq!(wire_types(&Source::of("core/src/producer.rs", text)).len(), 2);
        assert!(wire_types(&Source::of("core/src/wire/send.rs", text)).is_empty());
        assert!(wire_types(&Source::of("proxy/src/front/grpc/send.rs", text)).is_empty());
        assert!(
            wire_types(&Source::of("proxy/src/app/mod.rs", "use crate::front::remoting::Server;")).is_empty()
        );
        let text = "use crate::remoting::RemotingCommand;";
        assert_eq!(wire_types(&Source::of("proxy/src/processor/send.rs", text)).len(), 1);
        assert!(wire_types(&Source::of("proxy/src/backend/remote/send.rs", text)).is_empty());
    }
}
