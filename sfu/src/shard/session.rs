//! The voice connection of one client, over whichever transport.

use std::{collections::VecDeque, time::Instant};

use sfu_core::DropReason;

use super::{quic::QuicSession, voice::VoicePacket, webrtc::WebRtcSession};

/// Voice packets that may wait for one receiver: 100 ms of a hundred talkers.
const WAITING_MAX: usize = 512;

/// One of the two.
#[derive(Debug)]
pub(super) enum Session {
    WebRtc(Box<WebRtcSession>),
    Quic(Box<QuicSession>),
}

/// Voice that waits for a poll: for others to go with in one packet, or for the receiver's link.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    packets: VecDeque<(Instant, VoicePacket)>,
    bytes: usize,
}

impl Waiting {
    /// # Errors
    /// [`DropReason::SlowReceiver`] when there are too many.
    pub(super) fn push(&mut self, since: Instant, voice: &VoicePacket) -> Result<(), DropReason> {
        if self.packets.len() >= WAITING_MAX {
            return Err(DropReason::SlowReceiver);
        }
        self.bytes += voice.len();
        self.packets.push_back((since, voice.clone()));
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<(Instant, VoicePacket)> {
        let (since, voice) = self.packets.pop_front()?;
        self.bytes -= voice.len();
        Some((since, voice))
    }

    pub(super) fn front(&self) -> Option<&(Instant, VoicePacket)> {
        self.packets.front()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What became of voice in a poll.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) packets: usize,
    pub(super) bytes: usize,
    pub(super) dropped: Vec<DropReason>,
    /// When the oldest of the packets arrived that went to each receiver.
    pub(super) forwarded: Vec<Instant>,
}

impl Sent {
    pub(super) fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes;
    }
}

impl Session {
    /// Whether voice can be sent on it at present.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::WebRtc(session) => session.is_open(),
            Self::Quic(session) => session.is_open(),
        }
    }

    /// Its time has come.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::WebRtc(session) => session.handle_timeout(now),
            Self::Quic(session) => session.handle_timeout(now),
        }
    }
}
