//! `liminal claim`: take, complete, renew, release and look at claims on work.

use std::time::Duration;

use bytes::Bytes;
use liminal_wire::time::to_ms;
use tokio::io::AsyncReadExt as _;

use super::{
    CliError, Global, OutputFormat,
    remote::{
        confirm, connect, on_the_wire, parse_duration, print_json, print_line, shown as shown_bytes, table, thousands,
        written,
    },
};
use crate::{
    client::{ClaimHolder, ClaimReceipt, Code, Taken},
    model::{ClaimJson, Form, NamespaceJson, timestamp},
    proto::v1::ClaimNamespace,
};

fn parse_token(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "the token of a claim is a number: `liminal claim take` prints it".to_owned())
}

/// What a claim is on.
#[derive(Clone, Debug, clap::Args)]
pub struct Subject {
    /// The namespace; it comes into being with its first claim
    pub namespace: String,
    /// The work
    pub key: String,
}

/// Take, complete, renew, release and show claims
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Take a claim: prints its token, or the receipt when the work was done before
    #[command(after_help = "Exit code 1 with the code CLAIM_IN_FLIGHT means that somebody else holds it.")]
    Take {
        /// Which claim
        #[command(flatten)]
        of: Subject,
        /// How long it is held unless it is renewed
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
        lease: Duration,
        /// Who takes it; the same owner again gets the same token [default: somebody new]
        #[arg(long, value_name = "NAME")]
        owner: Option<String>,
    },
    /// End a claim with a receipt; the same again is no error
    Complete {
        /// Which claim
        #[command(flatten)]
        of: Subject,
        /// The token of the take
        #[arg(id = "claim_token", value_name = "TOKEN", value_parser = parse_token)]
        token: u64,
        /// What later takers are told; `-` reads it from standard input
        #[arg(default_value = "")]
        receipt: String,
    },
    /// Give a claim back
    Release {
        /// Which claim
        #[command(flatten)]
        of: Subject,
        /// The token of the take
        #[arg(id = "claim_token", value_name = "TOKEN", value_parser = parse_token)]
        token: u64,
    },
    /// Hold a claim for longer
    Renew {
        /// Which claim
        #[command(flatten)]
        of: Subject,
        /// The token of the take
        #[arg(id = "claim_token", value_name = "TOKEN", value_parser = parse_token)]
        token: u64,
        /// From now on
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
        lease: Duration,
    },
    /// Show a claim
    #[command(visible_alias = "info")]
    Show {
        /// Which claim
        #[command(flatten)]
        of: Subject,
    },
    /// List all namespaces
    Namespaces,
    /// Make a namespace, or change how long it keeps the receipts that come from now on
    Keep {
        /// The namespace
        namespace: String,
        /// For example 7d; 24 hours unless it was ever set
        #[arg(value_name = "TIME", value_parser = parse_duration)]
        window: Duration,
    },
    /// Forget a namespace with all its claims and receipts
    Forget {
        /// The namespace
        namespace: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Runs the command.
pub async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    let client = connect(global).await?;
    match command {
        Command::Take { of, lease, owner } => {
            let claims = client.claims(&of.namespace);
            let taken = match owner {
                Some(owner) => claims.take_as(&of.key, lease, &owner).await?,
                None => claims.take(&of.key, lease).await?,
            };
            if let Taken::InFlight(holder) = &taken {
                return Err(in_flight(&of, holder));
            }
            shown(&of, Some(&taken), global)
        }
        Command::Complete { of, token, receipt } => {
            let receipt = match receipt.as_str() {
                "-" => {
                    let mut bytes = Vec::new();
                    let read = tokio::io::stdin().read_to_end(&mut bytes).await;
                    read.map_err(|error| CliError::failed(format!("cannot read standard input: {error}")))?;
                    Bytes::from(bytes)
                }
                _ => receipt.into(),
            };
            let repeated = client.claims(&of.namespace).complete(&of.key, token, receipt).await?;
            done(&of, "completed", Some(token), Some(repeated), global)
        }
        Command::Release { of, token } => {
            let repeated = client.claims(&of.namespace).release(&of.key, token).await?;
            done(&of, "free", None, Some(repeated), global)
        }
        Command::Renew { of, token, lease } => {
            let expires = client.claims(&of.namespace).renew(&of.key, token, lease).await?;
            let expires = timestamp(to_ms(expires));
            match global.output {
                OutputFormat::Json => print_json(&ClaimJson {
                    state: "claimed",
                    token: Some(token),
                    expires: Some(expires),
                    ..ClaimJson::free(&of.namespace, &of.key)
                }),
                OutputFormat::Raw => print_line(&expires),
                OutputFormat::Table => print_line(&format!("{}  token {token}  until {expires}", of.name())),
            }
        }
        Command::Show { of } => {
            let found = client.claims(&of.namespace).show(&of.key).await?;
            shown(&of, found.as_ref(), global)
        }
        Command::Namespaces => listed(&on_the_wire(client.claim_namespaces().await?), global),
        Command::Keep { namespace, window } => {
            let kept = client.claims(&namespace).keep_receipts_for(window).await?;
            listed(&[kept.into()], global)
        }
        Command::Forget { namespace, yes } => {
            let what = format!("forget namespace `{namespace}` with all its claims and receipts");
            confirm(yes, &what, "nothing was forgotten")?;
            client.claims(&namespace).delete_namespace().await?;
            match global.output {
                OutputFormat::Json => print_json(&serde_json::json!({ "name": namespace, "deleted": true })),
                OutputFormat::Raw => Ok(()),
                OutputFormat::Table => print_line(&format!("{namespace}  forgotten")),
            }
        }
    }
}

