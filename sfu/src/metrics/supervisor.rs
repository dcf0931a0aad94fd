//! What is shown of the gateway above. Its state is kept elsewhere, and looked at when somebody wants to see it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::labels::{OutcomeLabels, TaskLabels};
use crate::supervisor::SupervisorState;

/// The numbers of a server that has a gateway.
pub(super) struct Supervisor {
    state: Arc<SupervisorState>,
    connected: Gauge,
    answer_age: Gauge<f64, AtomicU64>,
    reports: Family<OutcomeLabels, Counter>,
    tasks: Family<TaskLabels, Counter>,
}

impl Supervisor {
    /// Shows them from now on.
    pub(super) fn register(state: Arc<SupervisorState>, registry: &mut Registry) -> Self {
        let metrics = Self {
            state,
            connected: Gauge::default(),
            answer_age: Gauge::default(),
            reports: Family::default(),
            tasks: Family::default(),
        };
        let text = "Whether the last report to the gateway was answered";
        registry.register("supervisor_connected", text, metrics.connected.clone());
        let (name, age) = ("supervisor_answer_age_seconds", metrics.answer_age.clone());
        let text = "Time since the gateway's last answer; -1 before the first";
        registry.register(name, text, age);
        let text = "Reports to the gateway by outcome";
        registry.register("supervisor_reports", text, metrics.reports.clone());
        let text = "The gateway's tasks that were carried out, by name";
        registry.register("supervisor_tasks", text, metrics.tasks.clone());
        metrics
    }

    /// Brings them up to date.
    pub(super) fn look(&self, now: Instant) {
        self.connected.set(self.state.is_connected().into());
        let age = self.state.answer_age(now);
        self.answer_age.set(age.map_or(-1.0, |it| it.as_secs_f64()));
        for (is_success, count) in [(true, self.state.answers()), (false, self.state.failures())] {
            let labels = OutcomeLabels::of(is_success);
            let counter = self.reports.get_or_create(&labels);
            counter.inner().store(count, Ordering::Relaxed);
        }
        for (task, count) in self.state.tasks() {
            let counter = self.tasks.get_or_create(&TaskLabels { task });
            counter.inner().store(count, Ordering::Relaxed);
        }
    }
}
