//! Sending a consumer's dead letters back.
//!
//! A redrive goes in steps of bounded size, each an entry of the log that appends letters to their new channel and takes
//! them out of the old one. Before its first step it takes a turn without letters: what its store holds behind that is what
//! all steps before have left, and a step of anybody else in between makes its own be refused. So it may be broken off,
//! repeated, and run by several at once on any nodes. One call is bounded in letters, bytes and time, and says where the
//! next one goes on.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    super::{
        Broker, BrokerError, Confirm,
        checks::CHECK_TIME,
        filter_of,
        leader::RETRY,
        outcomes::{excepted, named},
        routing::Judged,
    },
    letters::Letter,
    listing::{Letters, Piece},
};
use crate::{
    model::{
        ChannelId, ChannelMeta, Durability, Frame, Gone, Limits, Operation, OperationReply, Predicate, PublishGroup,
        Redrive, Refusal, stream_key,
    },
    proto::v1::{self, Message},
};

/// Refused letters of which a call says why; the others are only counted.
const TOLD: usize = 100;

/// A piece that was looked at.
struct Checked {
    redrive: Redrive,
    piece: Piece,
    /// Letters that cannot go, and why.
    refused: Vec<(u64, BrokerError)>,
}

/// Where letters go.
#[derive(Clone, Debug, Default)]
pub struct RedriveTo {
    /// The channel; none: the one in which their messages died.
    pub channel: Option<String>,
    /// Nothing is moved: the answer says what would be.
    pub dry_run: bool,
}

/// What a call has done.
#[derive(Clone, Debug, Default)]
pub struct Redriven {
    /// The channel from which letters went.
    pub dead_letter: String,
    /// The one to which they went.
    pub target: String,
    /// Letters that went there; of a dry run, those that would.
    pub moved: u64,
    /// Letters that are gone after a step of which no answer came: this call has moved them, or another one at that time.
    pub unsure: u64,
    /// Letters that stay because they cannot go there.
    pub refused: u64,
    /// The first of them, with the reasons.
    pub refusals: Vec<(u64, BrokerError)>,
    /// Where the next call goes on.
    pub next_seq: u64,
    /// Whether that is the end.
    pub done: bool,
    /// Why nothing more can be moved now.
    pub stopped: Option<BrokerError>,
}

/// Letters that can go, as they go.
#[derive(Default)]
struct Step {
    gone: Vec<Gone>,
    messages: Vec<Message>,
}

impl Redriven {
    /// As the public API says it.
    pub fn to_proto(&self, error: impl Fn(&BrokerError) -> v1::Error) -> v1::RedriveResponse {
        let refusal = |(seq, why): &(u64, BrokerError)| v1::RefusedLetter { seq: *seq, error: Some(error(why)) };
        v1::RedriveResponse {
            dead_letter: self.dead_letter.clone(),
            target: self.target.clone(),
            moved: self.moved,
            unsure: self.unsure,
            refused: self.refused,
            refusals: self.refusals.iter().map(refusal).collect(),
            next_seq: self.next_seq,
            done: self.done,
            stopped: self.stopped.as_ref().map(error),
        }
    }

    fn refuse(&mut self, seq: u64, why: BrokerError) {
        self.refused += 1;
        if self.refusals.len() < TOLD {
            self.refusals.push((seq, why));
        }
    }
}

impl Broker {
    /// Sends dead letters of a consumer to another channel: each is appended there and leaves the dead-letter channel in the
    /// same log entry. One call moves a bounded number; the next one goes on at `next_seq`.
    ///
    /// # Errors
    /// As [`Broker::dead_letters_of`]; `NotStored` where the target is ephemeral; `NoLeader` and the like when nothing has
    /// been moved yet, and nothing is being moved.
    pub async fn redrive(&self, wanted: &Letters, to: &RedriveTo) -> Result<Redriven, BrokerError> {
        let _request = self.inner.requests.token();
        self.check_running()?;
        self.catch_up().await?;
        let meta = self.letters_channel(wanted).await?;
        let target = to.channel.as_deref().unwrap_or(&wanted.channel);
        self.target(&meta, target)?;
        let filter = filter_of(&wanted.filter)?;
        let mut done = Redriven {
            dead_letter: meta.name.to_string(),
            target: target.to_owned(),
            next_seq: wanted.from_seq,
            ..Redriven::default()
        };
        let until = Instant::now() + Limits::REDRIVE_TIME;
        let moving = self.redrive_on(&meta, wanted, filter.as_ref(), to.dry_run, until, &mut done).await;
        match moving {
            Err(error) if done.moved == 0 && done.unsure == 0 && done.refused == 0 => return Err(error),
            Err(error) => done.stopped = Some(error),
            Ok(()) => {}
        }
        Ok(done)
    }

