//! What has to be done so that a cluster has what a file says, in an order in which it can be done.

use std::fmt;

use serde_json::{Value, json};

use super::{
    Definitions,
    diff::{Change, changes},
    kinds::{Begin, ChannelDefinition, ConsumerDefinition, RoleDefinition, RuleDefinition},
};
use crate::{
    cli::role::quota::Shown,
    client::{Client, ClientError, Start, UpdateChannel},
};

/// What a channel has for ever.
const FIXED: [&str; 2] = ["durability", "comparison"];
/// What is said of a consumer that is not there yet.
const ONLY_AT_FIRST: [&str; 2] = ["start", "settle_skipped"];

/// All of it. Channels come first, because everything else is about them.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
}

/// One thing to do.
#[derive(Debug)]
pub(super) struct Action {
    wanted: Wanted,
    /// None: it is to be created.
    changes: Option<Vec<Change>>,
}

#[derive(Debug)]
enum Wanted {
    Channel(ChannelDefinition),
    Consumer(ConsumerDefinition),
    Rule(RuleDefinition),
    Role(RoleDefinition),
}

impl Plan {
    pub(super) fn of(wanted: &Definitions, present: &Definitions) -> Self {
        let mut plan = Self::default();
        let mut channels = wanted.channels.clone();
        // The channel that takes what another one refuses has to be there first.
        let takes = |name: &str| wanted.channels.iter().any(|channel| channel.quarantine.as_deref() == Some(name));
        channels.sort_by_key(|channel| !takes(&channel.name));
        for channel in channels {
            let there = present.channels.iter().find(|there| there.name == channel.name);
            plan.add(there.map(|there| changes(there, &channel, &[])), Wanted::Channel(channel));
        }
        for consumer in wanted.consumers.iter().cloned().map(ConsumerDefinition::canonical) {
            let is_it =
                |there: &&ConsumerDefinition| (&there.channel, &there.name) == (&consumer.channel, &consumer.name);
            let there = present.consumers.iter().find(is_it);
            plan.add(there.map(|there| changes(there, &consumer, &ONLY_AT_FIRST)), Wanted::Consumer(consumer));
        }
        for rule in wanted.rules.iter().cloned().map(RuleDefinition::canonical) {
            let is_it = |there: &&RuleDefinition| (&there.source, &there.target) == (&rule.source, &rule.target);
            let there = present.rules.iter().find(is_it);
            plan.add(there.map(|there| changes(there, &rule, &[])), Wanted::Rule(rule));
        }
        for role in wanted.roles.iter().cloned().map(RoleDefinition::canonical) {
            let there = present.roles.iter().find(|there| there.name == role.name);
            plan.add(there.map(|there| changes(there, &role, &[])), Wanted::Role(role));
        }
        plan
    }

    fn add(&mut self, changes: Option<Vec<Change>>, wanted: Wanted) {
        if changes.as_ref().is_none_or(|changes| !changes.is_empty()) {
            self.actions.push(Action { wanted, changes });
        }
    }
}

impl Action {
    pub(super) fn creates(&self) -> bool {
        self.changes.is_none()
    }

    /// Whether something is to change that cannot.
    pub(super) fn is_impossible(&self) -> bool {
        let fixed = |change: &Change| FIXED.contains(&change.field.as_str());
        matches!(self.wanted, Wanted::Channel(_)) && self.changes.iter().flatten().any(fixed)
    }

    fn fields(&self) -> Vec<String> {
        self.changes.iter().flatten().map(|change| change.field.clone()).collect()
    }

    /// The change of what a channel keeps, if it is one.
    pub(super) fn keeps_less(&self) -> Option<UpdateChannel> {
        let Wanted::Channel(channel) = &self.wanted else { return None };
        let fields: Vec<String> = self.fields().into_iter().filter(|field| field == "retention").collect();
        (!fields.is_empty()).then(|| channel.update(&fields))
    }

    /// What it is about.
    pub(super) fn subject(&self) -> String {
        match &self.wanted {
            Wanted::Channel(channel) => format!("channel {}", channel.name),
            Wanted::Consumer(consumer) => format!("consumer {}/{}", consumer.channel, consumer.name),
            Wanted::Rule(rule) => format!("rule {} -> {}", rule.source, rule.target),
            Wanted::Role(role) => format!("role {}", role.name),
        }
    }

