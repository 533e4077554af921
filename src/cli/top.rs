//! `liminal top`: nodes, channels and consumers with their rates, drawn again and again until `q` or Ctrl-C. It needs no more of
//! a terminal than to go home, to clear, and to hide its cursor.

mod rates;
mod terminal;

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use self::{
    rates::{Moment, Rates},
    terminal::Terminal,
};
use super::{
    CliError, Global, OutputFormat,
    cluster::HEALTH,
    remote::{connect, on_the_wire, parse_duration, print_json, print_line, table, thousands, written},
    serve::Signals,
    style::{Style, with_words},
};
use crate::{
    client::Client,
    proto::v1::{Channel, ClusterStatusResponse, Consumer, NodeHealth, NodeRole, NodeStatus},
};

/// Channels whose consumers are asked for at once.
const AT_ONCE: usize = 16;

/// What `top` takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// How often it is drawn, and over what time rates are counted
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Print one table, with the rates over one interval, and end
    #[arg(long)]
    once: bool,
    /// Channels and consumers that are shown, those with the highest rates first
    #[arg(long, value_name = "N", default_value_t = 20)]
    rows: usize,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(100) { Err("give at least 100ms".into()) } else { Ok(interval) }
}

/// Runs the command.
pub(super) async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let client = connect(global).await?;
    let draws = io::stdout().is_terminal() && !args.once && global.output == OutputFormat::Table;
    let mut before = look(&client).await?;
    if args.once {
        tokio::time::sleep(args.interval).await;
        return print(&Rates::between(&before, &look(&client).await?), args.rows, global);
    }
    // Restores the terminal however this ends.
    let terminal = if draws { Some(Terminal::open().map_err(cannot_draw)?) } else { None };
    // One wait for all of it: a signal that came while the cluster was asked is not lost.
    let mut signals = Signals::new()?;
    let ended = async {
        tokio::select! {
            () = terminal::ended(terminal.is_some()) => {}
            () = signals.next() => {}
        }
    };
    tokio::pin!(ended);
    loop {
        let looked = async {
            tokio::time::sleep(args.interval).await;
            look(&client).await
        };
        let looked = tokio::select! {
            biased;
            () = &mut ended => return Ok(()),
            looked = looked => looked,
        };
        let now = match looked {
            Ok(now) => now,
            // A cluster that has no leader for a while is what one looks at.
            Err(error) if terminal.is_some() => {
                draw(&format!("{}\n", Style::Red.on_stdout(&error.to_string())))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let rates = Rates::between(&before, &now);
        if terminal.is_some() {
            draw(&text(&rates, args.rows))?;
        } else {
            print(&rates, args.rows, global)?;
        }
        before = now;
    }
}

fn cannot_draw(error: io::Error) -> CliError {
    CliError::failed(format!("cannot draw on this terminal: {error}")).with_help("`--once` prints one table".to_owned())
}

/// Everything that is shown, as it is now.
async fn look(client: &Client) -> Result<Moment, CliError> {
    let status = ClusterStatusResponse::from(client.cluster_status().await?);
    let channels: Vec<Channel> = on_the_wire(client.list_channels().await?);
    let mut consumers = Vec::new();
    for some in channels.chunks(AT_ONCE) {
        let asked = some.iter().map(|channel| client.list_consumers(&channel.name));
        // A channel that was deleted meanwhile has none.
        let found = futures::future::join_all(asked).await.into_iter().filter_map(Result::ok);
        consumers.extend(found.flat_map(on_the_wire::<_, Consumer>));
    }
    Ok(Moment { at: Instant::now(), status, channels, consumers })
}

fn draw(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    written(out.write_all(terminal::frame(text).as_bytes()).and_then(|()| out.flush()))
}

fn print(rates: &Rates<'_>, rows: usize, global: &Global) -> Result<(), CliError> {
    match global.output {
        OutputFormat::Json => print_json(&rates.json()),
        OutputFormat::Raw => print_line(&format!("{:.0}", rates.published())),
        OutputFormat::Table => print_line(text(rates, rows).trim_end()),
    }
}

fn text(rates: &Rates<'_>, rows: usize) -> String {
    let status = &rates.now.status;
    let leader = if status.leader.is_empty() { "no leader" } else { &status.leader };
    let head = format!(
        "leader {leader}   {} channel(s)   {} consumer(s)   {}/s published",
        thousands(rates.now.channels.len() as u64),
        thousands(rates.now.consumers.len() as u64),
        thousands(rates.published() as u64)
    );
    let nodes = table(&["NODE", "ROLE", "HEALTH", "APPLIED", "LAG", "COMMITS/S"], &[3, 4, 5], nodes(rates));
    let mut text = format!("{}\n\n{}\n", Style::Bold.on_stdout(&head), with_words(&nodes, &HEALTH));
    let header = ["CHANNEL", "MESSAGES", "BYTES", "IN/S", "BYTES/S", "KEYS", "SUBSCRIBERS"];
    let (channels, more) = channels(rates, rows);
    text.push_str(&format!("\n{}\n{}", table(&header, &[1, 2, 3, 4, 5, 6], channels), and_more(more)));
    let header = ["CONSUMER", "LAG", "OUT/S", "IN FLIGHT", "WAITING", "REDELIVERED/S", "DEAD"];
    let (consumers, more) = consumers(rates, rows);
    text.push_str(&format!("\n{}\n{}", table(&header, &[1, 2, 3, 4, 5, 6], consumers), and_more(more)));
    text
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!("and {} more\n", thousands(more as u64)) }
}

