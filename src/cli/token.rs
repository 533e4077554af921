//! `liminal token`: tokens of clients.

use std::time::{Duration, SystemTime};

use liminal_wire::time::to_ms;
use serde::Serialize;

use super::{
    CliError, Global, OutputFormat,
    remote::{confirm, connect, parse_duration, print_json, print_line, table},
};
use crate::{
    broker::TokenText,
    client::{Client, NewToken, Token},
    env::Env,
    model::timestamp,
};

/// Make, look at and end tokens of clients
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Make a token, and print it: nobody can tell it again
    Create {
        /// What it may do; may be given several times
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
        /// Who uses it, and for what
        #[arg(long, default_value = "")]
        description: String,
        /// For how long it is valid, for example 90d; until it is revoked unless given
        #[arg(long, value_parser = parse_duration)]
        lifetime: Option<Duration>,
        /// Make one without a text: whoever shows a certificate of this name, and no token, is its holder. uri:NAME or dns:NAME, of
        /// the subject alternative names, or cn:NAME for a certificate without either
        #[arg(long, value_name = "NAME")]
        certificate: Option<String>,
    },
    /// List all tokens
    #[command(visible_alias = "ls")]
    List,
    /// Show one token
    #[command(visible_alias = "info")]
    Show {
        /// Its id
        id: String,
    },
    /// End a token for good, and whatever is open by it
    Revoke {
        /// Its id
        id: String,
        /// Also when it is the last one by which the cluster can be administered
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Give a token another text, and print it; the former one is refused from then on
    Rotate {
        /// Its id
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Make a token for the first administrator, and print what the nodes' configurations need; asks no node
    Bootstrap,
}

/// A token as `-o json` says it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    id: &'a str,
    description: &'a str,
    roles: &'a [String],
    created: String,
    rotated: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

fn at(time: SystemTime) -> String {
    timestamp(to_ms(time))
}

impl<'a> Shown<'a> {
    fn of(token: &'a Token) -> Self {
        Self {
            id: &token.id,
            description: &token.description,
            roles: &token.roles,
            created: at(token.created),
            rotated: at(token.rotated),
            expires: token.expires.map(at),
            used: token.used.map(at),
            certificate: token.certificate.as_deref(),
            token: None,
        }
    }
}

/// Runs the command.
pub async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    if let Command::Bootstrap = command {
        return bootstrap(global);
    }
    let client = connect(global).await?;
    match command {
        Command::Create { roles, description, lifetime, certificate: Some(name) } => {
            one(&client.bind_certificate(&name, &description, roles, lifetime).await?, "", global)
        }
        Command::Create { roles, description, lifetime, certificate: None } => {
            made(&client.create_token(&description, roles, lifetime).await?, global)
        }
        Command::Rotate { id, yes } => {
            ask(&client, &id, yes, "refuse the present text of", "nothing was changed").await?;
            made(&client.rotate_token(&id).await?, global)
        }
        Command::Show { id } => one(&client.token(&id).await?, "", global),
        Command::Revoke { id, force, yes } => {
            ask(&client, &id, yes, "end for good", "nothing was revoked").await?;
            let token = if force { client.revoke_token_by_force(&id).await? } else { client.revoke_token(&id).await? };
            one(&token, "  revoked", global)
        }
        Command::List => {
            let tokens = client.tokens().await?;
            match global.output {
                OutputFormat::Json => tokens.iter().try_for_each(|token| print_json(&Shown::of(token))),
                OutputFormat::Raw => tokens.iter().try_for_each(|token| print_line(&token.id)),
                OutputFormat::Table => {
                    let header = ["ID", "ROLES", "CREATED", "EXPIRES", "USED (THIS NODE)", "DESCRIPTION"];
                    print_line(&table(&header, &[], tokens.into_iter().map(row).collect()))
                }
            }
        }
        Command::Bootstrap => Ok(()),
    }
}

/// Asks before whoever uses a token is refused, naming who that is.
async fn ask(client: &Client, id: &str, yes: bool, what: &str, otherwise: &str) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    let token = client.token(id).await?;
    let named = if token.description.is_empty() { String::new() } else { format!(" ({})", token.description) };
    let roles = token.roles.join(", ");
    confirm(false, &format!("{what} token {id}{named} with {roles}, and whatever is open by it"), otherwise)
}

fn row(token: Token) -> Vec<String> {
    let or = |time: Option<SystemTime>, otherwise: &str| time.map_or(otherwise.to_owned(), at);
    let (expires, used) = (or(token.expires, "never"), or(token.used, "-"));
    vec![token.id, token.roles.join(","), at(token.created), expires, used, token.description]
}

fn one(token: &Token, what: &str, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&Shown::of(token)),
        OutputFormat::Raw => print_line(&token.id),
        OutputFormat::Table => {
            let expires = token.expires.map_or_else(String::new, |time| format!("  until {}", at(time)));
            let roles = token.roles.join(",");
            let shows = token.certificate.as_ref().map_or_else(String::new, |name| format!("  {name}"));
            print_line(format!("{}  {roles}{shows}{expires}  {}", token.id, token.description).trim_end())?;
            if what.is_empty() { Ok(()) } else { print_line(&format!("{}{what}", token.id)) }
        }
    }
}

/// The text alone is on standard output, so that it can be sent into a file without being seen.
fn made(made: &NewToken, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&Shown { token: Some(&made.text), ..Shown::of(&made.token) }),
        OutputFormat::Raw => print_line(&made.text),
        OutputFormat::Table => {
            eprintln!(
                "token {} with {}: keep it, nobody can tell it again",
                made.token.id,
                made.token.roles.join(", ")
            );
            print_line(&made.text)
        }
    }
}

/// The first administrator's token has to come from somewhere before any node knows one.
fn bootstrap(global: &Global) -> Result<(), CliError> {
    let token = TokenText::random(&*Env::real().random);
    let hash = token.hash().to_string();
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({ "token": token.reveal(), "bootstrap_token_hash": hash })),
        OutputFormat::Raw | OutputFormat::Table => {
            eprintln!(
                "Keep the token: nobody can tell it again. It may make and end tokens and roles, and nothing else."
            );
            print_line(token.reveal())?;
            eprintln!("Into the configuration of every node:");
            print_line(&format!("\n[security]\nmode = \"enforce\"\nbootstrap_token_hash = \"{hash}\""))
        }
    }
}
