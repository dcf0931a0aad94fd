//! A storm of matchmakers over several bridges that share one fleet, while calls of the Fleet fail and whatever can be
//! ended is ended; and the proof, from what the game servers themselves have written down, that no server was ever
//! given to two matches at once.
//!
//! [`run`] knows bridges only by their address: the program beside it kills real ones, its tests use stand-ins.

mod check;
mod ground;
mod journal;
mod matchmaker;
mod record;
mod report;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{sync::watch, task::JoinSet};

pub use check::{Violation, check};
pub use ground::{APP_ID, Ground, TOKEN};
pub use journal::{Event, EventKind, Refusal};
pub use record::{Record, Told};
pub use report::Outcome;

use self::{matchmaker::Matchmaker, record::SharedRecord};

/// Pause between two looks whether everything is idle.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// Allocations that must have come about, as a share of all cycles: the checks say little about a storm in which
/// matchmakers got nothing.
const ALLOCATED_SHARE_MIN: f64 = 0.9;

/// How hard it blows.
#[derive(Clone, Debug)]
pub struct Options {
    /// Matches that are asked for in all.
    pub cycles: u64,
    /// Matchmakers at once.
    pub matchmakers: u64,
    /// Decides what is random.
    pub seed: u64,
    /// Lease of every match.
    pub lease: Duration,
    /// What a bridge is told to take at most for an allocation.
    pub deadline: Duration,
    /// How long a matchmaker tries the same thing again.
    pub patience: Duration,
    /// How many of the cycles do something out of the ordinary.
    pub shares: Shares,
    /// Whether calls of the Fleet fail and stall.
    pub has_faults: bool,
    /// How long a call stalls that does. Callers with less patience are gone when it is performed.
    pub stall: Duration,
    /// Time for everything to be idle again after the last lease, when nothing fails any more.
    pub settle_max: Duration,
}

/// Shares of all cycles, from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Ask again, with the same key, for what they have got.
    pub replay: f64,
    /// Hang up in the middle of the first call and ask again with the same key.
    pub go_away: f64,
    /// Finish the match at the game server and not at a bridge.
    pub self_finish: f64,
    /// Never finish the match.
    pub abandon: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cycles: 20_000,
            matchmakers: 200,
            seed: 0,
            lease: Duration::from_secs(10),
            deadline: Duration::from_secs(10),
            patience: Duration::from_secs(60),
            shares: Shares {
                replay: 0.05,
                go_away: 0.03,
                self_finish: 0.15,
                abandon: 0.05,
            },
            has_faults: true,
            stall: Duration::from_secs(2),
            // Several rounds of whatever a bridge does in the background, and the longest wait of a game server before
            // it repeats an update.
            settle_max: Duration::from_secs(90),
        }
    }
}

/// What was ended and started again during the storm.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disturbances {
    /// Bridges.
    pub bridges: u64,
    /// The store they share.
    pub store: u64,
}

/// Runs the storm against these bridges (base URLs), waits until everything must be idle, and checks what has happened.
/// `disturb` runs beside the matchmakers until its argument becomes true, and leaves everything running.
///
/// # Errors
/// When the disturbance fails or journals cannot be read. What bridges do wrong is not an error but a [`Violation`] in
/// the [`Outcome`].
pub async fn run<F>(
    options: &Options,
    ground: &Ground,
    bridges: &[String],
    disturb: impl FnOnce(watch::Receiver<bool>) -> F,
) -> Result<Outcome>
where
    F: Future<Output = Result<Disturbances>>,
{
    let began = Instant::now();
    if options.has_faults {
        ground.inject_faults(options.stall)?;
    }
    let record = SharedRecord::default();
    let (stop, stopped) = watch::channel(false);
    let matchmakers = async {
        let result = play(options, ground, bridges, &record).await;
        stop.send_replace(true);
        result
    };
    let (played, disturbances) = tokio::join!(matchmakers, disturb(stopped));
    ground.clear_faults();
    played?;
    let disturbances = disturbances?;
    let not_idle = settle(options, ground).await;

    let journals = ground.journals()?;
    let record = record.take();
    let mut violations = check(&journals, &record.told);
    violations.extend(record.violations());
    violations.extend(not_idle);
    let allocated = record.told.len() as u64;
    if (allocated as f64) < options.cycles as f64 * ALLOCATED_SHARE_MIN {
        let cycles = options.cycles;
        violations.push(Violation::FewAllocations { allocated, cycles });
    }
    Ok(Outcome {
        record,
        journals,
        disturbances,
        violations,
        seed: options.seed,
        cycles: options.cycles,
        elapsed: began.elapsed(),
    })
}

async fn play(
    options: &Options,
    ground: &Ground,
    bridges: &[String],
    record: &SharedRecord,
) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let left = Arc::new(AtomicU64::new(options.cycles));
    let mut matchmakers = JoinSet::new();
    for number in 0..options.matchmakers {
        let matchmaker = Matchmaker::new(
            number,
            options,
            http.clone(),
            bridges.into(),
            ground.match_apis(),
            record.clone(),
        );
        matchmakers.spawn(matchmaker.run(Arc::clone(&left)));
    }
    while let Some(ended) = matchmakers.join_next().await {
        ended?;
    }
    Ok(())
}

/// Waits until every server is idle and free, and says which ones are not when the time is over.
async fn settle(options: &Options, ground: &Ground) -> Vec<Violation> {
    let end = Instant::now() + options.lease + options.settle_max;
    loop {
        let not_idle = ground.not_idle().await;
        if not_idle.is_empty() || Instant::now() >= end {
            return not_idle;
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
}
