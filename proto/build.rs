//! Compiles the protos with a compiler written in Rust: building bgctl's own messages needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/operator.proto", "proto/session.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    // The error of protox names file, line and the offending text only in its debug form.
    let descriptors = protox::compile(files, ["proto"]).map_err(|error| format!("{error:?}"))?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
