//! What a shard does about being late: it tells the pure shedding what it does, and lets go of what nobody can use.

use std::time::{Duration, Instant};

use sfu_core::BudgetChange;

use super::Shard;

/// A packet that has waited for so long shows that packets come faster than they are taken: the kernel's queue does not
/// drain by itself, and all voice in it is too old when its turn comes. Twice the age at which voice is dropped: a shard
/// that was kept from its work for a moment takes in what came meanwhile.
const BEHIND: Duration = Duration::from_millis(200);

/// It has caught up at packets that have waited no longer than this: voice has time left then.
const CAUGHT_UP: Duration = Duration::from_millis(50);

/// Lets the kernel's queue go once it stands.
///
/// A late packet alone is taken in all the same, because it may acknowledge what a client was sent, and one that is lost
/// makes the server send less. In a queue that stands, the kernel drops as many, and the newest: then it is better to drop
/// the oldest, at the cost of a look, and to be in time again. Only what sessions send each other is dropped: checks and
/// handshakes are few, and without them clients would come anew.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    is_behind: bool,
}

impl CatchUp {
    /// Whether a packet that has waited so long is not taken in.
    pub(super) fn skips(&mut self, waited: Duration, is_session_data: bool) -> bool {
        match self.is_behind {
            true => self.is_behind = waited > CAUGHT_UP,
            false => self.is_behind = waited > BEHIND,
        }
        self.is_behind && is_session_data
    }
}

/// Whether these are encrypted data of a session: a DTLS 1.2 record of application data, or any of DTLS 1.3 beyond its
/// first flight (RFC 6347, section 4.1; RFC 9147, section 4).
pub(super) fn is_session_data(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(23 | 32..=63))
}

impl Shard {
    /// A round is over that began then.
    pub(super) fn rest(&mut self, began: Instant) {
        let now = Instant::now();
        let worked = now.saturating_duration_since(began);
        self.counters.busy(worked);
        self.shedding.worked(worked);
        self.pressure.worked(began, now);
        self.sessions.hold = match self.pressure.is_high() {
            true => self.settings.voice_coalescing,
            false => Duration::ZERO,
        };
        let Some(change) = self.shedding.turn(now) else {
            return;
        };
        self.counters.stream_budget(change.after);
        let shard = self.settings.number.0;
        let BudgetChange { before, after, lag } = change;
        let lag_ms = lag.as_millis();
        match (before, after) {
            (None, Some(budget)) => {
                tracing::warn!(shard, budget, lag_ms, "overloaded: voice is shed");
            }
            (Some(before), Some(budget)) => {
                tracing::info!(shard, before, budget, lag_ms, "overloaded: voice is shed");
            }
            (_, None) => tracing::info!(shard, "no longer overloaded: voice is whole again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOICE: &[u8] = &[23, 254, 253];
    const CHECK: &[u8] = &[0, 1, 0, 0];
    const HANDSHAKE: &[u8] = &[22, 254, 253];

    #[test]
    fn a_queue_that_stands_is_let_go_down_to_what_is_in_time() {
        let ms = Duration::from_millis;
        let mut catch_up = CatchUp::default();
        let mut skips = |waited, bytes| catch_up.skips(waited, is_session_data(bytes));
        assert!(!skips(BEHIND, VOICE), "late, and alone");
        assert!(skips(BEHIND + ms(1), VOICE));
        assert!(!skips(BEHIND, CHECK) && !skips(BEHIND, HANDSHAKE));
        assert!(skips(CAUGHT_UP + ms(1), VOICE));
        assert!(!skips(CAUGHT_UP, VOICE));
        assert!(!skips(BEHIND, VOICE), "it has caught up");
    }
}
