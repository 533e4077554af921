//! Who is asked how often, and what is certain in the end, with a leader that says what it is told to say.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::*;
use crate::{
    broker::{Confirm, PeerVersion, Peers, Proposed, Sequencer},
    env::Env,
    fanout::Fanout,
    model::{Command, Digest, Frame, KeyClaim, KeyHash, Limits, PublishGroup},
    proto::v1::Message,
    replica::Replica,
    store::MemoryStore,
};

/// What comes of one attempt.
enum Attempt {
    Answered(Response),
    NotDelivered,
    /// It was delivered, and its answer was lost.
    Lost,
    /// The node speaks another version, which becomes known.
    Speaks(PeerVersion),
}

struct Scripted {
    leader: watch::Sender<Leader>,
    withheld: watch::Sender<Option<String>>,
    attempts: Mutex<VecDeque<Attempt>>,
    asked: Mutex<Vec<PeerVersion>>,
    speaks: AtomicU8,
    local: NodeAddress,
}

#[async_trait]
impl Sequencer for Scripted {
    async fn propose(&self, _: Command) -> Result<Proposed, SequencerError> {
        Err(SequencerError::NotLeader)
    }

    fn leader(&self) -> watch::Receiver<Leader> {
        self.leader.subscribe()
    }

    async fn read_index(&self) -> Result<u64, SequencerError> {
        Err(SequencerError::NotLeader)
    }

    fn withheld(&self) -> watch::Receiver<Option<String>> {
        self.withheld.subscribe()
    }
}

#[async_trait]
impl Peers for Scripted {
    async fn call(&self, _: &NodeAddress, request: PeerMessage) -> Result<PeerMessage, SequencerError> {
        let version = request.version;
        // The broker says by itself whom it serves.
        if let Ok(Request::Interest(_)) = Request::decode(request) {
            return Ok(PeerMessage { version, bytes: Response::Index(0).encode(version) });
        }
        self.asked.lock().push(version);
        match self.attempts.lock().pop_front().expect("it is asked more often than it should be") {
            Attempt::Answered(response) => Ok(PeerMessage { version, bytes: response.encode(version) }),
            Attempt::NotDelivered => Err(SequencerError::NotLeader),
            Attempt::Lost => Err(SequencerError::Unknown("the connection was lost".into())),
            Attempt::Speaks(version) => {
                self.speaks.store(version.0, Ordering::Relaxed);
                Err(SequencerError::NotLeader)
            }
        }
    }

    fn version(&self, _: &NodeAddress) -> PeerVersion {
        PeerVersion(self.speaks.load(Ordering::Relaxed))
    }

    fn others(&self) -> Vec<NodeAddress> {
        Vec::new()
    }

    fn local(&self) -> &NodeAddress {
        &self.local
    }
}

/// Asks another node that leads. Gives the answer, and in which versions it was asked. All attempts are made.
async fn ask(request: &Request, attempts: Vec<Attempt>) -> (Result<Response, BrokerError>, Vec<PeerVersion>) {
    let limits = Limits::default();
    let fanout = Fanout::new(limits.subscriber_bytes, limits.fanout_bytes);
    let env = Env::real();
    let replica = Replica::open(Arc::new(MemoryStore::new()), fanout, limits, env.clock.clone()).await.unwrap();
    let leads = NodeAddress { id: 2, name: "b".into(), ..NodeAddress::default() };
    let scripted = Arc::new(Scripted {
        leader: watch::Sender::new(Leader::Remote(leads)),
        withheld: watch::Sender::default(),
        attempts: Mutex::new(attempts.into()),
        asked: Mutex::default(),
        speaks: AtomicU8::new(PeerVersion::NEWEST.0),
        local: NodeAddress { id: 1, name: "a".into(), ..NodeAddress::default() },
    });
    let broker = Broker::clustered(replica.view(), scripted.clone(), scripted.clone(), env);
    let mut asking = Asking::until(Instant::now() + Duration::from_secs(60));
    let answer = broker.ask_leader(request, &mut asking).await;
    assert!(scripted.attempts.lock().is_empty(), "it was asked too seldom: {answer:?}");
    broker.stop().await;
    let asked = scripted.asked.lock().clone();
    (answer, asked)
}

