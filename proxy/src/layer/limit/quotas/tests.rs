use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::context::EntryPoint;

const SECOND: Duration = Duration::from_secs(1);

fn some(limit: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(limit)
}

/// A quota without limits, and a burst of one second.
fn unlimited(per: Per) -> Quota {
    Quota { burst: SECOND, ..Quota::new("q".to_owned(), per) }
}

/// A quota of sent messages per second.
fn sends(per: Per, limit: u64) -> Quota {
    Quota { send_messages_per_second: some(limit), ..unlimited(per) }
}

/// The same with the default burst.
fn with_default_burst(quota: Quota) -> Quota {
    let burst = Quota::new("q".to_owned(), quota.per).burst;
    Quota { burst, ..quota }
}

fn only(quota: Quota) -> Quotas {
    Quotas::new(&[quota], NonZeroU32::MIN, true).expect("a quota")
}

/// Sends requests at times that the test sets.
struct Requests {
    quotas: Quotas,
    now: Instant,
}

type Acquired = Result<Option<Box<QuotaPermit>>, Error>;

impl Requests {
    fn new(quotas: Quotas) -> Self {
        Self { quotas, now: Instant::now() }
    }

    fn of(quota: Quota) -> Self {
        Self::new(only(quota))
    }

    fn acquire(&self, context: &Context, kind: OperationKind, size: Size) -> Acquired {
        let facts = RequestFacts { kind, context, topics: &"t".to_owned(), groups: &"g".to_owned(), size };
        self.quotas.acquire_at(&facts, Some("alice"), (true, self.now))
    }

    fn one(&self, client: &str, kind: OperationKind) -> Acquired {
        self.acquire(&Context::of_client(client), kind, Size { messages: 1, bytes: 10, largest: 1 })
    }

    fn send(&self, client: &str) -> bool {
        self.one(client, OperationKind::Send).is_ok()
    }

    /// The number of `sends` that pass at once.
    fn passing(&self, client: &str, sends: usize) -> usize {
        (0..sends).filter(|_| self.send(client)).count()
    }
}

fn refusal(acquired: Acquired) -> String {
    acquired.err().map(|error| error.message).unwrap_or_default()
}

#[test]
fn a_request_that_exceeds_a_quota_is_refused_with_the_time_to_wait() {
    let mut requests = Requests::of(Quota { burst: 2 * SECOND, ..sends(Per::Client, 10) });
    assert_eq!(requests.passing("a", 30), 20);
    let text = refusal(requests.one("a", OperationKind::Send));
    assert_eq!(text, "the quota q allows 10 sent messages per second for each client; try again in 0.1 s");
    assert!(requests.send("b"), "another client has a bucket of its own");
    requests.now += Duration::from_millis(99);
    assert!(!requests.send("a"));
    requests.now += Duration::from_millis(1);
    assert!(requests.send("a"), "the time that it was told is enough");
    assert_eq!(requests.quotas.list()[0].refused, 12);
}

#[test]
fn a_message_that_is_too_large_is_refused_and_takes_no_tokens() {
    let larger = Quota { message_bytes: some(10), on_excess: OnExcess::Delay, ..sends(Per::Client, 2) };
    let requests = Requests::of(larger);
    let client = Context::of_client("a");
    let send = |sizes: &[usize]| {
        let bodies: Vec<_> = sizes.iter().map(|size| vec![0; *size]).collect();
        requests.acquire(&client, OperationKind::Send, Size::of_bodies(bodies.iter().map(|body| &**body)))
    };
    let refused = send(&[1, 11]).err().map(|error| (error.kind, error.message));
    let text = "the quota q allows 10 bytes for the body of a message".to_owned();
    assert_eq!(refused, Some((ErrorKind::BodyTooLarge, text)));
    let permit = send(&[10, 10]).expect("two messages at once").expect("a quota");
    assert_eq!((permit.starts_at, requests.quotas.list()[0].refused), (None, 1));
}

