//! What a server uses and counts: its process as Linux knows it, and its metrics.

use std::{collections::BTreeMap, fs, io, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Serialize, Serializer};

use crate::report::MetricsFigures;

/// One call for metrics.
const METRICS_MAX: Duration = Duration::from_secs(5);

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Usage {
    /// Of all threads that there are, in seconds where it is written.
    #[serde(rename = "processor_s", serialize_with = "seconds")]
    pub(crate) processor: Duration,
    pub(crate) resident_kib: u64,
    pub(crate) threads: u64,
    pub(crate) files: u64,
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl Usage {
    /// # Errors
    /// When there is no such process, or it is somebody else's.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let seen = Self::read(pid);
        seen.with_context(|| format!("process {pid} cannot be looked at"))
    }

    fn read(pid: u32) -> Result<Self> {
        let (mut nanos, mut threads) = (0, 0);
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end while we look.
            let text = match fs::read_to_string(thread?.path().join("schedstat")) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let used = text
                .split_whitespace()
                .next()
                .context("an empty schedstat")?;
            nanos += used.parse::<u64>()?;
            threads += 1;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|it| it.split_whitespace().next());
        Ok(Self {
            processor: Duration::from_nanos(nanos),
            resident_kib: resident.context("no VmRSS")?.parse()?,
            threads,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
        })
    }
}

/// Reads what a voice server has counted since its start.
///
/// # Errors
/// When there are no metrics at this address.
pub(crate) async fn metrics(http: &reqwest::Client, url: &str) -> Result<MetricsFigures> {
    Ok(sums(&metrics_text(http, url).await?))
}

/// Everything that a voice server shows, summed over what its series are told apart by, except by reason.
pub(crate) type Series = BTreeMap<String, f64>;

/// Reads all that a voice server shows.
///
/// # Errors
/// As [`metrics`].
pub(crate) async fn series(http: &reqwest::Client, url: &str) -> Result<Series> {
    Ok(read_series(&metrics_text(http, url).await?))
}

/// Reads a voice server's metrics as they are.
///
/// # Errors
/// As [`metrics`].
pub(crate) async fn metrics_text(http: &reqwest::Client, url: &str) -> Result<String> {
    let response = http.get(url).timeout(METRICS_MAX).send().await;
    let response = response.and_then(reqwest::Response::error_for_status);
    let response = response.with_context(|| format!("no metrics at {url}"))?;
    Ok(response.text().await?)
}

/// What was counted between two readings.
pub(crate) fn between(before: &MetricsFigures, after: &MetricsFigures) -> MetricsFigures {
    let drops = after.drops.iter().map(|(reason, count)| {
        let earlier = before.drops.get(reason).copied().unwrap_or(0);
        (reason.clone(), count.saturating_sub(earlier))
    });
    MetricsFigures {
        packets_in: after.packets_in.saturating_sub(before.packets_in),
        packets_out: after.packets_out.saturating_sub(before.packets_out),
        drops: drops.filter(|(_, count)| *count > 0).collect(),
    }
}

/// What begins the names of drops by reason.
const DROPS: &str = "sfu_drops_total/";

/// The sums over all shards in a text of Prometheus' form.
fn sums(text: &str) -> MetricsFigures {
    let series = read_series(text);
    let whole = |name: &str| series.get(name).copied().unwrap_or_default() as u64;
    let drops = series.iter().filter_map(|(name, count)| {
        let reason = name.strip_prefix(DROPS)?;
        Some((reason.to_owned(), *count as u64))
    });
    MetricsFigures {
        packets_in: whole("sfu_packets_in_total"),
        packets_out: whole("sfu_packets_out_total"),
        drops: drops.collect(),
    }
}

/// A series with a reason is `name/reason`; the buckets of histograms are left out, for their sums say nothing.
fn read_series(text: &str) -> Series {
    let mut all = Series::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let (Ok(value), false) = (value.parse::<f64>(), name.ends_with("_bucket")) else {
            continue;
        };
        let reason = labels.split_once("reason=\"").map(|(_, rest)| rest);
        let name = match reason.and_then(|rest| rest.split('"').next()) {
            Some(reason) => format!("{name}/{reason}"),
            None => name.to_owned(),
        };
        *all.entry(name).or_default() += value;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_looked_at() {
        let before = Usage::of(std::process::id()).unwrap();
        assert!(before.resident_kib > 100 && before.threads >= 1 && before.files >= 3);
        let mut sum = 0_u64;
        while Usage::of(std::process::id()).unwrap().processor <= before.processor {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(Usage::of(u32::MAX).is_err());
    }

    #[test]
    fn counters_are_summed_over_shards_and_told_apart_by_reason() {
        let text = "# HELP sfu_packets_in Voice\nsfu_packets_in_total{shard=\"0\"} 5\n\
            sfu_packets_in_total{shard=\"1\"} 7\nsfu_packets_out_total{shard=\"0\"} 40\n\
            sfu_drops_total{shard=\"0\",reason=\"late\"} 2\nsfu_drops_total{reason=\"late\",shard=\"1\"} 1\n\
            sfu_drops_total{shard=\"0\",reason=\"full\"} 0\nsfu_load 0.5\n";
        let before = sums(text);
        assert_eq!(
            (before.packets_in, before.packets_out, before.drops["late"]),
            (12, 40, 3)
        );
        let after = sums(&text.replace(" 40", " 100").replace("\"} 2", "\"} 9"));
        let both = between(&before, &after);
        assert_eq!((both.packets_in, both.packets_out), (0, 60));
        assert_eq!(both.drops, [("late".to_owned(), 7)].into());
    }
}
