//! Whether what another node says can be so.
//!
//! Who knows the cluster's cookie may still be wrong, by a fault or on purpose, and Raft believes every message that it is
//! given: a vote of the largest term there is would be written down, and no election could come after it. So messages and
//! answers are looked at before Raft sees them: a node speaks only for itself, an entry is in its place, and a term is one
//! that elections can have come to. What is not believed is refused, and counted.

use std::sync::atomic::{AtomicU64, Ordering};

use tonic::Status;

use super::complaints::Complaints;
use crate::proto::raft as wire;

/// How many terms beyond its own a node believes in. A node may be away while the others elect many leaders; a million
/// elections would take them weeks of doing nothing else.
const AHEAD: u64 = 1_000_000;
/// Terms end here, for a node that knows of none.
const END: u64 = 1 << 62;

/// Refuses what cannot be so, and says that in the log and the metrics.
#[derive(Default)]
pub(super) struct Doubts {
    refused: AtomicU64,
    complaints: Complaints,
}

impl Doubts {
    /// Messages that were refused since the process began.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Passes on what is believed of a message or an answer from a node.
    ///
    /// # Errors
    /// What cannot be so.
    pub(super) fn judge(&self, node: u64, verdict: Result<(), String>) -> Result<(), Status> {
        verdict.map_err(|reason| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            if self.complaints.is_due(&node.to_string()) {
                tracing::error!(
                    node,
                    reason,
                    "a node says what cannot be so: look at its build and its disk, or remove it"
                );
            }
            Status::invalid_argument(format!("refused: {reason}"))
        })
    }
}

/// Whether a node asks for a vote that it can be given.
pub(super) fn vote_request(request: &wire::VoteRequest, from: u64, own_term: u64) -> Result<(), String> {
    let vote = vote_of(request.vote.as_ref())?;
    term(vote, own_term)?;
    if vote.node != from {
        return Err(format!("node {from} asks for votes for node {}", vote.node));
    }
    if vote.committed {
        return Err(format!("node {from} asks for a vote that it says it has won"));
    }
    match request.last_log_id {
        Some(last) if last.term > vote.term => {
            Err(format!("node {from} asks for votes in term {} with an entry of term {}", vote.term, last.term))
        }
        _ => Ok(()),
    }
}

/// Whether a leader can have sent these entries.
pub(super) fn append(request: &wire::AppendRequest, from: u64, own_term: u64) -> Result<(), String> {
    let vote = vote_of(request.vote.as_ref())?;
    leads(vote, from, own_term)?;
    let mut last = request.prev_log_id;
    for entry in &request.entries {
        let id = entry.id.ok_or("an entry without its id")?;
        if last.is_some_and(|last| id.index != last.index.saturating_add(1) || id.term < last.term) {
            return Err(format!("entry {} of term {} follows {last:?}", id.index, id.term));
        }
        last = Some(id);
    }
    match last {
        Some(last) if last.term > vote.term => {
            Err(format!("entry {} is of term {}, and its leader of term {}", last.index, last.term, vote.term))
        }
        _ => Ok(()),
    }
}

/// Whether a node may say that it leads by this vote.
pub(super) fn leadership(vote: Option<&wire::Vote>, from: u64, own_term: u64) -> Result<(), String> {
    leads(vote_of(vote)?, from, own_term)
}

fn leads(vote: &wire::Vote, from: u64, own_term: u64) -> Result<(), String> {
    term(vote, own_term)?;
    if vote.node != from || !vote.committed {
        return Err(format!("node {from} sends entries by a vote that node {} has, or has not won", vote.node));
    }
    Ok(())
}

/// Whether a vote in an answer can be believed, to somebody in this term.
pub(super) fn answer(vote: Option<&wire::Vote>, own_term: u64) -> Result<(), String> {
    term(vote_of(vote)?, own_term)
}

/// How far a leader has sent its log to a node on one lane; what the node has cannot be more.
#[derive(Default)]
pub(super) struct Sent {
    term: AtomicU64,
    last: AtomicU64,
}

impl Sent {
    pub(super) fn note(&self, request: &wire::AppendRequest) {
        let last = request.entries.last().map_or(request.prev_log_id, |entry| entry.id);
        self.last.fetch_max(last.map_or(0, |last| last.index), Ordering::Relaxed);
        self.term.fetch_max(request.vote.as_ref().map_or(0, |vote| vote.term), Ordering::Relaxed);
    }

    pub(super) fn judge(&self, response: &wire::AppendResponse) -> Result<(), String> {
        use wire::append_response::Outcome;
        match &response.outcome {
            Some(Outcome::HigherVote(vote)) => term(vote, self.term.load(Ordering::Relaxed)),
            Some(Outcome::Matched(matched)) => {
                let (has, sent) = (matched.id.map_or(0, |id| id.index), self.last.load(Ordering::Relaxed));
                if has > sent { Err(format!("it has entry {has}, and was sent up to {sent}")) } else { Ok(()) }
            }
            Some(Outcome::Conflict(_)) | None => Ok(()),
        }
    }
}

