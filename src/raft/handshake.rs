//! How two nodes prove to each other that they know the cluster's cookie, before either of them reads anything else.
//!
//! ```text
//! caller -> called   "LIM2"  oldest u8  newest u8  purpose u8  key 4  from u64  to u64  cluster 16  nonce 32
//! called -> caller   "LIM2"  version u8  verdict u8  key 4  id u64  nonce 32  proof 32
//! caller -> called   proof 32
//! ```
//!
//! Numbers are big-endian. A proof is a keyed BLAKE3 hash of all bytes before it, under a key for that direction. Both keys
//! are derived from the cookie by Argon2id (RFC 9106), because whoever calls gets one hash to guess the cookie by. So
//! neither the cookie nor anything that stands for it travels; what was seen on the wire is of no use on another
//! connection, in the other direction, to another node or for another purpose. The side that is called proves itself first:
//! a node that is made to call a stranger shows it nothing. All messages have fixed sizes, so nothing is allocated for
//! a stranger.
//!
//! The proofs hold for the beginning of a connection. Without TLS around it (`crate::tls`) nothing keeps somebody who can
//! change packets from taking it over afterwards: the network between nodes has to be private then.

mod versions;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, LazyLock},
};

use argon2::{Algorithm, Argon2, Params, Version};
use bytes::{Buf as _, BufMut as _};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

pub(super) use self::versions::{OtherVersion, Versions};
use crate::{env::Random, sequencer::PeerVersion};

/// How both sides begin.
const MAGIC: [u8; 4] = *b"LIM2";
/// How connections of earlier builds began: HTTP/2's preface, and that of a lane.
const EARLIER: [[u8; 4]; 2] = [*b"PRI ", *b"LIM1"];

const CALL: usize = 4 + 3 + KEY_ID + 8 + 8 + CLUSTER + NONCE;
const ANSWER: usize = 4 + 2 + KEY_ID + 8 + NONCE;
const KEY_ID: usize = 4;
const CLUSTER: usize = 16;
const NONCE: usize = 32;
const PROOF: usize = blake3::OUT_LEN;

/// What the Argon2id parameters cost an attacker for each guess: 19 MiB and two passes, as OWASP recommends.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

const WELCOME: u8 = 0;
const OTHER_COOKIE: u8 = 1;
const OTHER_VERSION: u8 = 2;

/// Different on each connection.
pub(super) type Nonce = [u8; NONCE];

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Requests over HTTP/2.
    Requests,
    /// A lane for log entries.
    Entries,
}

impl Purpose {
    fn to_wire(self) -> u8 {
        match self {
            Self::Requests => 1,
            Self::Entries => 2,
        }
    }

    fn from_wire(byte: u8) -> Option<Self> {
        [Self::Requests, Self::Entries].into_iter().find(|purpose| purpose.to_wire() == byte)
    }
}

/// What a cookie stands for on the wire.
pub struct PeerKeys {
    /// By which both sides see whether they have the same cookie.
    id: [u8; KEY_ID],
    called: Zeroizing<[u8; 32]>,
    caller: Zeroizing<[u8; 32]>,
}

impl PeerKeys {
    /// Takes some 20 ms of a core and 19 MiB, once in a process for each cookie.
    pub fn of(cookie: &str) -> Arc<Self> {
        static KNOWN: LazyLock<Mutex<BTreeMap<[u8; 32], Arc<PeerKeys>>>> = LazyLock::new(Mutex::default);
        let known_by = *blake3::hash(cookie.as_bytes()).as_bytes();
        KNOWN.lock().entry(known_by).or_insert_with(|| Arc::new(Self::derive(cookie))).clone()
    }

    /// Of a node without a cookie: nobody else has them.
    pub fn nobodys(random: &dyn Random) -> Arc<Self> {
        Arc::new(Self::from_secret(&Zeroizing::new(random.nonce())))
    }

    fn derive(cookie: &str) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        let params = Params::new(MEMORY_KIB, PASSES, 1, Some(secret.len())).expect("the parameters are valid");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(cookie.as_bytes(), b"liminal peer v2", &mut *secret)
            .expect("a configuration's text is no longer than 4 GiB");
        Self::from_secret(&secret)
    }

    fn from_secret(secret: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = blake3::derive_key("liminal peer v2: which key", secret);
        Self {
            id: [a, b, c, d],
            called: Zeroizing::new(blake3::derive_key("liminal peer v2: the called side", secret)),
            caller: Zeroizing::new(blake3::derive_key("liminal peer v2: the calling side", secret)),
        }
    }
}

