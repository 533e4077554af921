//! Judges a run by its history and by what the nodes hold in the end. It knows nothing of liminal's inside: each rule is
//! a promise to users, and each is shown to notice its breach (`check/tests.rs`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
    time::Duration,
};

use super::history::{Intent, Moment, Outcome, Record};

#[cfg(test)]
mod tests;

/// Violations of one kind that are written out; the others are counted.
const SHOWN: usize = 5;
/// By how much time in the log may pass faster than time outside: it is pulled by at most 50 ms a second, and clients
/// measure with clocks of their own.
const FASTER: f64 = 0.06;

/// What one node holds of one channel in the end.
#[derive(Clone, Debug)]
pub struct Stored {
    pub node: String,
    pub channel: &'static str,
    /// Sequence number, key, payload.
    pub messages: Vec<(u64, String, String)>,
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub records: Vec<Record>,
    pub stored: Vec<Stored>,
    /// Each node's name and the hash of its state at one log index; empty where there is none.
    pub hashes: Vec<(String, String)>,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub operations: usize,
    pub acknowledged: usize,
    pub unknown: usize,
    pub lost: usize,
    pub duplicated: usize,
    pub longest_gap: Duration,
    pub violations: Vec<String>,
}

impl Verdict {
    fn say<T: Display>(&mut self, rule: &str, found: Vec<T>) -> usize {
        for one in found.iter().take(SHOWN) {
            self.violations.push(format!("{rule}: {one}"));
        }
        if found.len() > SHOWN {
            self.violations.push(format!("{rule}: {} more", found.len() - SHOWN));
        }
        found.len()
    }
}

/// All attempts to store one message.
#[derive(Default)]
struct Attempts<'a> {
    key: &'a str,
    first_begun: Moment,
    first_acknowledged: Option<Moment>,
    seqs: BTreeSet<u64>,
    /// Whether it may be stored at all.
    possible: bool,
}

type Messages<'a> = BTreeMap<(&'a str, &'a str), Attempts<'a>>;

/// Judges.
pub fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let messages = messages(&evidence.records);
    count(evidence, &mut verdict);
    stored_once(&messages, &evidence.stored, &mut verdict);
    places(&messages, &evidence.stored, &mut verdict);
    keys(&messages, &evidence.stored, &mut verdict);
    order(&messages, &mut verdict);
    expectations(&evidence.records, &mut verdict);
    whole_transactions(evidence, &mut verdict);
    reads(evidence, &messages, &mut verdict);
    readers(evidence, &mut verdict);
    claims(&evidence.records, &mut verdict);
    deliveries(&evidence.records, &mut verdict);
    let hashes: BTreeSet<&str> = evidence.hashes.iter().map(|(_, hash)| hash.as_str()).collect();
    if hashes.len() > 1 || hashes.contains("") {
        verdict.say("the states differ", vec![format!("{:?}", evidence.hashes)]);
    }
    verdict
}

fn attempts(record: &Record) -> Vec<(&Intent, Moment, Moment, Outcome<u64>)> {
    match record {
        Record::Publish { begun, ended, message, outcome, .. } => vec![(message, *begun, *ended, outcome.clone())],
        Record::Transaction { begun, ended, messages, outcome } => {
            let outcome_of = |number: usize| match outcome {
                Outcome::Done(seqs) => Outcome::Done(seqs[number]),
                Outcome::Refused(code) => Outcome::Refused(code.clone()),
                Outcome::Unknown(code) => Outcome::Unknown(code.clone()),
            };
            messages.iter().enumerate().map(|(at, message)| (message, *begun, *ended, outcome_of(at))).collect()
        }
        _ => Vec::new(),
    }
}

fn messages(records: &[Record]) -> Messages<'_> {
    let mut messages = Messages::new();
    for (message, begun, ended, outcome) in records.iter().flat_map(attempts) {
        let fresh = || Attempts { key: &message.key, first_begun: begun, ..Attempts::default() };
        let known = messages.entry((message.channel, message.payload.as_str())).or_insert_with(fresh);
        known.first_begun = known.first_begun.min(begun);
        known.possible |= !matches!(outcome, Outcome::Refused(_));
        if let Outcome::Done(seq) = outcome {
            known.seqs.insert(seq);
            known.first_acknowledged = Some(known.first_acknowledged.map_or(ended, |first| first.min(ended)));
        }
    }
    messages
}