#[test]
fn a_quota_applies_to_requests_that_its_patterns_match() {
    let entry = Arc::new(EntryPoint { name: "public".into(), is_trusted: false });
    let app = Context { entry: Some(entry), ..Context::of_client("app-1") };
    let quota = |change: fn(&mut Quota)| {
        let mut quota = sends(Per::Proxy, 1);
        change(&mut quota);
        let requests = Requests::of(quota);
        let send = || requests.acquire(&app, OperationKind::Send, Size { messages: 1, bytes: 1, largest: 1 });
        (0..3).filter(|_| send().is_ok()).count()
    };
    for (change, passing) in [
        ((|quota| quota.client = Some("app-*".to_owned())) as fn(&mut Quota), 1),
        (|quota| quota.client = Some("web-*".to_owned()), 3),
        (|quota| quota.user = Some("alice".to_owned()), 1),
        (|quota| quota.user = Some("bob".to_owned()), 3),
        (|quota| quota.topic = Some("t".to_owned()), 1),
        (|quota| quota.topic = Some("x*".to_owned()), 3),
        (|quota| quota.group = Some("*".to_owned()), 1),
        (|quota| (quota.group, quota.topic) = (Some("g".to_owned()), Some("x".to_owned())), 3),
        (|quota| quota.entry = Some("public".to_owned()), 1),
        (|quota| quota.entry = Some("main".to_owned()), 3),
        (|quota| quota.per = Per::Entry, 1),
        (|quota| quota.per = Per::User, 1),
        (|quota| quota.per = Per::Topic, 1),
        (|quota| quota.per = Per::Group, 1),
        (|quota| quota.per = Per::Address, 1),
    ] {
        assert_eq!(quota(change), passing);
    }
}

#[test]
fn invalid_quotas_are_refused() {
    let unlimited = unlimited(Per::Client);
    let has_users = |quotas: &[Quota], has_users| Quotas::new(quotas, NonZeroU32::MIN, has_users).err();
    let wrong = |quotas: &[Quota]| has_users(quotas, true).expect("a mistake");
    assert!(wrong(std::slice::from_ref(&unlimited)).contains("it limits nothing"));
    assert!(wrong(&[Quota { name: "a b".to_owned(), ..sends(Per::Client, 1) }]).contains("its name"));
    assert!(wrong(&[Quota { burst: Duration::ZERO, ..sends(Per::Client, 1) }]).contains("burst"));
    assert!(wrong(&[Quota { max_delay: 3600 * SECOND, ..sends(Per::Client, 1) }]).contains("max_delay"));
    assert_eq!(wrong(&[sends(Per::Client, 1), sends(Per::Topic, 1)]), "two quotas are named q");
    let without = has_users(&[sends(Per::User, 1)], false).expect("a mistake");
    assert!(without.contains("access control"), "{without}");
}

#[test]
fn settling_may_exceed_a_quota_by_a_burst_and_heartbeats_always_pass() {
    let quota = Quota { requests_per_second: some(10), ..unlimited(Per::Client) };
    let requests = Requests::of(quota);
    assert_eq!(requests.passing("a", 20), 10);
    let passing = |kind| (0..30).filter(|_| requests.one("a", kind).is_ok()).count();
    assert_eq!(passing(OperationKind::Receive), 0);
    assert_eq!(passing(OperationKind::Acknowledge), 10);
    assert_eq!(passing(OperationKind::Heartbeat), 30);
}

#[test]
fn continued_requests_count_once_and_the_proxys_own_operations_do_not() {
    let quota = Quota { requests_per_second: some(1), ..unlimited(Per::Client) };
    let requests = Requests::of(quota);
    assert!(requests.send("a") && !requests.send("a"));
    let more = Context { is_continued: true, ..Context::of_client("a") };
    let own = Context { is_admitted: true, ..Context::of_client("a") };
    for context in [more, own] {
        assert!(requests.acquire(&context, OperationKind::QueryRoute, Size::default()).is_ok());
    }
}