fn vote_of(vote: Option<&wire::Vote>) -> Result<&wire::Vote, String> {
    vote.ok_or_else(|| "a message without its vote".to_owned())
}

fn term(vote: &wire::Vote, own_term: u64) -> Result<(), String> {
    let end = if own_term == 0 { END } else { own_term.saturating_add(AHEAD).min(END) };
    if vote.term <= end { Ok(()) } else { Err(format!("term {} is beyond {end}", vote.term)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64, node: u64, committed: bool) -> Option<wire::Vote> {
        Some(wire::Vote { term, node, committed })
    }

    fn id(term: u64, index: u64) -> Option<wire::LogId> {
        Some(wire::LogId { term, index })
    }

    fn asks(vote: Option<wire::Vote>) -> wire::VoteRequest {
        wire::VoteRequest { vote, last_log_id: id(3, 9), leadership_transfer: false }
    }

    fn sends(prev: Option<wire::LogId>, ids: &[(u64, u64)]) -> wire::AppendRequest {
        let entries = ids.iter().map(|(term, index)| wire::Entry { id: id(*term, *index), data: Vec::new().into() });
        wire::AppendRequest {
            vote: vote(5, 2, true),
            prev_log_id: prev,
            entries: entries.collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn a_node_asks_for_votes_for_itself_only_and_in_terms_that_may_have_come() {
        assert_eq!(vote_request(&asks(vote(5, 2, false)), 2, 4), Ok(()));
        let after_long = asks(vote(4 + AHEAD, 2, false));
        assert_eq!(vote_request(&after_long, 2, 4), Ok(()));
        for (wrong, why) in [
            (vote(5, 3, false), "for node 3"),
            (vote(5, 2, true), "it has won"),
            (vote(2, 2, false), "an entry of term 3"),
            (vote(5 + AHEAD, 2, false), "is beyond"),
            (vote(u64::MAX, 2, false), "is beyond"),
            (None, "without its vote"),
        ] {
            let error = vote_request(&asks(wrong), 2, 4).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        // A node that has never heard of a term believes those of any cluster, but not that terms have come to an end.
        assert_eq!(vote_request(&asks(vote(1 << 40, 2, false)), 2, 0), Ok(()));
        assert!(vote_request(&asks(vote(u64::MAX, 2, false)), 2, 0).is_err());
    }

    #[test]
    fn entries_come_from_their_leader_and_in_order() {
        assert_eq!(append(&sends(id(3, 9), &[(3, 10), (5, 11)]), 2, 5), Ok(()));
        assert_eq!(append(&sends(None, &[(1, 1), (1, 2)]), 2, 5), Ok(()));
        assert_eq!(append(&sends(id(3, 9), &[]), 2, 5), Ok(()));
        for (wrong, from) in [
            (sends(id(3, 9), &[(3, 11)]), 2),
            (sends(id(3, 9), &[(3, 10), (3, 10)]), 2),
            (sends(id(3, 9), &[(2, 10)]), 2),
            (sends(id(3, 9), &[(6, 10)]), 2),
            (sends(id(6, 9), &[]), 2),
            (sends(id(3, 9), &[(3, 10)]), 4),
            (wire::AppendRequest { vote: vote(5, 2, false), ..sends(id(3, 9), &[]) }, 2),
            (wire::AppendRequest { vote: vote(u64::MAX, 2, true), ..sends(id(3, 9), &[]) }, 2),
        ] {
            assert!(append(&wrong, from, 5).is_err(), "{wrong:?} from {from}");
        }
    }

    #[test]
    fn an_answer_neither_ends_all_terms_nor_has_what_was_never_sent() {
        use wire::append_response::Outcome;
        let sent = Sent::default();
        sent.note(&sends(id(3, 9), &[(5, 10)]));
        let says = |outcome| sent.judge(&wire::AppendResponse { outcome: Some(outcome), awaited: false });
        assert_eq!(says(Outcome::Matched(wire::Matched { id: id(5, 10) })), Ok(()));
        assert!(says(Outcome::Matched(wire::Matched { id: id(5, 11) })).is_err());
        assert_eq!(says(Outcome::HigherVote(vote(6, 1, false).unwrap())), Ok(()));
        assert!(says(Outcome::HigherVote(vote(u64::MAX, 1, false).unwrap())).is_err());
        assert!(answer(vote(u64::MAX, 1, true).as_ref(), 5).is_err());
    }

    #[test]
    fn what_is_refused_is_counted() {
        let doubts = Doubts::default();
        assert!(doubts.judge(2, Ok(())).is_ok());
        let error = doubts.judge(2, Err("it cannot be".into())).unwrap_err();
        assert!(error.message().contains("it cannot be"));
        assert_eq!(doubts.refused(), 1);
    }
}
