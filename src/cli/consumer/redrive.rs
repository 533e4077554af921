//! `liminal consumer redrive`.

use super::{
    CliError, Global, OutputFormat,
    dead_letters::{self, Selection},
    print_json, print_line, thousands,
};
use crate::{
    cli::remote::{confirm, connect},
    client::{Client, ClientError, Redrive, Redriven},
};

/// Letters that a dry run shows.
const SHOWN: u64 = 10;
/// Tries in a row of which no answer came, or that moved nothing.
const TRIES: u32 = 10;
/// Letters that stay of which it says why; the others are only counted.
const TOLD: usize = 100;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which letters
    #[command(flatten)]
    pub letters: Selection,
    /// The channel to send them to; the one in which the messages died unless given
    #[arg(long, value_name = "CHANNEL")]
    pub to: Option<String>,
    /// At most this many letters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Move nothing; say how many letters would go, and show the first ones
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// What all calls together have done.
#[derive(Default)]
struct Total {
    dead_letter: String,
    target: String,
    moved: u64,
    unsure: u64,
    refused: u64,
    refusals: Vec<(u64, String, String)>,
    next_seq: u64,
    stopped: Option<(String, String)>,
}

impl Total {
    fn add(&mut self, answer: Redriven) {
        self.moved += answer.moved;
        self.unsure += answer.unsure;
        self.refused += answer.refused;
        (self.dead_letter, self.target, self.next_seq) = (answer.dead_letter, answer.target, answer.next_seq);
        let refusals = answer.refusals.into_iter().map(|refusal| {
            let (code, message) = refusal.error.as_ref().map(said).unwrap_or_default();
            (refusal.seq, code, message)
        });
        self.refusals.extend(refusals.take(TOLD.saturating_sub(self.refusals.len())));
        self.stopped = answer.stopped.as_ref().map(said);
    }

    fn handled(&self) -> u64 {
        self.moved + self.unsure + self.refused
    }
}

fn said(error: &ClientError) -> (String, String) {
    (error.code().to_string(), error.message().to_owned())
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let client = connect(global).await?;
    if args.dry_run || !args.yes {
        let would = all(&client, &args, true).await?;
        if args.dry_run {
            let found = dead_letters::find(&client, &args.letters, SHOWN.min(args.limit.unwrap_or(SHOWN))).await?;
            if global.output == OutputFormat::Table && would.handled() > 0 {
                dead_letters::show(&args.letters, &found, global)?;
            }
            return report(&would, None, &args, global);
        }
        if would.moved > 0 {
            let (moved, from, to) = (thousands(would.moved), &would.dead_letter, &would.target);
            let what = format!("send {moved} letter(s) of `{from}` to `{to}`, where every consumer gets them");
            confirm(false, &what, "nothing was moved")?;
        }
    }
    let done = all(&client, &args, false).await?;
    let rest = Args { limit: None, letters: Selection { from: 0, ..args.letters.clone() }, ..args.clone() };
    let rest = all(&client, &rest, true).await.ok();
    report(&done, rest.map(|rest| rest.handled()), &args, global)
}

/// Calls until all is done, the limit is reached, or nothing more can be moved.
async fn all(client: &Client, args: &Args, dry_run: bool) -> Result<Total, CliError> {
    let mut total = Total { next_seq: args.letters.from, ..Total::default() };
    let mut tries = 0;
    loop {
        let left = args.limit.map_or(0, |limit| limit - total.handled());
        let selection = Selection { from: total.next_seq, ..args.letters.clone() }.request(left);
        let redrive = Redrive::new().selection(selection).to(args.to.clone()).dry_run(dry_run);
        let answer = match client.redrive(redrive).await {
            Ok(answer) => answer,
            // What was moved is gone from where the next call looks. Under a limit that would be too many.
            Err(error) if error.outcome_unknown() && args.limit.is_none() && tries < TRIES => {
                tries += 1;
                continue;
            }
            Err(error) if total.handled() > 0 => return Err(broken_off(&error, &total)),
            Err(error) => return Err(error.into()),
        };
        let (before, done) = ((total.handled(), total.next_seq), answer.done);
        total.add(answer);
        // Others may be faster than this one for a while, and are hardly so for ever.
        tries = if (total.handled(), total.next_seq) == before { tries + 1 } else { 0 };
        if tries >= TRIES && !done {
            let message = "nothing was moved in several tries: others change the dead-letter channel all the time";
            return Err(CliError::failed(message.to_owned()));
        }
        if done || total.stopped.is_some() || args.limit.is_some_and(|limit| total.handled() >= limit) {
            return Ok(total);
        }
    }
}

fn broken_off(error: &ClientError, total: &Total) -> CliError {
    let message = format!("{} letter(s) were moved, then: {}", thousands(total.moved), error.message());
    let help = "run the command again: what was moved is not moved twice".to_owned();
    CliError::failed(message).with_help(help).with_code(error.code().clone())
}

fn report(done: &Total, left: Option<u64>, args: &Args, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => {
            let refusals = done
                .refusals
                .iter()
                .map(|(seq, code, message)| serde_json::json!({ "seq": seq, "code": code, "message": message }));
            let stopped = done.stopped.as_ref();
            print_json(&serde_json::json!({
                "dead_letter": done.dead_letter,
                "target": done.target,
                "dry_run": args.dry_run,
                "moved": done.moved,
                "unsure": done.unsure,
                "refused": done.refused,
                "refusals": refusals.collect::<Vec<_>>(),
                "left": left,
                "next_seq": done.next_seq,
                "stopped": stopped.map(|(code, message)| serde_json::json!({ "code": code, "message": message })),
            }))?;
        }
        OutputFormat::Raw => print_line(&done.moved.to_string())?,
        OutputFormat::Table => {
            let (verb, moved) = (if args.dry_run { "would move" } else { "moved" }, thousands(done.moved));
            let mut line = format!("{} -> {}  {verb} {moved}", done.dead_letter, done.target);
            if done.refused > 0 {
                line.push_str(&format!(", refused {}", thousands(done.refused)));
            }
            if done.unsure > 0 {
                line.push_str(&format!(", {} gone after a step without an answer", thousands(done.unsure)));
            }
            if let Some(left) = left {
                line.push_str(&format!(", {} left", thousands(left)));
            }
            print_line(&line)?;
        }
    }
    // JSON has them among the results.
    let told = done.refusals.iter().filter(|_| global.output != OutputFormat::Json);
    for (seq, code, message) in told {
        eprintln!("{}@{seq} stays: {message} ({code})", done.dead_letter);
    }
    match &done.stopped {
        Some((code, message)) => {
            let (letter, next) = (format!("{}@{}", done.dead_letter, done.next_seq), done.next_seq.saturating_add(1));
            let message = format!("letter {letter} cannot go now: {message}");
            let help = format!("make room, then run the command again; with --from {next} it passes that letter");
            Err(CliError::failed(message).with_help(help).with_code(code.as_str()))
        }
        None => Ok(()),
    }
}
