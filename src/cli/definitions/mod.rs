//! `liminal definitions`: what a cluster has beside messages (channels with their schemas, consumers, rules and roles) as one
//! JSON file, and a cluster that is made to have what a file says.

mod diff;
mod kinds;
mod plan;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::ValueHint;
use serde::{Deserialize, Serialize};

use self::{
    kinds::{ChannelDefinition, ConsumerDefinition, RoleDefinition, RuleDefinition},
    plan::{Action, Plan},
};
use super::{
    CliError, Global, OutputFormat,
    remote::{confirm, connect, on_the_wire, print_json, print_line, thousands},
};
use crate::{
    client::Client,
    proto::v1::{Channel, Consumer},
};

/// The version of the file's format.
const VERSION: u32 = 1;

/// Write channels, consumers, rules and roles to a file, and make a cluster have what a file says
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Write what the cluster has to a file; neither messages, tokens nor the places of consumers are in it
    Export {
        /// The file to write; standard output unless given
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// Only these; all unless given
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<Kind>,
    },
    /// Create what a file has and the cluster has not; what is there already stays as it is
    Import {
        /// The file; `-` reads standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Make the cluster have what a file says; what the file does not name stays. The same again changes nothing
    Apply {
        /// The file; `-` reads standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Show what would be changed, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask before messages are removed that a channel is to keep no longer
        #[arg(long, short)]
        yes: bool,
    },
}

/// What a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Channels,
    Consumers,
    Rules,
    Roles,
}

/// A file. What a definition leaves out is the usual for what is created, and stays as it is for what is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definitions {
    version: u32,
    #[serde(default)]
    channels: Vec<ChannelDefinition>,
    #[serde(default)]
    consumers: Vec<ConsumerDefinition>,
    #[serde(default)]
    rules: Vec<RuleDefinition>,
    #[serde(default)]
    roles: Vec<RoleDefinition>,
}

/// Runs the command.
pub(super) async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    match command {
        Command::Export { file, only } => export(file.as_deref(), &only, global).await,
        Command::Import { file } => {
            let wanted = read(&file)?;
            let client = connect(global).await?;
            let plan = Plan::of(&wanted, &present(&client, &wanted.kinds()).await?);
            let (created, left): (Vec<Action>, Vec<Action>) = plan.actions.into_iter().partition(plan::Action::creates);
            perform(&client, &created, false, global).await?;
            for action in &left {
                eprintln!("it stays as it is: {action}");
            }
            told(created.len(), false, global)
        }
        Command::Apply { file, dry_run, yes } => {
            let wanted = read(&file)?;
            let client = connect(global).await?;
            apply(&client, &wanted, dry_run, yes, global).await
        }
    }
}

async fn apply(
    client: &Client,
    wanted: &Definitions,
    dry_run: bool,
    yes: bool,
    global: &Global,
) -> Result<(), CliError> {
    let plan = Plan::of(wanted, &present(client, &wanted.kinds()).await?);
    let impossible = plan.actions.iter().filter(|action| action.is_impossible()).count();
    if dry_run || impossible > 0 {
        plan.actions.iter().try_for_each(|action| show(action, global))?;
    }
    if impossible > 0 {
        let message = format!("{impossible} definition(s) cannot be had: nothing was changed");
        let help = "what cannot change needs another name, or the old one to be deleted first";
        return Err(CliError::failed(message).with_help(help.to_owned()));
    }
    if !dry_run {
        if !yes {
            ask(client, &plan.actions).await?;
        }
        perform(client, &plan.actions, true, global).await?;
    }
    told(plan.actions.len(), dry_run, global)
}

/// Asks before messages go that are to be kept no longer.
async fn ask(client: &Client, actions: &[Action]) -> Result<(), CliError> {
    for update in actions.iter().filter_map(Action::keeps_less) {
        let name = update.name.clone();
        let removes = client.would_remove(update).await?;
        if removes > 0 {
            let what = format!("remove {} message(s) of `{name}`, settled or not", thousands(removes));
            confirm(false, &what, "nothing was changed")?;
        }
    }
    Ok(())
}

/// Each change is shown when it is done: what was shown before an error is what has happened.
async fn perform(client: &Client, actions: &[Action], shows: bool, global: &Global) -> Result<(), CliError> {
    for action in actions {
        action.perform(client).await.map_err(|error| {
            let said = format!("{action}: {}", error.message());
            let help = error.help().unwrap_or("what was done before stays; correct the file and apply it again");
            CliError::failed(said).with_code(error.code().as_str()).with_help(help.to_owned())
        })?;
        if shows || action.creates() {
            show(action, global)?;
        }
    }
    Ok(())
}

