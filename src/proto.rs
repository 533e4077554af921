//! The generated message types: the public API (`v1`), which is a crate of its own, the protocol between nodes (`raft`), and
//! what their brokers say to each other by it (`peer`).

pub(crate) mod shapes;

pub use liminal_wire::v1;

/// Between the nodes of one cluster.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod raft {
    tonic::include_proto!("liminal.raft.v1");
}

/// Between the brokers of one cluster.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod peer {
    tonic::include_proto!("liminal.peer.v1");
}

#[cfg(test)]
mod tests {
    use liminal_wire::Code;

    #[test]
    fn clients_know_every_code_that_is_documented() {
        let document: serde_json::Value = serde_json::from_str(include_str!("http/openapi.json")).unwrap();
        let codes = document.pointer("/components/schemas/Problem/properties/code/enum").unwrap();
        for code in codes.as_array().unwrap().iter().filter_map(|code| code.as_str()) {
            assert!(!matches!(Code::from(code), Code::Other(_)), "{code}");
        }
    }
}
