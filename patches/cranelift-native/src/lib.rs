//! In place of the crate of this name: see `cranelift-codegen` beside it.

pub use cranelift_codegen::parts::native::*;
