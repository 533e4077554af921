//! Compiles the public protobuf files with pure Rust tools, so that building needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;
use protox::prost_reflect::prost_types::{FileDescriptorSet, field_descriptor_proto::Type};

const PUBLIC: &[&str] = &[
    "liminal/v1/broker.proto",
    "liminal/v1/admin.proto",
    "liminal/v1/claims.proto",
    "liminal/v1/consumers.proto",
    "liminal/v1/security.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/liminal");
    let public = protox::compile(PUBLIC, ["proto"])?;
    // For server reflection: the true schema, before `batches_as_bytes`.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("liminal_v1.bin"), public.encode_to_vec())?;
    let transport = env::var_os("CARGO_FEATURE_TRANSPORT").is_some();
    tonic_prost_build::configure().build_transport(transport).bytes(".").compile_fds(batches_as_bytes(public))?;
    Ok(())
}

/// A `MessageBatch` stays encoded from the publisher to the disk and on to the subscribers, so the code is
/// generated as if such fields were `bytes`: both are length-delimited, the wire does not change.
fn batches_as_bytes(mut files: FileDescriptorSet) -> FileDescriptorSet {
    let fields = files.file.iter_mut().flat_map(|file| &mut file.message_type).flat_map(|message| &mut message.field);
    for field in fields.filter(|field| field.type_name() == ".liminal.v1.MessageBatch") {
        field.set_type(Type::Bytes);
        field.type_name = None;
    }
    files
}
