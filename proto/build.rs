//! Compiles our `.proto` files in the build itself, so that no machine needs `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

/// Compiled separately, so that server reflection does not list them: no server of this project implements them.
const OTLP: [&str; 2] = ["opentelemetry/metrics.proto", "opentelemetry/trace.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "apache/rocketmq/v2/definition.proto",
        "apache/rocketmq/v2/service.proto",
        "apache/rocketmq/v2/admin.proto",
        "rocketmq/thin/v1/admin.proto",
    ];
    for file in files.iter().chain(&OTLP).chain(&["opentelemetry/common.proto"]) {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // With `bytes::Bytes`, a body is a slice of the received frame, which saves a copy per message.
    tonic_prost_build::configure().bytes(".apache.rocketmq.v2").compile_fds(descriptors)?;
    // Only the client is needed.
    tonic_prost_build::configure().build_server(false).compile_fds(protox::compile(OTLP, ["."])?)?;
    Ok(())
}
