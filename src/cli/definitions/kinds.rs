//! How channels, consumers, rules and roles stand in a file.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{
    cli::role::quota::Shown,
    client::{self, Grant, Role, Rule},
    model::{
        ADMIN_ROLE, ChannelJson, Comparison, Compatibility, ConsumerJson, Predicate, QuotaJson, RetentionJson, WhenFull,
    },
    proto::v1::{self, Channel, Consumer},
};

/// Tells what is left out from what is `null`.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// How messages are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Durability {
    #[default]
    Durable,
    Ephemeral,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelDefinition {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<Durability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
    /// A JSON Schema; `null`: any payload.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    schema: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup_window_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compatibility: Option<Compatibility>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<RetentionJson>,
    /// The empty text: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quarantine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaJson>,
}

impl ChannelDefinition {
    pub(super) fn of(channel: &Channel) -> Self {
        let shown = ChannelJson::of(channel);
        Self {
            name: shown.name.to_owned(),
            durability: Some(if shown.durability == "ephemeral" { Durability::Ephemeral } else { Durability::Durable }),
            comparison: Some(shown.comparison),
            // One that cannot be read as JSON is none that was ever taken.
            schema: Some(serde_json::from_str(shown.schema).unwrap_or(Value::Null)),
            dedup_window_ms: Some(shown.dedup_window_ms),
            compatibility: Some(shown.compatibility),
            retention: Some(shown.retention.clone()),
            quarantine: Some(shown.quarantine.to_owned()),
            quota: Some(shown.quota),
        }
    }

    fn schema_text(schema: &Value) -> String {
        if schema.is_null() { String::new() } else { schema.to_string() }
    }

    /// What is created.
    pub(super) fn config(&self) -> client::ChannelConfig {
        let this = self.clone();
        let config = v1::ChannelConfig {
            durability: match this.durability.unwrap_or_default() {
                Durability::Durable => v1::Durability::Durable,
                Durability::Ephemeral => v1::Durability::Ephemeral,
            }
            .into(),
            comparison: this.comparison.map_or(v1::Comparison::Unspecified, comparison).into(),
            schema: this.schema.as_ref().map(Self::schema_text).unwrap_or_default(),
            dedup_window_ms: this.dedup_window_ms.unwrap_or_default(),
            compatibility: this.compatibility.map_or(v1::Compatibility::Unspecified, compatibility).into(),
            retention: this.retention.map(retention),
            quarantine: this.quarantine.unwrap_or_default(),
            quota: this.quota.map(quota),
        };
        config.into()
    }

    /// The change that gives a channel these fields.
    pub(super) fn update(&self, fields: &[String]) -> client::UpdateChannel {
        let is = |field: &str| fields.iter().any(|changed| changed == field);
        let this = self.clone();
        let request = v1::UpdateChannelRequest {
            name: this.name,
            schema: this.schema.as_ref().map(Self::schema_text).filter(|_| is("schema")),
            dedup_window_ms: this.dedup_window_ms.filter(|_| is("dedup_window_ms")),
            compatibility: this.compatibility.filter(|_| is("compatibility")).map(|c| compatibility(c).into()),
            retention: this.retention.filter(|_| is("retention")).map(retention),
            quarantine: this.quarantine.filter(|_| is("quarantine")),
            quota: this.quota.filter(|_| is("quota")).map(quota),
            ..v1::UpdateChannelRequest::default()
        };
        request.into()
    }
}

fn comparison(comparison: Comparison) -> v1::Comparison {
    match comparison {
        Comparison::Bytes => v1::Comparison::Bytes,
        Comparison::CanonicalJson => v1::Comparison::CanonicalJson,
    }
}

fn compatibility(compatibility: Compatibility) -> v1::Compatibility {
    match compatibility {
        Compatibility::Backward => v1::Compatibility::Backward,
        Compatibility::Forward => v1::Compatibility::Forward,
        Compatibility::Full => v1::Compatibility::Full,
        Compatibility::None => v1::Compatibility::None,
    }
}

fn retention(json: RetentionJson) -> v1::Retention {
    let when_full = match json.when_full {
        WhenFull::DropOldest => v1::WhenFull::DropOldest,
        WhenFull::RefuseNew => v1::WhenFull::RefuseNew,
    };
    let RetentionJson { max_messages, max_bytes, max_age_ms, work_queue, compact_by, .. } = json;
    let compact_by = compact_by.unwrap_or_default();
    v1::Retention { max_messages, max_bytes, max_age_ms, when_full: when_full.into(), work_queue, compact_by }
}

fn quota(QuotaJson { messages_per_second, bytes_per_second }: QuotaJson) -> v1::Quota {
    v1::Quota { messages_per_second, bytes_per_second }
}

/// The order in which members get messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    #[default]
    None,
    Exclusive,
    Key,
}

impl Order {
    fn on_the_wire(self) -> client::ConsumeOrder {
        match self {
            Self::None => client::ConsumeOrder::None,
            Self::Exclusive => client::ConsumeOrder::Exclusive,
            Self::Key => client::ConsumeOrder::Key,
        }
    }
}

/// Where a consumer that is created begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Begin {
    #[default]
    Earliest,
    Latest,
}

/// A consumer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsumerDefinition {
    pub(super) channel: String,
    pub(super) name: String,
    /// For one that is created: not compared with one that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<Begin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    /// The empty text: the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_dead: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Order>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_header: Option<String>,
    /// The empty text: all messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    /// What a filter of a work queue asks for; it is not kept, and so not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    settle_skipped: Option<bool>,
}

