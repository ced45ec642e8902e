//! libFuzzer, feeding what it finds to [`fuzz::read`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::read(input));
