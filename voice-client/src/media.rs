//! A media of one's own: a stream of voice into one room.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Instant,
};

use tokio::sync::mpsc;

use crate::{
    datagram::{Clock, encode},
    error::{CallError, SendError},
    event::MediaId,
    room::{self, Command, Request},
    shared::Shared,
};

/// A started media. It is stopped when this is dropped.
pub struct Media {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
    commands: mpsc::WeakSender<Command>,
}

/// A media as its handle and its room share it. Its id changes when the room is joined anew.
pub(crate) struct Slot {
    /// 0 while it has none.
    id: AtomicU16,
    clock: Mutex<Clock>,
    /// An encoded map.
    pub(crate) properties: Vec<u8>,
}

impl Media {
    pub(crate) fn new(
        slot: Arc<Slot>,
        shared: Arc<Shared>,
        commands: mpsc::WeakSender<Command>,
    ) -> Self {
        Self {
            slot,
            shared,
            commands,
        }
    }

    /// Sends one Opus packet, now; sequence and timestamp are made here, the latter by how long the packet lasts. Never
    /// waits. Packets must be sent at the pace of speech: the server drops what is more than 50 a second.
    ///
    /// # Errors
    /// [`SendError`]. Voice that was not sent is gone; that it was sent does not mean that it arrives.
    pub fn send(&self, payload: &[u8]) -> Result<(), SendError> {
        let id = self.id().ok_or(SendError::Stopped)?;
        let (sequence, timestamp) = {
            let mut clock = self
                .slot
                .clock
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            clock.next(Instant::now(), payload)
        };
        self.shared
            .send(encode(id.value(), sequence, timestamp, payload)?)
    }

    /// Its id now; `None` when it is stopped. After [`Event::Rejoined`](crate::Event::Rejoined) it is another.
    pub fn id(&self) -> Option<MediaId> {
        self.slot.id()
    }

    /// Stops it and waits for the answer.
    ///
    /// # Errors
    /// [`CallError`]; the media is stopped all the same, at the latest when the room is left.
    pub async fn stop(self) -> Result<(), CallError> {
        let Some(commands) = self.commands.upgrade() else {
            return Ok(());
        };
        room::call(&commands, Request::StopMedia(Arc::clone(&self.slot))).await
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        let Some(commands) = self.commands.upgrade().filter(|_| self.id().is_some()) else {
            return;
        };
        let command = Command::unanswered(Request::StopMedia(Arc::clone(&self.slot)));
        if commands.try_send(command).is_err() {
            tracing::debug!("a dropped media stays started: its room has too many calls to make");
        }
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media").field("id", &self.id()).finish()
    }
}

impl Slot {
    pub(crate) fn new(properties: Vec<u8>) -> Self {
        Self {
            id: AtomicU16::new(0),
            clock: Mutex::new(Clock::new(fastrand::u32(..), fastrand::u32(..))),
            properties,
        }
    }

    pub(crate) fn id(&self) -> Option<MediaId> {
        MediaId::new(self.id.load(Ordering::Relaxed))
    }

    pub(crate) fn set_id(&self, id: Option<MediaId>) {
        self.id
            .store(id.map_or(0, MediaId::value), Ordering::Relaxed);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("id", &self.id()).finish()
    }
}