impl ConsumerDefinition {
    pub(super) fn of(consumer: &Consumer, channel: &Channel) -> Self {
        let shown = ConsumerJson::of(consumer);
        let work_queue = channel.config.as_ref().and_then(|config| config.retention.as_ref());
        let skips = work_queue.is_some_and(|retention| retention.work_queue) && !shown.filter.is_empty();
        Self {
            channel: shown.channel.to_owned(),
            name: shown.name.to_owned(),
            start: None,
            ack_timeout_ms: Some(shown.ack_timeout_ms),
            max_attempts: Some(shown.max_attempts),
            dead_letter: (!shown.dead_letter.is_empty()).then(|| shown.dead_letter.to_owned()),
            drop_dead: Some(shown.drop_dead),
            max_in_flight: Some(shown.max_in_flight),
            order: Some(match shown.order {
                "exclusive" => Order::Exclusive,
                "key" => Order::Key,
                _ => Order::None,
            }),
            order_header: Some(shown.order_header.to_owned()),
            filter: Some(canonical(shown.filter)),
            settle_skipped: skips.then_some(true),
        }
    }

    /// With its filter as a cluster writes it.
    pub(super) fn canonical(mut self) -> Self {
        self.filter = self.filter.map(|filter| canonical(&filter));
        self
    }

    /// What is created.
    pub(super) fn config(&self) -> client::ConsumerConfig {
        let this = self.clone();
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut config = client::ConsumerConfig::default();
        config.ack_timeout = this.ack_timeout_ms.map(Duration::from_millis);
        config.max_attempts = this.max_attempts.unwrap_or_default();
        config.dead_letter = some(this.dead_letter);
        config.drop_dead = this.drop_dead.unwrap_or_default();
        config.max_in_flight = this.max_in_flight.unwrap_or_default();
        config.order = this.order.unwrap_or_default().on_the_wire();
        config.order_header = some(this.order_header);
        config.filter = some(this.filter);
        config.settle_skipped = this.settle_skipped.unwrap_or_default();
        config
    }

    /// The change that gives a consumer these fields.
    pub(super) fn update(&self, fields: &[String]) -> client::UpdateConsumer {
        let is = |field: &str| fields.iter().any(|changed| changed == field);
        let this = self.clone();
        let mut update = client::UpdateConsumer::default();
        update.channel = this.channel;
        update.name = this.name;
        update.ack_timeout = this.ack_timeout_ms.filter(|_| is("ack_timeout_ms")).map(Duration::from_millis);
        update.max_attempts = this.max_attempts.filter(|_| is("max_attempts"));
        update.drop_dead = this.drop_dead.unwrap_or_default() && is("drop_dead");
        // Letters that are no longer dropped go to the usual channel.
        let kept = is("drop_dead") && this.drop_dead == Some(false);
        update.dead_letter = match this.dead_letter {
            Some(letter) if is("dead_letter") || kept => Some(letter),
            None if kept => Some(String::new()),
            _ => None,
        };
        update.max_in_flight = this.max_in_flight.filter(|_| is("max_in_flight"));
        if is("order") || is("order_header") {
            update.order = Some(this.order.unwrap_or_default().on_the_wire());
            update.order_header = this.order_header.filter(|header| !header.is_empty());
        }
        update.filter = this.filter.filter(|_| is("filter"));
        update.settle_skipped = is("filter") && this.settle_skipped.unwrap_or_default();
        update
    }
}

/// A predicate in the one form that clusters keep; as it is where it is none, for the cluster to say what is wrong.
fn canonical(predicate: &str) -> String {
    predicate.parse::<Predicate>().map_or_else(|_| predicate.to_owned(), |predicate| predicate.to_string())
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleDefinition {
    pub(super) source: String,
    pub(super) target: String,
    /// The empty text: every message.
    #[serde(default)]
    predicate: String,
}

impl RuleDefinition {
    pub(super) fn of(rule: Rule) -> Self {
        Self { source: rule.source, target: rule.target, predicate: canonical(&rule.predicate) }
    }

    /// With its predicate as a cluster writes it.
    pub(super) fn canonical(mut self) -> Self {
        self.predicate = canonical(&self.predicate);
        self
    }

    pub(super) fn rule(&self) -> Rule {
        let Self { source, target, predicate } = self.clone();
        Rule::new().source(source).target(target).predicate(predicate)
    }
}

/// A role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleDefinition {
    pub(super) name: String,
    #[serde(default)]
    description: String,
    grants: Vec<GrantDefinition>,
    /// What is left out stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<Shown>,
}

/// What a role grants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantDefinition {
    scope: String,
    actions: Vec<String>,
}

impl RoleDefinition {
    /// None for the one that every cluster has.
    pub(super) fn of(role: Role) -> Option<Self> {
        let grants =
            role.grants.into_iter().map(|grant| GrantDefinition { scope: grant.scope, actions: grant.actions });
        let quota = Some(Shown::from(&role.quota)).filter(|quota| !quota.is_empty());
        let role = Self { name: role.name, description: role.description, grants: grants.collect(), quota };
        (role.name != ADMIN_ROLE).then(|| role.canonical())
    }

    /// In an order that does not depend on who wrote it.
    pub(super) fn canonical(mut self) -> Self {
        for grant in &mut self.grants {
            grant.actions.sort();
            grant.actions.dedup();
        }
        self.grants.sort();
        self
    }

    pub(super) fn role(&self) -> Role {
        let Self { name, description, grants, quota: _ } = self.clone();
        let grant = |GrantDefinition { scope, actions }| Grant::new().scope(scope).actions(actions);
        Role::new().name(name).description(description).grants(grants.into_iter().map(grant).collect())
    }
}
