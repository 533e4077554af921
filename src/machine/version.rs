//! The cluster's version: what all its nodes are known to speak. The log says when it rises, so that every node goes by the
//! same version at the same entry.

use bytes::Bytes;

use super::{
    Effects, Machine,
    keys::{self, Key},
};
use crate::model::PeerVersion;

/// The plain key that says it. Where there is none it is [`PeerVersion::UNWRITTEN`].
pub const VERSION_KEY: &[u8] = keys::VERSION;

/// Whether this build can go on with a state of that version. It is to be asked before anything else of a state is read.
///
/// # Errors
/// Says what to do where it cannot.
pub fn check_version(key: &[u8], value: &[u8]) -> Result<PeerVersion, String> {
    let version: PeerVersion =
        keys::record("cluster's version", value).map_err(|reason| format!("key `{}`: {reason}", key.escape_ascii()))?;
    if version > PeerVersion::NEWEST {
        let newest = PeerVersion::NEWEST;
        return Err(format!(
            "it is of a cluster of version {version}, and this build knows versions up to {newest}: use the build that \
             wrote it, or a later one (a cluster's version is never lowered)"
        ));
    }
    Ok(version)
}

impl Machine {
    /// What all nodes are known to speak.
    pub fn version(&self) -> PeerVersion {
        self.version
    }

    /// Two leaders may order it one after the other.
    pub(super) fn raise_version(&mut self, version: PeerVersion, effects: &mut Effects) {
        if version > self.version {
            self.version = version;
            effects.put(Key::Version, &version);
        }
    }

    pub(super) fn restore_version(&mut self, value: &Bytes) -> Result<(), String> {
        self.version = check_version(VERSION_KEY, value)?;
        Ok(())
    }
}
