//! Whom the certificate names that a client has shown.

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Such as `uri:NAME`; the first one counts that somebody knows.
    pub names: Vec<String>,
    /// Until when the certificate is valid, milliseconds since the Unix epoch.
    pub until_ms: u64,
}