fn show(action: &Action, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&action.json()),
        OutputFormat::Raw => print_line(&action.subject()),
        OutputFormat::Table => print_line(&action.to_string()),
    }
}

fn told(count: usize, dry_run: bool, global: &Global) -> Result<(), CliError> {
    match (global.output, count, dry_run) {
        (OutputFormat::Json | OutputFormat::Raw, ..) => Ok(()),
        (_, 0, _) => print_line("nothing to change"),
        (_, count, true) => print_line(&format!("{count} change(s), none of them made")),
        (_, count, false) => print_line(&format!("{count} change(s) made")),
    }
}

impl Definitions {
    /// What it has anything of.
    fn kinds(&self) -> Vec<Kind> {
        let lengths = [self.channels.len(), self.consumers.len(), self.rules.len(), self.roles.len()];
        let all = [Kind::Channels, Kind::Consumers, Kind::Rules, Kind::Roles];
        let mut kinds: Vec<Kind> =
            all.into_iter().zip(lengths).filter(|(_, length)| *length > 0).map(|(kind, _)| kind).collect();
        // A consumer is compared with what its channel has.
        if kinds.contains(&Kind::Consumers) && !kinds.contains(&Kind::Channels) {
            kinds.insert(0, Kind::Channels);
        }
        kinds
    }
}

fn read(file: &Path) -> Result<Definitions, CliError> {
    let unusable = |why: String| CliError::failed(format!("cannot use {}: {why}", file.display()));
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    let text = text.map_err(|error| unusable(error.to_string()))?;
    let read: Definitions = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
    if read.version != VERSION {
        let why = format!("its version is {}, and this command knows {VERSION}", read.version);
        return Err(unusable(why));
    }
    Ok(read)
}

/// What the cluster has of some kinds.
async fn present(client: &Client, kinds: &[Kind]) -> Result<Definitions, CliError> {
    let has = |kind| kinds.contains(&kind);
    let mut found = Definitions {
        version: VERSION,
        channels: Vec::new(),
        consumers: Vec::new(),
        rules: Vec::new(),
        roles: Vec::new(),
    };
    if has(Kind::Channels) || has(Kind::Consumers) {
        let channels: Vec<Channel> = on_the_wire(client.list_channels().await?);
        for channel in channels.iter().filter(|_| has(Kind::Consumers)) {
            let consumers: Vec<Consumer> = on_the_wire(client.list_consumers(&channel.name).await?);
            found.consumers.extend(consumers.iter().map(|consumer| ConsumerDefinition::of(consumer, channel)));
        }
        if has(Kind::Channels) {
            found.channels = channels.iter().map(ChannelDefinition::of).collect();
        }
    }
    if has(Kind::Rules) {
        found.rules = client.rules().await?.into_iter().map(RuleDefinition::of).collect();
    }
    if has(Kind::Roles) {
        found.roles = client.roles().await?.into_iter().filter_map(RoleDefinition::of).collect();
    }
    Ok(found)
}

async fn export(file: Option<&Path>, only: &[Kind], global: &Global) -> Result<(), CliError> {
    let all = [Kind::Channels, Kind::Consumers, Kind::Rules, Kind::Roles];
    let kinds = if only.is_empty() { &all[..] } else { only };
    let definitions = present(&connect(global).await?, kinds).await?;
    let text = serde_json::to_string_pretty(&definitions).map_err(|error| CliError::failed(error.to_string()))?;
    let Some(file) = file else { return print_line(&text) };
    fs::write(file, format!("{text}\n"))
        .map_err(|error| CliError::failed(format!("cannot write {}: {error}", file.display())))?;
    let Definitions { channels, consumers, rules, roles, .. } = &definitions;
    let counts = [channels.len(), consumers.len(), rules.len(), roles.len()];
    match global.output {
        OutputFormat::Json => {
            let [channels, consumers, rules, roles] = counts;
            print_json(&serde_json::json!({
                "file": file.to_string_lossy(), "channels": channels, "consumers": consumers, "rules": rules, "roles": roles,
            }))
        }
        OutputFormat::Raw => Ok(()),
        OutputFormat::Table => {
            let [channels, consumers, rules, roles] = counts.map(|count| thousands(count as u64));
            print_line(&format!(
                "{}  {channels} channel(s), {consumers} consumer(s), {rules} rule(s), {roles} role(s)",
                file.display()
            ))
        }
    }
}
