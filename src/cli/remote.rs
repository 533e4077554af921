//! What all commands that talk to a cluster share: connecting, writing results, and how values look.

use std::{
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};
use liminal_tls::ClientFiles;

use super::{CliError, Global, style};
use crate::{
    client::{Client, PublisherOptions, Tls},
    model::{Form, unbroken},
};

/// Connects to the servers of the command line.
pub async fn connect(global: &Global) -> Result<Client, CliError> {
    connect_to(global.servers(), global).await
}

/// Connects to some of them.
pub async fn connect_to(
    servers: impl IntoIterator<Item = impl Into<String>>,
    global: &Global,
) -> Result<Client, CliError> {
    let mut builder = Client::builder().servers(servers);
    if let Some(token) = global.bearer()? {
        builder = builder.token(token);
    }
    let ClientFiles { ca, identity } = global.tls_files();
    if ca.is_some() || identity.is_some() {
        let tls = ca.into_iter().fold(Tls::new(), Tls::ca);
        builder = builder.tls(identity.into_iter().fold(tls, |tls, (cert, key)| tls.identity(cert, key)));
    }
    Ok(builder.connect().await?)
}

/// Writes results. A reader that has seen enough and closed the pipe ends the command quietly.
pub fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(CliError::exit(0)),
        Err(error) => Err(CliError::failed(format!("cannot write to standard output: {error}"))),
    }
}

/// Asks before something is lost for good, unless that was said with `--yes`.
///
/// # Errors
/// A usage error where nobody can be asked; a failure that says what was not done when the answer is no.
pub fn confirm(yes: bool, what: &str, otherwise: &str) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::usage(format!("this would {what}; add --yes to do it without being asked")));
    }
    eprint!("{what}? [y/N] ");
    let mut answer = String::new();
    // A prompt that cannot be shown or answered counts as no.
    let _ = io::stderr().flush();
    let _ = io::stdin().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(CliError::failed(otherwise.to_owned())) }
}

/// One line on standard output.
pub fn print_line(line: &str) -> Result<(), CliError> {
    print_bytes(line.as_bytes())
}

/// One JSON object on a line of standard output.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    print_line(&json_line(value).map_err(|error| CliError::failed(error.to_string()))?)
}

/// Bytes on standard output as they are, and a line feed.
pub fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// One JSON object without a line break. What it embeds (payloads, receipts) has to be made for a [`Form::Line`].
pub fn json_line(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(unbroken(serde_json::to_string(value)?, Form::Line))
}

/// Bytes for a terminal, whose cursor they cannot move: on one line, without what controls it.
pub fn shown(bytes: &[u8]) -> String {
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(bytes).chars().map(shown).collect()
}

/// Columns with two spaces between them and no lines; those named in `right` are numbers.
pub fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    style::with_header(&text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
}

/// `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2.1 ms`.
pub fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// Human duration for `--dedup-window` and the like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 24h, 15m or 30s"))
}

/// What an ack waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Confirm {
    /// Fsynced on a majority
    Commit,
    /// Also handed to the first live subscriber, or certainly to none
    Delivery,
}

impl From<Confirm> for crate::client::Confirm {
    fn from(confirm: Confirm) -> Self {
        match confirm {
            Confirm::Commit => Self::Commit,
            Confirm::Delivery => Self::Delivery,
        }
    }
}

impl Confirm {
    /// A publisher's options with this confirmation.
    pub fn options(self) -> PublisherOptions {
        PublisherOptions { confirm: self.into(), ..PublisherOptions::default() }
    }
}

/// Answers of the client as the protocol has them, from which JSON is made on every face.
pub fn on_the_wire<T, W: From<T>>(answers: Vec<T>) -> Vec<W> {
    answers.into_iter().map(W::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_table_has_two_spaces_between_columns_and_none_at_the_end() {
        let rows = vec![vec!["a".into(), "1".into(), "x".into()], vec!["bbb".into(), "200".into(), "y".into()]];
        assert_eq!(table(&["NAME", "SEQ", "Z"], &[1], rows), "NAME  SEQ  Z\na       1  x\nbbb   200  y");
    }
}
