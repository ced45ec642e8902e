//! `rocketmq-thin-kotlin-bindgen LIBRARY CONFIG OUT_DIR` generates uniffi's Kotlin classes for the built library.
//! Maven runs it in the phase `generate-sources`.

use std::process::ExitCode;

use uniffi_bindgen::bindings::{GenerateOptions, TargetLanguage, generate};

#[allow(clippy::print_stderr, reason = "the messages of a command line program")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Ok([library, config, out_dir]) = <[String; 3]>::try_from(arguments) else {
        eprintln!("usage: rocketmq-thin-kotlin-bindgen LIBRARY CONFIG OUT_DIR");
        return ExitCode::from(2);
    };
    let options = GenerateOptions {
        languages: vec![TargetLanguage::Kotlin],
        source: library.into(),
        out_dir: out_dir.into(),
        config_override: Some(config.into()),
        ..GenerateOptions::default()
    };
    match generate(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
