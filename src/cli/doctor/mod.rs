//! `liminal doctor`: looks for what is wrong with a node's machine and with a running cluster, and says for each finding what
//! to do. It changes nothing.

mod certificates;
mod cluster;
mod machine;

use std::path::PathBuf;

use clap::ValueHint;
use serde::Serialize;

use super::{
    CliError, Global, OutputFormat,
    remote::{print_json, print_line},
    style::Style,
};
use crate::config::{ClusterConfig, Loaded, Overrides, ServerConfig};

/// What `doctor` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A node's configuration: the file, its certificates, and the disk, ports and limits of this machine are looked at
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// As for `serve`
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    set: Vec<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Looked at and found good.
    Ok,
    /// It works, and will not for ever.
    Warning,
    /// It does not work.
    Problem,
}

/// What was found at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    todo: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), todo: String::new() }
    }

    fn warning(check: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), todo: todo.into() }
    }

    fn problem(check: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, level: Level::Problem, found: found.into(), todo: todo.into() }
    }

    fn shown(&self) -> String {
        let (mark, style) = match self.level {
            Level::Ok => ("ok", Style::Green),
            Level::Warning => ("warning", Style::Yellow),
            Level::Problem => ("problem", Style::Red),
        };
        let mut text = format!("{}  {}: {}", style.on_stdout(&format!("{mark:<7}")), self.check, self.found);
        if !self.todo.is_empty() {
            text.push_str(&format!("\n         do: {}", self.todo));
        }
        text
    }
}

/// Runs the command: exit code 0 unless there is a problem. Warnings alone change nothing.
pub(super) async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let mut findings = Vec::new();
    if let Some(file) = &args.config {
        let (file, set) = (file.clone(), args.set.clone());
        let looked = tokio::task::spawn_blocking(move || local(&file, set)).await;
        findings.extend(looked.map_err(|error| CliError::failed(error.to_string()))?);
    }
    findings.extend(certificates::of_client(global));
    // A machine is looked at before its node runs: then there may be no cluster yet.
    if args.config.is_none() || !global.server.is_empty() {
        findings.extend(cluster::look(global).await);
    }
    tell(&findings, global)
}

fn tell(findings: &[Finding], global: &Global) -> Result<(), CliError> {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    match global.output {
        OutputFormat::Json => findings.iter().try_for_each(print_json)?,
        OutputFormat::Raw => {
            let bad = findings.iter().filter(|finding| finding.level != Level::Ok);
            bad.map(|finding| &finding.found).try_for_each(|found| print_line(found))?;
        }
        OutputFormat::Table => {
            findings.iter().try_for_each(|finding| print_line(&finding.shown()))?;
            print_line(&format!("{problems} problem(s), {warnings} warning(s), {} ok", count(Level::Ok)))?;
        }
    }
    if problems == 0 { Ok(()) } else { Err(CliError::exit(1)) }
}

/// What can be found out about a node on its own machine, whether it runs or not.
fn local(file: &std::path::Path, set: Vec<String>) -> Vec<Finding> {
    let (config, mut findings) = match configured(file, set) {
        Ok(loaded) => loaded,
        // Without a configuration there is nothing else to look at.
        Err(findings) => return findings,
    };
    findings.extend(certificates::of_node(&config));
    findings.extend(machine::look(&config));
    findings
}

fn configured(file: &std::path::Path, flags: Vec<String>) -> Result<(ServerConfig, Vec<Finding>), Vec<Finding>> {
    const CHECK: &str = "configuration";
    let repair = "correct it; `liminal config check` looks at it again, docs/CONFIGURATION.md lists all keys";
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let overrides = Overrides { variables: variables.collect(), flags };
    let Loaded { config, warnings, .. } = ServerConfig::load_with(Some(file), &overrides).map_err(|errors| {
        let lines = errors.to_string();
        lines.lines().map(|line| Finding::problem(CHECK, line, repair)).collect::<Vec<_>>()
    })?;
    let mut findings: Vec<Finding> = Vec::new();
    let warn = |warning: String| Finding::warning(CHECK, warning, repair);
    findings.extend(warnings.into_iter().map(warn));
    match config.check_exposure() {
        Ok(warning) => findings.extend(warning.map(warn)),
        Err(refused) => findings.push(Finding::problem(CHECK, refused, repair)),
    }
    match config.cluster.as_ref().map_or(Ok(None), ClusterConfig::check_file) {
        Ok(warning) => findings.extend(warning.map(warn)),
        Err(refused) => findings.push(Finding::problem(CHECK, refused, repair)),
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{} can be used", file.display())));
    }
    Ok((config, findings))
}
