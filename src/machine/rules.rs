//! The rules between channels, and the copies that they make.

use std::sync::Arc;

use super::{
    CatalogChange, Effects, Machine,
    keys::{Key, record},
};
use crate::model::{ChannelId, ChannelName, Frame, OperationReply, PublishGroup, Refusal, Route, Rule, RuleSet};

/// Takes a stored rule; whether its channels are there shows in the end.
pub(super) fn restore_rule(
    rules: &mut RuleSet,
    (source, target): (ChannelId, ChannelId),
    value: &[u8],
) -> Result<(), String> {
    let rule: Rule = record("rule", value)?;
    if (rule.source, rule.target) != (source, target) {
        return Err(format!("it is from {} to {}", rule.source.0, rule.target.0));
    }
    rules.insert(rule);
    Ok(())
}

impl Machine {
    pub(super) fn restore_rules(&mut self, mut rules: RuleSet) -> Result<(), String> {
        let gone = |id: &ChannelId| !self.channels.contains_key(id);
        if let Some(rule) = rules.iter().find(|rule| gone(&rule.source) || gone(&rule.target)) {
            let key = Key::Rule(rule.source, rule.target).encode();
            return Err(format!("key `{}`: there is no such channel", key.escape_ascii()));
        }
        rules.version = self.record.rules_version;
        self.rules = Arc::new(rules);
        Ok(())
    }

    /// The rules between channels.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    pub(super) fn put_rule(
        &mut self,
        source: &ChannelName,
        target: &ChannelName,
        predicate: Option<String>,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        let (source, target) = (self.id_of(source)?, self.id_of(target)?);
        let rule = Rule { source, target, predicate };
        match self.rules.get(source, target) {
            Some(present) if *present == rule => return Ok(OperationReply::Rule(rule)),
            Some(_) => {}
            None if self.rules.len() as u64 >= self.state_limits.rules => {
                return Err(Refusal::TooManyRules { limit: self.state_limits.rules });
            }
            None if self.rules.reaches(target, source) => return Err(Refusal::RuleCycle),
            None => {}
        }
        effects.put(Key::Rule(source, target), &rule);
        self.change_rules(effects, |rules| rules.insert(rule.clone()));
        Ok(OperationReply::Rule(rule))
    }

    pub(super) fn delete_rule(
        &mut self,
        source: &ChannelName,
        target: &ChannelName,
        effects: &mut Effects,
    ) -> Result<OperationReply, Refusal> {
        let (source, target) = (self.id_of(source)?, self.id_of(target)?);
        let rule = self.rules.get(source, target).cloned().ok_or(Refusal::NoSuchRule)?;
        effects.delete(Key::Rule(source, target));
        self.change_rules(effects, |rules| {
            rules.remove(source, target);
        });
        Ok(OperationReply::Rule(rule))
    }

    /// A channel takes its rules with it.
    pub(super) fn delete_rules_of(&mut self, channel: ChannelId, effects: &mut Effects) {
        let ends = self.rules.iter().map(|rule| (rule.source, rule.target));
        let gone: Vec<_> = ends.filter(|(source, target)| *source == channel || *target == channel).collect();
        if gone.is_empty() {
            return;
        }
        gone.iter().for_each(|(source, target)| effects.delete(Key::Rule(*source, *target)));
        self.change_rules(effects, |rules| {
            gone.iter().for_each(|(source, target)| {
                rules.remove(*source, *target);
            });
        });
    }

    /// Whether a group was routed by the rules and the schemas that hold now.
    pub(super) fn check_routing(&self, group: &PublishGroup) -> Result<(), Refusal> {
        if group.rules_version != self.rules.version {
            return Err(Refusal::StaleRules { current: self.rules.version });
        }
        self.check_routes(&group.routes)
    }

    /// Whether the copies may be made: their schemas are those of the targets.
    fn check_routes(&self, routes: &[Route]) -> Result<(), Refusal> {
        for route in routes {
            if let Some(target) = self.channels.get(&route.target)
                && target.meta.schema_id != route.schema_id
            {
                return Err(Refusal::StaleSchema { current: target.meta.schema_id });
            }
        }
        Ok(())
    }

    /// Copies messages of a group that was appended without those at the positions `except`.
    pub(super) fn copy(
        &mut self,
        routes: &[Route],
        frame: &Frame,
        expires: bool,
        except: &[u32],
        effects: &mut Effects,
    ) {
        for Route { target, positions, .. } in routes {
            let Some(channel) = self.channels.get_mut(target) else { continue };
            let kept: Vec<u32> =
                positions.iter().copied().filter(|position| except.binary_search(position).is_err()).collect();
            if let Some(batch) = channel.append_unkeyed(effects.copy(frame, &kept), self.record.time_ms, expires) {
                effects.appended(channel, batch);
            }
        }
    }

    fn change_rules(&mut self, effects: &mut Effects, change: impl FnOnce(&mut RuleSet)) {
        let mut rules = RuleSet::clone(&self.rules);
        change(&mut rules);
        self.record.rules_version += 1;
        rules.version = self.record.rules_version;
        self.rules = Arc::new(rules);
        effects.catalog.push(CatalogChange::Rules(self.rules.clone()));
    }
}
