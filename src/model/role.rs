//! What tokens may do: actions on channels, namespaces of claims and the cluster, which roles grant.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{ChannelName, Limits};

/// A role's name, made of the characters of a channel's name.
pub type RoleName = ChannelName;

/// The role that grants everything. It always is there, and cannot be changed or deleted.
pub const ADMIN_ROLE: &str = "admin";

/// What somebody does. The order is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Append messages to a channel.
    Publish,
    /// Read a channel's messages, and look at it, a namespace of claims or the cluster.
    Read,
    /// Take a consumer's messages and settle them.
    Consume,
    /// Take claims and end them.
    Claim,
    /// Create, change and delete.
    Manage,
    /// Change the cluster's members, tokens and roles, and copy the whole state.
    Admin,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Publish, Self::Read, Self::Consume, Self::Claim, Self::Manage, Self::Admin];

    /// As roles name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Consume => "consume",
            Self::Claim => "claim",
            Self::Manage => "manage",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|action| action.name() == text);
        found.ok_or_else(|| format!("`{text}` is no action: there are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actions(u8);

impl Actions {
    /// Every action.
    pub fn all() -> Self {
        Action::ALL.into_iter().collect()
    }

    /// Whether an action is among them.
    pub fn contains(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// In their order.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contains(*action))
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |bits, action| bits | action.bit()))
    }
}

/// A name, or how names begin, with a `*` behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How the names begin; none where it is one name.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.strip_suffix('*').unwrap_or(text);
        let wrong = |why: String| format!("`{text}` is no pattern of names: {why}; write orders, orders.* or *");
        match names.parse::<ChannelName>() {
            Ok(_) => Ok(Self(text.into())),
            // Such as `*` and `.*`, which are only the beginnings of names.
            Err(_) if text.ends_with('*') && names.bytes().all(|byte| byte == b'.') && names.len() < 3 => {
                Ok(Self(text.into()))
            }
            Err(error) => Err(wrong(error.to_string())),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.as_ref().to_owned()
    }
}

/// What a grant is about. Variants are append-only: their order is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Channels, with their consumers and the rules that lead from and to them.
    Channels(Pattern),
    /// Namespaces of claims.
    Claims(Pattern),
    /// The cluster as a whole: its nodes, its tokens and roles.
    Cluster,
}

impl Scope {
    /// What can be done to such things.
    pub fn actions(&self) -> Actions {
        let actions: &[Action] = match self {
            Self::Channels(_) => &[Action::Publish, Action::Read, Action::Consume, Action::Manage],
            Self::Claims(_) => &[Action::Read, Action::Claim, Action::Manage],
            Self::Cluster => &[Action::Read, Action::Manage, Action::Admin],
        };
        actions.iter().copied().collect()
    }
}

/// As grants are written: `channel:orders.*`, `claim:jobs`, `cluster`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channels(pattern) => write!(f, "channel:{}", pattern.as_str()),
            Self::Claims(pattern) => write!(f, "claim:{}", pattern.as_str()),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("channel", pattern)) => Ok(Self::Channels(pattern.parse()?)),
            Some(("claim", pattern)) => Ok(Self::Claims(pattern.parse()?)),
            None if text == "cluster" => Ok(Self::Cluster),
            _ => Err(format!("`{text}` names nothing: write channel:PATTERN, claim:PATTERN or cluster")),
        }
    }
}

/// What a role lets its tokens do, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To what.
    pub scope: Scope,
    /// What.
    pub actions: Actions,
}

impl Grant {
    /// A grant that makes sense.
    ///
    /// # Errors
    /// Says what does not.
    pub fn new(scope: Scope, actions: Actions) -> Result<Self, String> {
        let possible = scope.actions();
        if let Some(action) = actions.iter().find(|action| !possible.contains(*action)) {
            let names: Vec<&str> = possible.iter().map(Action::name).collect();
            return Err(format!("`{action}` is nothing that can be done to `{scope}`: there are {}", names.join(", ")));
        }
        if actions.is_empty() {
            return Err(format!("the grant on `{scope}` has no actions"));
        }
        Ok(Self { scope, actions })
    }
}

/// `channel:orders.*=publish,read`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<&str> = self.actions.iter().map(Action::name).collect();
        write!(f, "{}={}", self.scope, actions.join(","))
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scope, actions) = text.split_once('=').ok_or_else(|| {
            format!("`{text}` is no grant: write SCOPE=ACTIONS, such as channel:orders.*=publish,read")
        })?;
        let actions = actions.split(',').map(str::parse::<Action>).collect::<Result<Actions, String>>()?;
        Self::new(scope.parse()?, actions)
    }
}

/// A named list of grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// For people.
    pub description: String,
    /// What it grants; everything else is refused.
    pub grants: Vec<Grant>,
}

impl Role {
    /// Whether it is as large as a role may be.
    pub fn is_within_limits(&self) -> bool {
        self.grants.len() <= Limits::ROLE_GRANTS && self.description.len() <= Limits::DESCRIPTION_BYTES
    }

    /// The role that grants everything.
    pub fn admin() -> Option<Self> {
        let every = |scope: Scope| Grant { actions: scope.actions(), scope };
        let all: Pattern = "*".parse().ok()?;
        Some(Self {
            name: ADMIN_ROLE.parse().ok()?,
            description: "everything; cannot be changed".to_owned(),
            grants: vec![every(Scope::Channels(all.clone())), every(Scope::Claims(all)), every(Scope::Cluster)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_comes_back_from_its_text() {
        for text in
            ["channel:orders.*=publish,read", "channel:*=consume", "claim:jobs=claim", "cluster=read,manage,admin"]
        {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_grant() {
        for (text, why) in [
            ("channel:orders", "is no grant"),
            ("channel:orders=", "is no action"),
            ("channel:orders=write", "is no action"),
            ("channel:orders=admin", "nothing that can be done"),
            ("claim:jobs=publish", "nothing that can be done"),
            ("cluster=publish", "nothing that can be done"),
            ("orders=read", "names nothing"),
            ("channel:=read", "is no pattern"),
            ("channel:a*b=read", "is no pattern"),
            ("channel:a b*=read", "is no pattern"),
        ] {
            let error = text.parse::<Grant>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_role_of_administrators_grants_everything() {
        let grants = Role::admin().unwrap().grants;
        let all = grants.iter().fold(Actions::default(), |all, grant| all.and(grant.actions));
        assert_eq!(all, Actions::all());
    }
}
