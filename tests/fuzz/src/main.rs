//! libFuzzer, feeding what it finds to the target that the environment names.
#![no_main]

use std::env;
use std::path::Path;
use std::sync::LazyLock;

use fuzz::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let target: Target = env::var("FUZZ_TARGET").expect("FUZZ_TARGET").parse().expect("a target");
    if let Some(folder) = env::var_os("FUZZ_SEEDS") {
        target.write_seeds(Path::new(&folder)).expect("a folder for the seeds");
    }
    target
});

libfuzzer_sys::fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
    },
    |input: &[u8]| TARGET.run(input)
);
