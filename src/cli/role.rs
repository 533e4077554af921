//! `liminal role`: what tokens may do.

pub mod quota;

use serde::Serialize;

use super::{
    CliError, Global, OutputFormat,
    remote::{confirm, connect, print_json, print_line, table},
};
use crate::{
    client::{Grant, Role},
    model,
};

/// Make, look at and change roles, which say what tokens may do
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Make a role
    Create(Wanted),
    /// Replace what a role grants, for all tokens that have it
    Update(Wanted),
    /// List all roles
    #[command(visible_alias = "ls")]
    List,
    /// Show one role
    #[command(visible_alias = "info")]
    Show {
        /// Its name
        name: String,
    },
    /// Limit how much each token may take that has a role; what is not given stays as it is
    Quota {
        /// Its name
        name: String,
        /// What is limited
        #[command(flatten)]
        wanted: quota::Wanted,
    },
    /// Delete a role that no token has
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// A role as it is to be.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// Its name
    name: String,
    /// What it grants, for example channel:orders.*=publish,read or claim:mails=claim or cluster=read; may be given several
    /// times
    #[arg(long = "grant", value_name = "SCOPE=ACTIONS", required = true, value_parser = grant)]
    grants: Vec<Grant>,
    /// What it is for
    #[arg(long, default_value = "")]
    description: String,
}

/// Checked here, so that what is wrong is told before anything is sent.
fn grant(text: &str) -> Result<Grant, String> {
    let model::Grant { scope, actions } = text.parse()?;
    let actions = actions.iter().map(|action| action.name().to_owned()).collect();
    Ok(Grant::new().scope(scope.to_string()).actions(actions))
}

impl Wanted {
    fn role(self) -> Role {
        Role::new().name(self.name).description(self.description).grants(self.grants)
    }
}

/// A role as `-o json` says it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    name: &'a str,
    description: &'a str,
    grants: Vec<ShownGrant<'a>>,
    quota: quota::Shown,
}

#[derive(Debug, Serialize)]
struct ShownGrant<'a> {
    scope: &'a str,
    actions: &'a [String],
}

impl<'a> Shown<'a> {
    fn of(role: &'a Role) -> Self {
        let grant = |grant: &'a Grant| ShownGrant { scope: &grant.scope, actions: &grant.actions };
        let (grants, quota) = (role.grants.iter().map(grant).collect(), (&role.quota).into());
        Self { name: &role.name, description: &role.description, grants, quota }
    }
}

/// Runs the command.
pub async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    let client = connect(global).await?;
    match command {
        Command::Create(wanted) => one(&client.create_role(wanted.role()).await?, global),
        Command::Update(wanted) => one(&client.update_role(wanted.role()).await?, global),
        Command::Show { name } => one(&client.role(&name).await?, global),
        Command::Quota { name, wanted } => {
            let quota = wanted.over(client.role(&name).await?.quota);
            one(&client.set_role_quota(&name, quota).await?, global)
        }
        Command::Delete { name, yes } => {
            confirm(yes, &format!("delete role `{name}`"), "nothing was deleted")?;
            client.delete_role(&name).await?;
            match global.output {
                OutputFormat::Json => print_json(&serde_json::json!({ "name": name, "deleted": true })),
                OutputFormat::Raw | OutputFormat::Table => print_line(&format!("{name}  deleted")),
            }
        }
        Command::List => {
            let roles = client.roles().await?;
            match global.output {
                OutputFormat::Json => roles.iter().try_for_each(|role| print_json(&Shown::of(role))),
                OutputFormat::Raw => roles.iter().try_for_each(|role| print_line(&role.name)),
                OutputFormat::Table => {
                    let rows = roles.iter().map(|role| vec![role.name.clone(), grants(role), role.description.clone()]);
                    print_line(&table(&["NAME", "GRANTS", "DESCRIPTION"], &[], rows.collect()))
                }
            }
        }
    }
}

fn grants(role: &Role) -> String {
    let each = role.grants.iter().map(|grant| format!("{}={}", grant.scope, grant.actions.join(",")));
    each.collect::<Vec<_>>().join(" ")
}

fn one(role: &Role, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&Shown::of(role)),
        OutputFormat::Raw | OutputFormat::Table => {
            let quota = quota::in_words(&role.quota);
            let quota = if quota.is_empty() { quota } else { format!("  at most {quota}") };
            print_line(&format!("{}  {}{quota}", role.name, grants(role)))
        }
    }
}
