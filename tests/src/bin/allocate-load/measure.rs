//! Many workers that do one thing over and over, and the times that it takes them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{allocation::Allocation, necessary::Necessary};

/// What is done over and over.
#[derive(Clone)]
pub(crate) enum Work {
    /// The calls that cannot be avoided.
    Necessary(Arc<Necessary>),
    /// A match from the bridge.
    Allocation(Arc<Allocation>),
}

/// What one side of a round gave.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Half of the times are shorter.
    pub(crate) p50: Duration,
    /// One in a hundred is longer.
    pub(crate) p99: Duration,
    /// Whole cycles, with what is not timed.
    pub(crate) per_second: f64,
}

/// Lets so many workers do it for some time.
pub(crate) async fn measure(work: &Work, workers: u16, time: Duration) -> Result<Figures> {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for worker in 0..usize::from(workers) {
        running.spawn(work_until(work.clone(), worker, started + time));
    }
    let mut times = Vec::new();
    while let Some(worker) = running.join_next().await {
        times.extend(worker??);
    }
    let elapsed = started.elapsed();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Figures {
        p50: at(0.50),
        p99: at(0.99),
        per_second: times.len() as f64 / elapsed.as_secs_f64(),
    })
}

/// At least one cycle, and no new one after `end`.
async fn work_until(work: Work, worker: usize, end: Instant) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    loop {
        times.push(match &work {
            Work::Necessary(necessary) => necessary.cycle(worker).await?,
            Work::Allocation(allocation) => allocation.cycle().await?,
        });
        if Instant::now() >= end {
            return Ok(times);
        }
    }
}

/// The middle one of an odd number.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
