//! What happens to each packet of one peer in one direction. Pure: the same seed decides the same of the first packet, the
//! second, and so on, whatever happens to others.

use std::time::Duration;

use fastrand::Rng;

use super::Link;

/// An odd number with bits all over (the golden ratio's, of 64 bits): seeds of neighbours have nothing in common.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    ToServer,
    ToPeer,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Lost,
    /// It comes after this time.
    Once(Duration),
    /// It comes after these times, of which either may be the shorter.
    Twice(Duration, Duration),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Fate {
    link: Link,
    random: Rng,
}

impl Fate {
    pub(super) fn new(link: Link, peer: u32, direction: Direction) -> Self {
        let stream = u64::from(peer) * 2 + direction as u64 + 1;
        Self {
            random: Rng::with_seed(link.seed ^ stream.wrapping_mul(SPREAD)),
            link,
        }
    }

    /// Decides of the next packet.
    pub(super) fn next(&mut self) -> Verdict {
        if self.has(self.link.loss_percent) {
            return Verdict::Lost;
        }
        match self.has(self.link.duplicate_percent) {
            false => Verdict::Once(self.delay()),
            true => Verdict::Twice(self.delay(), self.delay()),
        }
    }

    fn has(&mut self, percent: f64) -> bool {
        self.random.f64() * 100.0 < percent
    }

    fn delay(&mut self) -> Duration {
        let off = self.random.f64() * 2.0 - 1.0;
        let ms = self.link.delay_ms + off * self.link.jitter_ms;
        Duration::from_secs_f64(ms.max(0.0) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link {
        loss_percent: 5.0,
        delay_ms: 40.0,
        jitter_ms: 30.0,
        duplicate_percent: 1.0,
        seed: 1,
    };

    fn verdicts(link: Link, peer: u32, direction: Direction, count: usize) -> Vec<Verdict> {
        let mut fate = Fate::new(link, peer, direction);
        std::iter::repeat_with(|| fate.next()).take(count).collect()
    }

    #[test]
    fn shares_and_times_are_those_of_the_link() {
        let (mut lost, mut twice, mut delays) = (0, 0, Vec::new());
        for verdict in verdicts(LINK, 0, Direction::ToServer, 100_000) {
            match verdict {
                Verdict::Lost => lost += 1,
                Verdict::Once(delay) => delays.push(delay),
                Verdict::Twice(one, other) => {
                    twice += 1;
                    delays.extend([one, other]);
                }
            }
        }
        // Five standard deviations of 100,000 draws.
        assert!((4_650..5_350).contains(&lost), "{lost}");
        assert!((790..1_110).contains(&twice), "{twice}");
        delays.sort();
        let ms = |at: usize| delays[at].as_secs_f64() * 1_000.0;
        assert!((10.0..10.1).contains(&ms(0)));
        assert!((69.9..=70.0).contains(&ms(delays.len() - 1)));
        assert!((39.5..40.5).contains(&ms(delays.len() / 2)));
    }

    #[test]
    fn the_seed_decides_and_each_stream_is_its_own() {
        let of = |link, peer, direction| verdicts(link, peer, direction, 200);
        let first = of(LINK, 3, Direction::ToPeer);
        assert_eq!(first, of(LINK, 3, Direction::ToPeer));
        let other = Link { seed: 2, ..LINK };
        for different in [
            of(LINK, 3, Direction::ToServer),
            of(LINK, 4, Direction::ToPeer),
            of(other, 3, Direction::ToPeer),
        ] {
            assert_ne!(first, different);
        }
    }

    #[test]
    fn all_or_nothing_is_possible() {
        let all = Link {
            loss_percent: 100.0,
            ..LINK
        };
        let is_lost = |it: &Verdict| *it == Verdict::Lost;
        assert!(
            verdicts(all, 0, Direction::ToPeer, 1_000)
                .iter()
                .all(is_lost)
        );
        let none = Link {
            loss_percent: 0.0,
            duplicate_percent: 0.0,
            jitter_ms: 0.0,
            ..LINK
        };
        let once = Verdict::Once(Duration::from_millis(40));
        let all = verdicts(none, 0, Direction::ToPeer, 1_000);
        assert!(all.iter().all(|it| *it == once));
    }
}
