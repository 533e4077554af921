//! `liminal consumer`: create, look at, change, move and delete consumers, and their dead letters.

mod create;
mod dead_letters;
mod delete;
mod list;
mod one;
mod redrive;
mod reset;
mod show;
mod update;

use std::time::Duration;

use super::{
    CliError, Global, OutputFormat,
    remote::{print_json, print_line, thousands},
};
use crate::{
    model::ConsumerJson,
    proto::v1::{ConsumeOrder, Consumer},
};

/// Create, list, show, update, reset and delete consumers
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Create a consumer; the same again is no error
    Create(create::Args),
    /// List the consumers of a channel
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show one consumer
    #[command(visible_alias = "info")]
    Show(show::Args),
    /// Change a consumer; what is not named stays
    Update(update::Args),
    /// Have a consumer go on elsewhere
    Reset(reset::Args),
    /// Delete a consumer with its cursor
    Delete(delete::Args),
    /// Take the next message and print it, with the token that settles it; exit code 1 when none comes in time
    Next(one::NextArgs),
    /// Say that a message is done: it never comes again
    Ack(one::AckArgs),
    /// Give a message back: it comes again, or is dead after its last attempt
    Nack(one::NackArgs),
    /// List dead letters of a consumer
    DeadLetters(dead_letters::Args),
    /// Send dead letters of a consumer back to their channel, or to another one
    Redrive(redrive::Args),
}

/// Runs the command.
pub async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    match command {
        Command::Create(args) => create::run(args, global).await,
        Command::List(args) => list::run(args, global).await,
        Command::Show(args) => show::run(args, global).await,
        Command::Update(args) => update::run(args, global).await,
        Command::Reset(args) => reset::run(args, global).await,
        Command::Delete(args) => delete::run(args, global).await,
        Command::Next(args) => one::next(args, global).await,
        Command::Ack(args) => one::ack(args, global).await,
        Command::Nack(args) => one::nack(args, global).await,
        Command::DeadLetters(args) => dead_letters::run(args, global).await,
        Command::Redrive(args) => redrive::run(args, global).await,
    }
}

/// `none`, `exclusive`, `key` or `key:HEADER`, with the header.
fn parse_order(text: &str) -> Result<(ConsumeOrder, String), String> {
    match text.split_once(':') {
        None if text == "none" => Ok((ConsumeOrder::None, String::new())),
        None if text == "exclusive" => Ok((ConsumeOrder::Exclusive, String::new())),
        None if text == "key" => Ok((ConsumeOrder::Key, String::new())),
        Some(("key", header)) if !header.is_empty() => Ok((ConsumeOrder::Key, header.to_owned())),
        _ => Err("write none, exclusive, key or key:HEADER".into()),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn one(consumer: &Consumer, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&ConsumerJson::of(consumer)),
        OutputFormat::Raw => print_line(&consumer.lag.to_string()),
        OutputFormat::Table => print_line(&describe(consumer)),
    }
}

fn describe(consumer: &Consumer) -> String {
    let shown = ConsumerJson::of(consumer);
    let some = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
    let order = match shown.order_header {
        "" => shown.order.to_owned(),
        header => format!("{}:{header}", shown.order),
    };
    let attempts = if shown.max_attempts == 0 { "no limit".to_owned() } else { shown.max_attempts.to_string() };
    let timeout = humantime::format_duration(Duration::from_millis(shown.ack_timeout_ms)).to_string();
    let rows = [
        ("channel", shown.channel.to_owned()),
        ("name", shown.name.to_owned()),
        ("order", order),
        ("filter", some(shown.filter)),
        ("ack timeout", timeout),
        ("max attempts", attempts),
        ("dead letters", if shown.drop_dead { "dropped".to_owned() } else { some(shown.dead_letter) }),
        ("max in flight", thousands(shown.max_in_flight.into())),
        ("created", shown.created.clone()),
        ("next seq", shown.next_seq.to_string()),
        ("floor", shown.floor_seq.to_string()),
        ("lag", thousands(shown.lag)),
        ("in flight", thousands(shown.in_flight)),
        ("waiting", thousands(shown.waiting)),
        ("dying", thousands(shown.dying)),
        ("redelivered", thousands(shown.redelivered)),
        ("dead", thousands(shown.dead)),
        ("lost", thousands(shown.lost)),
    ];
    rows.map(|(name, value)| format!("{name:<15}{value}")).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::ConsumerConfig;

    #[test]
    fn an_order_is_a_word_or_a_key_with_its_header() {
        assert_eq!(parse_order("none"), Ok((ConsumeOrder::None, String::new())));
        assert_eq!(parse_order("key"), Ok((ConsumeOrder::Key, String::new())));
        assert_eq!(parse_order("key:user"), Ok((ConsumeOrder::Key, "user".into())));
        for wrong in ["", "key:", "exclusive:user", "any"] {
            assert!(parse_order(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_consumer_is_described_line_by_line() {
        let config = ConsumerConfig {
            ack_timeout_ms: 30_000,
            max_attempts: 5,
            order: ConsumeOrder::Key.into(),
            order_header: "user".into(),
            ..ConsumerConfig::default()
        };
        let consumer = Consumer { name: "billing".into(), config: Some(config), lag: 1_234, ..Default::default() };
        let text = describe(&consumer);
        for line in ["name           billing", "order          key:user", "ack timeout    30s", "lag            1,234"]
        {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }
}
