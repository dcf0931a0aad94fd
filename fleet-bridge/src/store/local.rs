//! The store of one bridge alone: in memory, and in a file where it has one.

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{
    clock::Clock,
    journal::{History, Journal, JournalError},
    memory::{Decision, State},
    words::{Commit, Committed, Timestamp, Unavailable},
};

/// Documents and events of one process.
#[derive(Debug)]
pub(super) struct Local {
    id: String,
    clock: Clock,
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    journal: Option<Journal>,
    /// The last commit could not be written down.
    is_failing: bool,
}

impl Local {
    /// Empty, with a history of its own.
    pub(super) fn memory() -> Self {
        let clock = Clock::default();
        let History { id, state } = new_history(&clock);
        Self::new(clock, id, state, None)
    }

    /// With what a file holds. Takes as long as reading it.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let clock = Clock::default();
        let (journal, history) = Journal::open(path, new_history(&clock))?;
        Ok(Self::new(clock, history.id, history.state, Some(journal)))
    }

    pub(super) fn new(clock: Clock, id: String, state: State, journal: Option<Journal>) -> Self {
        Self {
            id,
            clock,
            newest: watch::Sender::new(state.newest()),
            inner: Mutex::new(Inner {
                state,
                journal,
                is_failing: false,
            }),
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

    /// Whether the last commit could be written down.
    pub(super) fn is_healthy(&self) -> bool {
        !self.lock().is_failing
    }

    /// Documents and events of this moment, and the moment.
    pub(super) fn read<T>(&self, read: impl FnOnce(&State, Timestamp) -> T) -> T {
        let (inner, now) = self.current();
        read(&inner.state, now)
    }

    pub(super) fn commit(&self, commit: &Commit) -> Result<Committed, Unavailable> {
        let (mut inner, now) = self.current();
        let change = match inner.state.decide(commit, now) {
            Decision::Answer(answer) => return Ok(answer),
            Decision::Apply(change) => change,
        };
        if let Some(journal) = &mut inner.journal {
            let written = journal.append(&change);
            inner.is_failing = written.is_err();
            written.map_err(|error| Unavailable(format!("the journal: {error}")))?;
        }
        inner.state.apply(change);
        let newest = inner.state.newest();
        // While it is locked, so that the number does not go back.
        self.newest
            .send_if_modified(|old| std::mem::replace(old, newest) != newest);
        Ok(Committed::Done)
    }

    /// Writes the file anew if it has become long. Takes a while; commits go on meanwhile.
    pub(super) fn rewrite_if_long(&self) -> io::Result<()> {
        let (rewrite, state) = {
            let (mut inner, _) = self.current();
            let journal = inner.journal.as_mut().filter(|journal| journal.is_long());
            let Some(rewrite) = journal.and_then(Journal::begin_rewrite) else {
                return Ok(());
            };
            (rewrite, inner.state.clone())
        };
        let written = rewrite.write(&self.id, &state);
        match &mut self.lock().journal {
            Some(journal) => journal.replace(written),
            None => Ok(()),
        }
    }

    fn current(&self) -> (MutexGuard<'_, Inner>, Timestamp) {
        let mut inner = self.lock();
        let now = self.clock.now();
        inner.state.forget(now);
        (inner, now)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_history(clock: &Clock) -> History {
    History {
        id: super::new_id(),
        state: State::new(clock.now().0),
    }
}
