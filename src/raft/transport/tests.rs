use tokio::io::duplex;
use tonic::Request;

use super::*;
use crate::budget::Account;

const COOKIE: &str = "a cookie of some length";
const ID: u64 = 7;

/// What becomes of the node with id 7, which the cluster calls `n3`, when its certificate names this node.
async fn welcomed(certified: Option<&str>) -> Result<u64, String> {
    let env = Env::real();
    let keys = PeerKeys::of(COOKIE);
    let transport = Transport::new(env.clone(), Identity::in_memory("n1", &env), keys.clone(), PeerVersion::NEWEST);
    transport.knows(|id| (id == ID).then(|| "n3".to_owned()), || PeerVersion::UNWRITTEN);
    let (mut caller, called) = duplex(1024);
    let mut called = Connection::new(called).with_certified(certified.map(Arc::from));
    let call = Call {
        from: ID,
        to: None,
        cluster: ClusterMark::default(),
        purpose: Purpose::Requests,
        nonce: env.random.nonce(),
        versions: Versions { oldest: PeerVersion::OLDEST, newest: PeerVersion::NEWEST },
    };
    let (_, welcomed) = tokio::join!(handshake::call(&mut caller, &keys, &call), transport.welcome(&mut called));
    welcomed.map(|caller| caller.call.from).map_err(|refused| refused.to_string())
}

#[tokio::test]
async fn a_node_that_proves_its_id_is_refused_with_the_certificate_of_another_node() {
    assert_eq!(welcomed(Some("n3")).await, Ok(ID));
    assert_eq!(welcomed(None).await, Ok(ID), "without TLS the id is all there is");
    let refused = welcomed(Some("n2")).await.unwrap_err();
    assert!(refused.contains("`n3`") && refused.contains("id 7") && refused.contains("`n2`"), "{refused}");
}

#[test]
fn a_node_speaks_only_for_the_node_in_its_certificate() {
    let named = |name: &str| crate::proto::raft::NodeAddress { id: ID, name: name.into(), ..Default::default() };
    let account = Arc::new(Account::default());
    account.certify(Arc::from("n3"));
    account.prove_node(ID, [7; 32]);
    let mut request = Request::new(());
    request.extensions_mut().insert(account);
    assert!(Gate::speaks_for_itself(&request, Some(&named("n3"))).is_ok());
    assert!(Gate::speaks_for_itself(&request, None).is_ok());
    let refused = Gate::speaks_for_itself(&request, Some(&named("n2"))).unwrap_err();
    assert!(refused.message().contains("`n2`") && refused.message().contains("`n3`"), "{refused}");
}

#[test]
fn what_an_answer_says_of_its_own_certificate_is_not_believed() {
    let end = End::default();
    let judged = |end: &End| {
        let mut headers = http::HeaderMap::new();
        headers.insert(CERTIFIED, http::HeaderValue::from_static("n3"));
        end.certify(&mut headers);
        certified_as_another(&MetadataMap::from_headers(headers), "n3")
    };
    assert_eq!(judged(&end), None);
    *end.certified.lock() = Some("n2".to_owned());
    assert_eq!(judged(&end).as_deref(), Some("n2"));
    *end.certified.lock() = Some("n3".to_owned());
    assert_eq!(judged(&end), None);
}
