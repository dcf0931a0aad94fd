//! When a talker talks. Pure: the time is that of the talker's own clock, and chance is seeded.

use std::time::Duration;

use fastrand::Rng;

use crate::plan::Pattern;

/// Mean length of a spurt and of a pause, in milliseconds: those of ITU-T P.59, table 2 (a conversation's talkspurt of
/// 1.004 s and pause of 1.587 s).
const SPURT_MS: f64 = 1_004.0;
const PAUSE_MS: f64 = 1_587.0;

/// Longest of either, as a multiple of its mean: the distribution has no end, and a run has one.
const MEANS_MAX: f64 = 8.0;

/// Says for each packet time in turn whether there is a packet.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pattern: Pattern,
    random: Rng,
    is_on: bool,
    left: Duration,
}

impl Talk {
    /// `peer` makes the talkers of a run differ.
    pub(crate) fn new(pattern: Pattern, seed: u64, peer: u32) -> Self {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(peer);
        let mut random = Rng::with_seed(seed);
        // As if it had talked for long: the share of time is that of the means.
        let is_on = random.f64() < SPURT_MS / (SPURT_MS + PAUSE_MS);
        let mut talk = Self {
            pattern,
            random,
            is_on,
            left: Duration::ZERO,
        };
        talk.left = talk.stretch();
        talk
    }

    /// Whether there is a packet now; `interval` later it is asked again.
    pub(crate) fn next(&mut self, interval: Duration) -> bool {
        if self.pattern == Pattern::Constant {
            return true;
        }
        while self.left < interval {
            self.is_on = !self.is_on;
            let stretch = self.stretch();
            self.left += stretch;
        }
        self.left -= interval;
        self.is_on
    }

    /// How long this state lasts: exponentially distributed.
    fn stretch(&mut self) -> Duration {
        let mean = match self.is_on {
            true => SPURT_MS,
            false => PAUSE_MS,
        };
        let uniform = 1.0 - self.random.f64();
        let means = (-uniform.ln()).min(MEANS_MAX);
        Duration::from_secs_f64(mean * means / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);

    fn talk(pattern: Pattern, seed: u64, peer: u32, packets: usize) -> Vec<bool> {
        let mut talk = Talk::new(pattern, seed, peer);
        (0..packets).map(|_| talk.next(INTERVAL)).collect()
    }

    #[test]
    fn constant_talkers_never_stop() {
        assert!(talk(Pattern::Constant, 1, 1, 1_000).iter().all(|it| *it));
    }

    #[test]
    fn the_same_seed_is_the_same_conversation() {
        let one = talk(Pattern::Speech, 3, 7, 2_000);
        assert_eq!(one, talk(Pattern::Speech, 3, 7, 2_000));
        assert_ne!(one, talk(Pattern::Speech, 4, 7, 2_000));
        assert_ne!(one, talk(Pattern::Speech, 3, 8, 2_000));
    }

    #[test]
    fn people_talk_about_two_fifths_of_the_time_in_spurts_of_a_second() {
        let wanted = SPURT_MS / (SPURT_MS + PAUSE_MS);
        let said: Vec<_> = (0..50)
            .flat_map(|peer| talk(Pattern::Speech, 1, peer, 10_000))
            .collect();
        let share = said.iter().filter(|it| **it).count() as f64 / said.len() as f64;
        assert!((share - wanted).abs() < 0.02, "{share}");
        let starts = said.windows(2).filter(|it| !it[0] && it[1]).count() as f64;
        let spurt_ms = share * said.len() as f64 * 20.0 / starts;
        assert!((800.0..1_300.0).contains(&spurt_ms), "{spurt_ms}");
    }
}
