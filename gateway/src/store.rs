//! Keeps the grid, in memory.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::Serialize;
use tokio::{sync::Notify, time::MissedTickBehavior};

use crate::{
    config::Config,
    grid::{Action, Command, Grid, Outcome, ServerRef, Timing},
};

/// The grid of a gateway.
#[derive(Debug)]
pub(crate) struct Store {
    grid: Mutex<Grid>,
    timing: Timing,
    queued: Notify,
}

/// How it stands with the store.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StoreHealth {
    pub(crate) online: bool,
    pub(crate) waiting_commands: usize,
}

/// Waits for a task.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    store: &'a Store,
    server: ServerRef,
}

impl Waiter<'_> {
    /// Returns when a task waits for the server.
    pub(crate) async fn woken(&mut self) {
        let waiting = |grid: &Grid| {
            let server = grid.pool(&self.server.pool)?.server(&self.server.address)?;
            Some(server.tasks_waiting())
        };
        loop {
            let queued = self.store.queued.notified();
            if self.store.read(waiting).is_some_and(|count| count > 0) {
                return;
            }
            queued.await;
        }
    }
}

impl Store {
    #[expect(
        clippy::unused_async,
        reason = "a store that is shared is connected to"
    )]
    pub(crate) async fn open(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            grid: Mutex::default(),
            timing: config.timing,
            queued: Notify::new(),
        })
    }

    fn grid(&self) -> MutexGuard<'_, Grid> {
        self.grid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::unused_async, reason = "a store that is shared is waited for")]
    pub(crate) async fn submit(&self, action: Action) -> Outcome {
        let command = Command {
            id: fastrand::u64(..),
            action,
        };
        let now = SystemTime::now().into();
        let applied = self.grid().apply(&command, now, &self.timing);
        if !applied.woken.is_empty() {
            self.queued.notify_waiters();
        }
        applied.outcome
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&Grid) -> R) -> R {
        read(&self.grid())
    }

    pub(crate) fn waiter(&self, server: &ServerRef) -> Waiter<'_> {
        Waiter {
            store: self,
            server: server.clone(),
        }
    }

    #[expect(clippy::unused_self, reason = "a store that is shared may be away")]
    pub(crate) fn health(&self) -> StoreHealth {
        StoreHealth {
            online: true,
            waiting_commands: 0,
        }
    }

    pub(crate) async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()>) {
        let mut ticks = tokio::time::interval(self.timing.update_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let silence_counts = true;
                    self.submit(Action::Tick { silence_counts }).await;
                }
                () = &mut shutdown => return,
            }
        }
    }
}
