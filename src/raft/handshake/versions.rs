//! On which version two nodes agree, and what is said where they cannot: by name, and with what to do.

use std::fmt;

use crate::sequencer::PeerVersion;

/// Which versions of the nodes' protocol a node takes from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) struct Versions {
    /// The oldest one that its build speaks, or that of its cluster where that is later.
    pub(in crate::raft) oldest: PeerVersion,
    /// The newest one that its build speaks.
    pub(in crate::raft) newest: PeerVersion,
}

impl Versions {
    /// Of a build that speaks up to `newest`, in a cluster of a version.
    pub(in crate::raft) fn within(cluster: PeerVersion, newest: PeerVersion) -> Self {
        Self { oldest: cluster.max(PeerVersion::OLDEST), newest }
    }

    pub(in crate::raft) fn include(self, version: PeerVersion) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

/// Two nodes speak no version that both of them take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) struct OtherVersion {
    /// The other side; it has not proven that.
    pub(in crate::raft) id: Option<u64>,
    /// What the cluster calls it; empty where that is not known.
    pub(in crate::raft) name: String,
    /// What it says.
    pub(in crate::raft) theirs: Versions,
    pub(in crate::raft) ours: Versions,
}

impl fmt::Display for OtherVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, theirs, ours } = self;
        match id {
            _ if !name.is_empty() => write!(f, "node {name}")?,
            Some(id) => write!(f, "the node with id {id}")?,
            None => f.write_str("the other side")?,
        }
        if theirs.newest < PeerVersion::OLDEST {
            return write!(
                f,
                " speaks version {} of the nodes' protocol; this build speaks {} to {}. Nodes of that version cannot be \
                 exchanged one by one: stop all nodes in order, exchange the build on each of them, and start them again",
                theirs.newest,
                PeerVersion::OLDEST,
                ours.newest
            );
        }
        if theirs.newest < ours.oldest {
            return write!(
                f,
                " speaks version {}; this cluster needs {}: start it with the build that the other nodes have (a \
                 cluster's version is never lowered)",
                theirs.newest, ours.oldest
            );
        }
        write!(
            f,
            " needs version {}; this node speaks up to {}: start this node with the build that the other one has",
            theirs.oldest, ours.newest
        )
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::{
        super::{Call, Caller, ClusterMark, Found, PeerKeys, Purpose, Refused, answer, call},
        *,
    };

    fn versions(oldest: u8, newest: u8) -> Versions {
        Versions { oldest: PeerVersion(oldest), newest: PeerVersion(newest) }
    }

    /// A node that takes these versions calls another one.
    async fn meet(caller: Versions, called: Versions) -> (Result<Found, Refused>, Result<Caller, Refused>) {
        let (mut to, mut from) = duplex(1024);
        let keys = PeerKeys::of("a cookie of some length");
        let cluster = ClusterMark::default();
        let asked =
            Call { from: 7, to: Some(8), cluster, purpose: Purpose::Requests, nonce: [1; 32], versions: caller };
        tokio::join!(call(&mut to, &keys, &asked), answer(&mut from, &keys, 8, [2; 32], called))
    }

    async fn refused(caller: Versions, called: Versions) -> [String; 2] {
        let (found, served) = meet(caller, called).await;
        [found.unwrap_err().to_string(), served.unwrap_err().to_string()]
    }

    #[tokio::test]
    async fn two_nodes_speak_the_newest_version_that_both_know() {
        for (caller, called, agreed) in
            [((3, 4), (3, 4), 4), ((3, 4), (2, 3), 3), ((2, 3), (3, 4), 3), ((3, 4), (4, 5), 4)]
        {
            let (found, served) = meet(versions(caller.0, caller.1), versions(called.0, called.1)).await;
            assert_eq!(found.unwrap().version, PeerVersion(agreed));
            assert_eq!(served.unwrap().call.versions, versions(caller.0, caller.1));
        }
    }

    #[tokio::test]
    async fn a_node_that_speaks_less_than_the_cluster_has_is_refused_whoever_calls() {
        let needs = "speaks version 3; this cluster needs 4: start it with the build that the other nodes have";
        let [_, told] = refused(versions(2, 3), versions(4, 4)).await;
        assert!(told.starts_with(&format!("the node with id 7 {needs}")), "{told}");
        let [told, _] = refused(versions(4, 4), versions(2, 3)).await;
        assert!(told.starts_with(&format!("the node with id 8 {needs}")), "{told}");
    }

    #[tokio::test]
    async fn a_node_of_version_2_is_refused_with_what_to_do() {
        for told in
            [&refused(versions(1, 2), versions(3, 4)).await[1], &refused(versions(3, 4), versions(1, 2)).await[0]]
        {
            assert!(told.contains("speaks version 2 of the nodes' protocol; this build speaks 3 to 4"), "{told}");
            assert!(told.contains("stop all nodes in order, exchange the build on each of them, and start"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_node_of_a_cluster_that_needs_version_5_says_so_to_one_that_does_not_speak_it() {
        let [asked, served] = refused(versions(3, 4), versions(5, 5)).await;
        assert!(asked.contains("needs version 5; this node speaks up to 4: start this node with the build"), "{asked}");
        assert!(served.contains("speaks version 4; this cluster needs 5"), "{served}");
    }

    #[test]
    fn a_node_takes_no_version_before_that_of_its_cluster() {
        let within = |cluster: u8| Versions::within(PeerVersion(cluster), PeerVersion(4));
        assert_eq!(within(4), versions(4, 4));
        assert_eq!(within(3), versions(3, 4));
        assert_eq!(within(2), versions(3, 4), "the build speaks no such version");
    }

    #[test]
    fn a_node_is_called_by_its_name_where_that_is_known() {
        let other = OtherVersion { id: Some(7), name: "n2".into(), theirs: versions(3, 3), ours: versions(4, 4) };
        assert!(other.to_string().starts_with("node n2 speaks version 3; this cluster needs 4"), "{other}");
    }
}
