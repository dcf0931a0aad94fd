//! How a run goes while it counts: who is there, what memory server and generator have, and how long the server has voice
//! packets, from one look to the next.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::{
    engine::Engine,
    plan::Plan,
    report::ratio,
    run::Watched,
    usage::{self, Usage},
};

/// One look.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the beginning of what counts.
    pub at_s: f64,
    /// Peers that have come to their rooms and were not told to leave.
    pub present: u32,
    /// Clients that the server knows, if it can be asked.
    pub clients: Option<u64>,
    /// Peers in its rooms, if it can be asked.
    pub peers: Option<u64>,
    /// Resident memory of the server, in KiB, if its process can be seen.
    pub server_resident_kib: Option<u64>,
    /// Our own, in KiB.
    pub generator_resident_kib: u64,
    /// How long the server had voice packets since the last look.
    pub forwards: Forwards,
}

/// Times from a voice packet's arrival until the server has sent it to everybody, as the server counts them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Forwards {
    /// Packets, each once for every thread of the server that sent it.
    pub count: u64,
    /// Their mean, in microseconds; 0 without any.
    pub mean_us: f64,
    /// Half of them took no longer, in microseconds, as near as the server's bounds tell; 0 without any.
    pub median_us: f64,
}

/// Looks at the run until its time is over.
///
/// # Errors
/// When the server's process or metrics are to be seen, and cannot be.
pub(crate) async fn follow(
    plan: &Plan,
    http: &reqwest::Client,
    watched: &Watched,
    engine: &Engine,
) -> Result<Vec<Sample>> {
    let looks = plan.looks().unwrap_or_default();
    let mut samples = Vec::new();
    if looks == 0 {
        return Ok(samples);
    }
    let began = Instant::now();
    let mut before = Counted::read(http, watched).await?;
    for look in 1..=looks {
        let at = Duration::from_secs_f64(plan.look_s * f64::from(look));
        sleep_until(began + at).await;
        let now = Counted::read(http, watched).await?;
        let server = watched.pid.map(Usage::of).transpose()?;
        samples.push(Sample {
            at_s: began.elapsed().as_secs_f64(),
            present: engine.progress().present(),
            clients: watched.metrics.as_ref().map(|_| now.clients),
            peers: watched.metrics.as_ref().map(|_| now.peers),
            server_resident_kib: server.map(|it| it.resident_kib),
            generator_resident_kib: Usage::of(std::process::id())?.resident_kib,
            forwards: now.forwards_since(&before),
        });
        before = now;
    }
    Ok(samples)
}

/// What the server has counted since its start.
#[derive(Debug, Default)]
struct Counted {
    clients: u64,
    peers: u64,
    /// Packets that took no longer than so many nanoseconds; the last are all.
    below: BTreeMap<u64, u64>,
    seconds: f64,
}

impl Counted {
    async fn read(http: &reqwest::Client, watched: &Watched) -> Result<Self> {
        match &watched.metrics {
            Some(url) => Ok(Self::of(&usage::metrics_text(http, url).await?)),
            None => Ok(Self::default()),
        }
    }

    /// The sums over all shards and transports in a text of Prometheus' form.
    fn of(text: &str) -> Self {
        let mut counted = Self::default();
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "sfu_clients" => counted.clients += value as u64,
                "sfu_peers" => counted.peers += value as u64,
                "sfu_forward_seconds_sum" => counted.seconds += value,
                "sfu_forward_seconds_bucket" => {
                    let bound = labels.split("le=\"").nth(1);
                    let bound = bound.and_then(|it| it.split('"').next());
                    let bound_s = bound.and_then(|it| it.parse::<f64>().ok());
                    // An endless bound is the largest number.
                    let bound_ns = bound_s.map(|it| (it * 1e9).round() as u64);
                    *counted
                        .below
                        .entry(bound_ns.unwrap_or(u64::MAX))
                        .or_default() += value as u64;
                }
                _ => {}
            }
        }
        counted
    }

    fn forwards_since(&self, before: &Self) -> Forwards {
        let earlier = |bound: &u64| before.below.get(bound).copied().unwrap_or_default();
        let below = self.below.iter();
        let below = below.map(|(bound, count)| (*bound, count.saturating_sub(earlier(bound))));
        let below: Vec<(u64, u64)> = below.collect();
        let count = below.last().map_or(0, |(_, count)| *count);
        Forwards {
            count,
            mean_us: ratio((self.seconds - before.seconds) * 1e6, count as f64),
            median_us: median_us(&below, count),
        }
    }
}

/// Within the bounds that the median lies between, times are taken to be spread evenly. One beyond all bounds is taken
/// to be the last of them.
fn median_us(below: &[(u64, u64)], count: u64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    let half = count as f64 / 2.0;
    let mut from = (0, 0);
    for (bound, until) in below {
        if *until > from.1 && *until as f64 >= half {
            if *bound == u64::MAX {
                break;
            }
            let share = (half - from.1 as f64) / (until - from.1) as f64;
            return (from.0 as f64 + share * (bound - from.0) as f64) / 1_000.0;
        }
        from = (*bound, *until);
    }
    from.0 as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(counts: [u64; 3], seconds: f64) -> String {
        let [first, second, all] = counts;
        format!(
            "# HELP sfu_clients Connected\nsfu_clients{{transport=\"web\"}} 20\nsfu_clients{{transport=\"quic\"}} 30\n\
            sfu_peers{{transport=\"web\"}} 7\nsfu_lost_peers 4\nsfu_forward_seconds_sum{{shard=\"0\"}} {seconds}\n\
            sfu_forward_seconds_count{{shard=\"0\"}} {all}\n\
            sfu_forward_seconds_bucket{{le=\"5e-05\",shard=\"0\"}} {first}\n\
            sfu_forward_seconds_bucket{{le=\"0.0001\",shard=\"0\"}} {second}\n\
            sfu_forward_seconds_bucket{{le=\"+Inf\",shard=\"0\"}} {all}\n\
            sfu_forward_seconds_bucket{{le=\"+Inf\",shard=\"1\"}} 0\n"
        )
    }

    #[test]
    fn clients_are_summed_and_times_are_those_since_the_last_look() {
        let before = Counted::of(&text([100, 100, 100], 0.002));
        assert_eq!((before.clients, before.peers), (50, 7));
        let after = Counted::of(&text([120, 180, 200], 0.010));
        let forwards = after.forwards_since(&before);
        assert_eq!(forwards.count, 100);
        assert!((forwards.mean_us - 80.0).abs() < 1e-6, "{forwards:?}");
        // 20 until 50 us, 60 more until 100 us: the 50th is half way.
        assert!((forwards.median_us - 75.0).abs() < 1e-6, "{forwards:?}");
        assert_eq!(after.forwards_since(&after), Forwards::default());
    }

    #[test]
    fn a_median_beyond_all_bounds_is_the_last_of_them() {
        let none = Counted::default();
        let slow = Counted::of(&text([1, 2, 100], 1.0));
        assert_eq!(slow.forwards_since(&none).median_us, 100.0);
    }
}