#[test]
fn a_receive_is_charged_for_its_messages() {
    for quota in [
        Quota { receive_messages_per_second: some(10), ..unlimited(Per::Group) },
        Quota { receive_bytes_per_second: some(1000), ..unlimited(Per::Group) },
    ] {
        let mut requests = Requests::of(quota);
        let receive = |requests: &Requests| requests.one("a", OperationKind::Receive);
        let empty = receive(&requests).expect("tokens").expect("permit");
        empty.charge_at(Size::default(), requests.now);
        let permit = receive(&requests).expect("tokens").expect("permit");
        permit.charge_at(Size { messages: 32, bytes: 3200, largest: 1 }, requests.now);
        assert!(receive(&requests).is_err());
        requests.now += 2 * SECOND;
        assert!(receive(&requests).is_err(), "the debt is 2.2 s");
        requests.now += SECOND;
        assert!(receive(&requests).is_ok());
    }
}

#[test]
fn concurrent_requests_are_counted_until_they_end() {
    let quota = Quota {
        long_polls: NonZeroU32::new(2),
        requests_in_flight: NonZeroU32::new(1),
        ..unlimited(Per::Client)
    };
    let requests = Requests::of(quota);
    let first = requests.one("a", OperationKind::Receive).expect("room");
    let _second = requests.one("a", OperationKind::Pull).expect("room");
    assert_eq!(
        refusal(requests.one("a", OperationKind::Receive)),
        "the quota q allows 2 waiting receives for each client; try again when one of these requests has ended"
    );
    let _send = requests.one("a", OperationKind::Send).expect("receives do not count");
    assert!(!requests.send("a"));
    let _ack = requests.one("a", OperationKind::Acknowledge).expect("settling has as much again");
    assert!(requests.one("a", OperationKind::Acknowledge).is_err());
    drop(first);
    assert!(requests.one("a", OperationKind::Receive).is_ok());
}

#[test]
fn excess_is_delayed_within_bounds_if_configured() {
    let quota = Quota { on_excess: OnExcess::Delay, ..sends(Per::Client, 10) };
    let requests = Requests::of(quota);
    assert_eq!(requests.passing("a", 10), 10);
    let admission = |acquired: Acquired| acquired.expect("admitted").expect("permit").starts_at;
    for wait in 1..=10 {
        let delay = admission(requests.one("a", OperationKind::Send)).expect("a delay") - requests.now;
        assert_eq!(delay.as_millis(), wait * 100);
    }
    assert!(!requests.send("a"), "it would wait for more than max_delay");
    let hurried = Context { deadline: Some(requests.now + SECOND), ..Context::of_client("b") };
    let send = || requests.acquire(&hurried, OperationKind::Send, Size { messages: 1, bytes: 1, largest: 1 });
    let passing = (0..30).filter(|_| send().is_ok()).count();
    assert_eq!(passing, 15, "half of its time may pass");
    let QuotaStatus { delayed, .. } = &requests.quotas.list()[0];
    assert_eq!(*delayed, 15);
}

#[test]
fn a_refused_request_takes_no_tokens_of_other_quotas() {
    let wide = Quota { name: "wide".to_owned(), ..sends(Per::Proxy, 10) };
    let narrow = Quota { name: "narrow".to_owned(), ..sends(Per::Client, 1) };
    let requests = Requests::new(Quotas::new(&[wide, narrow], NonZeroU32::MIN, false).expect("quotas"));
    assert_eq!(requests.passing("a", 100), 1);
    let others = (0..20).filter(|client| requests.send(&format!("client {client}"))).count();
    assert_eq!(others, 9);
}

