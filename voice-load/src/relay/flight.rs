//! Packets under way, in the order in which they arrive. Pure: the time is an argument.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

use super::fate::{Direction, Verdict};

/// Most packets under way: a second of 65,000 packets, more than one thread relays. What is beyond is lost, and counted.
pub(super) const UNDER_WAY_MAX: usize = 65_536;

/// A packet under way; earlier ones are less.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Packet {
    pub(super) at: Instant,
    /// Packets of one moment keep their order.
    order: u64,
    pub(super) peer: u32,
    pub(super) direction: Direction,
    pub(super) bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flight {
    packets: BinaryHeap<Reverse<Packet>>,
    order: u64,
}

impl Flight {
    /// Sends a packet on its way as was decided; says whether there was room for it.
    pub(super) fn take(
        &mut self,
        now: Instant,
        verdict: Verdict,
        peer: u32,
        direction: Direction,
        bytes: &[u8],
    ) -> bool {
        let times = match verdict {
            Verdict::Lost => return true,
            Verdict::Once(time) => [Some(time), None],
            Verdict::Twice(one, other) => [Some(one), Some(other)],
        };
        for time in times.into_iter().flatten() {
            if self.packets.len() >= UNDER_WAY_MAX {
                return false;
            }
            self.order += 1;
            self.packets.push(Reverse(Packet {
                at: now + time,
                order: self.order,
                peer,
                direction,
                bytes: bytes.to_vec(),
            }));
        }
        true
    }

    /// When the next one arrives.
    pub(super) fn first(&self) -> Option<Instant> {
        self.packets.peek().map(|Reverse(packet)| packet.at)
    }

    /// The next one that has arrived.
    pub(super) fn due(&mut self, now: Instant) -> Option<Packet> {
        match self.first() {
            Some(at) if at <= now => self.packets.pop().map(|Reverse(packet)| packet),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn arrived(flight: &mut Flight, now: Instant) -> Vec<u8> {
        let due = std::iter::from_fn(|| flight.due(now));
        due.map(|packet| packet.bytes[0]).collect()
    }

    #[test]
    fn packets_arrive_at_their_times_whatever_the_order_they_were_sent_in() {
        let now = Instant::now();
        let mut flight = Flight::default();
        let mut take =
            |sent, verdict, name| flight.take(now + sent, verdict, 0, Direction::ToPeer, &[name]);
        assert!(take(Duration::ZERO, Verdict::Once(MS * 70), 1));
        assert!(take(MS * 20, Verdict::Once(MS * 10), 2));
        assert!(take(MS * 21, Verdict::Lost, 3));
        assert!(take(MS * 22, Verdict::Twice(MS * 60, MS * 8), 4));
        assert!(take(MS * 25, Verdict::Once(MS * 5), 5));
        assert!(arrived(&mut flight, now + MS * 29).is_empty());
        assert_eq!(flight.first(), Some(now + MS * 30));
        assert_eq!(arrived(&mut flight, now + MS * 30), [2, 4, 5]);
        assert_eq!(arrived(&mut flight, now + MS * 100), [1, 4]);
        assert_eq!(flight.first(), None);
    }

    #[test]
    fn what_is_beyond_the_limit_is_told() {
        let now = Instant::now();
        let mut flight = Flight::default();
        let mut take = || flight.take(now, Verdict::Once(MS), 0, Direction::ToServer, &[0]);
        assert!((0..UNDER_WAY_MAX).all(|_| take()));
        assert!(!take());
        assert!(flight.due(now + MS).is_some());
    }
}
