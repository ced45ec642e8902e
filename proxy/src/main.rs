//! The binary `rocketmq-thin-proxy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    rocketmq_thin_proxy::cli::main()
}