/// Never shows them.
impl fmt::Debug for PeerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerKeys")
    }
}

/// What the calling side says of itself.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) from: u64,
    /// None: whoever is there.
    pub(super) to: Option<u64>,
    pub(super) cluster: ClusterMark,
    pub(super) purpose: Purpose,
    pub(super) nonce: Nonce,
    pub(super) versions: Versions,
}

/// Stands for a cluster's id, which is a text of any length; the default is that of a node in no cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClusterMark([u8; CLUSTER]);

impl ClusterMark {
    pub(super) fn of(cluster_id: Option<&str>) -> Self {
        let mut mark = Self::default();
        if let Some(id) = cluster_id {
            let hash = blake3::derive_key("liminal peer v2: a cluster", id.as_bytes());
            mark.0.copy_from_slice(&hash[..CLUSTER]);
        }
        mark
    }

    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the cluster cookie is wrong: all nodes need the same `cluster.cookie`")]
    OtherCookie,
    #[error("{0}")]
    OtherVersion(Box<OtherVersion>),
    #[error("the other side is of an earlier build, which proves nothing: upgrade it")]
    EarlierBuild,
    #[error("the other side is no node of liminal's, or of an earlier build, or takes connections over TLS only")]
    Stranger,
    #[error("it is node `{known}` with id {id}, but its certificate is that of node `{certified}`")]
    OtherCertificate { id: u64, known: String, certified: String },
    #[error("the other side does not know the cluster cookie")]
    Impostor,
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// Stands for one connection: both sides make it of all that they said to each other, and no other connection has it.
pub(super) type Bond = [u8; 32];

fn bond(said: &[u8]) -> Bond {
    blake3::derive_key("liminal peer v2: a connection", said)
}

/// A caller that has proven itself.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// What it says of itself.
    pub(super) call: Call,
    pub(super) bond: Bond,
}

/// The node that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// It may be another than the one that was meant.
    pub(super) id: u64,
    pub(super) bond: Bond,
    /// The newest version that both sides speak.
    pub(super) version: PeerVersion,
}

/// The calling side. Gives who is there.
///
/// # Errors
/// When it is no node with the same cookie, or none that speaks a version of this one's.
pub(super) async fn call(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    keys: &PeerKeys,
    call: &Call,
) -> Result<Found, Refused> {
    let mut said = Vec::with_capacity(CALL + ANSWER + PROOF);
    said.put_slice(&MAGIC);
    let ours = call.versions;
    said.put_slice(&[ours.oldest.0, ours.newest.0, call.purpose.to_wire()]);
    said.put_slice(&keys.id);
    said.put_u64(call.from);
    said.put_u64(call.to.unwrap_or(0));
    said.put_slice(&call.cluster.0);
    said.put_slice(&call.nonce);
    stream.write_all(&said).await?;
    let mut answer = [0; ANSWER + PROOF];
    // An earlier build takes the call for a broken request, and closes.
    stream.read_exact(&mut answer).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Refused::Stranger,
        _ => Refused::Broken(error),
    })?;
    let (answer, proof) = answer.split_at(ANSWER);
    said.put_slice(answer);
    let mut rest = answer;
    if take::<4>(&mut rest) != MAGIC {
        return Err(Refused::Stranger);
    }
    let [version, verdict] = take(&mut rest);
    let theirs: [u8; KEY_ID] = take(&mut rest);
    let id = rest.get_u64();
    let version = PeerVersion(version);
    let other_version = |id| {
        let theirs = Versions { oldest: version, newest: version };
        Refused::OtherVersion(Box::new(OtherVersion { id, name: String::new(), theirs, ours }))
    };
    match verdict {
        WELCOME if !ours.include(version) => return Err(other_version(Some(id))),
        OTHER_VERSION => return Err(other_version(call.to)),
        WELCOME if theirs == keys.id => {}
        WELCOME | OTHER_COOKIE => return Err(Refused::OtherCookie),
        _ => return Err(Refused::Stranger),
    }
    if !is_proof(&keys.called, &said, proof) {
        return Err(Refused::Impostor);
    }
    said.put_slice(proof);
    stream.write_all(blake3::keyed_hash(&keys.caller, &said).as_bytes()).await?;
    Ok(Found { id, bond: bond(&said), version })
}

