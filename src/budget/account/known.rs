//! Who the other side is, as far as it has proven that.

use std::sync::Arc;

use super::{super::identity::Identity, Account};

impl Account {
    /// The other side is this node of the cluster; `bond` stands for the connection, on both sides.
    pub fn prove_node(&self, id: u64, bond: [u8; 32]) {
        // Once for a connection.
        let _ = self.node.set(id);
        let _ = self.bond.set(bond);
        self.prove();
        self.face.proved_node(id);
    }

    /// Which node the other side has proven to be.
    pub fn node(&self) -> Option<u64> {
        self.node.get().copied()
    }

    /// What stands for the connection of a node, on both sides.
    pub fn bond(&self) -> Option<&[u8; 32]> {
        self.bond.get()
    }

    /// Its certificate names this node.
    pub(crate) fn certify(&self, node: Arc<str>) {
        // Once for a connection.
        let _ = self.certified.set(node);
    }

    /// The node that its certificate names; none without TLS between nodes.
    pub fn certified(&self) -> Option<&str> {
        self.certified.get().map(|node| &**node)
    }

    /// A client has shown a certificate that names somebody.
    pub(crate) fn identify(&self, identity: Identity) {
        // Once for a connection.
        let _ = self.identity.set(Arc::new(identity));
    }

    /// Whom the client's certificate names; none without one.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.get()
    }

    /// Ends the connection: its certificate is not valid any more.
    pub(crate) fn distrust(self: &Arc<Self>) {
        self.face.distrust(self);
    }
}
