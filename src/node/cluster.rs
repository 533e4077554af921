//! What the HTTP face shows of the cluster, and the figures that it keeps.

use super::view::View;
use crate::{
    broker::BrokerError,
    grpc::ClusterAdmin,
    http::{ClusterView, Figures, MemberChange},
    proto::v1::{ClusterEvent, ClusterStatusResponse},
    raft::Change,
    telemetry,
};

#[async_trait::async_trait]
impl ClusterView for View {
    async fn cluster(&self) -> Result<ClusterStatusResponse, BrokerError> {
        ClusterAdmin::status(self).await
    }

    async fn change_member(&self, change: MemberChange) -> Result<String, BrokerError> {
        let change = match change {
            MemberChange::Lead(name) => Change::Transfer { name },
            MemberChange::Promote(name) => Change::Promote { name },
            MemberChange::Remove(name) => Change::Remove { name },
        };
        ClusterAdmin::change(self, change).await
    }

    fn member_events(&self) -> Vec<ClusterEvent> {
        ClusterAdmin::events(self)
    }

    fn figures(&self) -> Figures {
        let (view, stats, state) = (self.broker.view(), self.broker.stats(), self.group.state());
        let (totals, meters) = (view.totals(), view.meters());
        let leader = self.group.members().into_iter().find(|(address, _)| address.id == state.leader);
        let (commits, deliveries) = (meters.publish_to_commit.read().counts, meters.publish_to_delivery.read().counts);
        Figures {
            time_ms: self.broker.now_ms(),
            stored: totals.stored,
            published: stats.published,
            duplicates: stats.duplicates,
            failed: stats.failed.values().sum(),
            delivered: view.fanout().delivered(),
            subscriptions: view.fanout().all_followers(),
            connections: self.budgets.connections(),
            in_flight_bytes: stats.in_flight_bytes,
            memory_bytes: telemetry::resident_bytes(),
            channels: totals.channels,
            consumers: totals.consumers,
            backlog: totals.backlog,
            term: state.term,
            commit: state.commit,
            applied: state.applied,
            leader: leader.map(|(address, _)| address.name.clone()).unwrap_or_default(),
            publish_times: std::array::from_fn(|bucket| commits[bucket] + deliveries[bucket]),
            log_sync_times: self.group.log_syncs().unwrap_or_default().counts,
            ..Figures::default() // the differences are found when there is something before it
        }
    }

    fn name(&self) -> String {
        self.broker.local().name.clone()
    }

    fn differing(&self) -> Vec<String> {
        self.group.verified().differing
    }
}
