//! `rocketmq-thin-proxy`: the binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    rocketmq_thin_proxy::cli::main()
}