fn publish(keyed: bool) -> Request {
    let key = KeyClaim { position: 0, key: KeyHash::of("key"), digest: Digest::of(b"") };
    let keys = if keyed { vec![key] } else { Vec::new() };
    let group = PublishGroup { keys, frame: Frame::encode([&Message::default()]), ..PublishGroup::default() };
    Request::Publish { group, confirm: Confirm::Commit }
}

fn refused(error: BrokerError) -> Attempt {
    Attempt::Answered(Response::Refused(error))
}

#[tokio::test]
async fn what_was_surely_not_taken_is_asked_again_until_it_is() {
    let attempts =
        vec![Attempt::NotDelivered, Attempt::Answered(Response::NotProposed), Attempt::Answered(Response::Done)];
    let (answer, asked) = ask(&publish(false), attempts).await;
    assert!(matches!(answer, Ok(Response::Done)), "{answer:?}");
    assert_eq!(asked.len(), 3);
}

#[tokio::test]
async fn what_may_have_been_done_is_asked_again_where_it_is_done_once_in_any_case() {
    let (answer, _) = ask(&publish(true), vec![Attempt::Lost, Attempt::Answered(Response::Done)]).await;
    assert!(matches!(answer, Ok(Response::Done)), "{answer:?}");
}

#[tokio::test]
async fn what_may_have_been_done_and_could_be_done_twice_is_not_asked_again() {
    let (answer, _) = ask(&publish(false), vec![Attempt::Lost]).await;
    assert!(answer.as_ref().is_err_and(BrokerError::outcome_unknown), "{answer:?}");
}

#[tokio::test]
async fn a_refusal_that_says_nothing_of_the_attempt_before_it_leaves_the_outcome_unknown() {
    let (answer, _) = ask(&publish(true), vec![Attempt::Lost, refused(BrokerError::Stopping)]).await;
    let error = answer.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert!(error.to_string().contains("the connection was lost; then this node is stopping"), "{error}");
}

#[tokio::test]
async fn a_refusal_that_comes_of_the_message_itself_is_what_is_known_of_all_attempts() {
    let violation = BrokerError::KeyConflict { channel: "c".into(), key: "key".into(), seq: 3 };
    let (answer, _) = ask(&publish(true), vec![Attempt::Lost, refused(violation.clone())]).await;
    assert_eq!(answer.unwrap_err(), violation);
}

#[tokio::test]
async fn nothing_is_unknown_of_what_changes_nothing() {
    let error = BrokerError::NoMajority { reason: "b does not answer".into() };
    let (answer, _) = ask(&Request::ReadIndex, vec![Attempt::Lost, refused(error.clone())]).await;
    assert_eq!(answer.unwrap_err(), error);
}

#[tokio::test]
async fn a_node_is_asked_in_the_version_that_it_speaks_as_soon_as_that_is_known() {
    let attempts = vec![Attempt::Speaks(PeerVersion::POSITIONAL), Attempt::Answered(Response::Done)];
    let (answer, asked) = ask(&publish(false), attempts).await;
    assert!(matches!(answer, Ok(Response::Done)), "{answer:?}");
    assert_eq!(asked, [PeerVersion::NEWEST, PeerVersion::POSITIONAL]);
}

#[tokio::test]
async fn what_a_leader_of_an_earlier_version_does_not_understand_is_refused_by_name_and_was_not_done() {
    let error = BrokerError::NotUnderstood { node: "b".into(), what: "a field or a kind".into() };
    let (answer, _) = ask(&publish(false), vec![refused(error)]).await;
    let error = answer.unwrap_err();
    assert_eq!(error.code().as_str(), "UNIMPLEMENTED");
    assert!(!error.outcome_unknown() && error.to_string().contains("node `b`"), "{error}");
}
