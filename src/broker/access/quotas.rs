//! How much a caller takes, against what its roles allow. What one node can count is counted here; channels, consumers and
//! claims are the cluster's, and counted by the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Access, Caller, Gate};
use crate::{
    broker::{BrokerError, Held, admission::millis, stats::RETRY_AFTER_MS, turns::Turn},
    budget::{Account, Crowded, Lease, Open, Usage},
    model::{Allowance, Frame, Quantity, Quota, SecurityMode, SecurityState, Token, TokenId},
    quota::Exceeded,
};

/// A token with what it takes of this node, and what it may take.
pub(super) struct Metered {
    token: TokenId,
    usage: Arc<Usage>,
    allowances: BTreeMap<Quantity, Allowance>,
}

impl Metered {
    /// Of a state; what is taken already counts on.
    pub(super) fn of(state: &SecurityState, token: &Token, before: Option<&Self>) -> Self {
        let usage = before.map(|before| before.usage.clone()).unwrap_or_default();
        let allowed = |quantity| Some((quantity, state.allowance(token, quantity)?));
        Self { token: token.id, usage, allowances: Quantity::ALL.into_iter().filter_map(allowed).collect() }
    }

    fn most(&self, quantity: Quantity) -> u64 {
        self.allowances.get(&quantity).map_or(u64::MAX, |allowance| allowance.limit)
    }

    /// The rates of what it publishes.
    fn rates(&self) -> Quota {
        let rate = |quantity| self.allowances.get(&quantity).map(|allowance| allowance.limit);
        Quota {
            messages_per_second: rate(Quantity::MessagesPerSecond),
            bytes_per_second: rate(Quantity::BytesPerSecond),
        }
    }

    /// That it would have so much.
    fn over(&self, quantity: Quantity, value: u64, retry_after_ms: u64) -> BrokerError {
        let (limit, name) =
            self.allowances.get(&quantity).map(|allowed| (allowed.limit, allowed.role.to_string())).unwrap_or_default();
        BrokerError::RoleQuotaExceeded { what: quantity.to_string(), value, limit, name, retry_after_ms }
    }

    fn over_rate(&self, Exceeded { what, limit, wait }: Exceeded) -> (Quantity, BrokerError) {
        let quantity = if what == "messages" { Quantity::MessagesPerSecond } else { Quantity::BytesPerSecond };
        let more = wait.as_millis().saturating_mul(u128::from(limit)).div_ceil(1_000);
        let value = limit.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        (quantity, self.over(quantity, value, millis(wait)))
    }
}

