//! Whether clients have to say who they are, and what a node without that may be reached by.

use std::{net::IpAddr, str::FromStr, time::Duration};

use super::ServerConfig;
use crate::model::{Retention, SecurityMode, TokenHash};

/// Who may do what on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityConfig {
    /// Whether clients have to send a token: `off`, nobody has to; `permissive`, everything is let through, and what `enforce`
    /// would refuse is counted; `enforce`, what no role of the token grants is refused.
    pub mode: SecurityMode,
    /// Whether it is meant so that everybody who reaches the node may do everything. Without it, a node whose mode is not
    /// `enforce` and that asks for no client certificates listens for clients on loopback only.
    pub insecure: bool,
    /// The hash of a token that may make tokens and roles and do nothing else, for the first administrator. `liminal token
    /// bootstrap` prints both.
    pub bootstrap_token_hash: Option<TokenHash>,
    /// Whether a node that crashes may leave a core dump, and debuggers of its user may attach to it. Its memory holds the
    /// cookie, keys of certificates and tokens.
    pub core_dumps: bool,
    /// Whether acts of administrators and refusals are recorded in the channel `$audit`: `auto`, where `security.mode` is not
    /// `off`; `on`; `off`, they are lines of the node's log only.
    pub audit: AuditMode,
    /// How long the channel `$audit` keeps a record; off: as long as there is room.
    pub audit_max_age: Option<Duration>,
    /// Bytes of records that the channel `$audit` keeps.
    pub audit_max_bytes: usize,
}

impl Default for SecurityConfig {
    /// Open, on loopback; records of a year, if somebody asks for them.
    fn default() -> Self {
        Self {
            mode: SecurityMode::default(),
            insecure: false,
            bootstrap_token_hash: None,
            core_dumps: false,
            audit: AuditMode::default(),
            audit_max_age: Some(Duration::from_secs(31_557_600)),
            audit_max_bytes: 64 << 20,
        }
    }
}

impl SecurityConfig {
    /// What the channel of the audit keeps; none where there is none.
    pub fn audit_retention(&self) -> Option<Retention> {
        let is_kept = match self.audit {
            AuditMode::Auto => self.mode != SecurityMode::Off,
            AuditMode::On => true,
            AuditMode::Off => false,
        };
        is_kept.then(|| Retention {
            max_age_ms: self.audit_max_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            max_bytes: Some(self.audit_max_bytes as u64),
            ..Retention::default()
        })
    }
}

/// Where acts and refusals are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditMode {
    /// In the channel where callers are known, else in the node's log.
    #[default]
    Auto,
    /// In the channel.
    On,
    /// In the node's log.
    Off,
}

impl AuditMode {
    /// As a configuration says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl FromStr for AuditMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Auto, Self::On, Self::Off].into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("`{text}` says nothing of the audit: there are auto, on and off"))
    }
}

impl ServerConfig {
    /// Whether what the node's addresses let in is meant so. Gives what its operator should be told at each start.
    ///
    /// # Errors
    /// When whoever reaches the machine could do everything, and nobody said that this is meant.
    pub fn check_exposure(&self) -> Result<Option<String>, String> {
        let faces = [("listen_address", &self.listen_address), ("health_listen_address", &self.health_listen_address)];
        // Who has a certificate that is asked for is no stranger.
        let asks_for_certificate = self.tls.files().is_some_and(|files| files.requires_certificate);
        let exposed = faces.into_iter().find(|(_, address)| !asks_for_certificate && !is_local(address));
        match (self.security.mode, exposed) {
            (SecurityMode::Off | SecurityMode::Permissive, Some((key, address))) if !self.security.insecure => Err(format!(
                "{key} is {address}, so whoever reaches this machine could do everything: set `security.mode = \
                 \"enforce\"` and make tokens (docs/SECURITY.md), ask clients for certificates (`tls.require_client_cert`), \
                 listen on 127.0.0.1, or set `security.insecure = true` if only people who may do everything reach it"
            )),
            (SecurityMode::Off, Some((key, address))) => Ok(Some(format!(
                "security.mode is `off` and {key} is {address}: whoever reaches this machine may do everything"
            ))),
            (SecurityMode::Permissive, _) => Ok(Some(
                "security.mode is `permissive`: what no role grants is counted and logged, and let through".to_owned(),
            )),
            (SecurityMode::Enforce, _) if self.security.bootstrap_token_hash.is_some() => Ok(Some(
                "security.bootstrap_token_hash is set: who has its token may make tokens and roles; take it out as soon as \
                 there is an administrator with another one"
                    .to_owned(),
            )),
            (SecurityMode::Enforce, _) | (SecurityMode::Off, None) => Ok(None),
        }
    }
}