fn count(evidence: &Evidence, verdict: &mut Verdict) {
    let mut acks = Vec::new();
    for record in &evidence.records {
        verdict.operations += 1;
        let (unknown, acknowledged) = match record {
            Record::Publish { ended, outcome, .. } => {
                (matches!(outcome, Outcome::Unknown(_)), matches!(outcome, Outcome::Done(_)).then_some(*ended))
            }
            Record::Transaction { ended, outcome, .. } => {
                (matches!(outcome, Outcome::Unknown(_)), matches!(outcome, Outcome::Done(_)).then_some(*ended))
            }
            Record::Take { outcome: Outcome::Unknown(_), .. }
            | Record::Complete { outcome: Outcome::Unknown(_), .. }
            | Record::Settle { outcome: Outcome::Unknown(_), .. } => (true, None),
            _ => (false, None),
        };
        verdict.unknown += usize::from(unknown);
        acks.extend(acknowledged);
    }
    verdict.acknowledged = acks.len();
    acks.sort_unstable();
    let longest = acks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    verdict.longest_gap = Duration::from_micros(longest);
}

/// Every acknowledged message is on every node once; what was refused, and what nobody sent, is on none.
fn stored_once(messages: &Messages<'_>, stored: &[Stored], verdict: &mut Verdict) {
    let (mut lost, mut duplicated, mut phantoms) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for Stored { node, channel, messages: on_node } in stored {
        let mut found: HashMap<&str, Vec<u64>> = HashMap::new();
        for (seq, _, payload) in on_node {
            found.entry(payload).or_default().push(*seq);
            if !messages.get(&(*channel, payload.as_str())).is_some_and(|known| known.possible) {
                phantoms.push(format!("{channel}@{seq} on {node} holds `{payload}`, which nobody sent or was refused"));
            }
        }
        for ((_, payload), known) in messages.iter().filter(|((of, _), _)| of == channel) {
            let at = found.get(payload).map(Vec::as_slice).unwrap_or_default();
            if known.first_acknowledged.is_some() && !at.iter().any(|seq| known.seqs.contains(seq)) {
                lost.insert(format!(
                    "`{payload}` of {channel}, acknowledged at {:?}, is at {at:?} on {node}",
                    known.seqs
                ));
            }
            if at.len() > 1 {
                duplicated.insert(format!("`{payload}` of {channel} is at {at:?} on {node}"));
            }
        }
    }
    verdict.lost = verdict.say("lost", lost.into_iter().collect());
    verdict.duplicated = verdict.say("duplicated", duplicated.into_iter().collect());
    verdict.say("phantom", phantoms);
}

/// Sequence numbers are contiguous, and each names one message, on every node and in every answer.
fn places(messages: &Messages<'_>, stored: &[Stored], verdict: &mut Verdict) {
    let mut named: BTreeMap<(&str, u64), BTreeSet<&str>> = BTreeMap::new();
    let mut gaps = Vec::new();
    for Stored { node, channel, messages } in stored {
        for (next, (seq, _, payload)) in messages.iter().enumerate() {
            named.entry((*channel, *seq)).or_default().insert(payload);
            if *seq != next as u64 {
                gaps.push(format!("{channel} on {node} has {seq} where {next} was to come"));
                break;
            }
        }
    }
    for ((channel, payload), known) in messages {
        for seq in &known.seqs {
            named.entry((*channel, *seq)).or_default().insert(payload);
        }
    }
    verdict.say("gap", gaps);
    let several = named.iter().filter(|(_, payloads)| payloads.len() > 1);
    verdict.say(
        "one place, two messages",
        several.map(|((channel, seq), two)| format!("{channel}@{seq} {two:?}")).collect(),
    );
}

/// One key has one place, and all acknowledgements of it agree.
fn keys(messages: &Messages<'_>, stored: &[Stored], verdict: &mut Verdict) {
    let mut places: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
    for ((channel, _), known) in messages.iter().filter(|(_, known)| !known.key.is_empty()) {
        places.entry((*channel, known.key)).or_default().extend(&known.seqs);
    }
    for Stored { channel, messages, .. } in stored {
        for (seq, key, _) in messages.iter().filter(|(_, key, _)| !key.is_empty()) {
            places.entry((*channel, key)).or_default().insert(*seq);
        }
    }
    let several = places.iter().filter(|(_, seqs)| seqs.len() > 1);
    verdict.say(
        "one key, two places",
        several.map(|((channel, key), seqs)| format!("{key} of {channel}: {seqs:?}")).collect(),
    );
}

