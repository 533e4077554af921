//! Claims against the least that their rules say: a list, linear search, no index of expiries.

use proptest::{collection::vec, option, prelude::*};

use super::*;

#[derive(Clone, Debug)]
struct NaiveClaim {
    namespace: String,
    key: String,
    claim: ClaimInfo,
    receipt: Option<Bytes>,
}

#[derive(Debug, Default)]
struct Naive {
    now: u64,
    tokens: u64,
    ids: u64,
    namespaces: Vec<(String, NamespaceInfo)>,
    claims: Vec<NaiveClaim>,
}

/// What to do next; tokens are those of some claim that was taken, counted from the newest.
#[derive(Clone, Debug)]
enum Step {
    Take(String, String, Option<String>, u64),
    Complete(String, String, usize, &'static str),
    Release(String, String, usize),
    Renew(String, String, usize, u64),
    Put(String, u64),
    Delete(String),
}

impl Naive {
    fn info(&self, namespace: &str) -> Option<NamespaceInfo> {
        let live = self.claims.iter().filter(|claim| claim.namespace == namespace).count() as u64;
        let (_, info) = self.namespaces.iter().find(|(name, _)| name == namespace)?;
        Some(NamespaceInfo { live, ..info.clone() })
    }

    fn put(&mut self, namespace: &str, window_ms: Option<u64>) -> Result<NamespaceInfo, Refusal> {
        if self.info(namespace).is_none() {
            if self.namespaces.len() == 2 {
                return Err(Refusal::TooManyNamespaces { limit: 2 });
            }
            self.ids += 1;
            let window_ms = window_ms.unwrap_or(DEFAULT_RECEIPT_WINDOW_MS);
            let (id, created_ms) = (NamespaceId(self.ids), self.now);
            let info = NamespaceInfo { id, name: name(namespace), window_ms, created_ms, live: 0 };
            self.namespaces.push((namespace.to_owned(), info));
        }
        let place = self.namespaces.iter_mut().find(|(name, _)| name == namespace).unwrap();
        place.1.window_ms = window_ms.unwrap_or(place.1.window_ms);
        Ok(self.info(namespace).unwrap())
    }

    fn held(&mut self, namespace: &str, of: &str, token: u64) -> Result<&mut NaiveClaim, Refusal> {
        self.info(namespace).ok_or(Refusal::NoSuchNamespace)?;
        let found = self.claims.iter_mut().find(|claim| claim.namespace == namespace && claim.key == of);
        match found {
            Some(claim) if claim.claim.token == token => Ok(claim),
            other => Err(Refusal::StaleClaim { current: other.map(|claim| claim.claim.clone()) }),
        }
    }

    fn apply(&mut self, step: &Step) -> Result<ClaimReply, Refusal> {
        let (now, tokens) = (self.now, self.tokens);
        self.claims.retain(|claim| claim.claim.expires_ms > now);
        let token = |back: &usize| tokens.saturating_sub(*back as u64);
        match step {
            Step::Take(namespace, of, owner, lease_ms) => {
                let info = self.put(namespace, None)?;
                let found = self.claims.iter_mut().find(|claim| claim.namespace == *namespace && claim.key == *of);
                match found {
                    Some(found) if found.receipt.is_some() => {
                        let claim = found.claim.clone();
                        Ok(ClaimReply::Completed { namespace: info.id, claim, repeated: true })
                    }
                    Some(found) if owner.is_some() && found.claim.owner.as_deref() == owner.as_deref() => {
                        found.claim.expires_ms = found.claim.expires_ms.max(now + lease_ms);
                        Ok(ClaimReply::Taken { claim: found.claim.clone(), repeated: true })
                    }
                    Some(found) => Ok(ClaimReply::InFlight(found.claim.clone())),
                    None if info.live == 3 => Err(Refusal::TooManyClaims { limit: 3 }),
                    None => {
                        self.tokens += 1;
                        let claim = ClaimInfo {
                            token: self.tokens,
                            owner: owner.as_deref().map(Arc::from),
                            completed: false,
                            since_ms: now,
                            expires_ms: now + lease_ms,
                        };
                        let (namespace, key) = (namespace.clone(), of.clone());
                        self.claims.push(NaiveClaim { namespace, key, claim: claim.clone(), receipt: None });
                        Ok(ClaimReply::Taken { claim, repeated: false })
                    }
                }
            }
            Step::Complete(namespace, of, back, receipt) => {
                let info = self.info(namespace);
                let found = self.held(namespace, of, token(back))?;
                let repeated = found.receipt.is_some();
                if found.receipt.as_ref().is_some_and(|present| present != receipt) {
                    return Err(Refusal::ClaimCompleted(found.claim.clone()));
                }
                let NamespaceInfo { id, window_ms, .. } = info.unwrap();
                if !repeated {
                    found.receipt = Some(Bytes::from_static(receipt.as_bytes()));
                    found.claim.completed = true;
                    (found.claim.since_ms, found.claim.expires_ms) = (now, now + window_ms);
                }
                Ok(ClaimReply::Completed { namespace: id, claim: found.claim.clone(), repeated })
            }
            Step::Release(namespace, of, back) => match self.held(namespace, of, token(back)) {
                Ok(found) if found.receipt.is_some() => Err(Refusal::ClaimCompleted(found.claim.clone())),
                Ok(_) => {
                    self.claims.retain(|claim| claim.namespace != *namespace || claim.key != *of);
                    Ok(ClaimReply::Released { repeated: false })
                }
                Err(Refusal::StaleClaim { current: None }) => Ok(ClaimReply::Released { repeated: true }),
                Err(refusal) => Err(refusal),
            },
            Step::Renew(namespace, of, back, lease_ms) => {
                let found = self.held(namespace, of, token(back))?;
                if found.receipt.is_some() {
                    return Err(Refusal::ClaimCompleted(found.claim.clone()));
                }
                found.claim.expires_ms = found.claim.expires_ms.max(now + lease_ms);
                Ok(ClaimReply::Renewed(found.claim.clone()))
            }
            Step::Put(namespace, window_ms) => self.put(namespace, Some(*window_ms)).map(ClaimReply::Namespace),
            Step::Delete(namespace) => {
                let info = self.info(namespace).ok_or(Refusal::NoSuchNamespace)?;
                self.namespaces.retain(|(name, _)| name != namespace);
                self.claims.retain(|claim| claim.namespace != *namespace);
                Ok(ClaimReply::Namespace(info))
            }
        }
    }

