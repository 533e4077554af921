//! `liminal config check|show`, and how a node's configuration comes together: file, environment, flags.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{
    CliError, Global, OutputFormat,
    remote::{print_json, print_line},
};
use crate::config::{Loaded, Overrides, ServerConfig};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Report everything that is wrong with a file
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print the effective configuration: the defaults, the file, LIMINAL_* variables and --set
    Show {
        /// The file
        file: Option<PathBuf>,
        /// As for `serve`
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}

pub(super) fn run(command: Command, global: &Global) -> Result<(), CliError> {
    match command {
        Command::Check { file } => {
            let Loaded { config, .. } = load(Some(&file), Vec::new())?;
            let refused =
                |what| CliError::failed(format!("the configuration cannot be used\n{}: {what}", file.display()));
            if let Some(warning) = config.check_exposure().map_err(refused)? {
                tracing::warn!("{warning}");
            }
            match config.cluster.map_or(Ok(None), |cluster| cluster.check_file()) {
                Ok(None) => {}
                Ok(Some(warning)) => tracing::warn!("{warning}"),
                Err(error) => return Err(CliError::failed(format!("the configuration cannot be used\n{error}"))),
            }
            match global.output {
                OutputFormat::Json => print_json(&serde_json::json!({ "file": file.to_string_lossy(), "ok": true })),
                _ => print_line(&format!("{}: ok", file.display())),
            }
        }
        Command::Show { file, set } => {
            let Loaded { config, origins, .. } = load(file.as_deref(), set)?;
            let text = config.show(&origins);
            if global.output != OutputFormat::Json {
                return print_line(text.trim_end());
            }
            let table: toml::Table = text.parse().map_err(|error| CliError::failed(format!("{error}")))?;
            print_json(&table)
        }
    }
}

/// A file with this process's variables and flags laid over it.
pub(super) fn load(file: Option<&Path>, flags: Vec<String>) -> Result<Loaded, CliError> {
    // What is not Unicode cannot be meant for us.
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let overrides = Overrides { variables: variables.collect(), flags };
    ServerConfig::load_with(file, &overrides)
        .inspect(|loaded| loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}")))
        .map_err(|errors| CliError::failed(format!("the configuration cannot be used\n{errors}")))
}
