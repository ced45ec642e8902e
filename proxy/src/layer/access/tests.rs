use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use sha1::Sha1;
use strum::VariantArray;
use tempfile::TempDir;

use super::policy::{Policies, PolicyRule, Resource};
use super::*;
use crate::context::{Credentials, Signed, WireProtocol};
use crate::error::ErrorKind;
use crate::layer::{Names, OperationKind, Quotas};
use crate::service::{BrokerAcl, BrokerUser, ServiceError, ServiceErrorKind};

const SECRET: &str = "open sesame";

/// Access control with a file that has the user `alice` with some policies.
struct Access {
    control: Arc<AccessControl>,
    file: AccessFile,
    acl: StoredAcl,
    _folder: TempDir,
}

/// A policy of alice, written as `RESOURCE ACTION,ACTION [deny] [NETWORK]`.
fn policy(text: &str) -> PolicyEntry {
    let words: Vec<_> = text.split(' ').collect();
    let action = |word: &str| clap::ValueEnum::from_str(word, true).expect("an action");
    let networks = words[2..].iter().filter(|word| **word != "deny");
    PolicyEntry {
        number: 0,
        user: "alice".to_owned(),
        resource: words[0].to_owned(),
        actions: words[1].split(',').map(action).collect(),
        from: networks.map(|network| network.parse().expect("a network")).collect(),
        effect: if words.contains(&"deny") { Effect::Deny } else { Effect::Allow },
    }
}

/// Brokers that support no administration.
fn no_brokers() -> Arc<dyn Administration> {
    struct NoBrokers;
    impl Administration for NoBrokers {}
    Arc::new(NoBrokers)
}

impl Access {
    fn new(policies: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = AccessFile::new(&folder.path().join("access.toml"), None);
        let secret = file.key().expect("a key").seal("alice", &Secret::new(SECRET));
        let alice = UserEntry {
            name: "alice".to_owned(),
            secret,
            kind: UserKind::Normal,
            enabled: true,
            certificates: Vec::new(),
        };
        let policies = policies.iter().map(|text| policy(text)).collect();
        let acl = StoredAcl { users: vec![alice], policies, ..StoredAcl::default() };
        file.write(&acl).expect("written");
        let config = AccessConfig { file: Some(file.path().to_owned()), ..AccessConfig::default() };
        let control = AccessControl::open(&config, &no_brokers()).expect("rules").expect("access control");
        Self { control: Arc::new(control), file, acl, _folder: folder }
    }

    fn authorize(&self, kind: OperationKind, topics: &dyn Names, groups: &dyn Names) -> Result<(), Error> {
        let context = signed_by("alice", SECRET);
        self.control.authorize(&facts(&context, kind, topics, groups)).map(drop)
    }
}

fn facts<'a>(
    context: &'a Context,
    kind: OperationKind,
    topics: &'a dyn Names,
    groups: &'a dyn Names,
) -> RequestFacts<'a> {
    RequestFacts { kind, context, topics, groups, size: crate::layer::Size::default() }
}

fn mac(secret: &str, signed: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.chain_update(signed).finalize().into_bytes().to_vec()
}

fn signed_at(user: &str, secret: &str, time: SystemTime) -> Context {
    let time = humantime::format_rfc3339_seconds(time).to_string();
    let signature = hex::encode(mac(secret, time.as_bytes()));
    with(
        format!("MQv2-HMAC-SHA1 Credential={user}, SignedHeaders=x-mq-date-time, Signature={signature}"),
        time,
    )
}

fn signed_by(user: &str, secret: &str) -> Context {
    signed_at(user, secret, SystemTime::now())
}

fn with(authorization: String, time: String) -> Context {
    let credentials = Credentials { authorization, signed: Signed::Time(time), session_token: String::new() };
    Context { credentials: Some(Box::new(credentials)), ..Context::of_client("c") }
}

