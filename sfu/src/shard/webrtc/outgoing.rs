//! What was sent over an association: what has come, what is lost, and how much more may go.
//!
//! Nothing is sent twice. What is lost, or late, is given up, and the other side is told to skip it (RFC 3758).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{chunk::Sack, incoming::is_after};
use crate::shard::window::VoiceWindow;

/// Bytes of a packet, for the window to count in.
const PACKET_BYTES: u16 = 1_200;

/// Bytes that are no backlog, however old: what a pause in the talk leaves unacknowledged until the receiver's next word.
const BYTES_MIN: usize = 1_200;

/// Messages under way: the window full of small ones.
const MESSAGES_MAX: usize = 8_192;

/// How long the oldest of them may be under way: a round trip by satellite, and the 200 ms for which SCTP may hold an
/// acknowledgement back (RFC 9260, section 6.2). Beyond that voice piles up in front of a slow link.
const AGE_MAX: Duration = Duration::from_millis(800);

/// Silence after which all that is under way is given up: the shortest that is allowed (RFC 9260, section 16).
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// It doubles with each time that nothing comes, so often.
const DOUBLINGS_MAX: u32 = 3;

/// Acknowledgements of later messages after which one is lost (RFC 9260, section 7.2.4).
const MISSES_MAX: u8 = 3;

/// Until then a lost message may still come, late: only after that is the other side told to skip it, because it takes
/// nothing any more that it has skipped. Nobody waits longer for voice.
const LATE_MAX: Duration = Duration::from_millis(100);

/// The other side is told again to skip what it still waits for.
const SKIP_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    UnderWay { misses: u8 },
    Come,
    Lost,
}

#[derive(Debug)]
struct Message {
    at: Instant,
    bytes: u16,
    fate: Fate,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The number of the next message.
    next: u32,
    /// Those before it, without holes: the first is under way, or there are none.
    messages: VecDeque<Message>,
    /// Bytes under way.
    under_way: usize,
    window: VoiceWindow,
    /// Bytes that the other side takes.
    window_there: usize,
    /// All up to here is acknowledged.
    acknowledged: u32,
    /// Losses up to here are part of the same congestion.
    recovers: Option<u32>,
    /// Since when the first message is that, or the other side knows what to skip.
    since: Instant,
    timeouts: u32,
    /// Up to where it was told to skip, and when.
    told: Option<(u32, Instant)>,
}

impl Outgoing {
    /// Messages are numbered from `next` on; the other side takes so many bytes.
    pub(super) fn new(now: Instant, next: u32, window_there: u32) -> Self {
        Self {
            next,
            messages: VecDeque::new(),
            under_way: 0,
            window: VoiceWindow::new(PACKET_BYTES),
            window_there: window_there as usize,
            acknowledged: next.wrapping_sub(1),
            recovers: None,
            since: now,
            timeouts: 0,
            told: None,
        }
    }

    /// Whether so many bytes more would only wait in front of the receiver.
    pub(super) fn is_full(&self, now: Instant, bytes: usize) -> bool {
        let after = self.under_way + bytes;
        let oldest = self.messages.front().map(|it| it.at);
        let is_old = oldest.is_some_and(|at| now.saturating_duration_since(at) > AGE_MAX);
        after as u64 > self.window.bytes()
            || after > self.window_there
            || self.messages.len() >= MESSAGES_MAX
            || (self.under_way > BYTES_MIN && is_old)
    }

    /// A message of so many bytes goes. Gives its number.
    pub(super) fn send(&mut self, now: Instant, bytes: u16) -> u32 {
        if self.messages.is_empty() {
            self.since = now;
        }
        self.messages.push_back(Message {
            at: now,
            bytes,
            fate: Fate::UnderWay { misses: 0 },
        });
        self.under_way += usize::from(bytes);
        let tsn = self.next;
        self.next = tsn.wrapping_add(1);
        tsn
    }

    /// The number of the first message that is kept.
    fn first(&self) -> u32 {
        self.next.wrapping_sub(self.messages.len() as u32)
    }