/// What was acknowledged before something else began comes before it.
fn order(messages: &Messages<'_>, verdict: &mut Verdict) {
    let mut channels: BTreeMap<&str, Vec<(u64, Moment, Moment)>> = BTreeMap::new();
    for ((channel, _), known) in messages {
        if let (Some(acknowledged), Some(seq)) = (known.first_acknowledged, known.seqs.first()) {
            channels.entry(channel).or_default().push((*seq, known.first_begun, acknowledged));
        }
    }
    for (channel, places) in channels {
        let found = overtaken(places)
            .into_iter()
            .map(|(seq, by)| format!("{channel}@{seq} began after {channel}@{by} was acknowledged"));
        verdict.say("reordered", found.collect());
    }
}

/// Those numbers that are smaller than one whose call had ended before theirs began; each with such a one.
fn overtaken(mut calls: Vec<(u64, Moment, Moment)>) -> Vec<(u64, u64)> {
    calls.sort_unstable();
    let (mut found, mut earliest) = (Vec::new(), (Moment::MAX, 0));
    for (number, begun, ended) in calls.into_iter().rev() {
        if earliest.0 < begun {
            found.push((number, earliest.1));
        }
        earliest = earliest.min((ended, number));
    }
    found
}

/// Who named the place that the message must get, got that place.
fn expectations(records: &[Record], verdict: &mut Verdict) {
    let wrong = records.iter().filter_map(|record| match record {
        Record::Publish { message, expected: Some(expected), outcome: Outcome::Done(seq), .. } if seq != expected => {
            Some(format!("{}@{seq} was to be at {expected}", message.channel))
        }
        _ => None,
    });
    verdict.say("another place than expected", wrong.collect());
}

fn whole_transactions(evidence: &Evidence, verdict: &mut Verdict) {
    let mut torn = BTreeSet::new();
    let nodes: BTreeSet<&str> = evidence.stored.iter().map(|stored| stored.node.as_str()).collect();
    for node in nodes {
        let on_node = evidence.stored.iter().filter(|stored| stored.node == node);
        let there: BTreeSet<(&str, &str)> = on_node
            .flat_map(|stored| stored.messages.iter().map(|(_, _, payload)| (stored.channel, payload.as_str())))
            .collect();
        for record in &evidence.records {
            let Record::Transaction { messages, .. } = record else { continue };
            let count =
                messages.iter().filter(|message| there.contains(&(message.channel, message.payload.as_str()))).count();
            if count != 0 && count != messages.len() {
                torn.insert(format!("{count} of {} messages of `{}` on {node}", messages.len(), messages[0].payload));
            }
        }
    }
    verdict.say("torn transaction", torn.into_iter().collect());
}

/// A linearizable read sees all that was acknowledged before it began.
fn reads(evidence: &Evidence, messages: &Messages<'_>, verdict: &mut Verdict) {
    let mut stale = Vec::new();
    for record in &evidence.records {
        let Record::Read { begun, channel, end, .. } = record else { continue };
        let before = |known: &&Attempts<'_>| known.first_acknowledged.is_some_and(|ended| ended < *begun);
        let of_channel = messages.range((*channel, "")..).take_while(|((of, _), _)| of == channel);
        let newest = of_channel.map(|(_, known)| known).filter(before).filter_map(|known| known.seqs.first()).max();
        if newest.is_some_and(|newest| newest >= end) {
            stale.push(format!("{channel} ended at {end} where {newest:?} was acknowledged before"));
        }
    }
    verdict.say("stale read", stale);
}

/// Every subscription sees what is stored, each message once, in order, without a gap, to the end.
fn readers(evidence: &Evidence, verdict: &mut Verdict) {
    let mut stored: BTreeMap<&str, &Stored> = BTreeMap::new();
    for one in &evidence.stored {
        let longest = stored.entry(one.channel).or_insert(one);
        if one.messages.len() > longest.messages.len() {
            *longest = one;
        }
    }
    let mut next: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let (mut wrong, mut phantoms) = (Vec::new(), Vec::new());
    for record in &evidence.records {
        let Record::Seen { reader, channel, seq, payload } = record else { continue };
        let next = next.entry((reader, channel)).or_insert(0);
        if *seq != *next {
            wrong.push(format!("{reader} saw {channel}@{seq} where {channel}@{next} was to come"));
        }
        *next = seq + 1;
        let there = stored.get(channel).and_then(|stored| stored.messages.get(*seq as usize));
        if !stored.is_empty() && there.is_none_or(|(_, _, stored)| stored != payload) {
            phantoms.push(format!("{reader} saw `{payload}` at {channel}@{seq}, where {there:?} is stored"));
        }
    }
    let behind = next.iter().filter_map(|((reader, channel), next)| {
        let end = stored.get(channel)?.messages.len() as u64;
        (*next < end).then(|| format!("{reader} saw {channel} to {next} of {end}"))
    });
    let behind = behind.collect();
    verdict.say("a subscription skipped or repeated", wrong);
    verdict.say("a subscription saw what is not stored", phantoms);
    verdict.say("a subscription stands still", behind);
}

