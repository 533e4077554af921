//! The cluster's version in the state.

use super::*;

fn raise(node: &mut Node, version: u8) {
    assert_eq!(node.apply(Command::RaiseVersion { time_ms: 1, version: PeerVersion(version) }).0, Reply::Done);
}

#[test]
fn a_state_that_says_nothing_of_it_is_of_version_3() {
    assert_eq!(Node::new().machine.version(), PeerVersion(3));
}

#[test]
fn the_version_rises_by_an_entry_is_kept_and_is_never_lowered() {
    let mut node = Node::new();
    raise(&mut node, 4);
    node.restart();
    assert_eq!(node.machine.version(), PeerVersion(4));
    let before = node.stored.clone();
    raise(&mut node, 3);
    assert_eq!(node.machine.version(), PeerVersion(4));
    assert_eq!(node.stored.get(VERSION_KEY), before.get(VERSION_KEY));
}

#[test]
fn the_version_is_stored_under_a_key_of_its_own_in_these_bytes() {
    let mut node = Node::new();
    raise(&mut node, 4);
    let stored = &node.stored[&b"cluster-version"[..]];
    assert_eq!(stored[..stored.len() - 4], [3, 4, 4]);
}

#[test]
fn a_state_of_a_later_version_than_this_build_knows_is_refused_by_name() {
    let mut node = Node::new();
    raise(&mut node, 5);
    let error = Machine::restore(node.stored).unwrap_err();
    assert!(error.contains("a cluster of version 5") && error.contains("versions up to 4"), "{error}");
}