    /// As `-o json` says it.
    pub(super) fn json(&self) -> Value {
        let kind = match &self.wanted {
            Wanted::Channel(_) => "channel",
            Wanted::Consumer(_) => "consumer",
            Wanted::Rule(_) => "rule",
            Wanted::Role(_) => "role",
        };
        let action = match (self.creates(), self.is_impossible()) {
            (true, _) => "create",
            (false, true) => "impossible",
            (false, false) => "update",
        };
        json!({ "action": action, "kind": kind, "subject": self.subject(), "changes": self.changes })
    }

    /// Does it.
    pub(super) async fn perform(&self, client: &Client) -> Result<(), ClientError> {
        let fields = self.fields();
        match &self.wanted {
            Wanted::Channel(channel) if self.creates() => {
                client.create_channel(&channel.name, channel.config()).await.map(drop)
            }
            Wanted::Channel(channel) => client.update_channel(channel.update(&fields)).await.map(drop),
            Wanted::Consumer(consumer) if self.creates() => {
                let start = match consumer.start.unwrap_or_default() {
                    Begin::Earliest => Start::Earliest,
                    Begin::Latest => Start::Latest,
                };
                client.create_consumer(&consumer.channel, &consumer.name, consumer.config(), start).await.map(drop)
            }
            Wanted::Consumer(consumer) => client.update_consumer(consumer.update(&fields)).await.map(drop),
            Wanted::Rule(rule) => client.put_rule(rule.rule()).await.map(drop),
            Wanted::Role(role) => {
                let made = if self.creates() {
                    client.create_role(role.role()).await?
                } else {
                    client.update_role(role.role()).await?
                };
                // What it grants is first: a quota is of a role that is there.
                if let Some(quota) = role.quota.filter(|quota| *quota != Shown::from(&made.quota)) {
                    client.set_role_quota(&role.name, quota.into()).await?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match (self.creates(), self.is_impossible()) {
            (true, _) => '+',
            (false, true) => '!',
            (false, false) => '~',
        };
        write!(f, "{mark} {}", self.subject())?;
        for change in self.changes.iter().flatten() {
            write!(f, "\n    {change}")?;
            if matches!(self.wanted, Wanted::Channel(_)) && FIXED.contains(&change.field.as_str()) {
                f.write_str(" (cannot change)")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definitions(text: &str) -> Definitions {
        serde_json::from_str(text).unwrap()
    }

    fn plan(wanted: &str, present: &str) -> Vec<String> {
        Plan::of(&definitions(wanted), &definitions(present)).actions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_as_it_is_to_be_is_no_action() {
        let all = r#"{"version":1,"channels":[{"name":"a","schema":null,"retention":{"max_messages":3}}],
            "consumers":[{"channel":"a","name":"w","filter":"n   >  1"}],
            "rules":[{"source":"a","target":"b"}],
            "roles":[{"name":"r","grants":[{"scope":"cluster","actions":["read"]}]}]}"#;
        // What a cluster has is written in one way only.
        let present = all.replace("n   >  1", "n > 1");
        assert_eq!(plan(all, &present), [""; 0]);
        assert_eq!(plan(all, r#"{"version":1}"#).len(), 4);
    }

    #[test]
    fn a_change_names_the_field_and_what_cannot_change_is_marked() {
        let present = r#"{"version":1,"channels":[{"name":"a","durability":"durable","dedup_window_ms":1}]}"#;
        let wanted = r#"{"version":1,"channels":[{"name":"a","dedup_window_ms":2}]}"#;
        assert_eq!(plan(wanted, present), ["~ channel a\n    dedup_window_ms: 1 -> 2"]);
        let other = r#"{"version":1,"channels":[{"name":"a","durability":"ephemeral"}]}"#;
        let other = plan(other, present);
        assert!(other[0].starts_with("! channel a") && other[0].ends_with("(cannot change)"), "{other:?}");
    }

    #[test]
    fn a_channel_that_takes_what_another_refuses_is_made_first() {
        let wanted = r#"{"version":1,"channels":[{"name":"a","quarantine":"z"},{"name":"z"}]}"#;
        assert_eq!(plan(wanted, r#"{"version":1}"#), ["+ channel z", "+ channel a"]);
    }
}
