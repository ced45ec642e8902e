//! Compiles our `.proto` files in the build itself, so that no machine needs `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

/// Not among the descriptors that servers show: no server here has it.
const OTLP: &str = "opentelemetry/metrics.proto";

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "apache/rocketmq/v2/definition.proto",
        "apache/rocketmq/v2/service.proto",
        "apache/rocketmq/v2/admin.proto",
        "rocketmq/thin/v1/admin.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-changed={OTLP}");
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // A body as `bytes::Bytes` is a slice of the received frame, which saves a copy per message.
    tonic_prost_build::configure().bytes(".apache.rocketmq.v2").compile_fds(descriptors)?;
    // Only a client: its servers are collectors of others.
    tonic_prost_build::configure().build_server(false).compile_fds(protox::compile([OTLP], ["."])?)?;
    Ok(())
}
