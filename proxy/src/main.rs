//! `rocketmq-thin-proxy`: the binary.

fn main() {}
