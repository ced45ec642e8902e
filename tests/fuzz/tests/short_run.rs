//! A short run of each target without libFuzzer: the seeds, and mutations of them that are the same in every run.

use fuzz::{Mutator, Target};

/// Inputs to a function, and to a proxy over a socket.
const INPUTS: usize = 50_000;
const CALLS: usize = 2_000;

fn run(target: Target, count: usize) {
    let seeds = target.seeds();
    for seed in &seeds {
        target.run(seed);
    }
    let mut mutator = Mutator::new(0x2545_f491_4f6c_dd1d);
    for _ in 0..count {
        target.run(&mutator.mutate(&seeds));
    }
}

#[test]
fn requests() {
    run(Target::Grpc, CALLS);
}

#[test]
fn handles() {
    run(Target::Handle, CALLS);
}

#[test]
fn filters() {
    run(Target::Sql, INPUTS);
}

#[test]
fn proxy_headers() {
    run(Target::ProxyHeader, INPUTS);
}

#[test]
fn remoting() {
    run(Target::Remoting, INPUTS);
}

#[test]
fn classic_requests() {
    run(Target::Classic, CALLS);
}

#[test]
fn http_requests() {
    run(Target::Http, CALLS);
}

#[test]
fn credentials() {
    run(Target::Token, CALLS);
}