/// Refusals because of quotas, by token and by what there was too much of. Tokens beyond the first ones are summed up.
#[derive(Default)]
pub(super) struct QuotaRefusals(Mutex<BTreeMap<(Option<TokenId>, &'static str), u64>>);

impl QuotaRefusals {
    fn count(&self, token: TokenId, what: &'static str, most: usize) {
        let mut counts = self.0.lock();
        let known: BTreeSet<TokenId> = counts.keys().filter_map(|(token, _)| *token).collect();
        let shown = (known.contains(&token) || known.len() < most).then_some(token);
        *counts.entry((shown, what)).or_default() += 1;
    }
}

/// As it is named among the refusals, where a token has more than its share.
const SHARE: &str = "share";

impl Gate {
    /// What was refused because of quotas since the start: the token, none for all others, what, and how often.
    pub fn refused_by_quota(&self) -> Vec<(Option<TokenId>, &'static str, u64)> {
        self.quota_refusals.0.lock().iter().map(|((token, what), count)| (*token, *what, *count)).collect()
    }

    fn count_over(&self, token: TokenId, what: &'static str) {
        self.quota_refusals.count(token, what, self.broker.limits().metric_series);
    }

    /// Refuses, or counts what would be refused where the mode says so.
    fn over<T>(&self, metered: &Metered, what: &'static str, error: BrokerError) -> Result<Option<T>, BrokerError> {
        if self.mode == SecurityMode::Enforce {
            self.count_over(metered.token, what);
            return Err(error);
        }
        self.counters.permitted.fetch_add(1, Ordering::Relaxed);
        self.tell(&format!("security.mode = \"enforce\" would refuse a request: {error}"));
        Ok(None)
    }
}

impl Caller {
    /// What counts for the caller's token, as it is now; none without a token.
    fn metered(&self) -> Option<Arc<Metered>> {
        let (id, hash) = self.token_and_hash()?;
        self.policy().principal(id, &hash).map(|principal| principal.metered.clone())
    }

    /// For which token something that is made counts; none where no quota says how much of it there may be.
    pub(super) fn owner(&self, quantity: Quantity) -> Option<TokenId> {
        let metered = self.metered().filter(|_| self.gate.mode == SecurityMode::Enforce)?;
        metered.allowances.contains_key(&quantity).then_some(metered.token)
    }

    /// Counts a refusal of the log.
    pub(super) fn count_if_over<T>(&self, quantity: Quantity, made: Result<T, BrokerError>) -> Result<T, BrokerError> {
        made.inspect_err(|error| {
            if let (BrokerError::RoleQuotaExceeded { .. }, Some(token)) = (error, self.token()) {
                self.gate.count_over(token, quantity.name());
            }
        })
    }

    fn over<T>(&self, metered: &Metered, quantity: Quantity, held: u64) -> Result<Option<T>, BrokerError> {
        let error = metered.over(quantity, held.saturating_add(1), RETRY_AFTER_MS);
        self.gate.over(metered, quantity.name(), error)
    }

    fn over_share(&self, metered: &Metered, crowded: Option<Crowded>) -> Result<(), BrokerError> {
        let Some(Crowded { what, value, share }) = crowded else { return Ok(()) };
        let what = format!("{what} of one token ({value} with this), while the node has little left,");
        let error = BrokerError::QuotaExceeded { what, limit: share as u64, retry_after_ms: RETRY_AFTER_MS };
        self.gate.over::<()>(metered, SHARE, error).map(|_| ())
    }

    /// What a publish takes until it is answered; what it takes of the rates is given back if it is refused elsewhere.
    fn take(&self, messages: u32, bytes: usize) -> Result<Taken, BrokerError> {
        let Some(metered) = self.metered() else { return Ok(Taken::default()) };
        let node = &self.gate.broker.inner.counters.in_flight;
        self.over_share(&metered, metered.usage.crowds_with(bytes, node))?;
        let in_flight = match metered.usage.publish(bytes, metered.most(Quantity::InFlightBytes)) {
            Ok(lease) => Some(lease),
            Err(held) => {
                let value = held.saturating_add(bytes as u64);
                let error = metered.over(Quantity::InFlightBytes, value, RETRY_AFTER_MS);
                self.gate.over(&metered, Quantity::InFlightBytes.name(), error)?
            }
        };
        let (rates, messages, bytes) = (metered.rates(), u64::from(messages), bytes as u64);
        if rates == Quota::default() {
            return Ok(Taken { in_flight, rates: None });
        }
        if let Err(exceeded) = metered.usage.meter(rates, messages, bytes, Instant::now()) {
            let (quantity, error) = metered.over_rate(exceeded);
            self.gate.over::<()>(&metered, quantity.name(), error)?;
            return Ok(Taken { in_flight, rates: None });
        }
        Ok(Taken { in_flight, rates: Some((metered, rates, messages, bytes)) })
    }

    /// How long filters of the caller's token are not judged, and the error that says so.
    fn owes(&self) -> Option<(Arc<Metered>, Duration, BrokerError)> {
        let metered = self.metered()?;
        let allowed = metered.allowances.get(&Quantity::FilterMsPerSecond)?.limit;
        let wait = metered.usage.owes(Instant::now());
        if wait.is_zero() {
            return None;
        }
        let more = wait.as_millis().saturating_mul(u128::from(allowed)).div_ceil(1_000);
        let value = allowed.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        let error = metered.over(Quantity::FilterMsPerSecond, value, millis(wait));
        Some((metered, wait, error))
    }

    /// Whether a filter of the caller may be judged now.
    pub(super) fn may_judge(&self) -> Result<(), BrokerError> {
        match self.owes() {
            Some((metered, _, error)) => {
                self.gate.over::<()>(&metered, Quantity::FilterMsPerSecond.name(), error).map(|_| ())
            }
            None => Ok(()),
        }
    }

    fn judged(&self, time: Duration) {
        let Some(metered) = self.metered() else { return };
        if let Some(allowed) = metered.allowances.get(&Quantity::FilterMsPerSecond) {
            metered.usage.judged(time, allowed.limit, Instant::now());
        }
    }
}

/// What a publish has taken.
#[derive(Default)]
struct Taken {
    in_flight: Option<Lease>,
    rates: Option<(Arc<Metered>, Quota, u64, u64)>,
}

impl Taken {
    /// What is admitted holds what was taken; what is not has taken nothing.
    fn until(self, admitted: Result<Held, BrokerError>) -> Result<Held, BrokerError> {
        if admitted.is_err()
            && let Some((metered, rates, messages, bytes)) = self.rates
        {
            metered.usage.give_back(rates, messages, bytes);
        }
        admitted.map(|held| held.with_token(self.in_flight))
    }
}

/// For whom the filter of a subscription is judged.
#[derive(Clone)]
pub struct Payer(Caller);

impl Payer {
    /// So much time was spent. Says how long nothing more is judged.
    pub(in crate::broker) fn pay(&self, time: Duration) -> Option<Duration> {
        self.0.judged(time);
        let (metered, wait, error) = self.0.owes()?;
        self.0.gate.over::<()>(&metered, Quantity::FilterMsPerSecond.name(), error).err().map(|_| wait)
    }
}

impl fmt::Debug for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payer({})", self.0.name())
    }
}

