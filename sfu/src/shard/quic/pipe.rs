//! The way of a stream's frames from its shard to a task, and back. Both directions hold few frames; beyond that the
//! client, or the task, waits.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::ConnectionId;
use crate::shard::{Inbox, Request, ShardNumber};

/// Frames that may wait in each direction.
const FRAMES_MAX: usize = 16;

/// What a client has opened.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Its main stream.
    Main(Pipe),
    /// One that says in its first frame which room it is of.
    Room(Pipe),
}

/// What came over a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// A frame.
    Frame(Bytes),
    /// The client has finished the stream, or closed all of it.
    Left,
    /// A frame that is too large, or half of one.
    Broken,
}

/// How the server ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// As for WebSockets.
    pub(crate) code: u16,
    /// For people.
    pub(crate) reason: &'static str,
    /// Whether all that had to be said was said.
    pub(crate) is_orderly: bool,
}

#[derive(Debug)]
pub(super) enum Said {
    Frame(Bytes),
    End(Ending),
}

/// The task's end.
#[derive(Debug)]
pub(crate) struct Pipe {
    incoming: mpsc::Receiver<Came>,
    outgoing: mpsc::Sender<Said>,
    bell: Bell,
}

/// The shard's end.
#[derive(Debug)]
pub(super) struct ShardEnd {
    pub(super) incoming: mpsc::Sender<Came>,
    pub(super) outgoing: mpsc::Receiver<Said>,
    flags: Arc<Flags>,
}

#[derive(Debug, Default)]
struct Flags {
    /// The shard has been told, and has not looked yet.
    is_rung: AtomicBool,
    /// The shard has more to bring than there was room for.
    is_waiting: AtomicBool,
}

/// Tells the shard to look at a stream.
#[derive(Clone, Debug)]
pub(super) struct Bell {
    pub(super) inbox: Arc<Inbox>,
    pub(super) shard: ShardNumber,
    pub(super) connection: ConnectionId,
    pub(super) stream: u64,
    flags: Arc<Flags>,
}

impl Bell {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        shard: ShardNumber,
        connection: ConnectionId,
        stream: u64,
    ) -> Self {
        Self {
            inbox,
            shard,
            connection,
            stream,
            flags: Arc::default(),
        }
    }

    fn ring(&self) {
        if !self.flags.is_rung.swap(true, Ordering::AcqRel) {
            self.inbox.post(Request::LookAtStream {
                connection: self.connection,
                stream: self.stream,
            });
        }
    }
}

/// Both ends.
pub(super) fn pipe(bell: Bell) -> (ShardEnd, Pipe) {
    let (to_task, incoming) = mpsc::channel(FRAMES_MAX);
    let (outgoing, from_task) = mpsc::channel(FRAMES_MAX);
    let shard_end = ShardEnd {
        incoming: to_task,
        outgoing: from_task,
        flags: Arc::clone(&bell.flags),
    };
    let pipe = Pipe {
        incoming,
        outgoing,
        bell,
    };
    (shard_end, pipe)
}

impl ShardEnd {
    /// The shard is about to look; whatever comes from now on rings again.
    pub(super) fn look(&self) {
        self.flags.is_rung.store(false, Ordering::Release);
    }

    /// There is no room; the task says when there is.
    pub(super) fn wait_for_room(&self) {
        self.flags.is_waiting.store(true, Ordering::Release);
    }
}

impl Pipe {
    /// Whose stream it is.
    pub(crate) fn connection(&self) -> ConnectionId {
        self.bell.connection
    }

    /// The shard of that connection.
    pub(crate) fn shard(&self) -> ShardNumber {
        self.bell.shard
    }

    /// What comes next; `None` when the connection ended without a word. It may be dropped and called again.
    pub(crate) async fn receive(&mut self) -> Option<Came> {
        let came = self.incoming.recv().await;
        if self.bell.flags.is_waiting.swap(false, Ordering::AcqRel) {
            self.bell.ring();
        }
        came
    }

    /// Writes a frame, which goes with [`Self::flush`] at the latest. `Err` when the connection is gone.
    pub(crate) async fn feed(&mut self, frame: Bytes) -> Result<(), ()> {
        match self.outgoing.try_send(Said::Frame(frame)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(()),
            Err(mpsc::error::TrySendError::Full(said)) => {
                self.flush();
                self.outgoing.send(said).await.map_err(|_| ())
            }
        }
    }

    /// Sends what was written.
    pub(crate) fn flush(&self) {
        self.bell.ring();
    }

    /// Ends the stream behind what was written.
    pub(crate) async fn end(&mut self, ending: Ending) {
        // A connection that is gone needs no end.
        let _ = self.outgoing.send(Said::End(ending)).await;
        self.flush();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.incoming.close();
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.outgoing, closed));
        // The shard finds both directions closed.
        self.bell.ring();
    }
}
