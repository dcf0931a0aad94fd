//! What a program does to a simulator that runs inside it, without HTTP: the part of the platform and of game servers
//! that answer at once. Never subject to faults.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::api::Shared;
use crate::faults::FaultPlan;
use crate::fields;

/// A hold on a simulator, from [`Server::handle`](crate::Server::handle). It works before, during and after the run.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Merges the first level of `metadata` into that of a service, as PATCH does. False when there is no such service,
    /// or its metadata would become too large.
    #[must_use]
    pub fn merge_metadata(&self, service: i64, metadata: Map<String, Value>) -> bool {
        let mut state = self.shared.state();
        let now = state.now;
        let Ok(service) = state.services.find_mut(service) else {
            return false;
        };
        let mut merged = service.metadata.clone();
        merged.extend(metadata);
        if fields::check_metadata(&merged).is_err() {
            return false;
        }
        service.metadata = merged;
        service.updated_at = now;
        state.changed();
        true
    }

    /// The metadata of a service, if there is such a service.
    #[must_use]
    pub fn metadata(&self, service: i64) -> Option<Map<String, Value>> {
        let state = self.shared.state();
        Some(state.services.get(service)?.metadata.clone())
    }

    /// Replaces what goes wrong.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.shared.faults().plan = plan;
    }
}
