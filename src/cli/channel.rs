//! `liminal channel`: create, look at, change, trim and delete channels.

mod delayed;
mod export;
mod import;
mod limits;
mod transfer;
mod validation;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgGroup, ValueHint};

use self::limits::LimitArgs;
use super::{
    CliError, Global, OutputFormat,
    remote::{confirm, connect, on_the_wire, parse_duration, print_json, print_line, table, thousands},
    subscribe::From,
};
use crate::{
    model::{self, ChannelJson},
    proto::v1::{Channel, ChannelConfig, Comparison, Durability, UpdateChannelRequest, trim_channel_request::Keep},
};

/// Create, list, show, update, trim and delete channels
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Create a channel; the same again is no error
    #[command(group = ArgGroup::new("change").multiple(true))]
    Create {
        /// 1 to 200 of A-Z a-z 0-9 . _ -
        name: String,
        /// At most once, never stored
        #[arg(long)]
        ephemeral: bool,
        /// A file with the JSON Schema that payloads have to fit
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        schema: Option<PathBuf>,
        /// How long idempotency keys are remembered, for example 24h (the default)
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        dedup_window: Option<Duration>,
        /// By what payloads under the same idempotency key are the same; cannot be changed later
        #[arg(long, value_enum, default_value_t = Compare::Bytes)]
        compare: Compare,
        /// What it keeps and takes
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// List all channels
    #[command(visible_alias = "ls")]
    List,
    /// Show one channel
    #[command(visible_alias = "info")]
    Show {
        /// The channel
        name: String,
    },
    /// Change a channel; what is not named stays
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Update {
        /// The channel
        name: String,
        /// A file with the new JSON Schema
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, group = "change")]
        schema: Option<PathBuf>,
        /// Take any payload from now on
        #[arg(long, conflicts_with = "schema", group = "change")]
        no_schema: bool,
        /// How long idempotency keys are remembered, for example 24h
        #[arg(long, value_name = "TIME", value_parser = parse_duration, group = "change")]
        dedup_window: Option<Duration>,
        /// What it keeps and takes
        #[command(flatten)]
        limits: LimitArgs,
        /// Change nothing; say whether the schema could take the place of the one there is (exit code 1 when not), or how many
        /// messages would go under new limits
        #[arg(long, conflicts_with_all = ["no_schema", "dedup_window"])]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// List the schemas that a channel has, or has had
    Schemas {
        /// The channel
        name: String,
    },
    /// Check the stored messages against a schema, changing nothing; exit code 1 when some do not fit
    Validate {
        /// The channel
        name: String,
        /// A file with the JSON Schema
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        schema: PathBuf,
        /// Where to begin: `earliest`, a sequence number, or how long ago, for example 15m
        #[arg(long, default_value = "earliest")]
        from: From,
        /// At most this many messages
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Remove the oldest messages of a channel
    #[command(group = ArgGroup::new("stay").required(true))]
    Trim {
        /// The channel
        name: String,
        /// Messages from this sequence number on stay
        #[arg(long, value_name = "SEQ", group = "stay")]
        to: Option<u64>,
        /// So many of the newest messages stay
        #[arg(long, value_name = "N", group = "stay")]
        keep: Option<u64>,
        /// Messages that are older go, for example 7d
        #[arg(long, value_name = "TIME", value_parser = parse_duration, group = "stay")]
        older_than: Option<Duration>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Write the messages of a channel to a file, one on each line
    Export(export::Args),
    /// Publish the messages of an export, in order
    Import(import::Args),
    /// Look at the messages that wait for their time, and take them back
    #[command(subcommand)]
    Delayed(delayed::Command),
    /// Delete a channel with all its messages
    Delete {
        /// The channel
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// By what payloads are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compare {
    /// By their bytes
    Bytes,
    /// By what they say as JSON: white space, the order of members and the spelling of numbers make no difference
    CanonicalJson,
}

impl Compare {
    fn comparison(self) -> Comparison {
        match self {
            Self::Bytes => Comparison::Bytes,
            Self::CanonicalJson => Comparison::CanonicalJson,
        }
    }
}

/// Runs the command.
pub async fn run(command: Command, global: &Global) -> Result<(), CliError> {
    match command {
        Command::Create { name, ephemeral, schema, dedup_window, compare, limits } => {
            let durability = if ephemeral { Durability::Ephemeral } else { Durability::Durable };
            let config = ChannelConfig {
                durability: durability.into(),
                comparison: compare.comparison().into(),
                schema: schema.as_deref().map(read_schema).transpose()?.unwrap_or_default(),
                dedup_window_ms: dedup_window.map(window_ms).transpose()?.unwrap_or_default(),
                ..limits.config()
            };
            let channel = connect(global).await?.create_channel(&name, config.into()).await?;
            one(&channel.into(), global)
        }
        Command::List => {
            let channels: Vec<Channel> = on_the_wire(connect(global).await?.list_channels().await?);
            match global.output {
                OutputFormat::Json => channels.iter().try_for_each(|channel| print_json(&ChannelJson::of(channel))),
                OutputFormat::Raw => channels.iter().try_for_each(|channel| print_line(&channel.name)),
                OutputFormat::Table => list(&channels),
            }
        }
        Command::Show { name } => {
            let channel = connect(global).await?.channel(&name).await?;
            one(&channel.into(), global)
        }
        Command::Update { dry_run: true, schema: Some(_), limits, .. } if limits.any() => Err(CliError::usage(
            "--dry-run looks at a schema or at what the channel keeps: give one of them".to_owned(),
        )),
        Command::Update { dry_run: true, schema: None, limits, .. } if !limits.keeps() => Err(CliError::usage(
            "--dry-run looks at a schema or at what the channel keeps: give one of them".to_owned(),
        )),
        Command::Update { name, schema: Some(schema), dry_run: true, .. } => {
            validation::compare(&name, &read_schema(&schema)?, global).await
        }
        Command::Schemas { name } => validation::schemas(&name, global).await,
        Command::Validate { name, schema, from, limit } => {
            validation::history(&name, &read_schema(&schema)?, from, limit, global).await
        }
        Command::Update { name, schema, no_schema, dedup_window, limits, dry_run, yes } => {
            let schema =
                if no_schema { Some(String::new()) } else { schema.as_deref().map(read_schema).transpose()? };
            let dedup_window_ms = dedup_window.map(window_ms).transpose()?;
            let client = connect(global).await?;
            // What is kept, and the quota, are replaced as a whole.
            let present = if limits.any() { client.channel(&name).await?.into() } else { Channel::default() };
            let update = limits.update(present.config.clone().unwrap_or_default());
            let update = UpdateChannelRequest { name, schema, dedup_window_ms, ..update };
            let thinned = thinned(&present, &update);
            if dry_run || limits.keeps() && !yes {
                let removes =
                    client.would_remove(UpdateChannelRequest { schema: None, ..update.clone() }.into()).await?;
                if dry_run {
                    if let Some(thinned) = thinned.filter(|_| global.output != OutputFormat::Json) {
                        eprintln!("and it would {thinned}");
                    }
                    return told(&update.name, removes, global);
                }
                if let Some(thinned) = thinned {
                    confirm(false, &thinned, "nothing was changed")?;
                }
                if removes > 0 {
                    let what = format!(
                        "remove {} message(s) of `{}` at once, settled or not, and keep no more from then on",
                        thousands(removes),
                        update.name
                    );
                    confirm(false, &what, "nothing was changed")?;
                }
            }
            one(&client.update_channel(update.into()).await?.into(), global)
        }
        Command::Trim { name, to, keep, older_than, yes } => {
            let stay = match (to, keep, older_than) {
                (Some(seq), ..) => Keep::FromSeq(seq),
                (_, Some(messages), _) => Keep::Newest(messages),
                (.., age) => Keep::LastMs(limits::millis(age.unwrap_or_default())),
            };
            let client = connect(global).await?;
            if !yes {
                ask_to_trim(&client.channel(&name).await?.into(), &stay)?;
            }
            let first_seq = client.trim_channel(&name, stay.into()).await?;
            match global.output {
                OutputFormat::Json => print_json(&serde_json::json!({ "name": name, "first_seq": first_seq })),
                OutputFormat::Raw => print_line(&first_seq.to_string()),
                OutputFormat::Table => print_line(&format!("{name}  begins at {first_seq}")),
            }
        }
        Command::Export(args) => export::run(args, global).await,
        Command::Import(args) => import::run(args, global).await,
        Command::Delayed(command) => delayed::run(command, global).await,
        Command::Delete { name, yes } => delete(&name, yes, global).await,
    }
}

/// What a change of limits would remove.
/// What compaction would do that an update begins, if it begins one over stored messages. How many go nobody has counted.
fn thinned(present: &Channel, update: &UpdateChannelRequest) -> Option<String> {
    let before = present.config.as_ref().and_then(|config| config.retention.as_ref());
    let after = update.retention.as_ref().filter(|retention| !retention.compact_by.is_empty())?;
    if before.is_some_and(|before| before.compact_by == after.compact_by) || present.next_seq == present.first_seq {
        return None;
    }
    Some(format!(
        "remove all but the last message of each value of the header `{}`, settled or not, of the {} that `{}` has",
        after.compact_by,
        thousands(ChannelJson::of(present).messages),
        update.name
    ))
}

fn told(name: &str, removes: u64, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({ "name": name, "removes": removes })),
        OutputFormat::Raw => print_line(&removes.to_string()),
        OutputFormat::Table => print_line(&format!("{name}  would lose {} message(s)", thousands(removes))),
    }
}

