//! Publishing every line of a file through one stream, as fast as acks come back, with results in input order.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader},
    sync::mpsc,
};

use super::{Args, Outcome, message};
use crate::{
    cli::{
        CliError, Global, OutputFormat,
        remote::{connect, print_json, thousands},
    },
    client::{Ack, ClientError, Code, Published, Publisher},
    model::message_line,
};

/// Longer lines are rejected without being held in memory.
const MAX_LINE: usize = 4 << 20;
/// Lines that are read and not yet acknowledged.
const AHEAD: usize = 8192;
/// Rejected lines that the summary names.
const NAMED: usize = 20;

struct Sent {
    line: u64,
    bytes: u64,
    ack: Result<Ack, ClientError>,
}

/// Publishes the lines of `file`, or of standard input for `-`.
pub(super) async fn run(file: &Path, args: &Args, global: &Global) -> Result<(), CliError> {
    let from_stdin = file == Path::new("-");
    let cannot_read = |error| CliError::failed(format!("cannot read {}: {error}", file.display()));
    let (input, length): (Box<dyn AsyncBufRead + Send + Unpin>, _) = if from_stdin {
        (Box::new(BufReader::new(tokio::io::stdin())), None)
    } else {
        let file = tokio::fs::File::open(file).await.map_err(cannot_read)?;
        let length = file.metadata().await.map_err(cannot_read)?.len();
        (Box::new(BufReader::with_capacity(256 << 10, file)), Some(length))
    };
    let publisher = connect(global).await?.publisher(&args.channel, args.confirm.options());
    let mut report = Report::new(progress(length));
    let (sender, receiver) = mpsc::channel(AHEAD);
    let work = async {
        let (read, printed) =
            tokio::join!(send(input, args, publisher, sender), collect(receiver, args, global, &mut report));
        printed?;
        read.map_err(cannot_read)
    };
    let result = tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(CliError::failed("interrupted: lines without an ack may have been stored".to_owned())),
    };
    report.bar.finish_and_clear();
    if global.output != OutputFormat::Json {
        eprintln!("{}", report.summary());
    }
    result?;
    match (report.rejected, global.output) {
        (0, _) => Ok(()),
        // Each has its line among the results.
        (rejected, OutputFormat::Json) => {
            let (rejected, all) = (thousands(rejected), thousands(rejected + report.acked));
            Err(CliError::failed(format!("{rejected} of {all} messages were rejected")))
        }
        _ => Err(CliError::exit(1)),
    }
}

async fn send(
    mut input: impl AsyncBufRead + Unpin,
    args: &Args,
    publisher: Publisher,
    sender: mpsc::Sender<Sent>,
) -> std::io::Result<()> {
    let mut number = 0;
    while let Some(line) = next_line(&mut input).await? {
        number += 1;
        let bytes = line.bytes;
        let ack = match line.text {
            Some(text) => {
                let text = Bytes::from(text);
                let Some(line) = message_line(number, &text) else { continue };
                match message(args, text.slice_ref(line)) {
                    Ok(message) => publisher.enqueue(message).await,
                    Err(reason) => Err(ClientError::refused(Code::InvalidArgument, reason)),
                }
            }
            None => {
                let reason = format!("the line has more than {MAX_LINE} bytes");
                Err(ClientError::refused(Code::LimitExceeded, reason))
            }
        };
        if sender.send(Sent { line: number, bytes, ack }).await.is_err() {
            // Nobody reads the results any more.
            break;
        }
    }
    Ok(())
}

/// A line of a file.
pub(in crate::cli) struct Line {
    /// Without the line feed; none when it is too long.
    pub(in crate::cli) text: Option<Vec<u8>>,
    pub(in crate::cli) bytes: u64,
}

/// The next line; none at the end.
pub(in crate::cli) async fn next_line(input: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Line>> {
    let mut text = Some(Vec::new());
    let mut bytes = 0;
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok((bytes > 0).then_some(Line { text, bytes }));
        }
        let feed = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..feed.unwrap_or(available.len())];
        if text.as_ref().is_some_and(|text| text.len() + part.len() > MAX_LINE) {
            text = None;
        }
        if let Some(text) = &mut text {
            text.extend_from_slice(part);
        }
        let used = part.len() + usize::from(feed.is_some());
        bytes += used as u64;
        input.consume(used);
        if feed.is_some() {
            return Ok(Some(Line { text, bytes }));
        }
    }
}

