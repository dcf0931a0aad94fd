//! The store of one bridge alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{
    clock::Clock,
    memory::{Decision, State},
    words::{Commit, Committed, Timestamp, Unavailable},
};

/// Documents in memory.
#[derive(Debug)]
pub(super) struct Local {
    id: String,
    clock: Clock,
    state: Mutex<State>,
    newest: watch::Sender<u64>,
}

impl Local {
    /// Empty, with a history of its own.
    pub(super) fn memory() -> Self {
        let clock = Clock::default();
        let state = State::new(clock.now().0);
        Self {
            id: super::new_id(),
            newest: watch::Sender::new(state.newest()),
            state: Mutex::new(state),
            clock,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Documents and events of this moment, and the moment.
    pub(super) fn read<T>(&self, read: impl FnOnce(&State, Timestamp) -> T) -> T {
        let (state, now) = self.current();
        read(&state, now)
    }

    pub(super) fn commit(&self, commit: &Commit) -> Result<Committed, Unavailable> {
        let (mut state, now) = self.current();
        let change = match state.decide(commit, now) {
            Decision::Answer(answer) => return Ok(answer),
            Decision::Apply(change) => change,
        };
        state.apply(change);
        // While it is locked, so that the number does not go back.
        self.newest.send_if_modified(|newest| {
            let is_new = *newest != state.newest();
            *newest = state.newest();
            is_new
        });
        Ok(Committed::Done)
    }

    fn current(&self) -> (MutexGuard<'_, State>, Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        state.forget(now);
        (state, now)
    }
}
