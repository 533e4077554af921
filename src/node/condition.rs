//! Whether the node works, and what it lacks: what the HTTP face asks for liveness, readiness and figures.

use std::sync::atomic::Ordering;

use futures::{FutureExt as _, future::BoxFuture};

use super::{
    metrics,
    view::{BEHIND, View},
};
use crate::http::{Metric, NodeView};

impl NodeView for View {
    fn failure(&self) -> Option<String> {
        let failure = Some(self.group.state().failure).filter(|failure| !failure.is_empty());
        let failures = self.broker.view().health().failures();
        // A new process would find the same data, and the same nodes missing.
        let own = failures.iter().find(|(part, _)| !part.is_only_needed_to_read());
        failure.or_else(|| own.map(|(part, reason)| format!("{part}: {reason}")))
    }

    fn unwell(&self) -> Vec<(&'static str, String)> {
        let failures = self.broker.view().health().failures();
        failures.iter().map(|(part, reason)| (part.name(), reason.to_owned())).collect()
    }

    fn unmet(&self) -> Vec<String> {
        let (state, mut unmet) = (self.group.state(), Vec::new());
        if self.stopping.is_cancelled() {
            unmet.push("the node is stopping".to_owned());
        }
        if let Some(reason) = self.group.refused() {
            unmet.push(format!("the node is not in the cluster: {reason}"));
        } else if let Some(reason) = self.group.doubt() {
            unmet.push(reason);
        } else if self.group.members().is_empty() {
            unmet.push(format!("the node is in no cluster yet: {}", self.group.waits_for()));
        }
        if state.leader == 0 {
            unmet.push("there is no leader".to_owned());
        }
        if !self.configured.load(Ordering::Acquire) {
            unmet.push("the channels of the configuration are not there yet".to_owned());
        }
        if state.commit.saturating_sub(state.applied) > BEHIND {
            unmet.push(format!("the node is {} entries behind", state.commit - state.applied));
        }
        unmet.extend(self.unwell().into_iter().map(|(part, reason)| format!("{part}: {reason}")));
        unmet
    }

    fn warnings(&self) -> Vec<String> {
        let clocks = self.group.clocks();
        let wrong = clocks.iter().filter(|clock| clock.is_wrong()).map(ToString::to_string);
        wrong.chain(self.broker.near_key_limit()).collect()
    }

    fn metrics(&self) -> BoxFuture<'_, Vec<Metric>> {
        metrics::all(self, self.unmet().is_empty()).boxed()
    }
}
