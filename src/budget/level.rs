//! How much there may be of something on each level that it counts on. What is taken on one level is taken on all those
//! above it, or on none; it is given back when its lease is dropped. A few atomic additions and no lock, so that it can
//! be on the way of every request.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A limit, what is taken of it, and the level above.
#[derive(Debug)]
pub struct Level {
    whose: &'static str,
    limit: usize,
    held: AtomicUsize,
    above: Option<Arc<Self>>,
}

/// More than a level allows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Which level is full: `connection`, `address`, `face` or `node`.
    pub whose: &'static str,
    /// What is taken there.
    pub held: usize,
    /// What may be.
    pub limit: usize,
}

impl Level {
    /// One that is below no other.
    pub fn new(whose: &'static str, limit: usize) -> Arc<Self> {
        Arc::new(Self { whose, limit, held: AtomicUsize::new(0), above: None })
    }

    /// One whose leases count on this level too.
    pub fn below(self: &Arc<Self>, whose: &'static str, limit: usize) -> Arc<Self> {
        Arc::new(Self { whose, limit, held: AtomicUsize::new(0), above: Some(self.clone()) })
    }

    /// What is taken.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether more is taken than this level or one above it allows.
    pub(super) fn is_over(&self) -> bool {
        self.chain().any(|level| level.held() > level.limit)
    }

    /// Takes an amount on all levels. What comes alone is never too much: a limit of bytes need not be larger than the
    /// largest request.
    ///
    /// # Errors
    /// When a level is full; then nothing is taken.
    pub fn take(self: &Arc<Self>, amount: usize) -> Result<Lease, Full> {
        let lease = Lease { level: self.clone(), amount: AtomicUsize::new(0) };
        lease.grow(amount)?;
        Ok(lease)
    }

    /// Takes an amount, whatever the limits say: for what is there already.
    pub fn hold(self: &Arc<Self>, amount: usize) -> Lease {
        self.add(amount);
        Lease { level: self.clone(), amount: AtomicUsize::new(amount) }
    }

    /// Takes an amount where no more is taken than `most` by then, whatever the limit.
    ///
    /// # Errors
    /// What is taken.
    pub(super) fn take_within(self: &Arc<Self>, amount: usize, most: usize) -> Result<Lease, usize> {
        let held = self.held.fetch_add(amount, Ordering::Relaxed);
        if held.saturating_add(amount) > most && (held > 0 || most == 0) {
            self.held.fetch_sub(amount, Ordering::Relaxed);
            return Err(held);
        }
        self.above.iter().for_each(|above| above.add(amount));
        Ok(Lease { level: self.clone(), amount: AtomicUsize::new(amount) })
    }

    /// The one that is below no other.
    pub(super) fn top(&self) -> &Self {
        self.chain().last().unwrap_or(self)
    }

    /// What one of many may take, where less than a quarter is left: a half.
    pub(super) fn share_if_scarce(&self) -> Option<usize> {
        (self.held() >= self.limit - self.limit / 4).then_some(self.limit / 2)
    }

    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |level| level.above.as_deref())
    }

    pub(super) fn add(&self, amount: usize) {
        self.chain().for_each(|level| {
            level.held.fetch_add(amount, Ordering::Relaxed);
        });
    }

    pub(super) fn give_back(&self, amount: usize) {
        self.chain().for_each(|level| {
            level.held.fetch_sub(amount, Ordering::Relaxed);
        });
    }

    /// Gives back an amount, or as much as is taken; how much that was.
    pub(super) fn give_back_at_most(&self, amount: usize) -> usize {
        let less = |held: usize| (held > 0).then(|| held.saturating_sub(amount));
        let before = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or(0);
        let given = before.min(amount);
        if given > 0
            && let Some(above) = &self.above
        {
            above.give_back(given);
        }
        given
    }

    fn try_add(&self, amount: usize) -> Result<(), Full> {
        for (index, level) in self.chain().enumerate() {
            let held = level.held.fetch_add(amount, Ordering::Relaxed);
            if held.saturating_add(amount) > level.limit && (held > 0 || level.limit == 0) {
                self.chain().take(index + 1).for_each(|level| {
                    level.held.fetch_sub(amount, Ordering::Relaxed);
                });
                return Err(Full { whose: level.whose, held, limit: level.limit });
            }
        }
        Ok(())
    }
}

/// Something that is taken until this is dropped.
#[derive(Debug)]
pub struct Lease {
    level: Arc<Level>,
    amount: AtomicUsize,
}

impl Lease {
    /// Takes more.
    ///
    /// # Errors
    /// When a level is full; then this is as it was.
    pub fn grow(&self, amount: usize) -> Result<(), Full> {
        self.level.try_add(amount)?;
        self.amount.fetch_add(amount, Ordering::Relaxed);
        Ok(())
    }

    /// Gives a part back.
    pub fn shrink(&self, amount: usize) {
        self.amount.fetch_sub(amount, Ordering::Relaxed);
        self.level.give_back(amount);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.level.give_back(*self.amount.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_counts_on_every_level_until_it_is_dropped() {
        let node = Level::new("node", 100);
        let address = node.below("address", 50);
        let connection = address.below("connection", 40);
        let lease = connection.take(30).unwrap();
        lease.grow(10).unwrap();
        assert_eq!((connection.held(), address.held(), node.held()), (40, 40, 40));
        lease.shrink(25);
        assert_eq!((connection.held(), address.held(), node.held()), (15, 15, 15));
        drop(lease);
        assert_eq!((connection.held(), address.held(), node.held()), (0, 0, 0));
    }

    #[test]
    fn what_a_level_above_refuses_is_taken_nowhere() {
        let node = Level::new("node", 100);
        let (one, other) = (node.below("address", 80), node.below("address", 80));
        let _held = one.take(80).unwrap();
        let first = other.take(10).unwrap();
        let full = first.grow(20).unwrap_err();
        assert_eq!(full, Full { whose: "node", held: 90, limit: 100 });
        assert_eq!((other.held(), node.held()), (10, 90));
    }

    #[test]
    fn what_comes_alone_is_never_too_much_unless_nothing_is_allowed() {
        let level = Level::new("node", 10);
        let large = level.take(1000).unwrap();
        assert!(level.is_over() && level.take(1).is_err());
        drop(large);
        assert!(Level::new("node", 0).take(1).is_err());
    }

    #[test]
    fn what_is_there_already_counts_whatever_the_limit() {
        let level = Level::new("node", 10);
        let (first, second) = (level.hold(8), level.hold(8));
        assert_eq!(level.held(), 16);
        drop((first, second));
        assert_eq!(level.held(), 0);
    }
}