    fn operation(&self, step: &Step) -> ClaimOperation {
        let token = |back: &usize| self.tokens.saturating_sub(*back as u64);
        match step {
            Step::Take(namespace, of, owner, lease_ms) => ClaimOperation::Take {
                namespace: name(namespace),
                key: key(of),
                owner: owner.as_deref().map(Arc::from),
                lease_ms: *lease_ms,
            },
            Step::Complete(namespace, of, back, receipt) => ClaimOperation::Complete {
                namespace: name(namespace),
                key: key(of),
                token: token(back),
                receipt: Bytes::from_static(receipt.as_bytes()),
            },
            Step::Release(namespace, of, back) => {
                ClaimOperation::Release { namespace: name(namespace), key: key(of), token: token(back) }
            }
            Step::Renew(namespace, of, back, lease_ms) => ClaimOperation::Renew {
                namespace: name(namespace),
                key: key(of),
                token: token(back),
                lease_ms: *lease_ms,
            },
            Step::Put(namespace, window_ms) => {
                ClaimOperation::PutNamespace { name: name(namespace), window_ms: *window_ms }
            }
            Step::Delete(namespace) => ClaimOperation::DeleteNamespace { name: name(namespace) },
        }
    }

    /// All receipts that a machine in this state has stored.
    fn receipts(&self) -> BTreeMap<Bytes, Bytes> {
        let stored = |claim: &NaiveClaim| {
            let id = self.info(&claim.namespace)?.id;
            let record = StoredReceipt { token: claim.claim.token, receipt: claim.receipt.clone()? };
            Some((receipt_key(id, key(&claim.key)), codec::encode_record(&record)))
        };
        self.claims.iter().filter_map(stored).collect()
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let (namespace, of) = (|| "[mno]", || "[a-d]");
    let lease = || prop_oneof![Just(5u64), Just(20), Just(60)];
    let receipt = prop_oneof![Just("r"), Just("s"), Just("")];
    prop_oneof![
        8 => (namespace(), of(), option::of("[vw]"), lease()).prop_map(|(n, k, o, l)| Step::Take(n, k, o, l)),
        4 => (namespace(), of(), 0usize..3, receipt).prop_map(|(n, k, t, r)| Step::Complete(n, k, t, r)),
        2 => (namespace(), of(), 0usize..3).prop_map(|(n, k, t)| Step::Release(n, k, t)),
        2 => (namespace(), of(), 0usize..3, lease()).prop_map(|(n, k, t, l)| Step::Renew(n, k, t, l)),
        2 => (namespace(), 1u64..50).prop_map(|(n, w)| Step::Put(n, w)),
        1 => namespace().prop_map(Step::Delete),
    ]
}

proptest! {
    #[test]
    fn any_operations_jumps_of_time_and_restarts_agree_with_the_naive_claims(
        steps in vec((any_step(), 0u64..25, prop::bool::weighted(0.2)), 1..80)
    ) {
        let mut naive = Naive::default();
        let (mut steady, mut restarted) = (Node::new(limits()), Node::new(limits()));
        for (step, advance, restart) in steps {
            naive.now += advance;
            let operations = vec![Operation::Claim(naive.operation(&step))];
            let command = Command::Operations { time_ms: naive.now, operations };
            if restart {
                restarted.restart();
            }
            let (reply, effects) = steady.apply(command.clone());
            prop_assert_eq!(&restarted.apply(command), &(reply.clone(), effects));
            prop_assert_eq!(reply, Reply::Operations(vec![naive.apply(&step).map(OperationReply::Claim)]));

            let mut namespaces: Vec<_> = naive.namespaces.iter().map(|(name, _)| naive.info(name).unwrap()).collect();
            namespaces.sort_by(|a, b| a.name.cmp(&b.name));
            prop_assert_eq!(steady.machine.namespaces().collect::<Vec<_>>(), namespaces);
            for claim in &naive.claims {
                let (_, found) = steady.machine.claim(&name(&claim.namespace), key(&claim.key)).unwrap();
                prop_assert_eq!(found.as_ref(), Some(&claim.claim));
            }
            let live = steady.machine.claim_totals().live;
            prop_assert_eq!(live, naive.claims.len() as u64);
            let receipts = |(key, _): &(&Bytes, &Bytes)| matches!(Key::decode(key), Some(Key::Receipt(..)));
            let stored = steady.stored.iter().filter(receipts).map(|(key, value)| (key.clone(), value.clone()));
            prop_assert_eq!(stored.collect::<BTreeMap<_, _>>(), naive.receipts());
            let next = naive.claims.iter().map(|claim| claim.claim.expires_ms).min();
            prop_assert_eq!(steady.machine.next_expiry_ms(), next);
        }
    }
}