struct Grant {
    begun: Moment,
    ended: Moment,
    lease: Duration,
}

/// Each claim is completed once, a lease lasts as long as it was given for, and tokens grow.
fn claims(records: &[Record], verdict: &mut Verdict) {
    let mut grants: BTreeMap<&str, BTreeMap<u64, Grant>> = BTreeMap::new();
    let mut done: BTreeMap<&str, BTreeMap<u64, Moment>> = BTreeMap::new();
    let mut receipts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    // A call whose answer was lost may have been granted the token that its repetition is told.
    let mut unknown: BTreeMap<&str, Moment> = BTreeMap::new();
    for record in records {
        match record {
            Record::Take { begun, key, outcome: Outcome::Unknown(_), .. } => {
                let first = unknown.entry(key).or_insert(*begun);
                *first = (*first).min(*begun);
            }
            Record::Take { begun, ended, key, lease, outcome: Outcome::Done(Some(token)) } => {
                let fresh = Grant { begun: *begun, ended: *ended, lease: *lease };
                let grant = grants.entry(key).or_default().entry(*token).or_insert(fresh);
                (grant.begun, grant.ended) = (grant.begun.min(*begun), grant.ended.min(*ended));
            }
            Record::Complete { ended, key, token, receipt, outcome: Outcome::Done(()), .. } => {
                done.entry(key).or_default().entry(*token).or_insert(*ended);
                receipts.entry(key).or_default().insert(receipt);
            }
            Record::Told { key, receipt } => {
                receipts.entry(key).or_default().insert(receipt);
            }
            _ => {}
        }
    }
    let twice = done.iter().filter(|(_, tokens)| tokens.len() > 1);
    verdict.say("a claim was completed twice", twice.map(|(key, tokens)| format!("{key}: {tokens:?}")).collect());
    let two = receipts.iter().filter(|(_, receipts)| receipts.len() > 1);
    verdict.say("a claim has two receipts", two.map(|(key, receipts)| format!("{key}: {receipts:?}")).collect());
    let (mut early, mut again) = (Vec::new(), Vec::new());
    for (key, tokens) in &grants {
        for ((token, grant), (next, later)) in tokens.iter().zip(tokens.iter().skip(1)) {
            let least = grant.begun + (grant.lease.as_micros() as f64 * (1.0 - FASTER)) as Moment;
            if later.ended < least {
                let after = (later.ended - grant.begun) / 1000;
                early.push(format!(
                    "{key}: token {token} held for {:?} was followed by {next} after {after} ms",
                    grant.lease
                ));
            }
        }
        for (token, completed) in done.get(key).into_iter().flatten() {
            let later = tokens.iter().filter(|(other, grant)| *other != token && grant.begun > *completed);
            again.extend(later.map(|(other, _)| format!("{key}: completed by token {token}, then granted to {other}")));
        }
    }
    verdict.say("a lease ended early", early);
    verdict.say("a completed claim was granted again", again);
    let mut all = Vec::new();
    for (key, tokens) in &grants {
        let asked = unknown.get(key).copied().unwrap_or(Moment::MAX);
        all.extend(tokens.iter().map(|(token, grant)| (*token, grant.begun.min(asked), grant.ended)));
    }
    let found = overtaken(all).into_iter().map(|(token, by)| format!("{token} was granted after {by}"));
    verdict.say("a token went back", found.collect());
}

/// What was acknowledged to a consumer never comes again.
fn deliveries(records: &[Record], verdict: &mut Verdict) {
    let mut settled: BTreeMap<u64, u32> = BTreeMap::new();
    for record in records {
        if let Record::Settle { seq, attempt, outcome: Outcome::Done(()), .. } = record {
            let first = settled.entry(*seq).or_insert(*attempt);
            *first = (*first).min(*attempt);
        }
    }
    let again = records.iter().filter_map(|record| match record {
        // Its attempts are numbered, so this holds whatever was on its way.
        Record::Handed { seq, attempt, member, .. } if settled.get(seq).is_some_and(|last| attempt > last) => {
            Some(format!("{seq}, settled at attempt {}, came to {member} at attempt {attempt}", settled[seq]))
        }
        _ => None,
    });
    verdict.say("a settled delivery came again", again.collect());
}
