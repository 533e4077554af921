//! `liminal rule`: rules between channels.

use serde::Serialize;

use super::{
    CliError, Global, OutputFormat,
    remote::{confirm, connect, print_json, print_line, table},
};
use crate::client::Rule;

/// Copy what is published to one channel into another
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Add a rule, or change its predicate
    Put {
        /// The channel that messages are published to
        source: String,
        /// The channel that gets copies
        target: String,
        /// Which messages, for example 'action == "opened" and pull_request.draft == false'; all unless given
        #[arg(long = "where", value_name = "PREDICATE")]
        predicate: Option<String>,
    },
    /// List all rules
    #[command(visible_alias = "ls")]
    List,
    /// Remove a rule
    Delete {
        /// The channel that messages are published to
        source: String,
        /// The channel that gets copies
        target: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// A rule as `-o json` says it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    source: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    predicate: &'a str,
}

impl<'a> Shown<'a> {
    fn of(rule: &'a Rule) -> Self {
        Self { source: &rule.source, target: &rule.target, predicate: &rule.predicate }
    }
}

/// Runs the command.
pub async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    let client = connect(global).await?;
    match command {
        Command::Put { source, target, predicate } => {
            let rule = Rule::new().source(source).target(target).predicate(predicate.unwrap_or_default());
            one(&client.put_rule(rule).await?, "", global)
        }
        Command::Delete { source, target, yes } => {
            let what = format!("delete the rule {source} -> {target}: no more copies go there");
            confirm(yes, &what, "nothing was deleted")?;
            one(&client.delete_rule(&source, &target).await?, "  deleted", global)
        }
        Command::List => {
            let rules = client.rules().await?;
            match global.output {
                OutputFormat::Json => rules.iter().try_for_each(|rule| print_json(&Shown::of(rule))),
                OutputFormat::Raw => rules.iter().try_for_each(|rule| print_line(&line(rule))),
                OutputFormat::Table => {
                    let rows = rules.into_iter().map(|rule| vec![rule.source, rule.target, rule.predicate]);
                    print_line(&table(&["SOURCE", "TARGET", "WHERE"], &[], rows.collect()))
                }
            }
        }
    }
}

fn one(rule: &Rule, what: &str, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&Shown::of(rule)),
        OutputFormat::Raw | OutputFormat::Table => print_line(&format!("{}{what}", line(rule))),
    }
}

fn line(Rule { source, target, predicate, .. }: &Rule) -> String {
    match predicate.as_str() {
        "" => format!("{source} -> {target}"),
        predicate => format!("{source} -> {target}  where {predicate}"),
    }
}