    /// Takes in what the other side has. What was never sent is not believed.
    pub(super) fn acknowledge(&mut self, now: Instant, sack: &Sack<'_>) {
        // An old one, that another has overtaken.
        if is_after(self.acknowledged, sack.tsn) || !is_after(self.next, sack.tsn) {
            return;
        }
        let limit = self.window.bytes() / 2;
        let is_limited = self.under_way as u64 > limit;
        self.window_there = sack.window as usize;
        let mut come = 0;
        if sack.tsn != self.acknowledged {
            self.acknowledged = sack.tsn;
            self.since = now;
            self.timeouts = 0;
        }
        while !self.messages.is_empty() && !is_after(self.first(), sack.tsn) {
            if let Some(message) = self.messages.pop_front()
                && let Fate::UnderWay { .. } = message.fate
            {
                come += usize::from(message.bytes);
            }
        }
        let mut highest = None;
        // They are in their order; from one that is not, only what lies behind the others is looked at.
        let mut begin = 0;
        for (first, last) in sack.gaps() {
            begin = self.index(sack.tsn, first).max(begin);
            let end = self.index(sack.tsn, last).saturating_add(1);
            let end = end.min(self.messages.len());
            for at in begin..end {
                let message = &mut self.messages[at];
                if let Fate::UnderWay { .. } = message.fate {
                    come += usize::from(message.bytes);
                    message.fate = Fate::Come;
                    highest = Some(at);
                }
            }
            begin = begin.max(end);
        }
        self.under_way = self.under_way.saturating_sub(come);
        self.window.acknowledged(come as u64, is_limited);
        if let Some(highest) = highest {
            self.miss(highest);
        }
        self.forget_front(now);
    }

    /// Where the message is that is so far behind a number.
    fn index(&self, tsn: u32, distance: u16) -> usize {
        let tsn = tsn.wrapping_add(distance.into());
        match is_after(self.first(), tsn) {
            true => 0,
            false => tsn.wrapping_sub(self.first()) as usize,
        }
    }

    /// What was sent before a message that has come may be lost.
    fn miss(&mut self, highest: usize) {
        let first = self.first();
        for (at, message) in self.messages.iter_mut().take(highest).enumerate() {
            let Fate::UnderWay { misses } = &mut message.fate else {
                continue;
            };
            *misses += 1;
            if *misses < MISSES_MAX {
                continue;
            }
            message.fate = Fate::Lost;
            self.under_way = self.under_way.saturating_sub(message.bytes.into());
            let tsn = first.wrapping_add(at as u32);
            if self.recovers.is_none_or(|until| is_after(tsn, until)) {
                self.recovers = Some(self.next.wrapping_sub(1));
                self.window.lost();
            }
        }
    }

    fn forget_front(&mut self, now: Instant) {
        let is_over = |message: &Message| match message.fate {
            Fate::UnderWay { .. } => false,
            Fate::Come => true,
            Fate::Lost => now >= message.at + LATE_MAX,
        };
        while self.messages.front().is_some_and(is_over) {
            self.messages.pop_front();
        }
        // A loss that the window has answered is far behind after many messages, and numbers wrap.
        if self.messages.is_empty() {
            self.recovers = None;
        }
    }

    /// Up to where the other side is to skip now; it then counts as told.
    pub(super) fn skip(&mut self, now: Instant) -> Option<u32> {
        let tsn = self.skip_due(now)?;
        self.told = Some((tsn, now));
        Some(tsn)
    }

    /// Up to where the other side is to skip, if it is time to say so.
    pub(super) fn skip_due(&self, now: Instant) -> Option<u32> {
        let tsn = self.first().wrapping_sub(1);
        if !is_after(tsn, self.acknowledged) {
            return None;
        }
        let is_told = self.told.is_some_and(|(told, at)| {
            told == tsn && now.saturating_duration_since(at) < SKIP_AGAIN * (1 << self.timeouts)
        });
        (!is_told).then_some(tsn)
    }

    /// When to call [`Self::handle_timeout`].
    pub(super) fn timeout(&self) -> Option<Instant> {
        let lost = self.messages.front().filter(|it| it.fate == Fate::Lost);
        let late = lost.map(|message| message.at + LATE_MAX);
        [late, self.silence()].into_iter().flatten().min()
    }

    /// When the other side has been silent for too long.
    fn silence(&self) -> Option<Instant> {
        let waits =
            !self.messages.is_empty() || is_after(self.first(), self.acknowledged.wrapping_add(1));
        waits.then(|| self.since + TIMEOUT_MIN * (1 << self.timeouts))
    }

