//! `liminal auth`: what a token may do.

use super::{
    CliError, Global, OutputFormat,
    remote::{connect, print_json, print_line},
};

/// Ask what a token may do
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Say whether something may be done, and exit with 1 where it may not
    CanI {
        /// publish, read, consume, claim, manage or admin
        action: String,
        /// channel:NAME, claim:NAME or cluster
        scope: String,
        /// The id of another token; administrators may ask about it
        #[arg(long, value_name = "ID")]
        token_id: Option<String>,
    },
}

/// Runs the command.
pub async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    let Command::CanI { action, scope, token_id } = command;
    let client = connect(global).await?;
    let answer = client.can_i(&action, &scope, token_id.as_deref()).await?;
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({
            "allowed": answer.allowed, "who": answer.who, "reason": answer.reason,
        }))?,
        OutputFormat::Raw => print_line(if answer.allowed { "yes" } else { "no" })?,
        OutputFormat::Table => match &answer.reason {
            None => print_line(&format!("yes: {} may {action} on {scope}", answer.who))?,
            Some(reason) => print_line(&format!("no: {reason}"))?,
        },
    }
    if answer.allowed { Ok(()) } else { Err(CliError::exit(1)) }
}
