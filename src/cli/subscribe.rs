//! `liminal subscribe`: follow a channel and print its messages.

use std::{
    io::{self, Write},
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt as _;
use liminal_wire::time::to_ms;

use super::{
    CliError, Global, OutputFormat,
    remote::{connect, json_line, shown, written},
};
use crate::{
    client::{Client, Code, ConsumerConfig, IfChanged, Notice, Position, Received, Start},
    model::{Form, MessageJson, NoticeJson, Predicate, timestamp},
};

/// Messages that are acknowledged while others are printed.
const CREDIT: u32 = 256;

/// Follow a channel and print its messages
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel to follow
    pub channel: String,
    /// Where to begin: `earliest`, `latest`, a sequence number, a position as `--show-next` and other answers give it, or
    /// how long ago, for example 15m. `latest` unless given; `earliest` for a new consumer of a work queue
    #[arg(long)]
    pub from: Option<From>,
    /// Only messages for which this holds, for example `type == "push" and size > 500`: see docs/PREDICATES.md. A consumer
    /// has its own: `liminal consumer create --where`
    #[arg(long = "where", value_name = "PREDICATE", conflicts_with = "consumer")]
    pub filter: Option<Predicate>,
    /// Go on where this consumer stopped, share its work with its other members, and acknowledge what was printed. It
    /// is created if it is missing, to begin at `--from`; one that exists goes on where it stopped
    #[arg(long, value_name = "NAME")]
    pub consumer: Option<String>,
    /// Exit after this many messages
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// When the channel's history is not what it was (messages were removed before they were read, a backup was
    /// restored, the channel was created again): say so on stderr and go on with what was not seen (`notice`) or with
    /// all that is stored (`earliest`), or end with exit code 1 (`fail`). `notice` unless given, but for a sequence
    /// number that is not there
    #[arg(long, value_name = "WHAT", conflicts_with = "consumer")]
    pub if_changed: Option<IfChanged>,
    /// Say on stderr at the end where to go on: `--from` takes it
    #[arg(long, conflicts_with = "consumer", requires = "count")]
    pub show_next: bool,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A place that the server knows.
    At(Start),
    /// This long before now.
    Ago(Duration),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::At(Start::Seq(seq)));
        }
        if let Ok(position) = text.parse() {
            return Ok(Self::At(Start::Position(position)));
        }
        match text {
            "earliest" => Ok(Self::At(Start::Earliest)),
            "latest" => Ok(Self::At(Start::Latest)),
            _ => humantime::parse_duration(text)
                .map(Self::Ago)
                .map_err(|_| "write earliest, latest, a sequence number, a position or a time like 15m".into()),
        }
    }
}

impl From {
    /// The place that it stands for at a time.
    pub(super) fn start(self, now: SystemTime) -> Start {
        match self {
            Self::At(start) => start,
            Self::Ago(ago) => Start::Time(now.checked_sub(ago).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH)),
        }
    }
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let mut left = args.count.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(());
    }
    let client = connect(global).await?;
    if let Some(consumer) = &args.consumer {
        return consume(&client, &args, consumer, left, global.output).await;
    }
    let filter = args.filter.map(|filter| filter.to_string()).unwrap_or_default();
    let start = args.from.unwrap_or(From::At(Start::Latest)).start(SystemTime::now());
    let mut messages = client.subscribe(&args.channel, start).filter(filter).if_changed(args.if_changed).await?;
    // Where to go on when the last message is not the last of its batch.
    let mut next = None;
    while let Some(batch) = messages.next_batch().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => match error.notice().filter(|_| args.if_changed != Some(IfChanged::Fail)) {
                Some(notice) => {
                    say(notice, global.output);
                    continue;
                }
                None => return Err(error.into()),
            },
        };
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(batch.len());
        left -= wanted as u64;
        let mut text = Vec::new();
        for received in &batch[..wanted] {
            print(&mut text, &args.channel, received, global.output)
                .map_err(|error| CliError::failed(error.to_string()))?;
        }
        let mut out = io::stdout().lock();
        written(out.write_all(&text).and_then(|()| out.flush()))?;
        let after = |place: Position| batch[..wanted].last().map(|last| place.at(last.seq + 1));
        next = messages.position().and_then(after);
        if left == 0 {
            break;
        }
    }
    if let Some(next) = next.filter(|_| args.show_next) {
        match global.output {
            OutputFormat::Json => eprintln!("{}", serde_json::json!({ "next": next })),
            OutputFormat::Raw | OutputFormat::Table => eprintln!("next: {next}"),
        }
    }
    Ok(())
}

/// Says on stderr what has become of the channel's history.
fn say(notice: &Notice, format: OutputFormat) {
    match format {
        OutputFormat::Json => eprintln!("{}", serde_json::json!({ "notice": NoticeJson::of(notice) })),
        OutputFormat::Raw | OutputFormat::Table => {
            eprintln!("notice: {notice}\n  code: {}\n  going on at {}", notice.change.code(), notice.next);
        }
    }
}

