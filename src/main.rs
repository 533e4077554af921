//! The `liminal` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    liminal::cli::main()
}