#[test]
fn the_share_of_a_proxy_follows_the_size_of_the_fleet() {
    let two = NonZeroU32::new(2).expect("two");
    let quotas = Quotas::new(&[sends(Per::Proxy, 60)], two, false).expect("a quota");
    let mut requests = Requests::new(quotas);
    // A client that is alone gets at most three quarters of a burst at once.
    assert_eq!(requests.passing("a", 100), 22);
    // What was used stays counted.
    requests.quotas.set_fleet(NonZeroU32::MIN);
    assert_eq!(requests.passing("a", 100), 0);
    for (size, share) in [(1, 60), (3, 20), (6, 10)] {
        requests.quotas.set_fleet(NonZeroU32::new(size).expect("a size"));
        requests.passing("a", 100);
        let mut passed = 0;
        for _ in 0..100 {
            requests.now += SECOND / 10;
            passed += requests.passing("a", 100);
        }
        assert!((10 * share - 1..=10 * share + 1).contains(&passed), "{size}: {passed}");
    }
    requests.quotas.set(sends(Per::Proxy, 60)).expect("a quota");
    assert_eq!(requests.passing("a", 100), 7, "a new quota has the size, too");
}

#[test]
fn each_proxy_of_a_fleet_enforces_its_share() {
    let fleet = NonZeroU32::new(3).expect("three");
    let quota = Quota { long_polls: NonZeroU32::new(2), ..sends(Per::Client, 30) };
    let requests = Requests::new(Quotas::new(&[quota], fleet, false).expect("a quota"));
    assert_eq!(requests.passing("a", 100), 10);
    let _poll = requests.one("a", OperationKind::Receive).expect("at least one");
    assert!(requests.one("a", OperationKind::Receive).is_err());
}

#[test]
fn quotas_change_at_run_time() {
    let requests = Requests::of(sends(Per::Client, 1));
    assert_eq!(requests.passing("a", 5), 1);
    requests.quotas.set(sends(Per::Client, 3)).expect("replaced");
    assert_eq!(requests.passing("a", 5), 3);
    assert!(requests.quotas.remove("q") && !requests.quotas.remove("q"));
    assert_eq!(requests.passing("a", 5), 5);
}

/// The number of sends of each client that pass in ten seconds, at these rates per second.
fn served<const N: usize>(quota: Quota, rates: [u32; N]) -> [usize; N] {
    let mut requests = Requests::of(quota);
    let mut served = [0; N];
    for tick in 0..10_000u32 {
        requests.now += Duration::from_millis(1);
        for (client, rate) in rates.into_iter().enumerate() {
            let before = tick * rate / 1000;
            let due = (tick + 1) * rate / 1000 - before;
            served[client] += requests.passing(&format!("client {client}"), due as usize);
        }
    }
    served
}

#[test]
fn clients_of_one_quota_get_equal_shares_of_scarce_tokens() {
    // One client sends ten times the limit, beside others.
    let [noisy, quiet] = served(sends(Per::Topic, 100), [1000, 30]);
    assert_eq!(quiet, 300, "it stays below its share");
    assert!((680..=800).contains(&noisy), "it gets what is left: {noisy}");
    let [one, other] = served(sends(Per::Topic, 100), [1000, 400]);
    assert!((450..=600).contains(&one) && (450..=600).contains(&other), "{one} {other}");
    let [alone] = served(sends(Per::Topic, 100), [1000]);
    assert!((1070..=1100).contains(&alone), "nobody else needs it: {alone}");
    let small = served(sends(Per::Topic, 1), [10, 10]);
    assert!(small.iter().all(|served| (4..=6).contains(served)), "{small:?}");
    let many = served(sends(Per::Topic, 100), [200; 20]);
    assert!(many.iter().all(|served| (40..=70).contains(served)), "{many:?}");
}

#[test]
fn by_default_a_limit_holds_within_5_percent_over_ten_seconds() {
    for per in [Per::Client, Per::Topic] {
        let [alone] = served(with_default_burst(sends(per, 100)), [1000]);
        assert!((1000..=1050).contains(&alone), "{alone}");
        let [noisy, quiet] = served(with_default_burst(sends(per, 100)), [1000, 30]);
        assert_eq!(quiet, 300, "it stays below its share");
        assert!(noisy <= 1050, "{noisy}");
    }
}

