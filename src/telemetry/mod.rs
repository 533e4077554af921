//! Logs: on standard error, filtered by `RUST_LOG`, as text or as JSON lines. And what the process takes of its machine.

mod process;

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

pub use self::process::{Process, resident_bytes};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Sets up logging for the process. `default` is the filter where `RUST_LOG` says nothing.
///
/// # Errors
/// When `RUST_LOG` is no filter.
pub fn init(format: LogFormat, default: &str) -> Result<(), String> {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let wanted = if wanted.is_empty() { default } else { &wanted };
    let filter = EnvFilter::try_new(wanted)
        .map_err(|error| format!("RUST_LOG: `{wanted}` is no filter ({error}); write it like `info,liminal=debug`"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // A second call, in tests, changes nothing.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    Ok(())
}
