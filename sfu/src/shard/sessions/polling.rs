//! When sessions are polled, and what comes out of them.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Outbox, SessionNumber, Sessions, TICKS, TIMER_GRID, TIMER_MAX, Voice};
use crate::shard::session::{Sent, Session, Waiting};

impl Sessions {
    /// Lets go of the voice that has waited for long enough.
    pub(in crate::shard) fn release(&mut self, now: Instant) {
        while let Some((until, number)) = self.held.front().copied() {
            if until > now {
                break;
            }
            self.held.pop_front();
            let entry = self.entries.get_mut(number.0).and_then(Option::as_mut);
            if let Some(entry) = entry.filter(|entry| entry.held_until == Some(until)) {
                entry.held_until = None;
                self.touch(number);
            }
        }
    }

    /// Tells the sessions whose time has come.
    pub(in crate::shard) fn handle_timeouts(&mut self, now: Instant) {
        while let Some(Reverse((due, number))) = self.timers.peek().copied() {
            if due > now {
                return;
            }
            self.timers.pop();
            let Some(entry) = self.entries.get_mut(number.0).and_then(Option::as_mut) else {
                continue;
            };
            if entry.due != Some(due) {
                continue;
            }
            entry.due = None;
            entry.session.handle_timeout(now);
            self.touch(number);
        }
    }

    /// When the next session is due.
    pub(in crate::shard) fn next_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((due, _))| *due);
        let held = self.held.front().map(|(until, _)| *until);
        [timer, held].into_iter().flatten().min()
    }

    /// How often packets are to be taken; `None` as they come.
    pub(in crate::shard) fn tick(&self) -> Option<Duration> {
        (!self.hold.is_zero()).then(|| self.hold / TICKS)
    }

    /// Polls every session that something happened to, once each.
    pub(in crate::shard) fn poll(
        &mut self,
        now: Instant,
        outbox: &mut Outbox,
        voice: &mut Vec<Voice>,
        sent: &mut Sent,
    ) {
        let mut touched = std::mem::take(&mut self.touched);
        for number in touched.drain(..) {
            self.poll_one(now, number, outbox, voice, sent);
        }
        // Its memory is used again.
        if self.touched.is_empty() {
            self.touched = touched;
        }
    }

    fn poll_one(
        &mut self,
        now: Instant,
        number: SessionNumber,
        outbox: &mut Outbox,
        voice: &mut Vec<Voice>,
        sent: &mut Sent,
    ) {
        let Some(entry) = self.entries.get_mut(number.0).and_then(Option::as_mut) else {
            return;
        };
        entry.is_touched = false;
        let arrived = entry.arrived.take().unwrap_or(now);
        let heard = |bytes: Bytes| {
            voice.push(Voice {
                session: number,
                arrived,
                bytes,
            });
        };
        let mut nothing = Waiting::default();
        let waiting = match entry.held_until {
            None => &mut entry.waiting,
            Some(_) => &mut nothing,
        };
        sent.forwarded
            .extend(waiting.front().map(|(arrived, _)| *arrived));
        let timeout = match (&mut entry.session, &mut self.quic) {
            (Session::WebRtc(session), _) => {
                session.poll(now, waiting, &mut self.scratch, &mut outbox.webrtc, sent)
            }
            (Session::Quic(session), Some(quic)) => {
                session.take_events(now, |handle, event| quic.exchange(handle, event), heard);
                if entry.is_beginning && !session.is_beginning() {
                    entry.is_beginning = false;
                    quic.beginning -= 1;
                }
                session.send_packets(now, waiting, &mut outbox.quic, sent)
            }
            (Session::Quic(_), None) => None,
        };
        match timeout {
            Some(timeout) => {
                let timeout = on_grid(*self.grid.get_or_insert(now), now, timeout);
                // An earlier timer does no harm: the session then says when it really is due.
                if entry.due.is_none_or(|due| timeout < due) {
                    entry.due = Some(timeout);
                    self.timers.push(Reverse((timeout, number)));
                }
            }
            // The client stays until its signalling ends; it only hears nothing any more.
            None if matches!(entry.session, Session::WebRtc(_)) => entry.due = None,
            None => drop(self.remove(number)),
        }
    }
}

/// The next place on the grid at or after `timeout`, and after `now`.
fn on_grid(begin: Instant, now: Instant, timeout: Instant) -> Instant {
    let grid = TIMER_GRID.as_nanos() as u64;
    let since = |at: Instant| at.saturating_duration_since(begin).as_nanos() as u64;
    let timeout = timeout.min(now + TIMER_MAX);
    let place = since(timeout).div_ceil(grid).max(since(now) / grid + 1);
    begin + Duration::from_nanos(place * grid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_go_off_together_never_at_once_and_never_too_late() {
        let begin = Instant::now();
        let at = |us| begin + Duration::from_micros(us);
        for (now, timeout, due) in [
            (0, 0, 5_000),
            (0, 5_000, 5_000),
            (0, 5_001, 10_000),
            (4_999, 3, 5_000),
            (5_000, 5_000, 10_000),
            (1, 1_000_000, 1_000_000),
            (0, 3_600_000_000, 10_000_000),
        ] {
            assert_eq!(
                on_grid(begin, at(now), at(timeout)),
                at(due),
                "{now} {timeout}"
            );
        }
    }
}
