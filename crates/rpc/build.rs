//! Generates the messages and services of `proto/`, without a system protoc.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("../../proto");
    let files = [
        "common.proto",
        "dispatcher.proto",
        "task_manager_link.proto",
        "worker_link.proto",
    ]
    .map(|name| root.join("streamd/v1").join(name));
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let descriptors = protox::compile(&files, [root])?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        // The links' method `connect` would collide with the constructor of the same name; `client` connects better anyway.
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