/// The side that is called, which is the node with this id. Gives what the caller says of itself once it has proven it.
///
/// # Errors
/// When the caller is no node with the same cookie.
pub(super) async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    keys: &PeerKeys,
    id: u64,
    nonce: Nonce,
    ours: Versions,
) -> Result<Caller, Refused> {
    let mut said = [0; CALL + ANSWER + PROOF];
    let (first, more) = said.split_at_mut(MAGIC.len());
    stream.read_exact(first).await?;
    if EARLIER.iter().any(|preface| preface == first) {
        return Err(Refused::EarlierBuild);
    }
    if first != MAGIC {
        return Err(Refused::Stranger);
    }
    let (call, more) = more.split_at_mut(CALL - MAGIC.len());
    stream.read_exact(call).await?;
    let mut rest = &*call;
    let [oldest, newest, purpose] = take(&mut rest);
    let theirs: [u8; KEY_ID] = take(&mut rest);
    let (from, to) = (rest.get_u64(), rest.get_u64());
    let call = Call {
        from,
        to: Some(to).filter(|to| *to != 0),
        cluster: ClusterMark(take(&mut rest)),
        purpose: Purpose::from_wire(purpose).ok_or(Refused::Stranger)?,
        nonce: take(&mut rest),
        versions: Versions { oldest: PeerVersion(oldest), newest: PeerVersion(newest) },
    };
    let theirs_are = call.versions;
    let refused = if theirs_are.oldest > ours.newest || theirs_are.newest < ours.oldest {
        let other = OtherVersion { id: Some(from), name: String::new(), theirs: theirs_are, ours };
        Some((OTHER_VERSION, Refused::OtherVersion(Box::new(other))))
    } else {
        (theirs != keys.id).then_some((OTHER_COOKIE, Refused::OtherCookie))
    };
    let mut room = &mut more[..ANSWER];
    room.put_slice(&MAGIC);
    if let Some((verdict, refused)) = refused {
        // Which node this is, and anything that depends on the cookie, is nobody's business then.
        room.put_slice(&[ours.newest.0, verdict]);
        stream.write_all(&said[CALL..]).await?;
        return Err(refused);
    }
    room.put_slice(&[newest.min(ours.newest.0), WELCOME]);
    room.put_slice(&keys.id);
    room.put_u64(id);
    room.put_slice(&nonce);
    let proven = CALL + ANSWER;
    let proof = *blake3::keyed_hash(&keys.called, &said[..proven]).as_bytes();
    said[proven..].copy_from_slice(&proof);
    stream.write_all(&said[CALL..]).await?;
    let mut theirs = [0; PROOF];
    stream.read_exact(&mut theirs).await?;
    if !is_proof(&keys.caller, &said, &theirs) {
        return Err(Refused::Impostor);
    }
    Ok(Caller { call, bond: bond(&said) })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    bytes.copy_to_slice(&mut taken);
    taken
}