async fn delete(name: &str, yes: bool, global: &Global) -> Result<(), CliError> {
    let client = connect(global).await?;
    if !yes {
        let shown = Channel::from(client.channel(name).await?);
        let (messages, consumers) = (ChannelJson::of(&shown).messages, client.list_consumers(name).await?.len() as u64);
        let [messages, consumers] = [messages, consumers].map(thousands);
        let what = format!("delete channel `{name}` with {messages} message(s) and {consumers} consumer(s)");
        confirm(yes, &what, "nothing was deleted")?;
    }
    client.delete_channel(name).await?;
    match global.output {
        OutputFormat::Json => print_json(&serde_json::json!({ "name": name, "deleted": true })),
        OutputFormat::Raw => Ok(()),
        OutputFormat::Table => print_line(&format!("{name}  deleted")),
    }
}

/// Asks before messages are removed, where any would be.
fn ask_to_trim(channel: &Channel, stay: &Keep) -> Result<(), CliError> {
    let messages = ChannelJson::of(channel).messages;
    let what = match *stay {
        // The server says what is wrong with a place beyond the end.
        Keep::FromSeq(seq) if seq <= channel.first_seq || seq > channel.next_seq => return Ok(()),
        Keep::Newest(newest) if newest >= messages => return Ok(()),
        _ if messages == 0 => return Ok(()),
        Keep::FromSeq(seq) => {
            let gone = thousands(seq - channel.first_seq);
            format!("remove up to {gone} message(s) of `{name}`, those before {seq}", name = channel.name)
        }
        Keep::Newest(newest) => {
            let gone = thousands(messages - newest);
            format!("remove {gone} message(s) of `{name}`, all but the newest {newest}", name = channel.name)
        }
        Keep::LastMs(ms) => {
            let (messages, age) = (thousands(messages), humantime::format_duration(Duration::from_millis(ms)));
            format!(
                "remove those of the {messages} message(s) of `{name}` that are older than {age}",
                name = channel.name
            )
        }
    };
    confirm(false, &format!("{what}, settled or not"), "nothing was removed")
}