async fn collect(
    mut sent: mpsc::Receiver<Sent>,
    args: &Args,
    global: &Global,
    report: &mut Report,
) -> Result<(), CliError> {
    while let Some(Sent { line, bytes, ack }) = sent.recv().await {
        let result = match ack {
            Ok(ack) => {
                report.sent += 1;
                ack.await
            }
            Err(error) => Err(error),
        };
        report.add(line, bytes, &result);
        if global.output == OutputFormat::Json {
            print_json(&Outcome::of(line, &args.channel, result.as_ref()))?;
        }
    }
    Ok(())
}

struct Report {
    begun: Instant,
    bar: ProgressBar,
    sent: u64,
    acked: u64,
    duplicates: u64,
    rejected: u64,
    reasons: Vec<String>,
}

impl Report {
    fn new(bar: ProgressBar) -> Self {
        Self { begun: Instant::now(), bar, sent: 0, acked: 0, duplicates: 0, rejected: 0, reasons: Vec::new() }
    }

    fn add(&mut self, line: u64, bytes: u64, result: &Result<Published, ClientError>) {
        match result {
            Ok(published) => {
                self.acked += 1;
                self.duplicates += u64::from(published.duplicate);
            }
            Err(error) => {
                self.rejected += 1;
                if self.reasons.len() < NAMED {
                    self.reasons.push(reason(line, error));
                }
            }
        }
        self.bar.inc(bytes);
        if self.acked.is_multiple_of(1024) {
            self.bar.set_message(format!("{} acked", thousands(self.acked)));
        }
    }

    fn summary(&self) -> String {
        let seconds = self.begun.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let rate = (self.acked as f64 / seconds) as u64;
        let [sent, acked, duplicates, rejected, rate] =
            [self.sent, self.acked, self.duplicates, self.rejected, rate].map(thousands);
        let mut text = format!(
            "sent {sent}  acked {acked}  duplicates {duplicates}  rejected {rejected}  {seconds:.1} s  {rate}/s"
        );
        for reason in &self.reasons {
            text.push_str("\n  ");
            text.push_str(reason);
        }
        let more = self.rejected.saturating_sub(self.reasons.len() as u64);
        if more > 0 {
            text.push_str(&format!("\n  and {} more", thousands(more)));
        }
        text
    }
}

fn reason(line: u64, error: &ClientError) -> String {
    let mut text = format!("line {line}: {}: {}", error.code(), error.message());
    for detail in error.details() {
        text.push_str(&format!("; {}: {}", detail.pointer, detail.message));
    }
    text
}

/// Drawn on standard error, and only when that is a terminal.
fn progress(length: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    let template = match length {
        Some(_) => "{bar:30} {bytes}/{total_bytes}  {msg}  {bytes_per_sec}  {eta} left",
        None => "{spinner} {bytes}  {msg}  {bytes_per_sec}",
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::PublishResponse;

    async fn lines(mut input: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input).await.unwrap() {
            lines.push(line.text);
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_taken_as_they_are_also_the_last_one_without_a_line_feed() {
        let text = |text: &[u8]| Some(text.to_vec());
        assert_eq!(
            lines(b"{\"a\": 1}\r\n\n \xff\nend").await,
            [text(b"{\"a\": 1}\r"), text(b""), text(b" \xff"), text(b"end")]
        );
        assert_eq!(lines(b"").await, Vec::<Option<Vec<u8>>>::new());
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_dropped_and_the_next_one_is_read() {
        let mut input = vec![b'x'; MAX_LINE + 1];
        input.extend_from_slice(b"\nnext\n");
        assert_eq!(lines(&input).await, [None, Some(b"next".to_vec())]);
    }

    #[test]
    fn the_summary_names_the_first_twenty_rejected_lines_and_counts_the_rest() {
        let mut report = Report::new(ProgressBar::hidden());
        report.sent = 26;
        let duplicate = PublishResponse { duplicate: true, term: 1, ..PublishResponse::default() };
        report.add(1, 1, &Ok(Published::from(duplicate)));
        for line in 2..27 {
            report.add(line, 1, &Err(ClientError::refused(Code::SchemaViolation, "wrong")));
        }
        let summary = report.summary();
        assert!(summary.starts_with("sent 26  acked 1  duplicates 1  rejected 25  "), "{summary}");
        assert!(summary.contains("\n  line 2: SCHEMA_VIOLATION: wrong\n"), "{summary}");
        assert!(summary.contains("line 21:") && !summary.contains("line 22:"), "{summary}");
        assert!(summary.ends_with("\n  and 5 more"), "{summary}");
    }
}
