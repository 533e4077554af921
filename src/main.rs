//! The `liminal` command.

use std::process::ExitCode;

/// Messages are small and many, and what a burst took has to come back: see docs/ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    liminal::cli::main()
}