    /// Gives up what is lost, and what is under way if its time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.forget_front(now);
        if self.silence().is_none_or(|silence| now < silence) {
            return;
        }
        if self.under_way > 0 {
            self.window.collapse();
            self.timeouts = (self.timeouts + 1).min(DOUBLINGS_MAX);
        }
        self.messages.clear();
        self.under_way = 0;
        self.recovers = None;
        self.since = now;
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shard::webrtc::{
        chunk::{Chunk, HEADER_BYTES, Header, write_sack},
        incoming::Incoming,
    };

    const PACKET: u16 = 94;
    const ROUND: Duration = Duration::from_millis(20);

    fn outgoing(now: Instant) -> Outgoing {
        Outgoing::new(now, u32::MAX - 5, 1 << 20)
    }

    fn acknowledge(outgoing: &mut Outgoing, now: Instant, tsn: u32, gaps: &[(u16, u16)]) {
        let mut packet = vec![0; HEADER_BYTES];
        write_sack(&mut packet, tsn, gaps.iter().copied());
        let (_, mut chunks) = Header::parse(&packet).unwrap();
        let Chunk::Sack(mut sack) = chunks.next().unwrap().unwrap() else {
            panic!("it was written as one")
        };
        sack.window = 1 << 20;
        outgoing.acknowledge(now, &sack);
    }

    /// Talkers at 50 packets a second each, whose packets are acknowledged after this time, at most so many a second.
    fn share_dropped(talkers: usize, round_trip: Duration, link_bytes: u32) -> f64 {
        let began = Instant::now();
        let mut outgoing = outgoing(began);
        let mut under_way: VecDeque<(Instant, u32)> = VecDeque::new();
        let (mut dropped, mut sent) = (0, 0);
        let mut free = began;
        for round in 0..500 {
            let now = began + ROUND * round;
            outgoing.handle_timeout(now);
            for _ in 0..talkers {
                while let Some((due, tsn)) = under_way.front().copied() {
                    if due > now {
                        break;
                    }
                    acknowledge(&mut outgoing, due, tsn, &[]);
                    under_way.pop_front();
                }
                sent += 1;
                if outgoing.is_full(now, PACKET.into()) {
                    dropped += 1;
                    continue;
                }
                let tsn = outgoing.send(now, PACKET);
                free = free.max(now) + Duration::from_secs(1) * PACKET.into() / link_bytes;
                under_way.push_back((free + round_trip, tsn));
            }
        }
        f64::from(dropped) / f64::from(sent)
    }