    async fn redrive_on(
        &self,
        meta: &ChannelMeta,
        wanted: &Letters,
        filter: Option<&Predicate>,
        dry_run: bool,
        until: Instant,
        done: &mut Redriven,
    ) -> Result<(), BrokerError> {
        let limit = if wanted.limit == 0 { u64::MAX } else { wanted.limit }.min(Limits::LETTERS_PER_CALL);
        let (mut looked_at, mut turn) = (0, None);
        // The letters of a step of which no answer came.
        let mut unheard: Option<Vec<u64>> = None;
        while !done.done && done.moved + done.unsure + done.refused < limit {
            let step = match turn {
                Some(step) => step,
                None if dry_run => 0,
                None => match self.take_turn(meta, until).await {
                    Ok(step) => step,
                    Err(error) => {
                        done.unsure += unheard.map_or(0, |letters| letters.len() as u64);
                        return Err(error);
                    }
                },
            };
            turn = Some(step);
            if let Some(letters) = unheard.take() {
                match self.missing(meta, &letters).await {
                    Ok(missing) => done.unsure += missing,
                    Err(error) => {
                        done.unsure += letters.len() as u64;
                        return Err(error);
                    }
                }
            }
            let left = usize::try_from(limit - done.moved - done.unsure - done.refused).unwrap_or(usize::MAX);
            let most = (left.min(Limits::REDRIVE_LETTERS), Limits::REDRIVE_BYTES);
            let piece = self.piece(meta, wanted, filter, done.next_seq, most).await?;
            looked_at += piece.looked_at;
            let target = self.target(meta, &done.target)?;
            let checked = if self.is_checked_quickly(&target, Limits::REDRIVE_BYTES) {
                self.step(meta.id, &target, step, piece)
            } else {
                let (broker, letters, target) = (self.clone(), meta.id, target.clone());
                self.in_turn(move || broker.step(letters, &target, step, piece)).await?
            };
            let Checked { redrive, piece, refused } = checked?;
            if !dry_run && !redrive.gone.is_empty() {
                let count = redrive.count();
                match self.operate_still(Operation::Redrive(redrive.clone())).await {
                    Ok(Ok(OperationReply::Redriven { step, .. })) => {
                        turn = Some(step);
                        done.moved += count;
                    }
                    Ok(Ok(other)) => {
                        return Err(BrokerError::Internal { reason: format!("an unexpected reply: {other:?}") });
                    }
                    // Someone else's step came between. What was refused here is as good as a turn: this node has applied
                    // all that came before it. So of several redrives one gets on at any time.
                    Ok(Err(Refusal::StaleRedrive { step })) if Instant::now() < until => {
                        turn = Some(step);
                        continue;
                    }
                    Ok(Err(Refusal::StaleSchema { .. } | Refusal::StaleRules { .. } | Refusal::NoSuchChannel))
                        if Instant::now() < until =>
                    {
                        self.catch_up().await?;
                        turn = None;
                        continue;
                    }
                    Ok(Err(
                        Refusal::StaleRedrive { .. }
                        | Refusal::StaleSchema { .. }
                        | Refusal::StaleRules { .. }
                        | Refusal::NoSuchChannel,
                    )) => break,
                    Ok(Err(refusal)) => {
                        let stopped = self.refused_step(&target, &redrive, refusal, done).await;
                        let passed = refused.into_iter().filter(|(seq, _)| *seq < done.next_seq);
                        passed.collect::<Vec<_>>().into_iter().for_each(|(seq, why)| done.refuse(seq, why));
                        return stopped;
                    }
                    Err(error) if error.outcome_unknown() && Instant::now() < until + Limits::REDRIVE_TIME => {
                        unheard = Some(seqs(&redrive.gone).collect());
                        turn = None;
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                    Err(error) => {
                        done.unsure += if error.outcome_unknown() { count } else { 0 };
                        return Err(error.into());
                    }
                }
            } else {
                done.moved += redrive.count();
            }
            refused.into_iter().for_each(|(seq, why)| done.refuse(seq, why));
            (done.next_seq, done.done) = (piece.next_seq, piece.done);
            if looked_at >= Limits::LETTER_BYTES_PER_CALL || Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }

    /// The target does not take a letter: those before it go, and what it refuses is told. Where it is full, nothing after
    /// it would fit either.
    async fn refused_step(
        &self,
        target: &ChannelMeta,
        redrive: &Redrive,
        refusal: Refusal,
        done: &mut Redriven,
    ) -> Result<(), BrokerError> {
        let mut seqs = seqs(&redrive.gone);
        let (position, error) = match refusal {
            Refusal::RedriveRefused { position, outcome } => {
                let error = excepted(outcome, 0, Confirm::Commit).err();
                let error = error.unwrap_or_else(|| BrokerError::Internal { reason: format!("{outcome:?}") });
                (position as usize, named(error, target.name.as_str(), ""))
            }
            other => match self.copy_refused(&other) {
                Some((position, error)) => (position as usize, error),
                None => return Err(BrokerError::Internal { reason: other.to_string() }),
            },
        };
        let first: Vec<u64> = seqs.by_ref().take(position).collect();
        if position > 0 {
            match self.operate_still(Operation::Redrive(self.part(redrive, position)?)).await {
                Ok(Ok(_)) => done.moved += first.len() as u64,
                // The next call sees how things are.
                Ok(Err(refusal)) => return self.copy_refused(&refusal).map_or(Ok(()), |(_, error)| Err(error)),
                Err(unknown) if unknown.outcome_unknown() => done.unsure += first.len() as u64,
                Err(error) => return Err(error.into()),
            }
        }
        let Some(refused) = seqs.next() else { return Err(error) };
        done.next_seq = refused;
        if matches!(error, BrokerError::ChannelFull { .. }) {
            return Err(error);
        }
        // It alone is too large.
        done.refuse(refused, error);
        done.next_seq = refused + 1;
        Ok(())
    }

    /// The first letters of a step.
    fn part(&self, redrive: &Redrive, count: usize) -> Result<Redrive, BrokerError> {
        let count = count as u64;
        let (mut left, mut gone) = (count, Vec::new());
        for run in &redrive.gone {
            let taken = run.count.min(left);
            let bytes = run.bytes - run.from_seq(run.first_seq + taken).map_or(0, |rest| rest.bytes);
            gone.extend((taken > 0).then_some(Gone { first_seq: run.first_seq, count: taken, bytes }));
            left -= taken;
        }
        let end = gone.last().map_or(0, Gone::end_seq);
        let frame = redrive.group.frame.take(u32::try_from(count).unwrap_or(u32::MAX));
        let mut routing = self.routing(redrive.group.channel);
        for (position, message) in (0u32..).zip(frame.messages()) {
            routing.add(self, position, &message.map_err(|error| unreadable(&error))?, Judged::Here)?;
        }
        let rules_version = routing.version();
        let group = PublishGroup { rules_version, routes: routing.finish(), frame, ..redrive.group.clone() };
        Ok(Redrive { gone, begin: redrive.begin.map(|begin| begin.min(end)), group, ..redrive.clone() })
    }

    /// What goes of a piece, and what cannot. The piece ends earlier where the rest would take long to check, or where the
    /// rules of the target copy more than one entry may make.
    fn step(
        &self,
        letters: ChannelId,
        target: &Arc<ChannelMeta>,
        step: u64,
        mut piece: Piece,
    ) -> Result<Checked, BrokerError> {
        let (schema, mut routing) = (self.schema_of(target)?, self.routing(target.id));
        let has_rules = routing.targets().next().is_some();
        let (mut going, mut refused) = (Step::default(), Vec::new());
        let give_up = Instant::now() + CHECK_TIME;
        let mut ends = None;
        for (number, letter) in piece.letters.iter().enumerate() {
            if number > 0 && (Instant::now() >= give_up || self.check_copied(routing.copied()).is_err()) {
                ends = Some((number, letter.seq));
                break;
            }
            let fits = letter.reborn().and_then(|message| {
                if let Some(schema) = &schema {
                    let checked = schema.check(&message.payload, self.limits());
                    checked.map_err(|unfit| unfit.of_channel(target.name.as_str()))?;
                }
                if has_rules {
                    let mut alone = self.routing(target.id);
                    alone.add(self, 0, &message, Judged::Here)?;
                    self.check_copied(alone.copied())?;
                }
                Ok(message)
            });
            match fits {
                Ok(message) => {
                    let position = u32::try_from(going.messages.len()).unwrap_or(u32::MAX);
                    routing.add(self, position, &message, Judged::Here)?;
                    going.add(letter, message);
                }
                Err(why) => refused.push((letter.seq, why)),
            }
        }
        if let Some((number, seq)) = ends {
            piece.end_at(number, seq);
        }
        // Where the piece begins the channel, what it holds up to the first message that stays is all that there is.
        let stays = refused.iter().map(|(seq, _)| *seq).chain(piece.other).min();
        let begin = piece.begins().then(|| stays.unwrap_or(piece.next_seq)).filter(|begin| *begin > piece.first_seq);
        let expires = going.messages.iter().any(|message| message.ttl_ms > 0);
        let group = PublishGroup {
            channel: target.id,
            schema_id: target.schema_id,
            rules_version: routing.version(),
            expires,
            routes: routing.finish(),
            frame: Frame::encode(&going.messages),
            ..PublishGroup::default()
        };
        let redrive = Redrive { letters, step, gone: going.gone, begin, group };
        Ok(Checked { redrive, piece, refused })
    }

    /// Takes a turn without letters; gives the step that the next one is.
    async fn take_turn(&self, meta: &ChannelMeta, until: Instant) -> Result<u64, BrokerError> {
        let deadline = until + self.limits().publish_timeout;
        loop {
            let step = self.inner.view.compaction(meta.id).unwrap_or_default().step;
            let turn = Redrive { letters: meta.id, step, ..Redrive::default() };
            match self.operate_still(Operation::Redrive(turn)).await {
                Ok(Ok(OperationReply::Redriven { step, .. }) | Err(Refusal::StaleRedrive { step })) => return Ok(step),
                Ok(Err(Refusal::NoSuchChannel)) => {
                    return Err(BrokerError::ChannelNotFound { name: meta.name.to_string(), similar: None });
                }
                Ok(other) => return Err(BrokerError::Internal { reason: format!("an unexpected reply: {other:?}") }),
                // Whether it was taken or not, the next one says which step it is.
                Err(error) if error.outcome_unknown() && Instant::now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How many of some letters are gone.
    async fn missing(&self, meta: &ChannelMeta, letters: &[u64]) -> Result<u64, BrokerError> {
        let (Some(first), Some(last)) = (letters.first(), letters.last()) else { return Ok(0) };
        let (mut from, mut present) = (*first, 0);
        while from <= *last {
            let _whole = self.inner.view.whole().await;
            let (first_seq, redriven) = self.bounds(meta);
            let key = stream_key(meta.name.as_str());
            let found = self.store().read_batches(&key, from.max(first_seq), Limits::REDRIVE_BYTES).await;
            let found = found.map_err(|error| self.store_error(&error))?;
            let Some(end) = found.last().map(crate::model::StoredBatch::end_seq) else { break };
            let stored = found.iter().flat_map(|batch| batch.first_seq..batch.end_seq());
            let stored = stored.filter(|seq| *seq >= from && *seq >= first_seq && Some(*seq) != redriven);
            present += stored.filter(|seq| letters.binary_search(seq).is_ok()).count();
            from = end;
        }
        Ok(letters.len().saturating_sub(present) as u64)
    }

    fn target(&self, letters: &ChannelMeta, name: &str) -> Result<Arc<ChannelMeta>, BrokerError> {
        let target = self.find(name)?;
        if target.id == letters.id {
            let reason = format!("the letters are in `{name}` already: name another channel");
            return Err(BrokerError::InvalidArgument { reason });
        }
        if target.config.durability == Durability::Ephemeral {
            return Err(BrokerError::NotStored { channel: name.to_owned() });
        }
        Ok(target)
    }
}

impl Step {
    fn add(&mut self, letter: &Letter, message: Message) {
        match self.gone.last_mut().filter(|run| run.end_seq() == letter.seq) {
            Some(run) => {
                run.count += 1;
                run.bytes += letter.bytes;
            }
            None => self.gone.push(Gone { first_seq: letter.seq, count: 1, bytes: letter.bytes }),
        }
        self.messages.push(message);
    }
}

/// The places of runs.
fn seqs(gone: &[Gone]) -> impl Iterator<Item = u64> {
    gone.iter().flat_map(|gone| gone.first_seq..gone.end_seq())
}

fn unreadable(error: &dyn std::fmt::Display) -> BrokerError {
    BrokerError::Internal { reason: error.to_string() }
}
