use super::*;

fn budget(bytes: usize, bytes_per_connection: usize) -> Arc<MemoryBudget> {
    MemoryBudget::new(&TransportConfig {
        bytes,
        bytes_per_connection,
        calls: 3,
        ..TransportConfig::default()
    })
}

fn call(connection: &Arc<ConnectionBudget>) -> Charge {
    Charge::new(connection).expect("a call")
}

fn host(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 1).into()
}

#[test]
fn the_bytes_of_a_call_are_released() {
    let budget = budget(1000, 100);
    let connection = budget.connection(host(1));
    let mut first = call(&connection);
    first.set(60).expect("room");
    first.set(80).expect("room");
    assert_eq!(call(&connection).set(30), Err(Exhausted::ConnectionBytes));
    first.set(70).expect("less");
    call(&connection).set(30).expect("room");
    let _others = (call(&connection), call(&connection));
    assert_eq!(Charge::new(&connection).err(), Some(Exhausted::Calls));
    drop(first);
    assert_eq!(budget.usage.lock().bytes, 0);
    assert!(Charge::new(&connection).is_ok());
}

#[test]
fn items_are_added_while_there_is_room_and_the_first_one_always() {
    let budget = budget(100, 100);
    let connection = budget.connection(host(1));
    let mut charge = call(&connection);
    assert_eq!(charge.add_fitting([40, 40, 40, 1]), 2);
    assert_eq!(charge.bytes(), 80);
    assert_eq!((charge.add_fitting([40, 1]), charge.add_fitting([])), (1, 0));
    assert_eq!(charge.bytes(), 80);
}

#[test]
fn the_oldest_incomplete_request_is_evicted() {
    let budget = budget(80, 80);
    let [stopped, slow, honest] = [1, 2, 3].map(|number| budget.connection(host(number)));
    let [mut first, mut second] = [call(&stopped), call(&slow)];
    let (first_evicted, second_evicted) = (first.incomplete(), second.incomplete());
    first.set(50).expect("room");
    second.set(20).expect("room");
    let mut newcomer = call(&honest);
    newcomer.set(20).expect("made room");
    assert!(first_evicted.is_cancelled() && !second_evicted.is_cancelled());
    assert_eq!((first.set(60), first.completed()), (Err(Exhausted::Evicted), Err(Exhausted::Evicted)));
    second.completed().expect("not evicted");
    assert_eq!(newcomer.set(60), Err(Exhausted::HostBytes));
    drop((first, second, newcomer));
    let refused = [("calls", 0), ("bytes", 1), ("bytes_per_connection", 0), ("evicted", 1)];
    assert_eq!(budget.refused_by_limit(), refused);
    assert_eq!((budget.usage.lock().bytes, stopped.bytes.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_connection_at_its_limit_evicts_its_own_requests_only() {
    let budget = budget(1000, 100);
    let (other, own) = (budget.connection(host(1)), budget.connection(host(1)));
    let [mut others, mut first, mut second] = [call(&other), call(&own), call(&own)];
    let (others_evicted, first_evicted) = (others.incomplete(), first.incomplete());
    others.set(90).expect("room");
    first.set(90).expect("room");
    second.set(90).expect("made room");
    assert!(first_evicted.is_cancelled() && !others_evicted.is_cancelled());
    assert_eq!(second.set(101), Err(Exhausted::ConnectionBytes));
}

#[test]
fn one_host_cannot_take_all_calls() {
    let budget = MemoryBudget::new(&TransportConfig { calls: 80, ..TransportConfig::default() });
    let (first, second) = (budget.connection(host(1)), budget.connection(host(1)));
    // While there is room, a host may exceed its share.
    let mut held: Vec<_> = (0..35).flat_map(|_| [call(&first), call(&second)]).collect();
    assert_eq!(Charge::new(&second).err(), Some(Exhausted::HostCalls));
    let other = budget.connection(host(2));
    let others: Vec<_> = (0..10).map(|_| call(&other)).collect();
    assert_eq!(Charge::new(&other).err(), Some(Exhausted::Calls));
    drop(others);
    held.truncate(69);
    held.push(call(&first));
    assert_eq!(budget.refused_by_limit()[0], ("calls", 2));
    drop((held, first, second, other));
    assert!(budget.hosts.lock().is_empty() && budget.calls.load(Ordering::Relaxed) == 0);
}

#[test]
fn one_host_cannot_take_all_bytes() {
    let budget = budget(80, 80);
    let (own, same, other) =
        (budget.connection(host(1)), budget.connection(host(1)), budget.connection(host(2)));
    let (mut complete, mut incomplete, mut newcomer) = (call(&own), call(&same), call(&other));
    let evicted = incomplete.incomplete();
    complete.set(60).expect("room");
    incomplete.set(10).expect("room");
    newcomer.set(10).expect("the part for other hosts");
    assert!(!evicted.is_cancelled());
    drop(newcomer);
    // Beyond its share, a host evicts its own requests, on whichever connection they are.
    complete.set(70).expect("made room");
    assert!(evicted.is_cancelled());
    assert_eq!(complete.set(71), Err(Exhausted::HostBytes));
    assert_eq!(call(&other).set(11), Err(Exhausted::Bytes));
    drop((complete, incomplete));
    assert_eq!((own.of_host.bytes.load(Ordering::Relaxed), budget.held_bytes()), (0, 0));
    let usage = budget.usage.lock();
    assert!(usage.by_owner.is_empty() && usage.above_share.is_empty());
}

#[test]
fn beyond_its_share_a_host_evicts_requests_of_the_host_that_holds_the_most() {
    let budget = budget(80, 80);
    let (gateway, other) = (budget.connection(host(1)), budget.connection(host(2)));
    let (mut upload, mut stalled, mut newcomer) = (call(&gateway), call(&other), call(&gateway));
    let (upload_evicted, stalled_evicted) = (upload.incomplete(), stalled.incomplete());
    upload.set(20).expect("room");
    stalled.set(50).expect("room");
    newcomer.set(10).expect("made room");
    assert!(stalled_evicted.is_cancelled() && !upload_evicted.is_cancelled());
    newcomer.set(60).expect("made room");
    assert!(upload_evicted.is_cancelled());
    drop((upload, stalled));
    // Others that hold less keep what they hold, whether or not it is more than their share.
    let mut smaller = call(&other);
    let smaller_evicted = smaller.incomplete();
    smaller.set(10).expect("room");
    assert_eq!(newcomer.set(61), Err(Exhausted::HostBytes));
    newcomer.set(35).expect("less");
    smaller.set(30).expect("room");
    assert_eq!(newcomer.set(41), Err(Exhausted::HostBytes));
    assert!(!smaller_evicted.is_cancelled());
}