#[test]
fn each_request_needs_all_of_its_rights() {
    let (topic, group) = ("orders".to_owned(), "billing".to_owned());
    for kind in OperationKind::VARIANTS.iter().copied() {
        let none = ();
        let consumes = !matches!(
            kind,
            OperationKind::QueryRoute
                | OperationKind::Send
                | OperationKind::Recall
                | OperationKind::EndTransaction
                | OperationKind::QueryOffset
        );
        let groups: &dyn Names = if consumes { &group } else { &none };
        let needed: &[&str] = match kind {
            OperationKind::Send | OperationKind::Recall | OperationKind::EndTransaction => {
                &["Topic:orders pub"]
            }
            OperationKind::QueryRoute | OperationKind::QueryOffset => &["Topic:orders sub"],
            _ => &["Topic:orders sub", "Group:billing sub"],
        };
        assert!(Access::new(needed).authorize(kind, &topic, groups).is_ok(), "{kind:?}");
        assert!(Access::new(&["* all"]).authorize(kind, &topic, groups).is_ok(), "{kind:?}");
        for missing in 0..needed.len() {
            let others = needed.iter().enumerate().filter(|(index, _)| *index != missing);
            let others: Vec<_> = others.map(|(_, policy)| *policy).collect();
            let refused = Access::new(&others).authorize(kind, &topic, groups);
            assert_eq!(
                refused.err().map(|error| error.kind),
                Some(ErrorKind::AccessDenied),
                "{kind:?} {others:?}"
            );
        }
    }
}

#[test]
fn every_topic_and_group_of_a_request_is_checked() {
    struct Many(&'static [&'static str]);
    impl Names for Many {
        fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
            self.0.iter().for_each(|name| visit(name));
        }
    }
    let access = Access::new(&["Topic:a pub,sub", "Group:g sub"]);
    assert!(access.authorize(OperationKind::Send, &Many(&["a", "a"]), &()).is_ok());
    assert!(access.authorize(OperationKind::Send, &Many(&["a", "b"]), &()).is_err());
    assert!(access.authorize(OperationKind::Heartbeat, &Many(&["a"]), &Many(&["g", "h"])).is_err());
    // A consumer that names no group needs the rights of a producer, and a group is never left out.
    assert!(access.authorize(OperationKind::Register, &Many(&["b"]), &()).is_err());
    assert!(access.authorize(OperationKind::Receive, &Many(&["a"]), &Many(&[""])).is_err());
    // A producer's heartbeat has no group.
    assert!(access.authorize(OperationKind::Heartbeat, &(), &Many(&[""])).is_ok());
}

#[test]
fn retry_and_dead_letter_topics_belong_to_their_group() {
    let access = Access::new(&["Group:g sub", "Topic:* pub,sub"]);
    for prefix in ["%RETRY%", "%DLQ%"] {
        let (own, other) = (format!("{prefix}g"), format!("{prefix}h"));
        for kind in [OperationKind::Send, OperationKind::QueryRoute, OperationKind::QueryOffset] {
            assert!(access.authorize(kind, &own, &()).is_ok(), "{kind:?} {own}");
            assert!(access.authorize(kind, &other, &()).is_err(), "{kind:?} {other}");
        }
    }
}