#[test]
fn large_requests_of_one_client_leave_another_client_its_share() {
    for quota in [sends(Per::Topic, 100), with_default_burst(sends(Per::Topic, 100))] {
        let mut requests = Requests::of(quota);
        let batch = Size { messages: 32, bytes: 32, largest: 1 };
        let (mut batches, mut single) = (0, 0);
        for _ in 0..1000 {
            requests.now += Duration::from_millis(10);
            let sent = requests.acquire(&Context::of_client("a"), OperationKind::Send, batch);
            batches += usize::from(sent.is_ok());
            single += usize::from(requests.send("b"));
        }
        assert!((45 * 10..=60 * 10).contains(&single), "{single} single messages in 10 s");
        assert!(batches * 32 >= 40 * 10, "{batches} batches in 10 s");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn at_most_the_limit_and_a_burst_pass(
        limit in 1u64..200,
        burst in 1u32..5,
        shared in any::<bool>(),
        delay in any::<bool>(),
        steps in proptest::collection::vec((0u64..300, 0u8..4, 1usize..12), 1..300),
    ) {
        let mut requests = Requests::of(Quota {
            burst: burst * SECOND,
            on_excess: if delay { OnExcess::Delay } else { OnExcess::Refuse },
            ..sends(if shared { Per::Topic } else { Per::Client }, limit)
        });
        // The times and sizes of the passed requests: those of the observed client, or of all clients.
        let mut passed: Vec<(Instant, usize)> = Vec::new();
        let mut largest = 0;
        for (pause, client, messages) in steps {
            requests.now += Duration::from_millis(pause);
            let context = Context::of_client(&client.to_string());
            let acquired = requests.acquire(&context, OperationKind::Send, Size::of_messages(messages));
            let Ok(permit) = acquired else { continue };
            if shared || client == 0 {
                passed.push((permit.and_then(|permit| permit.starts_at).unwrap_or(requests.now), messages));
                largest = largest.max(messages);
            }
        }
        passed.sort();
        let capacity = limit * u64::from(burst);
        // A request that is larger than the bucket, or than the reserve of a shared one, leaves a debt.
        let whole = if shared { (capacity / 2).max(1) } else { capacity };
        let debt = (largest as u64).saturating_sub(whole);
        for (first, (begin, _)) in passed.iter().enumerate() {
            let window = passed[first..].iter().take_while(|(at, _)| *at - *begin <= 10 * SECOND);
            let sum: usize = window.map(|(_, messages)| messages).sum();
            prop_assert!(sum as u64 <= limit * 10 + capacity + debt, "{sum} messages in 10 s");
        }
    }
}

#[test]
fn the_addresses_of_an_ipv6_network_share_a_quota() {
    let quota = Quota { requests_per_second: some(2), ..unlimited(Per::Address) };
    let requests = Requests::of(quota);
    let send = |peer: &str| {
        let context = Context { peer: peer.into(), ..Context::of_client("c") };
        requests.acquire(&context, OperationKind::Send, Size::default()).is_ok()
    };
    let passing = |network: &str| (0..9).filter(|host| send(&format!("[{network}::{host}]:1"))).count();
    let one = passing("2001:db8:0:1");
    assert!((1..=2).contains(&one), "{one}");
    assert!(send("[2001:db8:0:2::1]:1") && send("10.0.0.1:1") && send("10.0.0.2:1"));
}

#[test]
fn a_refusal_by_another_quota_takes_nothing_of_a_share() {
    let shared = Quota { name: "shared".to_owned(), ..sends(Per::Topic, 100) };
    let strict = Quota { client: Some("a".to_owned()), ..sends(Per::Client, 1) };
    let requests = Requests::new(Quotas::new(&[shared, strict], NonZeroU32::MIN, false).expect("quotas"));
    assert_eq!(requests.passing("b", 50), 50, "what is above the reserve");
    assert_eq!(requests.passing("a", 50), 1);
    assert!(requests.quotas.remove("q"));
    let rest = requests.passing("a", 50);
    assert!((10..20).contains(&rest), "a third of the reserve, but for what has passed: {rest}");
}