fn nodes(rates: &Rates<'_>) -> Vec<Vec<String>> {
    let row = |node: &NodeStatus| {
        let role = match node.role() {
            NodeRole::Leader => "leader",
            NodeRole::Learner => "learner",
            NodeRole::Follower | NodeRole::Unspecified => "follower",
        };
        let health = match node.health() {
            NodeHealth::Ok => "ok",
            NodeHealth::Behind => "behind",
            NodeHealth::Unwell => "unwell",
            NodeHealth::Unreachable => "unreachable",
            NodeHealth::Failed | NodeHealth::Unspecified => "failed",
        };
        let known = node.health() != NodeHealth::Unreachable;
        let figure = |value: u64| if known { thousands(value) } else { "?".to_owned() };
        let commits = rates.commits(node);
        vec![
            node.name.clone(),
            role.to_owned(),
            health.to_owned(),
            figure(node.applied),
            figure(node.lag),
            figure(commits as u64),
        ]
    };
    rates.now.status.nodes.iter().map(row).collect()
}

/// Rows, and how many there is no room for.
fn channels(rates: &Rates<'_>, rows: usize) -> (Vec<Vec<String>>, usize) {
    let mut all: Vec<(&Channel, f64, f64)> = rates.channels().collect();
    all.sort_by(|(one, one_rate, _), (other, other_rate, _)| {
        other_rate.total_cmp(one_rate).then_with(|| one.name.cmp(&other.name))
    });
    let row = |(channel, messages, bytes): &(&Channel, f64, f64)| {
        let stored = channel.next_seq.saturating_sub(channel.first_seq).saturating_sub(channel.compacted);
        let figures = [stored, channel.bytes, *messages as u64, *bytes as u64, channel.live_keys, channel.subscribers];
        std::iter::once(channel.name.clone()).chain(figures.map(thousands)).collect()
    };
    (all.iter().take(rows).map(row).collect(), all.len().saturating_sub(rows))
}

/// The same of consumers, the most behind first where rates are the same.
fn consumers(rates: &Rates<'_>, rows: usize) -> (Vec<Vec<String>>, usize) {
    let mut all: Vec<(&Consumer, f64, f64)> = rates.consumers().collect();
    all.sort_by(|(one, one_rate, _), (other, other_rate, _)| {
        other_rate.total_cmp(one_rate).then_with(|| other.lag.cmp(&one.lag))
    });
    let row = |(consumer, settled, redelivered): &(&Consumer, f64, f64)| {
        let figures =
            [consumer.lag, *settled as u64, consumer.in_flight, consumer.waiting, *redelivered as u64, consumer.dead];
        let name = format!("{}/{}", consumer.channel, consumer.name);
        std::iter::once(name).chain(figures.map(thousands)).collect()
    };
    (all.iter().take(rows).map(row).collect(), all.len().saturating_sub(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_channels_and_consumers_come_first_and_the_rest_is_counted() {
        let at = Instant::now();
        let channel = |id, name: &str, next_seq| Channel { id, name: name.into(), next_seq, ..Channel::default() };
        let moment = |at, busy| Moment {
            at,
            status: ClusterStatusResponse { leader: "n1".into(), ..ClusterStatusResponse::default() },
            channels: vec![channel(1, "idle", 9), channel(2, "busy", busy)],
            consumers: Vec::new(),
        };
        let (before, now) = (moment(at, 1), moment(at + Duration::from_secs(2), 3_001));
        let rates = Rates::between(&before, &now);
        let shown = text(&rates, 1);
        assert!(shown.contains("leader n1") && shown.contains("1,500/s published"), "{shown}");
        assert!(shown.contains("busy") && !shown.contains("idle") && shown.contains("and 1 more"), "{shown}");
    }
}
