//! One order of commands in front of the grid.
//!
//! Without Redis a command is applied at once. With Redis every command goes through a log that all gateways read in
//! the same order, with the time Redis gave it, so that their grids are the same. A gateway that cannot reach Redis
//! decides alone, in a way that others decide as well, notes what they must be told, and tells them when it is back:
//!
//! | Redis | a command is | rooms without a server go |
//! |---|---|---|
//! | none | applied at once | by weight |
//! | in reach | appended, then applied by every gateway that reads it | by weight |
//! | just back | appended | by hash: other gateways may still be alone |
//! | out of reach | applied at once, noted for later | by hash |
//!
//! What cannot be had: gateways that are cut off from each other and know different servers can send the same new room
//! to two servers; the grid closes one of the two when it hears of both. A task that a gateway alone handed out counts
//! as delivered. What a gateway decided alone is lost when it ends before Redis is back. A task that was on its way
//! when Redis died, and that another gateway had read already, can be carried out twice.
//!
//! The clock of Redis' machine rules the grid. When another Redis takes over whose clock is behind, the grid's time
//! stands still until that has caught up.

mod clock;
mod driver;
mod log;
mod outbox;
mod replica;
mod state;
mod stats;
mod waiters;

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::{self, MissedTickBehavior},
};

use crate::{
    config::{Config, RedisConfig},
    grid::{Action, Applied, Command, Grid, Outcome, ServerRef, Timestamp, Timing},
};

use clock::Clock;
use driver::Session;
use log::{LogError, Place, Written};
use state::{Begun, Online, Phase, State};
pub use stats::{Counter, StoreStats};
pub use waiters::Waiter;
use waiters::Waiters;

/// Longest time from a command to its answer. After that the gateway goes on alone. Callers wait 5 s.
const SUBMIT_TIME: Duration = Duration::from_secs(2);

/// When appending fails, what other gateways appended before may still be on its way here.
const DRAIN_TIME: Duration = Duration::from_millis(20);

/// Most commands that are on their way through the log. More wait for their turn.
const PENDING_MAX: usize = 4096;

/// How a store works with Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisTuning {
    /// How long Redis may take for an answer before the gateway goes on alone; less than two seconds.
    pub response_timeout: Duration,
    /// A snapshot is written after this many entries of the log, and after more when it is large; of the entries before
    /// it as many are kept.
    pub snapshot_entries: u64,
}

impl Default for RedisTuning {
    /// For a Redis in the same region. A connection that breaks is noticed at once; this is for one that stands still,
    /// and must not take a gateway with a burst of calls for it.
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_secs(1),
            snapshot_entries: 1000,
        }
    }
}

/// The address of Redis is none. It may hold a password and is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address of Redis is not like redis://host:6379/0 or rediss://user:password@host")]
pub struct RedisAddressError;

/// Where a store keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// In this process only.
    Memory,
    /// In a Redis that gateways share.
    Redis,
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoreHealth {
    /// Where it keeps its state.
    pub kind: StoreKind,
    /// Whether other gateways hear it; true in memory.
    pub online: bool,
    /// Since when they do not, in milliseconds.
    #[serde(rename = "degraded_ms", serialize_with = "millis")]
    pub degraded_for: Option<Duration>,
    /// Commands that others have not been told of, and commands on their way.
    pub waiting_commands: usize,
}

/// The grid, and the order in which commands reach it.
#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    timing: Timing,
    clock: Clock,
    waiters: Arc<Waiters>,
    stats: Arc<StoreStats>,
    shared: Option<Shared>,
}

/// What a store needs for Redis.
#[derive(Debug)]
struct Shared {
    place: Place,
    snapshot_entries: u64,
    /// Size of the last snapshot that was read or written here.
    snapshot_bytes: Arc<AtomicUsize>,
    not_after: Duration,
    permits: Semaphore,
    /// Sent after every change of the phase.
    changes: watch::Sender<()>,
    /// From the start until the store runs.
    opened: Mutex<Option<Session>>,
}

impl Shared {
    fn take_opened(&self) -> Option<Session> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.take()
    }
}

impl Store {
    /// A store of this process alone.
    pub fn memory(timing: Timing) -> Self {
        Self::new(timing, None)
    }

    /// The store the settings ask for.
    ///
    /// # Errors
    /// The address of Redis is none.
    pub(crate) async fn open(config: &Config) -> Result<Arc<Self>, RedisAddressError> {
        let store = match &config.redis {
            Some(redis) => Self::redis(redis, RedisTuning::default(), config.timing).await?,
            None => Self::memory(config.timing),
        };
        Ok(Arc::new(store))
    }

    /// A store that is shared through Redis. When Redis is away it starts alone. [`Store::run`] must follow soon.
    ///
    /// # Errors
    /// The address of Redis is none.
    pub async fn redis(
        config: &RedisConfig,
        tuning: RedisTuning,
        timing: Timing,
    ) -> Result<Self, RedisAddressError> {
        let url = config.url.expose();
        let place = Place::new(url, &config.prefix, tuning.response_timeout);
        let shared = Shared {
            place: place.map_err(|_| RedisAddressError)?,
            snapshot_entries: tuning.snapshot_entries.max(1),
            snapshot_bytes: Arc::default(),
            not_after: tuning.response_timeout,
            permits: Semaphore::new(PENDING_MAX),
            changes: watch::Sender::new(()),
            opened: Mutex::default(),
        };
        let store = Self::new(timing, Some(shared));
        if let Some(shared) = &store.shared {
            match store.come_back(shared).await {
                Ok(session) => {
                    let mut opened = shared.opened.lock().unwrap_or_else(PoisonError::into_inner);
                    *opened = Some(session);
                }
                Err(error) => tracing::warn!("the store starts alone, without Redis: {error}"),
            }
        }
        Ok(store)
    }

