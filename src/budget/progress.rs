//! How a request gets on that comes in: what of it counts, and why it does not arrive.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    account::Account,
    clocks::Why,
    level::{Full, Lease},
};

/// Why a request does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room for its bytes.
    Full(Full),
    /// It did not bring so many bytes in so long a time.
    Slow {
        /// Bytes that have to come.
        bytes: u64,
        /// In this time.
        within: Duration,
    },
    /// It becomes more than one connection may have.
    Large {
        /// Bytes that it takes once it is decoded, as far as it has come.
        bytes: usize,
        /// What one message may take.
        limit: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(Full { whose, held, limit }) => {
                write!(f, "unfinished requests of this {whose} hold {held} bytes; the limit is {limit}")
            }
            Self::Slow { bytes, within } => {
                write!(f, "the request is not complete, and fewer than {bytes} bytes of it came within {within:?}")
            }
            Self::Large { bytes, limit } => {
                write!(f, "the message takes {bytes} bytes or more once it is decoded; the limit is {limit}")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// How a request gets on: shared by its body and whoever answers it.
#[derive(Clone)]
pub struct Progress(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) account: Arc<Account>,
    pub(super) lease: Lease,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    answered: bool,
    /// Bytes that have come whole and count until the request is answered.
    whole: usize,
    refusal: Option<Refusal>,
}

impl Progress {
    pub(super) fn new(account: Arc<Account>) -> Self {
        let lease = account.arriving.hold(0);
        Self(Arc::new(Shared { account, lease, told: Mutex::default() }))
    }

    /// The answer begins: what came whole counts no longer, and neither does what comes whole from now on, which is in
    /// other hands.
    pub fn answered(&self) {
        let mut told = self.0.told.lock();
        told.answered = true;
        self.0.lease.shrink(std::mem::take(&mut told.whole));
    }

    /// Why it did not arrive, if it was refused.
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.told.lock().refusal
    }

    pub(super) fn is_answered(&self) -> bool {
        self.0.told.lock().answered
    }

    /// Bytes that are counted have come whole.
    pub(super) fn whole(&self, bytes: usize) {
        let mut told = self.0.told.lock();
        if told.answered {
            self.0.lease.shrink(bytes);
        } else {
            told.whole += bytes;
        }
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        let why = match refusal {
            Refusal::Full(full) => full.whose,
            Refusal::Slow { .. } => Why::Slow.name(),
            Refusal::Large { .. } => "decoded",
        };
        self.0.account.refuse("arriving_bytes", why);
        self.0.told.lock().refusal = Some(refusal);
    }
}