#[test]
fn administration_has_rights_of_its_own() {
    let alice = signed_by("alice", SECRET);
    let cases: [(&str, &'static [Action], bool); 5] = [
        ("Topic:* all", &[Action::List], false),
        ("Cluster:* list", &[Action::List], true),
        ("Cluster:* list", &[Action::Create, Action::List], false),
        ("Cluster:* all", &[Action::Create, Action::Update], true),
        ("* all", &[Action::Delete], true),
    ];
    for (policy, actions, allowed) in cases {
        let access = Access::new(&[policy]).control;
        let administers = access.administer(&alice, Right::Cluster(actions)).is_ok();
        assert_eq!(administers, allowed, "{policy} {actions:?}");
    }
    let nobody = Context::of_client("c");
    assert!(Access::new(&["* all"]).control.administer(&nobody, Right::Cluster(&[Action::List])).is_err());
}

#[test]
fn only_valid_and_recent_signatures_are_accepted() {
    let access = Access::new(&["* all"]);
    let refusal = |context: &Context| {
        let topic = "t".to_owned();
        let authorized = access.control.authorize(&facts(context, OperationKind::Send, &topic, &()));
        authorized.err().map(|error| error.message)
    };
    assert_eq!(refusal(&signed_by("alice", SECRET)), None);
    let Some(credentials) = signed_by("alice", SECRET).credentials else { panic!("signed") };
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let signature = hex::encode(mac(SECRET, time.as_bytes()));
    for shape in ["alice//Rocketmq", "alice/region/service"] {
        let authorization =
            format!("MQv2-HMAC-SHA1 Credential={shape}, SignedHeaders=x, Signature={signature}");
        assert_eq!(refusal(&with(authorization, time.clone())), None, "{shape}");
    }
    let upper = format!("any Credential=alice,Signature={}", signature.to_uppercase());
    assert_eq!(refusal(&with(upper, time.clone())), None);
    let hour = Duration::from_secs(60 * 60);
    let now = SystemTime::now();
    // Apache's Java client signs local time.
    assert_eq!(refusal(&signed_at("alice", SECRET, now + 14 * hour)), None);
    let stale = Some("the time in the signature is too far from the server's.".to_owned());
    assert_eq!(refusal(&signed_at("alice", SECRET, now - 16 * hour)), stale);
    assert_eq!(refusal(&signed_at("alice", SECRET, now + 16 * hour)), stale);

    // A cached signature is not verified again, but expires all the same.
    let context = signed_at("alice", SECRET, now);
    let acl_index = access.control.in_force.borrow().acl_index.clone();
    let attempt = access.control.failed_attempts.attempt(&context);
    let at = |time| acl_index.verify_signature(&attempt, time, hour).map(|(name, _)| name);
    assert_eq!([at(now), at(now + hour / 2)], [Ok("alice"), Ok("alice")]);
    assert_eq!(at(now + 2 * hour).err().map(|error| error.message), stale);

    let failed = Some("check signature failed.".to_owned());
    assert_eq!(refusal(&signed_by("alice", "guess")), failed);
    assert_eq!(refusal(&with(credentials.authorization.clone(), "20260101T000000Z".to_owned())), failed);
    let cut = &credentials.authorization[..credentials.authorization.len() - 2];
    assert_eq!(refusal(&with(cut.to_owned(), time.clone())), failed);
    for (authorization, text) in [
        ("", "username cannot be null."),
        ("MQv2-HMAC-SHA1", "authentication header is incorrect."),
        ("MQv2-HMAC-SHA1 Credential", "authentication keyValues length is incorrect, actual length=1."),
        ("MQv2-HMAC-SHA1 Credential=, Signature=00", "username cannot be null."),
        ("MQv2-HMAC-SHA1 Signature=00", "username cannot be null."),
        ("MQv2-HMAC-SHA1 Credential=bob, Signature=00", "User:bob is not found."),
        ("MQv2-HMAC-SHA1 Credential=alice, Signature=xx", "create authentication context error."),
        ("MQv2-HMAC-SHA1 Credential=alice, Signature=", "check signature failed."),
    ] {
        assert_eq!(
            refusal(&with(authorization.to_owned(), time.clone())).as_deref(),
            Some(text),
            "{authorization}"
        );
    }
    assert_eq!(
        refusal(&with(credentials.authorization, String::new())).as_deref(),
        Some("datetime is null.")
    );
    assert_eq!(refusal(&Context::of_client("c")).as_deref(), Some("username cannot be null."));
}

#[test]
fn the_remoting_protocol_signs_its_requests() {
    use base64::Engine;
    let access = Access::new(&["* all"]);
    let signature = base64::engine::general_purpose::STANDARD.encode(mac(SECRET, b"fieldsbody"));
    let context = |body: &'static str| Context {
        credentials: Some(Box::new(Credentials {
            authorization: format!("HmacSHA1 Credential=alice, Signature={signature}"),
            signed: Signed::Request { fields: "fields".to_owned(), body: body.into() },
            session_token: String::new(),
        })),
        ..Context::of_client("c")
    };
    let topic = "t".to_owned();
    let is_allowed = |context: &Context| {
        access.control.authorize(&facts(context, OperationKind::Send, &topic, &())).is_ok()
    };
    assert!(is_allowed(&context("body")));
    assert!(!is_allowed(&context("another body")));
}