/// Takes the same time wherever they differ.
fn is_proof(key: &[u8; 32], said: &[u8], proof: &[u8]) -> bool {
    blake3::Hash::from_slice(proof).is_ok_and(|proof| proof == blake3::keyed_hash(key, said))
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const BOTH: Versions = Versions { oldest: PeerVersion::OLDEST, newest: PeerVersion::NEWEST };
    const COOKIE: &str = "a cookie of some length";

    fn calling() -> Call {
        Call {
            from: 7,
            to: Some(8),
            cluster: ClusterMark::of(Some("orders")),
            purpose: Purpose::Entries,
            nonce: [1; NONCE],
            versions: BOTH,
        }
    }

    /// Both sides.
    async fn meet(ours: &str, theirs: &str) -> (Result<Found, Refused>, Result<Caller, Refused>) {
        let (mut caller, mut called) = duplex(1024);
        let (ours, theirs) = (PeerKeys::of(ours), PeerKeys::of(theirs));
        let asked = calling();
        tokio::join!(call(&mut caller, &ours, &asked), answer(&mut called, &theirs, 8, [2; NONCE], BOTH))
    }

    /// Lets both sides meet through somebody in the middle, and gives what each of them sent.
    async fn recorded() -> (Vec<u8>, Vec<u8>) {
        let (mut caller, mut from_caller) = duplex(1024);
        let (mut called, mut from_called) = duplex(1024);
        let keys = PeerKeys::of(COOKIE);
        let middle = async {
            let (mut first, mut answered, mut proof) = ([0; CALL], [0; ANSWER + PROOF], [0; PROOF]);
            from_caller.read_exact(&mut first).await.unwrap();
            from_called.write_all(&first).await.unwrap();
            from_called.read_exact(&mut answered).await.unwrap();
            from_caller.write_all(&answered).await.unwrap();
            from_caller.read_exact(&mut proof).await.unwrap();
            from_called.write_all(&proof).await.unwrap();
            ([&first[..], &proof].concat(), answered.to_vec())
        };
        let asked = calling();
        let (asked, served, seen) =
            tokio::join!(call(&mut caller, &keys, &asked), answer(&mut called, &keys, 8, [2; NONCE], BOTH), middle);
        assert!(asked.is_ok() && served.is_ok());
        seen
    }

    #[tokio::test]
    async fn two_nodes_with_one_cookie_learn_who_the_other_is() {
        let (found, caller) = meet(COOKIE, COOKIE).await;
        let (found, Caller { call: caller, bond }) = (found.unwrap(), caller.unwrap());
        assert_eq!(found, Found { id: 8, bond, version: PeerVersion::NEWEST });
        assert_eq!((caller.from, caller.to, caller.purpose), (7, Some(8), Purpose::Entries));
        assert_eq!(caller.cluster, ClusterMark::of(Some("orders")));
        assert!(!caller.cluster.is_none() && ClusterMark::of(None).is_none());
    }

    #[tokio::test]
    async fn another_cookie_is_refused_by_name() {
        let (asked, served) = meet(COOKIE, "another cookie than that").await;
        assert!(matches!(asked, Err(Refused::OtherCookie)), "{asked:?}");
        assert!(matches!(served, Err(Refused::OtherCookie)), "{served:?}");
    }

    #[tokio::test]
    async fn what_was_seen_on_the_wire_is_good_for_nothing() {
        let keys = PeerKeys::of(COOKIE);
        let (by_caller, by_called) = recorded().await;
        // To the same node again, which has another nonce now.
        let (mut thief, mut called) = duplex(1024);
        thief.write_all(&by_caller).await.unwrap();
        let again = answer(&mut called, &keys, 8, [3; NONCE], BOTH).await;
        assert!(matches!(again, Err(Refused::Impostor)), "{again:?}");
        // To the same caller, which has another nonce now.
        let (mut caller, mut thief) = duplex(1024);
        thief.write_all(&by_called).await.unwrap();
        let again = call(&mut caller, &keys, &Call { nonce: [3; NONCE], ..calling() }).await;
        assert!(matches!(again, Err(Refused::Impostor)), "{again:?}");
    }

    /// What somebody who knows no cookie gets when it hands on what others say, changed by `change`.
    async fn relayed(change: impl Fn(&mut [u8])) -> (Result<Found, Refused>, Result<Caller, Refused>) {
        let (mut caller, mut middle) = duplex(1024);
        let (mut onwards, mut called) = duplex(1024);
        let keys = PeerKeys::of(COOKIE);
        let relay = async {
            let mut first = [0; CALL];
            middle.read_exact(&mut first).await.unwrap();
            change(&mut first);
            onwards.write_all(&first).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut middle, &mut onwards).await;
        };
        let both = async {
            let asking = async {
                let found = call(&mut caller, &keys, &calling()).await;
                drop(caller);
                found
            };
            tokio::join!(asking, async {
                let served = answer(&mut called, &keys, 8, [2; NONCE], BOTH).await;
                drop(called);
                served
            })
        };
        let (both, ()) = tokio::join!(both, relay);
        both
    }

    #[tokio::test]
    async fn a_call_cannot_be_turned_into_another_on_its_way() {
        let (found, served) = relayed(|_| ()).await;
        assert!(found.is_ok() && served.is_ok());
        let sender = 4 + 3 + KEY_ID;
        for place in [6, sender + 7, sender + 15, sender + 16, CALL - 1] {
            let change = |call: &mut [u8]| call[place] ^= 3;
            let (found, served) = relayed(change).await;
            assert!(matches!(found, Err(Refused::Impostor)), "byte {place}: {found:?}");
            assert!(served.is_err(), "byte {place}");
        }
    }

    #[tokio::test]
    async fn a_caller_is_not_its_own_proof() {
        // Its own words come back to it.
        let (mut caller, mut mirror) = duplex(1024);
        let keys = PeerKeys::of(COOKIE);
        let reflect = async {
            let mut first = [0; CALL];
            mirror.read_exact(&mut first).await.unwrap();
            mirror.write_all(&[&first[..], &[0; ANSWER + PROOF - CALL]].concat()).await.unwrap();
        };
        let asked = calling();
        let (found, ()) = tokio::join!(call(&mut caller, &keys, &asked), reflect);
        assert!(found.is_err());
    }

    async fn answered_to(bytes: &[u8]) -> (Refused, DuplexStream) {
        let (mut caller, mut called) = duplex(1024);
        caller.write_all(bytes).await.unwrap();
        let refused = answer(&mut called, &PeerKeys::of(COOKIE), 8, [2; NONCE], BOTH).await.unwrap_err();
        (refused, caller)
    }

    #[tokio::test]
    async fn other_versions_and_other_programs_are_told_apart() {
        let (refused, _) = answered_to(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(matches!(refused, Refused::EarlierBuild), "{refused:?}");
        let (refused, _) = answered_to(b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(matches!(refused, Refused::Stranger), "{refused:?}");
        let mut later = [0; CALL];
        later[..7].copy_from_slice(b"LIM2\x09\x0a\x01");
        let (refused, mut caller) = answered_to(&later).await;
        assert!(refused.to_string().contains("id 0 needs version 9; this node speaks up to 4"), "{refused}");
        let mut answer = [0; ANSWER + PROOF];
        caller.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[4..6], [PeerVersion::NEWEST.0, OTHER_VERSION]);
        assert!(answer[6..].iter().all(|byte| *byte == 0), "nothing is told to one that proved nothing");
    }

    /// What a caller that speaks one version says first.
    fn call_in(version: u8, keys: &PeerKeys) -> Vec<u8> {
        let mut said = b"LIM2".to_vec();
        said.put_slice(&[version, version, Purpose::Requests.to_wire()]);
        said.put_slice(&keys.id);
        said.put_u64(7);
        said.put_u64(8);
        said.put_slice(&[0; CLUSTER + NONCE]);
        said
    }

    #[tokio::test]
    async fn a_caller_of_an_earlier_version_is_answered_in_that_one() {
        let keys = PeerKeys::of(COOKIE);
        for version in PeerVersion::OLDEST.0..=PeerVersion::NEWEST.0 {
            let (mut caller, mut called) = duplex(1024);
            let calls = async {
                caller.write_all(&call_in(version, &keys)).await.unwrap();
                let mut answered = [0; ANSWER + PROOF];
                caller.read_exact(&mut answered).await.unwrap();
                drop(caller);
                answered
            };
            let (answered, _) = tokio::join!(calls, answer(&mut called, &keys, 8, [2; NONCE], BOTH));
            assert_eq!(answered[4..6], [version, WELCOME]);
        }
    }

    #[tokio::test]
    async fn a_node_of_an_earlier_version_is_spoken_to_in_that_one() {
        let keys = PeerKeys::of(COOKIE);
        for version in PeerVersion::OLDEST.0..=PeerVersion::NEWEST.0 {
            let (mut caller, mut called) = duplex(1024);
            let answers = async {
                let mut said = vec![0; CALL];
                called.read_exact(&mut said).await.unwrap();
                let asked = said.len();
                said.put_slice(&MAGIC);
                said.put_slice(&[version, WELCOME]);
                said.put_slice(&keys.id);
                said.put_u64(8);
                said.put_slice(&[2; NONCE]);
                said.extend(*blake3::keyed_hash(&keys.called, &said).as_bytes());
                called.write_all(&said[asked..]).await.unwrap();
                called.read_exact(&mut [0; PROOF]).await.unwrap();
            };
            let asked = calling();
            let (found, ()) = tokio::join!(call(&mut caller, &keys, &asked), answers);
            let found = found.unwrap();
            assert_eq!((found.id, found.version), (8, PeerVersion(version)));
        }
    }

    #[tokio::test]
    async fn every_byte_of_a_handshake_is_what_it_was() {
        let (by_caller, by_called) = recorded().await;
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex()[..16].to_owned();
        assert_eq!((by_caller.len(), by_called.len()), (CALL + PROOF, ANSWER + PROOF));
        assert_eq!(
            (hash(&by_caller), hash(&by_called)),
            ("957633af3e9e4d43".to_owned(), "eebb1c615bc7190d".to_owned())
        );
    }
}
