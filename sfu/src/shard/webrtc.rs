//! The WebRTC session of one client: one data channel, negotiated beforehand, that carries all of its voice.

mod association;
mod chunk;
mod dtls;
mod ice;
mod incoming;
mod offer;
mod outgoing;

use std::{net::SocketAddr, time::Instant};

use sfu_core::DropReason;

pub(crate) use self::offer::{Offer, Offers};
use self::{
    association::{Association, PACKET_BYTES_MAX},
    dtls::{Dtls, Over, RECORD_BYTES_MAX},
    ice::Ice,
};
use super::{
    demux::Packet,
    session::{Sent, Waiting},
    socket::Packets,
};

/// Memory that all sessions of a shard work in, one after the other.
#[derive(Debug)]
pub(super) struct Scratch {
    packet: Vec<u8>,
    record: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            packet: Vec::with_capacity(PACKET_BYTES_MAX),
            record: vec![0; RECORD_BYTES_MAX],
        }
    }
}

/// A session on its shard.
#[derive(Debug)]
pub(super) struct WebRtcSession {
    pub(super) user_fragment: String,
    ice: Ice,
    dtls: Dtls,
    association: Association,
}

impl WebRtcSession {
    fn new(user_fragment: String, ice: Ice, dtls: Dtls, association: Association) -> Self {
        Self {
            user_fragment,
            ice,
            dtls,
            association,
        }
    }

    /// Whether it can take voice at all.
    pub(super) fn is_open(&self) -> bool {
        self.association.is_open() && self.dtls.is_open()
    }

    /// Takes a packet in; `voice` gets what the client says. Says whether it has to be polled.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: &[u8],
        scratch: &mut Scratch,
        packets: &mut Packets,
        mut voice: impl FnMut(&[u8]),
    ) -> Result<bool, DropReason> {
        if let Packet::Stun(_) = Packet::of(bytes) {
            let answer = self.ice.check(now, source, bytes);
            packets.push(source, &answer.ok_or(DropReason::Rejected)?);
            return Ok(false);
        }
        let Self {
            ice,
            dtls,
            association,
            ..
        } = self;
        let mut is_heard = false;
        let sent = |packet: &[u8]| packets.push(source, packet);
        let received = |packet: &[u8]| {
            is_heard = true;
            // A packet that is none harms nobody but its sender.
            let _ = association.receive(now, packet, &mut voice);
        };
        let result = dtls.receive(now, bytes, &mut scratch.record, sent, received);
        if is_heard {
            ice.heard(now, source);
        }
        match result {
            Ok(()) => Ok(!dtls.is_open() || association.is_due(now)),
            Err(Over) => Err(DropReason::Rejected),
        }
    }

    /// Its time has come; what it then has to say goes with the next poll.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
    }

    /// Sends what waits, and what else there is to say. Says when it wants to be polled again at the latest; `None` when it
    /// is over.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        waiting: &mut Waiting,
        scratch: &mut Scratch,
        packets: &mut Packets,
        sent: &mut Sent,
    ) -> Option<Instant> {
        let remote = self.ice.remote(now);
        while let Some((_, voice)) = waiting.pop() {
            let bytes = voice.bytes();
            if !self.is_open() || remote.is_none() {
                sent.dropped.push(DropReason::NoChannel);
            } else if self.association.can_write(now, bytes.len()) {
                self.association.write(now, bytes);
                sent.count(bytes.len());
            } else {
                sent.dropped.push(DropReason::SlowReceiver);
            }
        }
        let Some(remote) = remote else {
            return self.is_alive().then(|| now + ice::CONSENT);
        };
        let mut push = |packet: &[u8]| packets.push(remote, packet);
        let Scratch { packet, record } = scratch;
        // What fails here shows in the end.
        let _ = self.dtls.handle_timeout(now, record, &mut push);
        while self.dtls.is_open() && self.association.poll(now, packet) {
            let _ = self.dtls.send(packet, record, &mut push);
        }
        let timeouts = [self.association.timeout(), Some(self.dtls.timeout())];
        let due = timeouts.into_iter().flatten().min();
        due.filter(|_| self.is_alive())
    }

    fn is_alive(&self) -> bool {
        !self.dtls.is_over() && !self.association.is_over()
    }
}