    #[test]
    fn far_receivers_lose_nothing() {
        for (talkers, ms) in [(1, 700), (3, 300), (10, 220), (20, 100), (40, 200)] {
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
        assert!((0.4..0.6).contains(&dropped), "{dropped}");
    }

    #[test]
    fn who_does_not_answer_is_given_up_and_asked_again_ever_less() {
        let began = Instant::now();
        let mut outgoing = outgoing(began);
        let mut sent = 0;
        let mut now = began;
        for _ in 0..50 * 60 {
            outgoing.handle_timeout(now);
            if !outgoing.is_full(now, PACKET.into()) {
                outgoing.send(now, PACKET);
                sent += 1;
            }
            now += ROUND;
        }
        assert!((40..300).contains(&sent), "{sent} in a minute");
        // It comes back, and has nothing of all that was sent.
        for _ in 0..2 {
            now += TIMEOUT_MIN * 10;
            outgoing.handle_timeout(now);
            let skip = outgoing.skip(now).unwrap();
            assert_eq!(outgoing.skip(now), None, "told is told");
            acknowledge(&mut outgoing, now, skip, &[]);
            assert_eq!(outgoing.skip(now + SKIP_AGAIN * 100), None);
            outgoing.send(now, PACKET);
        }
        assert!(!outgoing.is_full(now, PACKET.into()));
    }

    #[test]
    fn a_little_that_is_old_holds_nothing_up() {
        let now = Instant::now();
        let mut outgoing = outgoing(now);
        outgoing.send(now, PACKET);
        let later = now + AGE_MAX + ROUND;
        assert!(!outgoing.is_full(later, PACKET.into()));
        for _ in 0..BYTES_MIN / usize::from(PACKET) {
            outgoing.send(later, PACKET);
        }
        assert!(
            outgoing.is_full(later, PACKET.into()),
            "the first is still not there"
        );
    }

    #[test]
    fn what_others_overtake_three_times_is_lost_and_skipped() {
        let now = Instant::now();
        let mut outgoing = outgoing(now);
        let first = outgoing.send(now, PACKET);
        let before = first.wrapping_sub(1);
        for last in 2..5 {
            assert_eq!(outgoing.skip(now), None);
            outgoing.send(now, PACKET);
            acknowledge(&mut outgoing, now, before, &[(2, last)]);
        }
        assert_eq!(outgoing.under_way, 0);
        assert_eq!(outgoing.skip(now), None, "it may be late");
        assert_eq!(outgoing.timeout(), Some(now + LATE_MAX));
        let later = now + LATE_MAX;
        outgoing.handle_timeout(later);
        assert_eq!(outgoing.skip(later), Some(first.wrapping_add(3)));
        assert_eq!(outgoing.skip(later), None);
        assert!(
            outgoing.skip(later + SKIP_AGAIN).is_some(),
            "the word may be lost as well"
        );
        acknowledge(&mut outgoing, later, first.wrapping_add(3), &[]);
        assert_eq!(outgoing.skip(later + SKIP_AGAIN * 3), None);
        assert_eq!(outgoing.timeout(), None);
        assert_eq!(outgoing.timeouts, 0, "nobody was silent");
    }

    #[test]
    fn what_was_only_late_is_not_skipped() {
        let now = Instant::now();
        let mut outgoing = outgoing(now);
        let first = outgoing.send(now, PACKET);
        for last in 2..5 {
            outgoing.send(now, PACKET);
            acknowledge(&mut outgoing, now, first.wrapping_sub(1), &[(2, last)]);
        }
        acknowledge(&mut outgoing, now + LATE_MAX, first.wrapping_add(3), &[]);
        assert_eq!(outgoing.skip(now + LATE_MAX), None);
        assert_eq!(outgoing.timeout(), None);
    }

    #[test]
    fn acknowledgements_of_what_was_never_sent_mean_nothing() {
        let now = Instant::now();
        let mut outgoing = outgoing(now);
        let tsn = outgoing.send(now, PACKET);
        acknowledge(&mut outgoing, now, tsn.wrapping_add(1), &[]);
        acknowledge(
            &mut outgoing,
            now,
            tsn.wrapping_sub(1),
            &[(2, 60_000), (9, 3)],
        );
        assert_eq!(outgoing.under_way, usize::from(PACKET));
        acknowledge(&mut outgoing, now, tsn, &[]);
        assert_eq!(outgoing.under_way, 0);
    }

    proptest! {
        /// Any packets may be lost, in both directions.
        #[test]
        fn both_sides_agree_in_the_end(start: u32, fates in proptest::collection::vec(0..10_u8, 1..400)) {
            let mut now = Instant::now();
            let mut outgoing = Outgoing::new(now, start, 1 << 20);
            let mut incoming = Incoming::new(start);
            let answer = |now, outgoing: &mut Outgoing, incoming: &Incoming| {
                let (tsn, gaps) = incoming.acknowledgement();
                let gaps: Vec<_> = gaps.collect();
                acknowledge(outgoing, now, tsn, &gaps);
            };
            for fate in fates {
                now += ROUND;
                outgoing.handle_timeout(now);
                if let Some(tsn) = outgoing.skip(now)
                    && fate != 3
                {
                    incoming.skip_to(tsn);
                }
                if !outgoing.is_full(now, PACKET.into()) {
                    let tsn = outgoing.send(now, PACKET);
                    if fate > 1 {
                        prop_assert!(incoming.take(tsn));
                    }
                }
                if fate % 2 == 0 {
                    answer(now, &mut outgoing, &incoming);
                }
                let sum: usize = outgoing
                    .messages
                    .iter()
                    .filter(|it| matches!(it.fate, Fate::UnderWay { .. }))
                    .map(|it| usize::from(it.bytes))
                    .sum();
                prop_assert_eq!(outgoing.under_way, sum);
            }
            for _ in 0..3 {
                now += TIMEOUT_MIN * 16;
                outgoing.handle_timeout(now);
                if let Some(tsn) = outgoing.skip(now) {
                    incoming.skip_to(tsn);
                }
                answer(now, &mut outgoing, &incoming);
            }
            prop_assert_eq!(outgoing.under_way, 0);
            prop_assert_eq!(incoming.acknowledgement().0, outgoing.next.wrapping_sub(1));
            prop_assert!(!incoming.has_holes());
        }
    }
}
