//! Voice that is heard, of all rooms of a client.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use sfu_core::PeerId;

use crate::{event::MediaId, shared::Shared};

/// A voice packet of somebody else. Packets may come twice, late, or in another order than they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packet {
    /// The room's name.
    pub room: Arc<str>,
    /// Who talks.
    pub peer: PeerId,
    /// With which of its medias.
    pub media: MediaId,
    /// Counts the packets of the media; begins anywhere and wraps.
    pub sequence: u32,
    /// 90,000 a second; begins anywhere and wraps.
    pub timestamp: u32,
    /// One Opus packet.
    pub payload: Bytes,
    /// When it came.
    pub arrived: Instant,
}

/// What a client hears. Whoever does not take packets in time loses the oldest, and sees that in
/// [`Counters::dropped_receiving`](crate::Counters::dropped_receiving).
#[derive(Debug)]
pub struct Voice {
    shared: Arc<Shared>,
}

impl Voice {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Waits for the next packet; `None` once the client has ended. May be dropped at any time without loss.
    pub async fn recv(&mut self) -> Option<Packet> {
        self.shared.heard.pop().await
    }

    /// The next packet, if one is there. For those who mix by a clock of their own.
    pub fn try_recv(&mut self) -> Option<Packet> {
        self.shared.heard.try_pop()
    }
}
