//! Who waits for tasks of which server.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::grid::ServerRef;

/// Servers somebody waits for. There are as many as there are [`Waiter`]s at most.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<ServerRef, watch::Sender<()>>>);

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerRef, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait(self: &Arc<Self>, server: &ServerRef) -> Waiter {
        let mut senders = self.lock();
        let sender = senders.entry(server.clone()).or_default();
        Waiter {
            receiver: Some(sender.subscribe()),
            server: server.clone(),
            waiters: Arc::clone(self),
        }
    }

    pub(super) fn wake(&self, servers: &[ServerRef]) {
        if servers.is_empty() {
            return;
        }
        let senders = self.lock();
        for sender in servers.iter().filter_map(|server| senders.get(server)) {
            sender.send_replace(());
        }
    }

    /// After the grid was replaced, any server may have tasks.
    pub(super) fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_replace(());
        }
    }
}

/// Waits for tasks of one server, from when it was made.
#[derive(Debug)]
pub struct Waiter {
    /// Taken when it is dropped.
    receiver: Option<watch::Receiver<()>>,
    server: ServerRef,
    waiters: Arc<Waiters>,
}

impl Waiter {
    /// Returns once a task was queued for the server since the waiter was made, or since the last return. It may also
    /// return when the store has found its Redis again: tasks are then to be looked for. Can be cancelled.
    pub async fn woken(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            // The sender lives as long as there are receivers.
            let _ = receiver.changed().await;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut senders = self.waiters.lock();
        drop(self.receiver.take());
        if senders
            .get(&self.server)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            senders.remove(&self.server);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn server(address: &str) -> ServerRef {
        ServerRef {
            pool: String::new(),
            address: address.to_owned(),
        }
    }

    #[test]
    fn a_task_that_was_queued_before_the_wait_began_is_not_missed() {
        let waiters = Arc::new(Waiters::default());
        let mut first = waiters.wait(&server("a"));
        let mut second = waiters.wait(&server("a"));
        let mut other = waiters.wait(&server("b"));
        waiters.wake(&[server("a"), server("nobody waits")]);
        assert!(first.woken().now_or_never().is_some());
        assert!(first.woken().now_or_never().is_none());
        assert!(second.woken().now_or_never().is_some());
        assert!(other.woken().now_or_never().is_none());
        waiters.wake_all();
        assert!(other.woken().now_or_never().is_some());
    }

    #[test]
    fn a_server_is_forgotten_with_its_last_waiter() {
        let waiters = Arc::new(Waiters::default());
        let first = waiters.wait(&server("a"));
        let mut second = waiters.wait(&server("a"));
        drop(first);
        waiters.wake(&[server("a")]);
        assert!(second.woken().now_or_never().is_some());
        drop(second);
        assert!(waiters.lock().is_empty());
    }
}
