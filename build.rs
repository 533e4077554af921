//! Compiles the protobuf files of what only nodes say to each other, with pure Rust tools, so that building needs no
//! `protoc`. The public ones are compiled by `crates/liminal-wire`.

use std::error::Error;

const PEERS: &[&str] = &["raft/v1/raft.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/raft");
    tonic_prost_build::configure().bytes(".").compile_fds(protox::compile(PEERS, ["proto"])?)?;
    Ok(())
}
