//! What a receiver was sent and has not acknowledged, and for how long: whether more voice would only wait.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Bytes that are no backlog, however old: what a pause in the talk leaves unacknowledged until the receiver's next word.
const BYTES_MIN: usize = 1_200;

/// Bytes that may be unacknowledged: what ten talkers say in the 250 ms around the world. Every poll
/// walks through them: measured, hundreds of packets for each receiver end in a collapse.
const BYTES_MAX: usize = 12 * 1024;

/// How long the oldest of them may be under way: a round trip by satellite, and the 200 ms for which SCTP may hold an
/// acknowledgement back (RFC 9260, section 6.2). Beyond that voice piles up in front of a slow link.
const AGE_MAX: Duration = Duration::from_millis(800);

/// Writes within this time count as one: precise enough, and few to keep.
const MARK_TIME: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Bytes written since the beginning.
    written: u64,
    /// When a write began that ended at this many bytes. There are no more than [`AGE_MAX`] holds, and those of
    /// [`BYTES_MIN`].
    marks: VecDeque<(Instant, u64)>,
}

impl Backlog {
    /// Whether voice has to wait behind what the receiver does not take, `unacknowledged` bytes at present.
    pub(super) fn is_too_long(&mut self, now: Instant, unacknowledged: usize) -> bool {
        let acknowledged = self.written.saturating_sub(unacknowledged as u64);
        while self
            .marks
            .front()
            .is_some_and(|(_, end)| *end <= acknowledged)
        {
            self.marks.pop_front();
        }
        let oldest = self.marks.front().map(|(began, _)| *began);
        let is_old = oldest.is_some_and(|began| now.saturating_duration_since(began) > AGE_MAX);
        unacknowledged > BYTES_MAX || (unacknowledged > BYTES_MIN && is_old)
    }

    /// So many bytes were written.
    pub(super) fn wrote(&mut self, now: Instant, bytes: usize) {
        self.written += bytes as u64;
        match self.marks.back_mut() {
            Some((began, end)) if now.saturating_duration_since(*began) < MARK_TIME => {
                *end = self.written;
            }
            _ => self.marks.push_back((now, self.written)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = 94;

    /// Talkers at 50 packets a second each, whose packets are acknowledged after this time, at most so many a second.
    fn share_dropped(talkers: usize, round_trip: Duration, link_bytes: usize) -> f64 {
        let began = Instant::now();
        let mut backlog = Backlog::default();
        // When each packet under way is acknowledged.
        let mut under_way: VecDeque<Instant> = VecDeque::new();
        let (mut dropped, mut sent) = (0, 0);
        let mut free = began;
        for round in 0..500 {
            let now = began + MARK_TIME * round;
            for _ in 0..talkers {
                while under_way.front().is_some_and(|due| *due <= now) {
                    under_way.pop_front();
                }
                sent += 1;
                if backlog.is_too_long(now, under_way.len() * PACKET) {
                    dropped += 1;
                    continue;
                }
                backlog.wrote(now, PACKET);
                free = free.max(now) + Duration::from_secs(1) * PACKET as u32 / link_bytes as u32;
                under_way.push_back(free + round_trip);
            }
            assert!(backlog.marks.len() < 100, "{}", backlog.marks.len());
        }
        f64::from(dropped) / f64::from(sent)
    }

    #[test]
    fn far_receivers_lose_nothing() {
        for (talkers, ms) in [(1, 700), (3, 300), (5, 300), (10, 220), (20, 100)] {
            let round_trip = Duration::from_millis(ms);
            assert_eq!(
                share_dropped(talkers, round_trip, 10_000_000),
                0.0,
                "{ms} ms"
            );
        }
    }

    #[test]
    fn a_slow_link_carries_what_it_can_and_no_more() {
        // Two talkers are 9,400 bytes a second.
        let dropped = share_dropped(2, Duration::from_millis(50), 4_700);
        assert!((0.4..0.55).contains(&dropped), "{dropped}");
    }

    #[test]
    fn who_does_not_answer_is_given_up_after_a_while() {
        let now = Instant::now();
        let mut backlog = Backlog::default();
        let mut waiting = 0;
        while !backlog.is_too_long(now, waiting) {
            backlog.wrote(now, PACKET);
            waiting += PACKET;
        }
        assert!((BYTES_MAX..BYTES_MAX + 2 * PACKET).contains(&waiting));
        assert!(!backlog.is_too_long(now, BYTES_MIN));

        let later = now + AGE_MAX + Duration::from_millis(1);
        assert!(backlog.is_too_long(later, waiting), "the same, and older");
        assert!(!backlog.is_too_long(later, 0), "all is acknowledged");
    }

    #[test]
    fn a_little_that_is_old_holds_nothing_up() {
        let now = Instant::now();
        let mut backlog = Backlog::default();
        backlog.wrote(now, PACKET);
        let later = now + AGE_MAX * 3;
        assert!(!backlog.is_too_long(later, PACKET));
        for _ in 0..BYTES_MIN / PACKET {
            backlog.wrote(later, PACKET);
        }
        assert!(
            backlog.is_too_long(later, BYTES_MIN + 1),
            "the first is still not there"
        );
    }
}
