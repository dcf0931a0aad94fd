//! What a bad day does: kills a bridge now and then, and restarts Redis, by turns with and without a warning.

use std::time::Duration;

use anyhow::Result;
use integration_tests::storm::Disturbances;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::programs::{Bridge, Redis};

/// How long a program stays away, in milliseconds: from hardly noticed to noticed by everybody.
const AWAY_MS: std::ops::RangeInclusive<u64> = 0..=1_500;

/// Time between two of each.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Kills of a bridge.
    pub(crate) kill: Duration,
    /// Restarts of Redis.
    pub(crate) restart: Duration,
}

/// Owns the programs.
pub(crate) struct Disturber {
    pace: Pace,
    random: fastrand::Rng,
    bridges: Vec<Bridge>,
    redis: Redis,
}

impl Disturber {
    pub(crate) fn new(pace: Pace, seed: u64, bridges: Vec<Bridge>, redis: Redis) -> Self {
        Self {
            pace,
            random: fastrand::Rng::with_seed(seed),
            bridges,
            redis,
        }
    }

    /// Disturbs until told to stop, and leaves everything running.
    pub(crate) async fn run(&mut self, mut stop: watch::Receiver<bool>) -> Result<Disturbances> {
        let mut done = Disturbances::default();
        let mut kill_at = Instant::now() + self.pace.kill;
        let mut restart_at = Instant::now() + self.pace.restart;
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(done),
                () = sleep_until(restart_at) => {
                    self.restart_redis(done.store % 2 == 0).await?;
                    done.store += 1;
                    restart_at = Instant::now() + self.pace.restart;
                }
                () = sleep_until(kill_at) => {
                    self.kill_bridge().await?;
                    done.bridges += 1;
                    kill_at = Instant::now() + self.pace.kill;
                }
            }
        }
    }

    async fn kill_bridge(&mut self) -> Result<()> {
        let number = self.random.usize(..self.bridges.len());
        let away = Duration::from_millis(self.random.u64(AWAY_MS));
        let Bridge(process) = &mut self.bridges[number];
        process.kill()?;
        sleep(away).await;
        process.start_again().await
    }

    async fn restart_redis(&mut self, warns: bool) -> Result<()> {
        let away = Duration::from_millis(self.random.u64(AWAY_MS));
        let Redis(process) = &mut self.redis;
        if warns {
            process.terminate().await?;
        } else {
            process.kill()?;
        }
        sleep(away).await;
        process.start_again().await
    }
}
