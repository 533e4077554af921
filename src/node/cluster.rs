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
        let totals = view.totals();
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
        }
    }

    fn name(&self) -> String {
        self.broker.local().name.clone()
    }

    fn differing(&self) -> Vec<String> {
        self.group.verified().differing
    }
}