#[test]
fn operations_of_the_proxy_on_behalf_of_a_client_need_no_signature() {
    let layers = crate::layer::Layers::new(10, Quotas::default(), Some(Access::new(&[]).control));
    let topic = "t".to_owned();
    let admit = |context: &Context| {
        let authorized = layers.admit(&facts(context, OperationKind::ChangeInvisible, &topic, &topic));
        authorized.map(drop).map_err(|error| error.kind)
    };
    assert_eq!(admit(&Context::of_connection(WireProtocol::Grpc, "c", &"127.0.0.1:1".into())), Ok(()));
    assert_eq!(admit(&Context::of_client("c")), Err(ErrorKind::Unauthorized));
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_revokes_grants() {
    let mut access = Access::new(&["Topic:t sub", "Group:g sub"]);
    let (topic, group) = ("t".to_owned(), "g".to_owned());
    let context = signed_by("alice", SECRET);
    let grant = |access: &Access| {
        let authorized = access.control.authorize(&facts(&context, OperationKind::Receive, &topic, &group));
        authorized.map(|(_, grant)| grant.expect("a receive waits"))
    };
    let change = |access: &Access| {
        access.file.write(&access.acl).expect("written");
        access.control.reload();
    };
    let mut granted = grant(&access).expect("allowed");
    // A further policy revokes nothing.
    access.acl.policies.push(policy("Topic:u sub"));
    change(&access);
    let waiting = tokio::time::timeout(Duration::from_millis(1), granted.revoked()).await;
    assert!(waiting.is_err());
    access.acl.policies.remove(0);
    change(&access);
    assert_eq!(granted.revoked().await.reason.kind, ErrorKind::AccessDenied);
    assert!(grant(&access).is_err());

    access.acl.policies.push(policy("Topic:t sub"));
    change(&access);
    let mut granted = grant(&access).expect("allowed again");
    access.acl.users[0].enabled = false;
    change(&access);
    assert_eq!(granted.revoked().await.reason.message, "User:alice is disabled.");

    access.acl.users[0].enabled = true;
    change(&access);
    let mut granted = grant(&access).expect("allowed again");
    access.acl.users[0].secret = access.file.key().expect("a key").seal("alice", &Secret::new("another"));
    change(&access);
    assert_eq!(granted.revoked().await.reason.message, "check signature failed.");

    // An invalid file changes nothing.
    access.acl.users[0].secret = access.file.key().expect("a key").seal("alice", &Secret::new(SECRET));
    change(&access);
    std::fs::write(access.file.path(), "users = 1").expect("written");
    access.control.reload();
    assert!(grant(&access).is_ok());
}

#[test]
fn a_certificate_authenticates_beside_an_ignored_token() {
    let mut access = Access::new(&["Topic:t pub"]);
    access.acl.users[0].certificates = vec!["alice.example.com".to_owned()];
    access.file.write(&access.acl).expect("written");
    access.control.reload();
    let send = |authorization: &str, name: &str| {
        let Some(mut credentials) = with(authorization.to_owned(), String::new()).credentials else {
            panic!()
        };
        credentials.session_token = "T0KEN".to_owned();
        let certificate = Some([name.to_owned()].into());
        let context = Context { credentials: Some(credentials), certificate, ..Context::of_client("c") };
        access.control.authorize(&facts(&context, OperationKind::Send, &"t".to_owned(), &())).is_ok()
    };
    assert!(send("", "alice.example.com"));
    assert!(!send("", "bob.example.com"));
    // A signature takes precedence, even an invalid one.
    assert!(!send("MQv2-HMAC-SHA1 Credential=alice, Signature=00", "alice.example.com"));
}

#[tokio::test]
async fn a_grant_ends_when_brokers_remove_its_user() {
    /// Brokers whose users can be changed.
    struct Brokers(parking_lot::Mutex<Result<BrokerAcl, ServiceError>>);
    #[async_trait::async_trait]
    impl Administration for Brokers {
        async fn acl(&self) -> Result<BrokerAcl, ServiceError> {
            self.0.lock().clone()
        }
    }
    let user =
        BrokerUser { name: "alice".to_owned(), secret: SECRET.to_owned(), is_super: true, is_enabled: true };
    let unavailable = || Err(ServiceError::new(ServiceErrorKind::Unavailable, "unreachable"));
    let brokers = Arc::new(Brokers(parking_lot::Mutex::new(unavailable())));
    let config = AccessConfig { brokers: true, ..AccessConfig::default() };
    let administration: Arc<dyn Administration> = brokers.clone();
    let control = AccessControl::open(&config, &administration).expect("rules").expect("access control");
    let (topic, group) = ("t".to_owned(), "g".to_owned());
    let context = signed_by("alice", SECRET);
    let authorize = || {
        let authorized = control.authorize(&facts(&context, OperationKind::Receive, &topic, &group));
        authorized.map(|(_, grant)| grant.expect("a receive waits"))
    };
    assert_eq!(authorize().err().map(|error| error.kind), Some(ErrorKind::Internal), "nobody is known yet");
    let set = |rights| *brokers.0.lock() = rights;
    let mut changes = control.in_force.subscribe();
    let changes_of_brokers = async {
        set(Ok(BrokerAcl { users: vec![user.clone()], policies: Vec::new() }));
        changes.changed().await.expect("users");
        let mut granted = authorize().expect("a super user");
        set(Ok(BrokerAcl::default()));
        assert_eq!(granted.revoked().await.reason.message, "User:alice is not found.");
    };
    tokio::select! {
        () = control.poll_brokers(&*brokers) => {}
        () = changes_of_brokers => {}
    }
}

#[test]
fn an_invalid_file_is_refused_with_the_reason() {
    let access = Access::new(&["Topic:t sub"]);
    let broken = |change: &dyn Fn(&mut StoredAcl)| {
        let mut acl = access.acl.clone();
        change(&mut acl);
        access.file.write(&acl).expect_err("refused").to_string()
    };
    let twice = broken(&|acl| acl.users.push(acl.users[0].clone()));
    assert!(twice.contains("two users alice"), "{twice}");
    let unknown = broken(&|acl| acl.policies[0].user = "bob".to_owned());
    assert!(unknown.contains("for the user bob, who does not exist"), "{unknown}");
    let resource = broken(&|acl| acl.policies[0].resource = "orders".to_owned());
    assert!(resource.contains("expected Topic:NAME"), "{resource}");
    let moved = broken(&|acl| acl.users[0].name = "bob".to_owned());
    assert!(moved.contains("the secret of user bob can't be opened"), "{moved}");
    let name = broken(&|acl| acl.users[0].name = "a/b".to_owned());
    assert!(name.contains("not a valid user name"), "{name}");
    assert!(broken(&|acl| acl.policies[0].actions.clear()).contains("has no action"));
    let missing = AccessFile::new(Path::new("/nowhere/access.toml"), None).read().expect_err("missing");
    assert!(missing.to_string().contains("/nowhere/access.toml"), "{missing}");
}

/// A simple model of the rules: ranks all policies that apply, and takes the highest rank.
fn naive(policies: &[(Pattern, PolicyRule)], resource: Resource<&str>, wanted: Action, from: IpAddr) -> bool {
    let rank = |pattern: &Pattern| match pattern {
        Pattern::Literal(kind, name) if *kind == resource.kind && name == resource.name => Some(usize::MAX),
        Pattern::Prefix(kind, prefix) if *kind == resource.kind && resource.name.starts_with(&**prefix) => {
            Some(prefix.len() + 1)
        }
        Pattern::All(kind) if *kind == resource.kind => Some(1),
        Pattern::Everything => Some(0),
        _ => None,
    };
    let applies = policies.iter().filter_map(|(pattern, entry)| {
        let covers = entry.from.is_empty() || entry.from.iter().any(|network| network.contains(&from));
        let meets = entry.actions == Actions::of(&[wanted]) || entry.actions == Actions::of(&[Action::All]);
        rank(pattern).filter(|_| covers && meets).map(|rank| (rank, entry.effect == Effect::Deny))
    });
    applies.max().is_some_and(|(_, denies)| !denies)
}

proptest! {
    #[test]
    fn decisions_are_those_of_a_simple_model(
        policies in prop::collection::vec(
            (0..6usize, "[ab]{1,3}", any::<bool>(), 0..3usize, prop::option::of(8u8..32), any::<bool>()),
            0..12,
        ),
        names in prop::collection::vec(("[ab]{1,4}", any::<bool>(), 0..3usize, any::<u32>()), 8),
    ) {
        const ACTIONS: [Action; 3] = [Action::Pub, Action::Sub, Action::All];
        let policies: Vec<_> = policies.into_iter().enumerate().map(|(index, policy)| {
            let (form, name, is_topic, action, network, denies) = policy;
            let kind = if is_topic { ResourceKind::Topic } else { ResourceKind::Group };
            let pattern = match form {
                0 => Pattern::Everything,
                1 => Pattern::All(kind),
                2 | 3 => Pattern::Prefix(kind, name),
                _ => Pattern::Literal(kind, name),
            };
            let network = network.map(|bits| ipnet::IpNet::new([10, 0, 0, 0].into(), bits).expect("a network"));
            let entry = PolicyRule {
                actions: Actions::of(&[ACTIONS[action]]),
                from: network.into_iter().collect(),
                effect: if denies { Effect::Deny } else { Effect::Allow },
                index,
            };
            (pattern, entry)
        }).collect();
        let mut indexed = Policies::default();
        for (pattern, entry) in &policies {
            indexed.add(pattern.clone(), entry.clone());
        }
        for (name, is_topic, action, address) in &names {
            let kind = if *is_topic { ResourceKind::Topic } else { ResourceKind::Group };
            let resource = Resource { kind, name: name.as_str() };
            let from = IpAddr::from(std::net::Ipv4Addr::from(address & 0x0fff_ffff));
            let wanted = [Action::Pub, Action::Sub, Action::Get][*action];
            let decided = indexed.decide(resource, Actions::of(&[wanted]), Some(from));
            let allowed = matches!(decided, PolicyDecision::Policy(Effect::Allow, _));
            prop_assert_eq!(allowed, naive(&policies, resource, wanted, from));
        }
    }
}
