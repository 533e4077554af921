//! `liminal consumer dead-letters`.

use super::{CliError, Global, OutputFormat, print_json, print_line, thousands};
use crate::{
    cli::remote::{connect, on_the_wire, print_bytes, table},
    client::{Client, DeadLetterSelection},
    model::{Form, LetterJson, Predicate, timestamp},
    proto::v1::DeadLetter,
};

/// The most of a reason that a table shows.
const REASON: usize = 60;

/// Which letters.
#[derive(Clone, Debug, clap::Args)]
pub struct Selection {
    /// The channel in which the messages died
    pub channel: String,
    /// The consumer that gave them up; it may be gone by now, with --dead-letter
    pub name: String,
    /// Only letters for which this holds, for example `$headers.liminal-dead-letter-reason starts with "nacked"`: see
    /// docs/PREDICATES.md
    #[arg(long = "where", value_name = "PREDICATE")]
    pub filter: Option<Predicate>,
    /// Not those before this place in the dead-letter channel
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub from: u64,
    /// The channel in which the letters are; the consumer's own unless given
    #[arg(long, value_name = "CHANNEL")]
    pub dead_letter: Option<String>,
}

impl Selection {
    /// As a request says it, with at most so many letters; 0: as many as one call takes.
    pub fn request(&self, limit: u64) -> DeadLetterSelection {
        DeadLetterSelection::new()
            .channel(&self.channel)
            .consumer(&self.name)
            .dead_letter(self.dead_letter.clone())
            .filter(self.filter.as_ref().map(ToString::to_string))
            .from_seq(self.from)
            .limit(limit)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which letters
    #[command(flatten)]
    pub letters: Selection,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
}

/// Some letters, and where the next ones begin; none when there are no more.
pub struct Found {
    dead_letter: String,
    letters: Vec<DeadLetter>,
    next: Option<u64>,
}

/// Looks for at most so many letters.
pub async fn find(client: &Client, letters: &Selection, limit: u64) -> Result<Found, CliError> {
    let mut found = Found { dead_letter: String::new(), letters: Vec::new(), next: Some(letters.from) };
    while let Some(from_seq) = found.next
        && (found.letters.len() as u64) < limit
    {
        let wanted = letters.request(limit - found.letters.len() as u64);
        let page = client.dead_letters(wanted.from_seq(from_seq)).await?;
        found.dead_letter = page.dead_letter;
        found.letters.extend(on_the_wire::<_, DeadLetter>(page.letters));
        found.next = (!page.done).then_some(page.next_seq);
    }
    Ok(found)
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let Args { letters, limit } = args;
    let found = find(&connect(global).await?, &letters, limit).await?;
    show(&letters, &found, global)?;
    if let (OutputFormat::Table, Some(next)) = (global.output, found.next) {
        print_line(&format!("more from {next}"))?;
    }
    Ok(())
}

/// Writes letters, each on a line.
pub fn show(letters: &Selection, found: &Found, global: &Global) -> Result<(), CliError> {
    let mut each = found.letters.iter().filter_map(|letter| Some((letter, letter.message.as_ref()?)));
    match global.output {
        OutputFormat::Json => each.try_for_each(|(letter, message)| {
            print_json(&LetterJson::of(
                &letters.channel,
                &letters.name,
                &found.dead_letter,
                letter,
                message,
                Form::Line,
            ))
        }),
        OutputFormat::Raw => each.try_for_each(|(_, message)| print_bytes(&message.payload)),
        OutputFormat::Table if found.letters.is_empty() => print_line("no dead letters"),
        OutputFormat::Table => {
            let header = ["LETTER", "ORIGIN", "TIME", "BYTES", "ATTEMPTS", "DEATHS", "REDRIVEN", "REASON"];
            let rows = found.letters.iter().map(|letter| {
                let reason: String = letter.reason.chars().take(REASON).collect();
                vec![
                    format!("{}@{}", found.dead_letter, letter.seq),
                    format!("{}@{}", letters.channel, letter.origin_seq),
                    timestamp(letter.time_ms),
                    thousands(letter.bytes),
                    letter.attempts.to_string(),
                    letter.hops.to_string(),
                    letter.redriven.to_string(),
                    reason,
                ]
            });
            print_line(&table(&header, &[3, 4, 5, 6], rows.collect()))
        }
    }
}