/// A turn to judge messages, and for whom.
pub(crate) struct Judging {
    _turn: Turn,
    caller: Caller,
    began: Instant,
}

impl Drop for Judging {
    fn drop(&mut self) {
        self.caller.judged(self.began.elapsed());
    }
}

impl Access {
    /// A request begins on a connection: both count for the caller's token.
    ///
    /// # Errors
    /// `RoleQuotaExceeded`; `QuotaExceeded` where the node has little left of something and the token has much.
    pub fn enter(&self, connection: &Arc<Account>, open: &Open) -> Result<(), BrokerError> {
        let Some(metered) = self.caller.metered() else { return Ok(()) };
        if let Err(held) = metered.usage.connect(connection, metered.most(Quantity::Connections)) {
            self.caller.over::<()>(&metered, Quantity::Connections, held)?;
        }
        self.caller.over_share(&metered, metered.usage.crowds(connection))?;
        if let Some(lease) = self.begin_stream_of(&metered)? {
            open.counts_for_token(lease);
        }
        Ok(())
    }

    /// One more stream on a connection that carries many, until the lease is dropped.
    ///
    /// # Errors
    /// `RoleQuotaExceeded`.
    pub fn begin_stream(&self) -> Result<Option<Lease>, BrokerError> {
        self.caller.metered().map_or(Ok(None), |metered| self.begin_stream_of(&metered))
    }

    fn begin_stream_of(&self, metered: &Metered) -> Result<Option<Lease>, BrokerError> {
        match metered.usage.begin(metered.most(Quantity::Streams)) {
            Ok(lease) => Ok(Some(lease)),
            Err(held) => self.caller.over(metered, Quantity::Streams, held),
        }
    }

    /// A stream that a request has become, which was counted when it came.
    pub fn stays_open(&self) -> Option<Lease> {
        self.caller.metered().map(|metered| metered.usage.begin_anyway())
    }

    /// See `Broker::admit_from`; counts for the caller's token.
    ///
    /// # Errors
    /// As there; `RoleQuotaExceeded`.
    pub fn admit_from(&self, connection: &Account, frame: &Frame) -> Result<Held, BrokerError> {
        self.admit_together(connection, frame.count(), frame.len())
    }

    /// See `Broker::admit_together`; counts for the caller's token.
    ///
    /// # Errors
    /// As there; `RoleQuotaExceeded`.
    pub fn admit_together(&self, connection: &Account, messages: u32, bytes: usize) -> Result<Held, BrokerError> {
        let taken = self.take(messages, bytes)?;
        taken.until(self.broker.admit_together(connection, messages, bytes))
    }

    /// See `Broker::admit_stream`; counts for the caller's token.
    ///
    /// # Errors
    /// As there; `RoleQuotaExceeded`.
    pub fn admit_stream(&self, connection: &Account, frame: &Frame) -> Result<Held, BrokerError> {
        let taken = self.take(frame.count(), frame.len())?;
        taken.until(self.broker.admit_stream(connection, frame))
    }

    fn take(&self, messages: u32, bytes: usize) -> Result<Taken, BrokerError> {
        self.caller.take(messages, bytes).inspect_err(|error| self.broker.count_refused(error, messages))
    }

    /// The turn of a connection to have messages judged by its filter; the time counts for the caller's token.
    ///
    /// # Errors
    /// As the broker says; `RoleQuotaExceeded`.
    pub(crate) async fn turn_to_judge(&self, connection: &Account) -> Result<Judging, BrokerError> {
        self.caller.may_judge()?;
        let turn = self.broker.turn_to_judge(connection).await?;
        Ok(Judging { _turn: turn, caller: self.caller.clone(), began: Instant::now() })
    }

    /// For whom a subscription is judged.
    pub(super) fn payer(&self) -> Payer {
        Payer(self.caller.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_first_tokens_have_series_of_their_own_and_all_others_share_one() {
        let refusals = QuotaRefusals::default();
        for token in [1, 2, 3, 1, 4, 3] {
            refusals.count(TokenId(token), "streams", 2);
        }
        refusals.count(TokenId(2), SHARE, 2);
        let counts: Vec<_> = refusals.0.lock().iter().map(|((token, what), count)| (*token, *what, *count)).collect();
        assert_eq!(
            counts,
            [
                (None, "streams", 3),
                (Some(TokenId(1)), "streams", 2),
                (Some(TokenId(2)), SHARE, 1),
                (Some(TokenId(2)), "streams", 1),
            ]
        );
    }
}