fn read_schema(file: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| CliError::failed(format!("cannot read {}: {error}", file.display())))?;
    if text.trim().is_empty() {
        // On the wire an empty schema means none, which is hardly what an empty file was meant to say.
        return Err(CliError::failed(format!("{} is empty: a schema is a JSON document", file.display())));
    }
    Ok(text)
}

fn window_ms(window: Duration) -> Result<u64, CliError> {
    match u64::try_from(window.as_millis()) {
        // On the wire 0 means the default.
        Ok(ms) if ms > 0 => Ok(ms),
        _ => Err(CliError::usage(format!("a dedup window of {window:?} is not possible; it is at least 1 ms"))),
    }
}

fn one(channel: &Channel, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&ChannelJson::of(channel)),
        OutputFormat::Raw => print_line(channel.config.as_ref().map_or("", |config| &config.schema)),
        OutputFormat::Table => print_line(&describe(channel)),
    }
}

fn describe(channel: &Channel) -> String {
    let shown = ChannelJson::of(channel);
    let schema = match shown.schema_id {
        0 => "none".to_owned(),
        id => format!("id {id}; `liminal channel schemas {}` lists its versions", shown.name),
    };
    let rows = [
        ("name", shown.name.to_owned()),
        ("durability", shown.durability.to_owned()),
        ("schema", schema),
        ("dedup window", human(shown.dedup_window_ms)),
        ("compares", compares(shown.comparison).to_owned()),
        ("compatibility", limits::compatibility(&shown).to_owned()),
        ("keeps", limits::keeps(&shown.retention)),
        ("quota", limits::quota(&shown.quota)),
        ("quarantine", if shown.quarantine.is_empty() { "none" } else { shown.quarantine }.to_owned()),
        ("created", shown.created.clone()),
        ("messages", messages(&shown)),
        ("first seq", shown.first_seq.to_string()),
        ("next seq", shown.next_seq.to_string()),
        ("bytes", thousands(shown.bytes)),
        ("live keys", thousands(shown.live_keys)),
        ("delayed", thousands(shown.delayed)),
        ("subscribers", format!("{} on the answering node", shown.subscribers)),
        ("rejected", format!("{} by the schema, on the answering node since it started", thousands(shown.rejected))),
    ];
    rows.map(|(name, value)| format!("{name:<14}{value}")).join("\n")
}

