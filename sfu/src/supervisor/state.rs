//! What others want to know of the gateway above: metrics and readiness.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::tasks::NAMES;

/// How a server and its gateway get along.
#[derive(Debug, Default)]
pub(crate) struct SupervisorState {
    is_connected: AtomicBool,
    answered: Mutex<Option<Instant>>,
    answers: AtomicU64,
    failures: AtomicU64,
    tasks: [AtomicU64; NAMES.len()],
    acknowledged: AtomicU64,
}

impl SupervisorState {
    /// Whether the last report was answered.
    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// How long ago the last answer came; `None` before the first.
    pub(crate) fn answer_age(&self, now: Instant) -> Option<Duration> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.map(|answered| now.saturating_duration_since(answered))
    }

    /// Reports that were answered.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Reports that were not, or with what is no answer.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How many tasks were carried out, by name; those that this server does not know are `unknown`.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.tasks.iter().map(|count| count.load(Ordering::Relaxed));
        NAMES.into_iter().zip(counts)
    }

    pub(super) fn answer_came(&self, now: Instant) {
        self.is_connected.store(true, Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Relaxed);
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered = Some(now);
    }

    pub(super) fn report_failed(&self) {
        self.is_connected.store(false, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn task_done(&self, name: &str) {
        if let Some(at) = NAMES.iter().position(|it| *it == name) {
            self.tasks[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The last task of which the gateway is to be told that it was carried out; 0 for none.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(super) fn acknowledge(&self, task_id: u64) {
        self.acknowledged.store(task_id, Ordering::Relaxed);
    }
}
