//! The binary `rocketmq-thin-proxy`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// Costs less CPU per message than glibc's allocator, and returns freed memory to the system.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    rocketmq_thin_proxy::cli::main()
}
