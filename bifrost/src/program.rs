//! One part of a world: a program that runs in this process until it is told to end.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

/// A program must have ended this long after it was told to. All of them give up by themselves before.
const END_MAX: Duration = Duration::from_secs(15);

/// Resolves when the program has to end.
pub(crate) type Shutdown = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A running program. It ends when this is dropped, too, but then nobody waits for it.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

impl Program {
    /// Starts `run` on a task of its own.
    pub(crate) fn start<F>(name: impl fmt::Display, run: impl FnOnce(Shutdown) -> F) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // Told to, or the sender is gone: the same.
            let _ = stopped.await;
        };
        Self {
            name: name.to_string(),
            stop,
            task: tokio::spawn(run(Box::pin(shutdown))),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has ended although nobody told it to.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Tells it to end and waits for that.
    pub(crate) async fn end(self) -> Result<()> {
        let Self { name, stop, task } = self;
        drop(stop);
        timeout(END_MAX, task)
            .await
            .with_context(|| format!("{name} does not end"))?
            .with_context(|| format!("{name} has panicked"))?
            .with_context(|| format!("{name} has failed"))
    }
}