fn listed(namespaces: &[ClaimNamespace], global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => namespaces.iter().try_for_each(|one| print_json(&NamespaceJson::of(one))),
        OutputFormat::Raw => namespaces.iter().try_for_each(|one| print_line(&one.name)),
        OutputFormat::Table => {
            let window = |ms| humantime::format_duration(Duration::from_millis(ms)).to_string();
            let rows = namespaces.iter().map(|one| {
                vec![one.name.clone(), thousands(one.live), window(one.window_ms), timestamp(one.created_ms)]
            });
            print_line(&table(&["NAMESPACE", "LIVE", "WINDOW", "CREATED"], &[1], rows.collect()))
        }
    }
}

impl Subject {
    fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.key)
    }
}

fn by(owner: &str) -> String {
    if owner.is_empty() { String::new() } else { format!(" by `{owner}`") }
}

fn in_flight(of: &Subject, holder: &ClaimHolder) -> CliError {
    let ClaimHolder { token, owner, since, expires, .. } = holder;
    let (since, until) = (timestamp(to_ms(*since)), timestamp(to_ms(*expires)));
    let message = format!(
        "claim `{}` is in flight: held{} under token {token} since {since} until {until}",
        of.name(),
        by(owner)
    );
    let help = format!("try again after {until}, or take it with `--owner` of the holder if that is you");
    CliError::failed(message).with_help(help).with_code(Code::ClaimInFlight)
}

/// A claim as it is; none when it is free.
fn shown(of: &Subject, claim: Option<&Taken>, global: &Global) -> Result<(), CliError> {
    let (namespace, key) = (of.namespace.as_str(), of.key.as_str());
    let (lease, holder, receipt);
    let json = match claim {
        None => ClaimJson::free(namespace, key),
        Some(Taken::Claimed(claimed)) => {
            lease = claimed.clone().into();
            ClaimJson::claimed(namespace, key, &lease)
        }
        Some(Taken::InFlight(held)) => {
            holder = held.clone().into();
            ClaimJson::in_flight(namespace, key, &holder)
        }
        Some(Taken::Completed(done)) => {
            receipt = done.clone().into();
            ClaimJson::completed(namespace, key, &receipt, Form::Line)
        }
    };
    match (global.output, claim) {
        (OutputFormat::Json, _) => print_json(&json),
        (OutputFormat::Raw, None) => Ok(()),
        (OutputFormat::Raw, Some(Taken::Claimed(lease))) => print_line(&lease.token.to_string()),
        (OutputFormat::Raw, Some(Taken::InFlight(holder))) => print_line(&holder.token.to_string()),
        (OutputFormat::Raw, Some(Taken::Completed(done))) => {
            use std::io::Write as _;
            written(std::io::stdout().lock().write_all(&done.receipt))
        }
        (OutputFormat::Table, claim) => print_line(&format!("{}  {}", of.name(), line(claim))),
    }
}

fn line(claim: Option<&Taken>) -> String {
    match claim {
        None => "free".into(),
        Some(Taken::Claimed(lease)) => {
            let again = if lease.repeated { "  held already" } else { "" };
            format!("claimed  token {}  until {}{again}", lease.token, timestamp(to_ms(lease.expires)))
        }
        Some(Taken::InFlight(ClaimHolder { token, owner, expires, .. })) => {
            format!("in flight{}  token {token}  until {}", by(owner), timestamp(to_ms(*expires)))
        }
        Some(Taken::Completed(ClaimReceipt { token, owner, completed, receipt, .. })) => {
            let receipt = shown_bytes(receipt);
            format!("completed{}  token {token}  at {}  receipt {receipt}", by(owner), timestamp(to_ms(*completed)))
        }
    }
}

fn done(
    of: &Subject,
    state: &'static str,
    token: Option<u64>,
    repeated: Option<bool>,
    global: &Global,
) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => {
            print_json(&ClaimJson { state, token, repeated, ..ClaimJson::free(&of.namespace, &of.key) })
        }
        OutputFormat::Raw => Ok(()),
        OutputFormat::Table => {
            let again = if repeated == Some(true) { "  it was already" } else { "" };
            print_line(&format!("{}  {state}{again}", of.name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{ClaimHolder, ClaimLease};

    #[test]
    fn a_claim_is_one_line_for_people() {
        let lease = ClaimLease { token: 7, expires_ms: 1_700_000_000_000, repeated: true };
        let claimed = line(Some(&Taken::Claimed(lease.into())));
        assert_eq!(claimed, "claimed  token 7  until 2023-11-14T22:13:20.000Z  held already");
        let holder = ClaimHolder { token: 7, owner: "w1".into(), since_ms: 0, expires_ms: 1_700_000_000_000 };
        let held = line(Some(&Taken::InFlight(holder.into())));
        assert_eq!(held, "in flight by `w1`  token 7  until 2023-11-14T22:13:20.000Z");
        assert_eq!(line(None), "free");
    }
}