/// Whether only this machine reaches an address.
fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsConfig;

    fn config(address: &str, mode: SecurityMode, insecure: bool) -> ServerConfig {
        let security = SecurityConfig { mode, insecure, ..SecurityConfig::default() };
        ServerConfig { listen_address: address.into(), security, ..ServerConfig::default() }
    }

    #[test]
    fn a_node_that_strangers_reach_says_that_it_is_meant_so_or_asks_for_tokens() {
        for local in ["127.0.0.1:7101", "[::1]:7101", "localhost:7101", "127.8.0.1:1"] {
            assert_eq!(config(local, SecurityMode::Off, false).check_exposure(), Ok(None), "{local}");
        }
        for open in ["0.0.0.0:7101", "[::]:7101", "10.0.0.1:7101", "broker.example.com:7101"] {
            let refused = config(open, SecurityMode::Off, false).check_exposure().unwrap_err();
            assert!(refused.contains(open) && refused.contains("security.insecure = true"), "{refused}");
            assert!(
                config(open, SecurityMode::Off, true).check_exposure().unwrap().is_some(),
                "it is said at each start"
            );
            assert!(
                config(open, SecurityMode::Permissive, false).check_exposure().is_err(),
                "it lets everybody through"
            );
            assert_eq!(config(open, SecurityMode::Enforce, false).check_exposure(), Ok(None));
        }
        let mut first = config("0.0.0.0:7101", SecurityMode::Enforce, false);
        first.security.bootstrap_token_hash = Some(TokenHash::of("lim_1"));
        assert!(first.check_exposure().unwrap().unwrap().contains("bootstrap_token_hash"));
        let mut certified = config("0.0.0.0:7101", SecurityMode::Off, false);
        let file = |name: &str| Some(name.to_owned());
        certified.tls =
            TlsConfig { cert: file("n.crt"), key: file("n.key"), client_ca: file("ca.crt"), ..certified.tls };
        assert!(certified.check_exposure().is_err(), "a client without a certificate is let in");
        certified.tls.require_client_cert = true;
        assert_eq!(certified.check_exposure(), Ok(None));
        let web = ServerConfig { health_listen_address: "0.0.0.0:7201".into(), ..ServerConfig::default() };
        assert!(web.check_exposure().unwrap_err().starts_with("health_listen_address"));
    }

    #[test]
    fn the_audit_has_a_channel_where_callers_are_known_or_where_it_is_asked_for() {
        let kept =
            |mode, audit| SecurityConfig { mode, audit, ..SecurityConfig::default() }.audit_retention().is_some();
        assert!(!kept(SecurityMode::Off, AuditMode::Auto) && kept(SecurityMode::Off, AuditMode::On));
        assert!(kept(SecurityMode::Permissive, AuditMode::Auto) && kept(SecurityMode::Enforce, AuditMode::Auto));
        assert!(!kept(SecurityMode::Enforce, AuditMode::Off));
        let text =
            "ephemeral_node = true\n[security]\naudit = \"on\"\naudit_max_age = \"30d\"\naudit_max_bytes = \"1MiB\"\n";
        let retention = ServerConfig::parse(text, "f.toml", None).unwrap().security.audit_retention().unwrap();
        assert_eq!((retention.max_age_ms, retention.max_bytes), (Some(30 * 24 * 3_600_000), Some(1 << 20)));
        let wrong = ServerConfig::parse("ephemeral_node = true\n[security]\naudit = \"yes\"\n", "f.toml", None);
        assert!(wrong.unwrap_err().to_string().contains("security.audit: `yes` says nothing"));
    }

    #[test]
    fn what_is_no_mode_and_no_hash_is_a_mistake_of_the_configuration() {
        let text = "ephemeral_node = true\n[security]\nmode = \"on\"\nbootstrap_token_hash = \"lim_1_secret\"\n";
        let errors = ServerConfig::parse(text, "f.toml", None).unwrap_err().to_string();
        assert!(errors.contains("security.mode: `on` is no mode"), "{errors}");
        assert!(errors.contains("security.bootstrap_token_hash: it is no hash of a token"), "{errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
}
