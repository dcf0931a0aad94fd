//! How busy the server is, in one number: what the gateway places rooms by.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};

use crate::{config::Limit, metrics::ShardCounters};

/// What is there at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Connected clients.
    pub clients: u64,
    /// Peers in rooms.
    pub peers: u64,
    /// Rooms.
    pub rooms: u64,
}

/// The processor time that was used up to a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    at: Instant,
    process: Duration,
    shards: Vec<Duration>,
}

impl Sample {
    /// Looks now.
    pub(crate) fn take(now: Instant, shards: &[Arc<ShardCounters>]) -> Self {
        Self {
            at: now,
            process: process_time(),
            shards: shards.iter().map(|shard| shard.busy_time()).collect(),
        }
    }
}

/// Processor time of this process on all cores, since its start.
pub(crate) fn process_time() -> Duration {
    // It fails only for processes other than this one.
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| {
            let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
            let micros = u64::try_from(time.tv_usec()).unwrap_or_default();
            Duration::from_secs(seconds) + Duration::from_micros(micros)
        })
        .sum()
}

/// From 0 (idle) to 1 (full): the largest of the busiest shard's share of the time between two samples, the process'
/// share of all `cores`, and the share of each limit that is used. What is full first decides.
pub(crate) fn load(
    before: &Sample,
    after: &Sample,
    cores: NonZeroUsize,
    usage: Usage,
    limit: &Limit,
) -> f64 {
    let elapsed = after.at.saturating_duration_since(before.at);
    let spent = |before: Duration, after: Duration, of: Duration| {
        share(after.saturating_sub(before).as_secs_f64(), of.as_secs_f64())
    };
    let shards = before.shards.iter().zip(&after.shards);
    let busiest = shards.map(|(before, after)| spent(*before, *after, elapsed));
    // So many cores at once are more than any machine has.
    let all_cores = elapsed.saturating_mul(u32::try_from(cores.get()).unwrap_or(u32::MAX));
    let process = spent(before.process, after.process, all_cores);
    let limits = [
        (usage.clients, limit.max_clients),
        (usage.peers, limit.max_peers),
        (usage.rooms, limit.max_rooms),
    ];
    let limits = limits.into_iter().map(|(used, most)| match most {
        None => 0.0,
        // A server that takes none is full.
        Some(0) => 1.0,
        Some(most) => share(used as f64, most as f64),
    });
    busiest.chain([process]).chain(limits).fold(0.0, f64::max)
}

/// A part of a whole, 0 to 1; no part of nothing.
fn share(part: f64, whole: f64) -> f64 {
    match whole > 0.0 {
        true => (part / whole).clamp(0.0, 1.0),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MessageRate, PacketRate};

    fn limit(clients: Option<u64>, peers: Option<u64>, rooms: Option<u64>) -> Limit {
        Limit {
            max_clients: clients,
            max_rooms: rooms,
            max_peers: peers,
            incoming_messages: MessageRate {
                rate: 10,
                capacity: 50,
                overflow: 20,
            },
            medias: 5,
            concurrent_streams: 8,
            resume_grace: Duration::ZERO,
            incoming_media_packets: PacketRate {
                rate: 50,
                capacity: 100,
            },
        }
    }

    fn sample(start: Instant, at: u64, process: u64, shards: &[u64]) -> Sample {
        let millis = Duration::from_millis;
        Sample {
            at: start + millis(at),
            process: millis(process),
            shards: shards.iter().copied().map(millis).collect(),
        }
    }

    /// After one second on four cores.
    fn check(process: u64, shards: &[u64], usage: Usage, limit: &Limit, expected: f64) {
        let start = Instant::now();
        let idle: Vec<u64> = shards.iter().map(|_| 500).collect();
        let before = sample(start, 0, 700, &idle);
        let shards: Vec<u64> = shards.iter().map(|it| it + 500).collect();
        let after = sample(start, 1_000, process + 700, &shards);
        let cores = NonZeroUsize::new(4).unwrap();
        let load = load(&before, &after, cores, usage, limit);
        assert!((load - expected).abs() < 1e-9, "{load} is not {expected}");
    }

    #[test]
    fn the_busiest_part_decides() {
        let none = limit(None, None, None);
        let idle = Usage::default();
        check(0, &[0, 0], idle, &none, 0.0);
        check(1_000, &[100, 900], idle, &none, 0.9);
        check(3_200, &[100, 700], idle, &none, 0.8);
        check(800, &[], idle, &none, 0.2);
        let usage = Usage {
            clients: 30,
            peers: 25,
            rooms: 4,
        };
        check(1_000, &[100, 100], usage, &none, 0.25);
        check(0, &[100], usage, &limit(Some(100), None, None), 0.3);
        check(0, &[100], usage, &limit(Some(100), Some(50), None), 0.5);
        check(0, &[100], usage, &limit(Some(100), Some(50), Some(5)), 0.8);
    }

    #[test]
    fn it_is_never_above_one() {
        let usage = Usage {
            clients: 9,
            peers: 0,
            rooms: 0,
        };
        check(9_000, &[2_000], usage, &limit(None, None, None), 1.0);
        check(0, &[], usage, &limit(Some(3), None, None), 1.0);
        check(0, &[], Usage::default(), &limit(Some(0), None, None), 1.0);
    }

    #[test]
    fn no_time_between_samples_says_nothing() {
        let start = Instant::now();
        let cores = NonZeroUsize::MIN;
        let none = limit(None, None, None);
        let (early, late) = (sample(start, 0, 0, &[0]), sample(start, 0, 50, &[50]));
        let load = load(&early, &late, cores, Usage::default(), &none);
        assert_eq!(load.to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn work_is_seen() {
        let before = process_time();
        let mut sum = 0_u64;
        while process_time() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let shard = Arc::new(ShardCounters::new(&[]));
        shard.busy(Duration::from_millis(7));
        let sample = Sample::take(Instant::now(), &[shard]);
        assert!(sample.process >= before + Duration::from_millis(5));
        assert_eq!(sample.shards, [Duration::from_millis(7)]);
    }
}
