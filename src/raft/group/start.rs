//! Starts a node's part in its group: everything that takes part is made and connected here.

use std::sync::{Arc, atomic::AtomicU64};

use futures::FutureExt as _;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::{Mutex, OnceCell, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{
        aside::Aside,
        calls::Calls,
        clocks::Clocks,
        complaints::Complaints,
        failover::Failover,
        formation::Formation,
        healing,
        identity::{Identity, IdentityError},
        intact,
        joining::Joining,
        leadership::watch_leader,
        log::LogStore,
        log_adapter::{Follows, LogAdapter, Pace},
        membership::Membership,
        network::Network,
        node_state::node_state,
        peer_service::PeerService,
        port,
        purge::Purge,
        sane::Doubts,
        scrub::Scrub,
        standing::Standing,
        state_machine::StateMachine,
        transport::{Gate, Transport},
        types::Raft,
        verify::Verify,
        waiting::Waiting,
        witness::Witness,
    },
    config::{GroupConfig, raft_config},
    member::{Inner, RaftGroup},
};
use crate::{
    env::{Env, Listener},
    replica::Replica,
    sequencer::{Leader, NodeAddress},
};

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its state does not fit its log.
    #[error("cannot start the Raft group: {0}")]
    Raft(String),
}

impl RaftGroup {
    /// Starts on the runtime that the caller stands on: Raft's core, the service for other nodes on `listener`, and
    /// the search for a cluster where the node is fresh.
    ///
    /// # Errors
    /// When the stored state does not fit the log.
    pub async fn start(
        config: GroupConfig,
        env: Env,
        identity: Identity,
        log: Arc<dyn LogStore>,
        replica: Replica,
        listener: Box<dyn Listener>,
    ) -> Result<Self, StartError> {
        let view = replica.view();
        let local = NodeAddress { id: identity.node_id(), ..config.local.clone() };
        let transport = Transport::new(env.clone(), identity.clone(), config.keys.clone(), config.speaks);
        let (known, state) = (view.clone(), view.clone());
        transport.knows(move |node| known.member(node).map(|member| member.name), move || state.version());
        let failed = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
        let (follows, pace) = (Follows::default(), Pace::default());
        let machine = StateMachine::new(replica, log.clone(), follows.clone(), config.speaks);
        let machine = machine.await.map_err(|error| failed(&error))?;
        intact::check(&identity, &*log, machine.applied())?;
        intact::begin(&identity, &*log).await?;
        let raft_config = raft_config(&config).validate().map_err(|error| failed(&error))?;
        let doubts = Arc::new(Doubts::default());
        let raft = Raft::new(
            local.id,
            Arc::new(raft_config),
            Network::new(transport.clone(), follows.clone(), doubts.clone()),
            LogAdapter::new(log.clone(), follows.clone(), pace.clone(), view.meters().clone()),
            machine,
        )
        .await
        .map_err(|error| failed(&error))?;

        // Until it is let in: see `joining`.
        raft.runtime_config().elect(false);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (standing_sender, standing) = watch::channel(Standing::Asking);
        let (leader_sender, leader) = watch::channel(Leader::Unknown);
        tasks.spawn(stop.clone().run_until_cancelled_owned(watch_leader(
            raft.clone(),
            standing.clone(),
            leader_sender,
        )));
        let purge = Arc::new(Purge { raft: raft.clone(), view: view.clone(), log: log.clone(), keep: config.keep_log });
        tasks.spawn(purge.clone().run(stop.clone()));
        if let Some(parts) = view.store().parts() {
            let (raft, own) = (raft.clone(), local.id);
            let others = Box::new(move || others(&raft, own));
            parts.heal_from(Arc::new(healing::Members { transport: transport.clone(), others }));
        }
        let purge_all = {
            let purge = purge.clone();
            Box::new(move || purge.clone().everything().boxed())
        };
        let health = view.health().clone();
        let scrub = Arc::new(Scrub::new(config.scrub, env, &**view.store(), log.clone(), purge_all, health));
        tasks.spawn(stop.clone().run_until_cancelled_owned(scrub.clone().run()));
        tasks.spawn(intact::keep(identity.clone(), log.clone(), stop.clone()));

        let witness = Arc::new(Witness::new(view.clone(), log.clone()));
        let membership = Arc::new(Membership {
            local: local.clone(),
            raft: raft.clone(),
            view: view.clone(),
            transport: transport.clone(),
            witness: witness.clone(),
            policy: config.policy,
            cluster_id: {
                let identity = identity.clone();
                Box::new(move || identity.cluster_id())
            },
            changing: Mutex::default(),
            waiting: Waiting::default(),
            handed_in: AtomicU64::default(),
        });
        let formation = Formation::new(local.clone(), identity.clone(), &config.seeds, config.expect);
        let formation = Arc::new(formation.counting_seeds(config.counts_seeds));
        let failover = Arc::new(Failover::new(
            local.clone(),
            raft.clone(),
            log.clone(),
            transport.clone(),
            view.health().clone(),
            config.election.0,
        ));
        let aside = Aside {
            raft: raft.clone(),
            view: view.clone(),
            membership: membership.clone(),
            failover: failover.clone(),
            standing: standing.clone(),
            pace,
            silence: 2 * config.election.1,
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(aside.run()));
        let handler = Arc::new(OnceCell::new());
        let service = PeerService {
            gate: Gate::new(identity.clone()),
            local: local.clone(),
            identity: identity.clone(),
            raft: raft.clone(),
            log: log.clone(),
            witness,
            follows,
            view: view.clone(),
            transport: transport.clone(),
            formation: formation.clone(),
            membership: membership.clone(),
            failover: failover.clone(),
            standing: standing.clone(),
            state: {
                let (raft, view, local, standing) = (raft.clone(), view.clone(), local.clone(), standing.clone());
                let (identity, formation) = (identity.clone(), formation.clone());
                let failover = failover.clone();
                Arc::new(move || node_state(&raft, &view, &identity, &local, &standing, &formation, &failover))
            },
            handler: handler.clone(),
            scrub: scrub.clone(),
            parts: Semaphore::new(healing::AT_ONCE),
            doubts: doubts.clone(),
        };
        tasks.spawn(port::serve(service, listener, stop.clone()));
        let joining = Joining {
            local: local.clone(),
            identity: identity.clone(),
            raft: raft.clone(),
            log: log.clone(),
            transport: transport.clone(),
            formation: formation.clone(),
            membership: membership.clone(),
            seeds: config.seeds,
            invited_by: config.join_token,
            standing: standing_sender,
            rumours: parking_lot::Mutex::default(),
            complaints: Complaints::default(),
        };
        let differences = Arc::default();
        let clocks = Clocks {
            local: local.clone(),
            raft: raft.clone(),
            view: view.clone(),
            transport: transport.clone(),
            leader: leader.clone(),
            differences: Arc::clone(&differences),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(clocks.run()));
        let verified = Arc::default();
        let verify = Verify {
            local: local.clone(),
            identity: identity.clone(),
            raft: raft.clone(),
            view: view.clone(),
            transport: transport.clone(),
            membership: membership.clone(),
            standing: joining.standing.clone(),
            verified: Arc::clone(&verified),
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(verify.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(joining.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(membership.clone().tend()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(membership.clone().keep_version()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(failover.clone().run()));
        let calls = Calls::new(transport.clone());
        let inner = Inner {
            raft,
            view,
            identity,
            local,
            calls,
            purge,
            scrub,
            doubts,
            verified,
            clocks: differences,
            membership,
            formation,
            failover,
            standing,
            transport,
            leader,
            handler,
            log,
            stop,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// The other members.
fn others(raft: &Raft, own: u64) -> Vec<NodeAddress> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let nodes = metrics.membership_config.nodes();
    nodes.filter(|(id, _)| **id != own).map(|(_, node)| NodeAddress::clone(node)).collect()
}