fn compares(comparison: model::Comparison) -> &'static str {
    match comparison {
        model::Comparison::Bytes => "the bytes of payloads with the same key",
        model::Comparison::CanonicalJson => "what payloads with the same key say as JSON",
    }
}

/// `2`, or `2, redrive has removed 9`: otherwise the numbers of the messages would not fit their count.
fn messages(shown: &ChannelJson<'_>) -> String {
    let count = thousands(shown.messages);
    let by = match &shown.retention {
        retention if retention.compact_by.is_some() => "compaction",
        // What is settled behind a job that is not.
        retention if retention.work_queue => "settling",
        _ => "redrive",
    };
    if shown.compacted == 0 { count } else { format!("{count}, {by} has removed {}", thousands(shown.compacted)) }
}

fn list(channels: &[Channel]) -> Result<(), CliError> {
    let header = ["NAME", "DURABILITY", "SCHEMA ID", "MESSAGES", "NEXT", "BYTES", "KEYS", "DEDUP", "KEEPS"];
    let rows = channels.iter().map(|channel| {
        let shown = ChannelJson::of(channel);
        vec![
            shown.name.to_owned(),
            shown.durability.to_owned(),
            if shown.schema_id == 0 { "-".to_owned() } else { shown.schema_id.to_string() },
            thousands(shown.messages),
            thousands(shown.next_seq),
            thousands(shown.bytes),
            thousands(shown.live_keys),
            human(shown.dedup_window_ms),
            limits::keeps(&shown.retention),
        ]
    });
    print_line(&table(&header, &[3, 4, 5, 6], rows.collect()))
}

fn human(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches as _, Subcommand as _};

    use super::*;

    fn parse(words: &[&str]) -> Result<Command, clap::Error> {
        let command = Command::augment_subcommands(clap::Command::new("channel"));
        let matches = command.try_get_matches_from(std::iter::once("channel").chain(words.iter().copied()))?;
        Command::from_arg_matches(&matches)
    }

    #[test]
    fn an_update_has_to_change_something_and_cannot_set_and_remove_a_schema() {
        assert!(parse(&["update", "orders"]).is_err());
        assert!(parse(&["update", "orders", "--yes"]).is_err());
        assert!(parse(&["update", "orders", "--schema", "f", "--no-schema"]).is_err());
        assert!(parse(&["update", "orders", "--no-schema", "--dedup-window", "1h"]).is_ok());
    }

    #[test]
    fn a_dedup_window_is_a_human_duration_and_never_nothing() {
        let Command::Create { dedup_window: Some(window), .. } =
            parse(&["create", "orders", "--dedup-window", "1h 30m"]).unwrap()
        else {
            panic!("a window was given")
        };
        assert_eq!(window_ms(window).unwrap(), 5_400_000);
        assert!(parse(&["create", "orders", "--dedup-window", "soon"]).is_err());
        assert!(window_ms(Duration::ZERO).is_err());
    }

    #[test]
    fn a_channel_is_described_line_by_line() {
        let channel = Channel {
            name: "orders".into(),
            config: Some(ChannelConfig { dedup_window_ms: 86_400_000, ..ChannelConfig::default() }),
            schema_id: 2,
            first_seq: 5,
            next_seq: 1005,
            ..Channel::default()
        };
        let text = describe(&channel);
        for line in [
            "name          orders",
            "durability    durable",
            "schema        id 2; `liminal channel schemas orders` lists its versions",
            "dedup window  1day",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
        assert!(text.contains("messages      1,000\n"), "{text}");
        let text = describe(&Channel { compacted: 900, ..channel.clone() });
        assert!(text.contains("messages      100, redrive has removed 900\n"), "{text}");
        let retention = Some(crate::proto::v1::Retention { work_queue: true, ..Default::default() });
        let config = Some(ChannelConfig { retention, ..ChannelConfig::default() });
        let text = describe(&Channel { compacted: 900, config, ..channel });
        assert!(text.contains("messages      100, settling has removed 900\n"), "{text}");
    }
}
