//! `liminal cluster invite`: a token by which one new node joins.

use std::time::Duration;

use liminal_wire::time::to_ms;

use super::super::{
    CliError, Global, OutputFormat,
    remote::{print_json, print_line},
};
use crate::{client::Client, model::timestamp};

/// The text alone is on standard output, so that it can be sent into a file without being seen.
pub(super) async fn invite(
    client: &Client,
    description: &str,
    lifetime: Option<Duration>,
    global: &Global,
) -> Result<(), CliError> {
    let made = client.invite_node(description, lifetime).await?;
    let expires = timestamp(to_ms(made.expires));
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({ "id": made.id, "token": made.text, "expires": expires })),
        OutputFormat::Raw => print_line(&made.text),
        OutputFormat::Table => {
            eprintln!("one node may join with it until {expires}: `liminal serve --join-token-file FILE`");
            print_line(&made.text)
        }
    }
}
