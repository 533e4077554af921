//! `liminal channel export`: the messages of a channel as lines of a file, up to those that are there when it begins. Each line
//! has its position, so an export that broke off goes on where it stopped.

use std::{
    fs,
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::ValueHint;

use super::{
    CliError, Global, OutputFormat, connect, print_json, thousands,
    transfer::{Line, progress},
};
use crate::{
    cli::{
        remote::{json_line, written},
        subscribe::From,
    },
    client::{Consistency, HistoryChange, Position, Start},
};

/// The longest line of an export: the last one is looked for from the file's end.
const LONGEST: u64 = 64 << 20;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel
    pub channel: String,
    /// The file to write; standard output unless given
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Where to begin: `earliest`, a sequence number, a position, or how long ago, for example 15m
    #[arg(long, default_value = "earliest")]
    pub from: From,
    /// End before this sequence number; else with the last message that is there now
    #[arg(long, value_name = "SEQ")]
    pub to: Option<u64>,
    /// Go on behind the last line of the file, which an export wrote that broke off
    #[arg(long, requires = "file", conflicts_with = "from")]
    pub resume: bool,
}

/// Where the lines go.
enum Out {
    File(BufWriter<fs::File>),
    Stdout,
}

impl Out {
    fn write(&mut self, line: &str, file: Option<&Path>) -> Result<(), CliError> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                written(out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")))
            }
            Self::File(out) => out
                .write_all(line.as_bytes())
                .and_then(|()| out.write_all(b"\n"))
                .map_err(|error| cannot_write(file, &error)),
        }
    }

    fn finish(self, file: Option<&Path>) -> Result<(), CliError> {
        match self {
            Self::Stdout => written(io::stdout().flush()),
            Self::File(out) => {
                let out = out.into_inner().map_err(|error| cannot_write(file, error.error()))?;
                out.sync_all().map_err(|error| cannot_write(file, &error))
            }
        }
    }
}

fn cannot_write(file: Option<&Path>, error: &io::Error) -> CliError {
    let file = file.map_or("standard output".to_owned(), |file| file.display().to_string());
    CliError::failed(format!("cannot write {file}: {error}"))
}

/// Runs the command.
pub(super) async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let Args { channel, file, from, to, resume } = args;
    let client = connect(global).await?;
    let mut start = from.start(SystemTime::now());
    let mut out = match &file {
        None => Out::Stdout,
        Some(path) if resume => {
            let (file, next) = opened(path)?;
            start = next.map_or(start, Start::Position);
            Out::File(BufWriter::new(file))
        }
        Some(path) => {
            let made = fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
                let error = cannot_write(Some(path), &error);
                if path.exists() {
                    error.with_help("name another file, or go on with --resume".to_owned())
                } else {
                    error
                }
            })?;
            Out::File(BufWriter::new(made))
        }
    };
    let (mut end, mut count, mut shown) = (to, 0_u64, None);
    let next = loop {
        let page = client.read(&channel, start, 0, Consistency::Linearizable).await?;
        if let Some(notice) = &page.notice {
            if notice.change != HistoryChange::Cut {
                let help = "begin again with another file: what was exported before is of another history";
                return Err(CliError::failed(notice.to_string()).with_help(help.to_owned()));
            }
            eprintln!("notice: {notice}");
        }
        // What is published meanwhile is for the next export.
        let end = *end.get_or_insert(page.end_seq);
        let first = page.messages.first().map_or(end, |first| first.seq);
        let (begin, bar) = shown.get_or_insert_with(|| (first, progress(Some(end.saturating_sub(first)), "exporting")));
        let position =
            page.next.ok_or_else(|| CliError::failed("the node is too old: it gives no positions".into()))?;
        for received in page.messages.into_iter().take_while(|received| received.seq < end) {
            bar.set_position((received.seq + 1).saturating_sub(*begin));
            let line = json_line(&Line::of(received, position)).map_err(|error| CliError::failed(error.to_string()))?;
            out.write(&line, file.as_deref())?;
            count += 1;
        }
        if page.next_seq >= end {
            bar.finish_and_clear();
            break position.at(end.min(page.next_seq));
        }
        start = Start::Position(position);
    };
    out.finish(file.as_deref())?;
    if file.is_none() {
        return Ok(());
    }
    match global.output {
        OutputFormat::Json => {
            print_json(&serde_json::json!({ "name": channel, "messages": count, "next": next.to_string() }))
        }
        OutputFormat::Raw => super::print_line(&next.to_string()),
        OutputFormat::Table => {
            super::print_line(&format!("{channel}  {} message(s); the next one is at {next}", thousands(count)))
        }
    }
}

/// A file that is gone on with, cut behind its last whole line, and the position after that.
fn opened(path: &Path) -> Result<(fs::File, Option<Position>), CliError> {
    let unusable = |why: String| CliError::failed(format!("cannot go on with {}: {why}", path.display()));
    let mut file =
        fs::OpenOptions::new().read(true).append(true).open(path).map_err(|error| unusable(error.to_string()))?;
    let (whole, last) = last_line(&mut file).map_err(|error| unusable(error.to_string()))?;
    file.set_len(whole).map_err(|error| unusable(error.to_string()))?;
    let Some(last) = last else { return Ok((file, None)) };
    let place = Line::read(&last).and_then(|line| line.place()).map_err(unusable)?;
    Ok((file, Some(place.at(place.seq + 1))))
}

/// How long the file is up to the end of its last whole line, and that line; none where it has none.
fn last_line(file: &mut fs::File) -> io::Result<(u64, Option<Vec<u8>>)> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else { return Ok((0, None)) };
    let begin = tail[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
    Ok((from + end as u64 + 1, Some(tail[begin..end].to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_goes_on_behind_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let line = |seq: u64| format!(r#"{{"position":"7.2.000000ab.{seq}","timestamp":"","payload":1}}"#);
        fs::write(&path, format!("{}\n{}\n{{\"posi", line(1), line(2))).unwrap();
        let (_, next) = opened(&path).unwrap();
        assert_eq!(next.unwrap().to_string(), "7.2.000000ab.3");
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n{}\n", line(1), line(2)));
        fs::write(&path, "{\"posi").unwrap();
        assert_eq!(opened(&path).unwrap().1, None);
        assert_eq!(fs::read(&path).unwrap(), b"");
        fs::write(&path, "{}\n").unwrap();
        assert!(opened(&path).is_err());
    }
}
