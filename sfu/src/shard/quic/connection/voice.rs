//! Voice on its way out: from what waits into the library, and from there into packets.

use std::time::Instant;

use quinn_proto::SendDatagramError;
use sfu_core::DropReason;

use super::QuicSession;
use crate::shard::{
    quic::settings::DATAGRAM_BYTES,
    session::{Sent, Waiting},
    socket::Packets,
};

/// Packets of one poll; a connection that has more is polled again in the next round.
const PACKETS_MAX: usize = 64;

/// What a datagram takes in the library's buffer beside its bytes.
const OVERHEAD_BYTES: usize = size_of::<quinn_proto::Datagram>();

impl QuicSession {
    /// Hands waiting voice to the library, as much as it takes, and takes its packets. Says whether it has no more.
    pub(super) fn fill_and_send(
        &mut self,
        now: Instant,
        waiting: &mut Waiting,
        packets: &mut Packets,
        sent: &mut Sent,
    ) -> bool {
        let mut is_all = false;
        for _ in 0..PACKETS_MAX {
            self.fill(now, waiting, sent);
            self.buffer.clear();
            let Some(packet) = self.connection.poll_transmit(now, 1, &mut self.buffer) else {
                is_all = true;
                break;
            };
            let bytes = self.buffer.get(..packet.size).unwrap_or(&self.buffer);
            packets.push(packet.destination, bytes);
            self.forget_held(|bytes| sent.count(bytes));
        }
        self.blocked_since = match self.held.is_empty() {
            true => None,
            false => self.blocked_since.or(Some(now)),
        };
        is_all
    }

    /// What the library holds no more has gone where the caller says.
    fn forget_held(&mut self, mut gone: impl FnMut(usize)) {
        let space = self.connection.datagrams().send_buffer_space();
        let used = DATAGRAM_BYTES.saturating_sub(space + OVERHEAD_BYTES);
        while self.held_bytes > used {
            let Some(bytes) = self.held.pop_front() else {
                self.held_bytes = 0;
                return;
            };
            self.held_bytes -= bytes + OVERHEAD_BYTES;
            gone(bytes);
        }
    }

    fn fill(&mut self, now: Instant, waiting: &mut Waiting, sent: &mut Sent) {
        let Some(session) = &self.session else {
            return;
        };
        let prefix = session.datagram_prefix.clone();
        let is_old = |since: Instant| now.saturating_duration_since(since) > self.voice_wait;
        // What the library holds is as old as it has been blocked: beyond the wait the new takes its place.
        let is_blocked_long = self.blocked_since.is_some_and(is_old);
        while let Some((since, voice)) = waiting.front() {
            if now.saturating_duration_since(*since) > self.voice_wait {
                waiting.pop();
                sent.dropped.push(DropReason::SlowReceiver);
                continue;
            }
            let datagram = voice.datagram(&prefix);
            let bytes = datagram.len();
            match self.connection.datagrams().send(datagram, is_blocked_long) {
                Ok(()) => {
                    // What had to give way was not sent.
                    self.held_bytes += bytes + OVERHEAD_BYTES;
                    self.held.push_back(bytes);
                    self.forget_held(|_| sent.dropped.push(DropReason::SlowReceiver));
                }
                Err(SendDatagramError::Blocked(_)) => return,
                Err(_) => sent.dropped.push(DropReason::NoChannel),
            }
            waiting.pop();
        }
    }
}
