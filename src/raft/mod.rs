//! The replicated log: every openraft type stays inside this module.

pub mod log;
