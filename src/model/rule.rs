//! Rules between channels: what is published to one is also appended to another, in the same log entry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ChannelId;

/// A rule. There is at most one from one channel to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// From where.
    pub source: ChannelId,
    /// To where.
    pub target: ChannelId,
    /// Which messages; none means all.
    pub predicate: Option<String>,
}

/// All rules at some applied index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// Grows with every change: a publish says by which rules it was routed.
    pub version: u64,
    by_ends: BTreeMap<(ChannelId, ChannelId), Rule>,
}

impl RuleSet {
    /// All of them, by source and target.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.by_ends.values()
    }

    /// Those from one channel, by target.
    pub fn from(&self, source: ChannelId) -> impl Iterator<Item = &Rule> {
        self.by_ends.range((source, ChannelId(0))..=(source, ChannelId(u64::MAX))).map(|(_, rule)| rule)
    }

    /// The rule from one channel to another.
    pub fn get(&self, source: ChannelId, target: ChannelId) -> Option<&Rule> {
        self.by_ends.get(&(source, target))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_ends.is_empty()
    }

    /// Adds a rule, or replaces the one between its ends.
    pub fn insert(&mut self, rule: Rule) {
        self.by_ends.insert((rule.source, rule.target), rule);
    }

    /// Forgets the rule from one channel to another.
    pub fn remove(&mut self, source: ChannelId, target: ChannelId) -> Option<Rule> {
        self.by_ends.remove(&(source, target))
    }

    /// Whether messages of one channel reach another, over any number of rules.
    pub fn reaches(&self, source: ChannelId, target: ChannelId) -> bool {
        let (mut seen, mut open) = (vec![source], vec![source]);
        while let Some(next) = open.pop() {
            if next == target {
                return true;
            }
            for rule in self.from(next) {
                if !seen.contains(&rule.target) {
                    seen.push(rule.target);
                    open.push(rule.target);
                }
            }
        }
        false
    }
}
