//! `liminal channel import`: publishes the messages of an export, in order. An import that broke off goes on where it stopped,
//! and stores nothing twice, because messages have keys.

use std::path::{Path, PathBuf};

use clap::ValueHint;
use tokio::{
    io::{AsyncBufRead, BufReader},
    sync::mpsc,
};

use super::{
    CliError, Global, OutputFormat, connect, print_json, print_line, thousands,
    transfer::{Line, progress},
};
use crate::{
    cli::{publish::lines::next_line, remote::Confirm},
    client::{Ack, ClientError, Message, Position, Publisher},
    model::message_line,
};

/// Messages that are sent and not yet acknowledged.
const AHEAD: usize = 4096;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel, which has to exist
    pub channel: String,
    /// What `liminal channel export` wrote; `-` reads standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Pass over messages before this position, which an import says that broke off
    #[arg(long, value_name = "POSITION")]
    pub from: Option<Position>,
    /// Under which idempotency keys messages are published
    #[arg(long, value_enum, default_value_t = Keys::Own)]
    pub keys: Keys,
    /// What the acknowledgements wait for
    #[arg(long, value_enum, default_value_t = Confirm::Commit)]
    pub confirm: Confirm,
}

/// Where idempotency keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Keys {
    /// Its own; a message without one gets its position, so that a repeated import stores nothing twice
    Own,
    /// The position of each message: for channels in which one key came several times
    Position,
    /// Its own or none: what is imported again is stored again
    Plain,
}

/// A message on its way.
struct Sent {
    position: Position,
    ack: Ack,
}

/// How far it is.
#[derive(Default)]
struct Done {
    stored: u64,
    duplicates: u64,
    next: Option<Position>,
}

/// Runs the command.
pub(super) async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let input = open(&args.file).await?;
    let publisher = connect(global).await?.publisher(&args.channel, args.confirm.options());
    let bar = progress(None, "importing");
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    let mut done = Done { next: args.from, ..Done::default() };
    let collect = async {
        while let Some(Sent { position, ack }) = receiver.recv().await {
            let published = ack.await.map_err(|error| refused(position, error))?;
            done.stored += u64::from(!published.duplicate);
            done.duplicates += u64::from(published.duplicate);
            done.next = Some(position.at(position.seq + 1));
            bar.inc(1);
        }
        Ok::<_, CliError>(())
    };
    let work = async {
        tokio::pin!(collect);
        let send = send(input, &args, publisher, sender);
        tokio::pin!(send);
        // What was refused ends it, however much is left to send.
        tokio::select! {
            biased;
            collected = &mut collect => collected,
            sent = &mut send => match collect.await {
                Ok(()) => sent,
                Err(refused) => Err(refused),
            },
        }
    };
    let result = tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(CliError::failed("interrupted".to_owned())),
    };
    bar.finish_and_clear();
    tell(&args.channel, &done, result.is_ok(), global)?;
    result.map_err(|error| match done.next {
        Some(next) => error.with_help(format!("go on with --from {next}")),
        None => error,
    })
}

async fn open(file: &Path) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, CliError> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(tokio::io::stdin())));
    }
    let opened = tokio::fs::File::open(file).await;
    let opened = opened.map_err(|error| CliError::failed(format!("cannot read {}: {error}", file.display())))?;
    Ok(Box::new(BufReader::with_capacity(256 << 10, opened)))
}

fn refused(position: Position, error: ClientError) -> CliError {
    let said = format!("the message at {position} was not stored: {}", error.message());
    CliError::failed(said).with_code(error.code().as_str())
}

async fn send(
    mut input: impl AsyncBufRead + Unpin,
    args: &Args,
    publisher: Publisher,
    sender: mpsc::Sender<Sent>,
) -> Result<(), CliError> {
    let file = args.file.display();
    let mut number = 0;
    loop {
        let line = next_line(&mut input).await;
        let line = line.map_err(|error| CliError::failed(format!("cannot read {file}: {error}")))?;
        let Some(line) = line else { return Ok(()) };
        number += 1;
        let wrong = |why: String| CliError::failed(format!("{file}, line {number}: {why}"));
        let text = line.text.ok_or_else(|| wrong(format!("it has {} bytes: too many", line.bytes)))?;
        let Some(text) = message_line(number, &text) else { continue };
        let (position, message) = message(text, args.keys).map_err(wrong)?;
        if args.from.is_some_and(|from| position.seq < from.seq) {
            continue;
        }
        let ack = publisher.enqueue(message).await.map_err(|error| refused(position, error))?;
        if sender.send(Sent { position, ack }).await.is_err() {
            // An earlier one was refused, which is what is told.
            return Ok(());
        }
    }
}

/// The message of a line, under the key that it is to have.
fn message(text: &[u8], keys: Keys) -> Result<(Position, Message), String> {
    let line = Line::read(text)?;
    let position = line.place()?;
    let mut message = line.message()?;
    let by_position = || Some(format!("import:{position}"));
    message.key = match keys {
        Keys::Own => message.key.or_else(by_position),
        Keys::Position => by_position(),
        Keys::Plain => message.key,
    };
    Ok((position, message))
}

fn tell(channel: &str, done: &Done, complete: bool, global: &Global) -> Result<(), CliError> {
    let Done { stored, duplicates, next } = done;
    let next = next.map(|next| next.to_string());
    match global.output {
        // What went wrong is told as an error.
        OutputFormat::Json => print_json(&serde_json::json!({
            "name": channel, "stored": stored, "duplicates": duplicates, "next": next, "complete": complete,
        })),
        OutputFormat::Raw => print_line(&next.unwrap_or_default()),
        OutputFormat::Table => {
            let [stored, duplicates] = [*stored, *duplicates].map(thousands);
            print_line(&format!("{channel}  {stored} stored, {duplicates} were there already"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_a_key_gets_its_position_unless_that_is_not_wanted() {
        let key = |line: &str, keys| message(line.as_bytes(), keys).unwrap().1.key;
        let bare = r#"{"position":"7.2.000000ab.3","timestamp":"","payload":1}"#;
        let keyed = r#"{"position":"7.2.000000ab.3","timestamp":"","key":"k","payload":1}"#;
        assert_eq!(key(bare, Keys::Own).as_deref(), Some("import:7.2.000000ab.3"));
        assert_eq!(key(keyed, Keys::Own).as_deref(), Some("k"));
        assert_eq!(key(keyed, Keys::Position).as_deref(), Some("import:7.2.000000ab.3"));
        assert_eq!(key(bare, Keys::Plain), None);
    }
}