    fn new(timing: Timing, shared: Option<Shared>) -> Self {
        Self {
            state: Mutex::new(State::new(shared.is_some())),
            timing,
            clock: Clock::default(),
            waiters: Arc::default(),
            stats: Arc::default(),
            shared,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out an action and gives what became of it. With Redis that takes a round trip, and about two
    /// seconds at most.
    pub async fn submit(&self, action: Action) -> Outcome {
        let mut command = Command {
            id: fastrand::u64(..),
            action,
        };
        let Some(shared) = &self.shared else {
            let now = self.clock.now();
            let applied = self.lock().replica.apply(&command, now, &self.timing);
            return self.answer(applied);
        };
        // Never closed.
        let _permit = shared.permits.acquire().await;
        loop {
            let mut changes = shared.changes.subscribe();
            let now = self.clock.now();
            let begun = self.lock().begin(command, now, &self.timing);
            match begun {
                Begun::Append(online, position, command, answered) => {
                    return self
                        .append(shared, online, position, command, answered)
                        .await;
                }
                Begun::Wait(again) => {
                    command = again;
                    // The sender is ours. How long this can take is limited by the driver.
                    let _ = changes.changed().await;
                }
                Begun::Applied(applied) => {
                    self.stats.alone.increase();
                    return self.answer(applied);
                }
            }
        }
    }

    fn answer(&self, Applied { outcome, woken }: Applied) -> Outcome {
        self.waiters.wake(&woken);
        outcome
    }

    async fn append(
        &self,
        shared: &Shared,
        online: Arc<Online>,
        position: u64,
        command: Command,
        mut answered: oneshot::Receiver<Outcome>,
    ) -> Outcome {
        let _ticket = Ticket {
            store: self,
            command: command.id,
        };
        let append = async {
            let not_after = self.clock.redis().after(shared.not_after);
            let commands = [Written::from(&command)];
            let append = online
                .log
                .append((online.epoch, position), Some(not_after), &commands);
            match append.await {
                Ok(at) => {
                    self.clock.learn(at);
                    self.lock().appended(command.id);
                }
                Err(error) => {
                    time::sleep(DRAIN_TIME).await;
                    return error;
                }
            }
            std::future::pending().await
        };
        let error = tokio::select! {
            biased;
            outcome = &mut answered => return outcome.unwrap_or(Outcome::Done),
            append = time::timeout(SUBMIT_TIME, append) => append.unwrap_or(LogError::Unseen),
        };
        self.leave(shared, online.session, &error);
        // Leaving has answered everything that was on its way, now or a moment before.
        answered.await.unwrap_or(Outcome::Done)
    }

    /// Goes on alone, unless that has happened already.
    fn leave(&self, shared: &Shared, session: u64, why: &LogError) {
        let now = self.clock.now();
        let Some(woken) = self.lock().leave(session, now, &self.timing) else {
            return;
        };
        self.stats.outages.increase();
        shared.changes.send_replace(());
        self.waiters.wake(&woken);
        tracing::warn!("the store goes on alone: {why}");
    }

    fn set_phase(&self, shared: &Shared, phase: Phase) {
        self.lock().phase = phase;
        shared.changes.send_replace(());
    }

    fn enter(&self, shared: &Shared, replica: replica::Replica, epoch: u64, log: log::Log) -> u64 {
        let mut state = self.lock();
        let alone = state.offline_since.map(|since| since.elapsed());
        let dropped = state.outbox.take_dropped();
        let session = state.enter(replica, epoch, log);
        drop(state);
        shared.changes.send_replace(());
        self.waiters.wake_all();
        self.stats.dropped.add(dropped);
        let alone_ms = alone.unwrap_or_default().as_millis();
        tracing::info!(alone_ms, dropped, "the store is shared through Redis");
        session
    }

    /// Looks at the grid. Nothing else happens meanwhile: be quick.
    pub fn read<R>(&self, f: impl FnOnce(&Grid) -> R) -> R {
        f(self.lock().replica.grid())
    }

    /// The time of the grid.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits for tasks of a server. Make it before looking whether there are any.
    pub fn waiter(&self, server: &ServerRef) -> Waiter {
        self.waiters.wait(server)
    }

    /// How the store is.
    pub fn health(&self) -> StoreHealth {
        let state = self.lock();
        let degraded_for = state.offline_since.map(|since| since.elapsed());
        StoreHealth {
            kind: match self.shared {
                Some(_) => StoreKind::Redis,
                None => StoreKind::Memory,
            },
            online: degraded_for.is_none(),
            degraded_for,
            waiting_commands: state.outbox.len() + state.pending(),
        }
    }

    /// What has happened since the start.
    pub fn stats(&self) -> Arc<StoreStats> {
        Arc::clone(&self.stats)
    }

    /// Lets time pass in the grid and keeps up with Redis until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send + 'static) {
        let follow = async {
            match &self.shared {
                Some(shared) => self.drive(shared).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = self.tick() => {}
            () = follow => {}
        }
        let is_returning = matches!(self.lock().phase, Phase::Returning);
        if let (Some(shared), true) = (&self.shared, is_returning) {
            // Nobody is left to end this phase.
            self.set_phase(shared, Phase::Offline);
        }
    }

    async fn tick(&self) {
        let mut ticks = time::interval(self.timing.update_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let silence_counts = true;
            self.submit(Action::Tick { silence_counts }).await;
            self.lock().expire_journal(self.clock.now());
        }
    }
}

/// A command on its way through the log. When nobody waits for it any more, it is forgotten.
struct Ticket<'a> {
    store: &'a Store,
    command: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.store.lock().forget(self.command);
    }
}

fn millis<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let millis = duration.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
    millis.serialize(serializer)
}