async fn consume(
    client: &Client,
    args: &Args,
    name: &str,
    mut left: u64,
    format: OutputFormat,
) -> Result<(), CliError> {
    match client.consumer_status(&args.channel, name).await {
        Ok(_) => {}
        Err(error) if *error.code() == Code::ConsumerNotFound => {
            let from = match args.from {
                Some(from) => from,
                None => {
                    let retention = client.channel(&args.channel).await?.config.retention;
                    // What waits in a work queue is there to be done.
                    let work_queue = retention.is_some_and(|retention| retention.work_queue);
                    From::At(if work_queue { Start::Earliest } else { Start::Latest })
                }
            };
            let start = from.start(SystemTime::now());
            client.create_consumer(&args.channel, name, ConsumerConfig::default(), start).await?;
        }
        Err(error) => return Err(error.into()),
    }
    // What is handed over and not printed comes again, so not much of it.
    let credit = u32::try_from(left).unwrap_or(u32::MAX).min(CREDIT);
    let mut deliveries = client.consumer(&args.channel, name).credit(credit).open().await?;
    while left > 0 {
        let delivery = match deliveries.next().await {
            Some(delivery) => delivery?,
            None => break,
        };
        if let Some(notice) = &delivery.notice {
            say(notice, format);
        }
        let mut text = Vec::new();
        print(&mut text, &args.channel, &delivery.received, format)
            .map_err(|error| CliError::failed(error.to_string()))?;
        let shown = {
            let mut out = io::stdout().lock();
            written(out.write_all(&text).and_then(|()| out.flush()))
        };
        if let Err(ended) = shown {
            // What was shown before is acknowledged, and what was not begun is given back.
            drop(delivery);
            deliveries.close().await?;
            return Err(ended);
        }
        left -= 1;
        // It is sent at once; only the last ones have to be waited for.
        drop(delivery.ack());
    }
    Ok(deliveries.close().await?)
}

fn print(out: &mut Vec<u8>, channel: &str, received: &Received, format: OutputFormat) -> io::Result<()> {
    match format {
        OutputFormat::Raw => out.write_all(&received.message.payload)?,
        OutputFormat::Json => {
            let Received { seq, time, schema_id, message, .. } = received;
            let message = message.clone().into();
            let line = json_line(&MessageJson::of(channel, *seq, to_ms(*time), *schema_id, &message, Form::Line))?;
            out.write_all(line.as_bytes())?;
        }
        OutputFormat::Table => {
            let Received { seq, time, message, .. } = received;
            let key = message.key.as_deref().filter(|key| !key.is_empty()).unwrap_or("-");
            // A message must not move a terminal's cursor or take more than its line.
            let (key, payload) = (shown(key.as_bytes()), shown(&message.payload));
            write!(out, "{channel}@{seq}  {}  {key}  {payload}", timestamp(to_ms(*time)))?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Message;

    fn printed(message: Message, format: OutputFormat) -> String {
        let received = Received::new(41, UNIX_EPOCH + Duration::from_millis(1_700_000_000_123), 2, message);
        let mut out = Vec::new();
        print(&mut out, "orders", &received, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_subscription_begins_at_a_name_a_number_or_a_time_ago() {
        assert_eq!("earliest".parse(), Ok(From::At(Start::Earliest)));
        assert_eq!("latest".parse(), Ok(From::At(Start::Latest)));
        assert_eq!("15".parse(), Ok(From::At(Start::Seq(15))));
        let ago: From = "15m".parse().unwrap();
        assert_eq!(
            ago.start(UNIX_EPOCH + Duration::from_secs(1000)),
            Start::Time(UNIX_EPOCH + Duration::from_secs(100))
        );
        assert_eq!(ago.start(UNIX_EPOCH), Start::Time(UNIX_EPOCH));
        assert!("yesterday".parse::<From>().is_err());
    }

    #[test]
    fn a_json_payload_is_shown_as_it_was_sent() {
        let message = Message::new(r#"{"b": 1.50, "a":[ ]}"#).with_key("k").with_header("h", "v");
        assert_eq!(
            printed(message, OutputFormat::Json),
            concat!(
                r#"{"channel":"orders","seq":41,"key":"k","headers":{"h":"v"},"schema_id":2,"#,
                r#""timestamp":"2023-11-14T22:13:20.123Z","payload":{"b": 1.50, "a":[ ]}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_json_payload_over_several_lines_is_one_line_of_output_and_loses_nothing() {
        let line = printed(Message::new("{\r\n}\n").with_header("h", "a\u{2028}b"), OutputFormat::Json);
        assert!(line.ends_with("\"payload_base64\":\"ew0KfQo=\"}\n"), "{line}");
        assert!(line.contains(r#""h":"a\u2028b""#), "{line}");
    }

    #[test]
    fn a_table_line_cannot_move_the_cursor() {
        assert_eq!(
            printed(Message::new("a\n\x1b[2Jb"), OutputFormat::Table),
            "orders@41  2023-11-14T22:13:20.123Z  -  a\u{fffd}\u{fffd}[2Jb\n"
        );
    }

    #[test]
    fn raw_output_is_the_payload_and_a_line_feed() {
        assert_eq!(printed(Message::new("a\tb"), OutputFormat::Raw), "a\tb\n");
    }
}
