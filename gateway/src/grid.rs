//! What gateways agree on: voice servers, which room lives where, tasks on their way, bans and mutes.
//!
//! A pure state machine: [`Grid::apply`] takes a [`Command`] and the time, and the same commands in the same order make
//! the same state everywhere. One gateway keeps it in memory; several share the order of commands (see `store`).

mod bans;
mod mutes;
mod placement;
mod pool;
mod server;
#[cfg(test)]
mod simulation;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use gateway_api::{KeyId, ReportedRoom, RoomHash, RoomId, Task};
use serde::{Deserialize, Serialize};

pub use bans::{BANS_MAX, Barred};
pub use mutes::MUTES_MAX;
pub use pool::{Binding, Pool, ROOMS_MAX, SERVERS_MAX};
pub use server::{LastReport, Server, TASK_BYTES_MAX, TASKS_MAX};

/// Times that rule the grid. All gateways of one store must be given the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two reports of a server, and between two ticks.
    pub update_interval: Duration,
    /// A server silent for this long gets no more rooms.
    pub disable_timeout: Duration,
    /// A server silent for this long is forgotten.
    pub remove_timeout: Duration,
    /// How long a session token lasts; a room that is bound and never reported is kept as long.
    pub token_lifetime: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            update_interval: Duration::from_secs(5),
            disable_timeout: Duration::from_millis(7500),
            remove_timeout: Duration::from_secs(600),
            token_lifetime: Duration::from_secs(300),
        }
    }
}

/// Milliseconds since 1970.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How long ago `earlier` was; nothing when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This much later.
    pub fn after(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        Self::default().after(since.unwrap_or_default())
    }
}

/// What a customer may use; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageLimits {
    /// Peers in all rooms.
    pub peers: Option<u64>,
    /// Rooms.
    pub rooms: Option<u64>,
}

/// What a customer used at the last tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Peers in all rooms.
    pub peers: u64,
    /// Rooms.
    pub rooms: u64,
}

/// A server within its pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerRef {
    /// The pool; the name of the only one is empty.
    pub pool: String,
    /// `host:port` as the server spells it.
    pub address: String,
}

/// One change of the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Random, so that a command that arrives twice is noticed.
    pub id: u64,
    /// What to do.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// A user wants into a room.
    Connect(Connect),
    /// A server reported.
    Report(ServerReport),
    /// A server that waits takes what is queued for it.
    Take {
        /// The server.
        server: ServerRef,
    },
    /// A customer moderates a room.
    Moderate {
        /// Where the room is looked for.
        pool: String,
        /// What its server is to do.
        task: Task,
    },
    /// Time passes: silent servers are put aside, weights and usage are counted anew.
    Tick {
        /// Whether a server's silence counts. While gateways cannot hear each other, a report may have gone elsewhere:
        /// then only the removal timeout counts.
        silence_counts: bool,
    },
    /// What a gateway decided while it could not ask.
    Bind(Bind),
    /// What a gateway handed out while it could not tell the others.
    Release(Release),
}

/// Where a gateway sent somebody while it could not ask: kept if the room has no server by now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bind {
    /// Where the room is looked for.
    pub pool: String,
    /// The room.
    pub room: RoomId,
    /// Whose limits it counts against.
    pub customer: String,
    /// Its server.
    pub address: String,
    /// Commands of that gateway whose fate it did not know. A room that was last connected to by one of them was told to
    /// nobody else: then this server counts.
    pub instead_of: Vec<u64>,
}

/// Tasks that are not handed out again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The server that has them.
    pub server: ServerRef,
    /// The tasks.
    pub tasks: Vec<TaskKey>,
}

/// A user wants into a room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    /// Where the rooms live.
    pub pool: String,
    /// The rooms of the token; all have the same hash. Not empty.
    pub rooms: Vec<RoomId>,
    /// Whose limits they count against.
    pub customer: String,
    /// The user's id.
    pub user: String,
    /// The only server that will do for rooms that have none.
    pub forced: Option<String>,
    /// The server for rooms that have none, if it takes rooms. Left out when there is no such wish: commands of gateways
    /// that do not know of it read alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<String>,
    /// How a server is picked for rooms that have none.
    pub pick: Pick,
}

/// How a server is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pick {
    /// By weight; the number is random.
    Roll(u64),
    /// By the room's hash: gateways that cannot hear each other and know the same servers pick the same one.
    Hash,
}

/// What a server reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Who reports.
    pub server: ServerRef,
    /// Id of the server's key.
    pub key_id: KeyId,
    /// Its version.
    pub version: String,
    /// How busy it is; any number.
    pub load: f64,
    /// Connected clients.
    pub clients: u64,
    /// Its rooms.
    pub rooms: Vec<ReportedRoom>,
    /// The last task it has carried out, if it says so.
    pub acknowledged: Option<u64>,
    /// Tasks that were handed out when the report came; `None` hands out what is queued now.
    pub released: Option<Vec<TaskKey>>,
    /// Whether it is about to end. Left out when it is not: commands of gateways that do not know of it read alike.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// Which command a task comes from, and the how-manieth of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// [`Command::id`].
    pub command: u64,
    /// From 0.
    pub index: u32,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The server of the rooms.
    Connected(Result<String, Refused>),
    /// Tasks for the server that reported or takes them.
    Tasks(Result<Delivery, Refused>),
    /// A task was queued.
    Moderated(Result<(), Refused>),
    /// Nothing to say.
    Done,
}

/// Tasks that go out to a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// In their order.
    pub tasks: Vec<WaitingTask>,
    /// Whether the server acknowledges: only then it is told the ids.
    pub acknowledges: bool,
    /// Tasks that are no longer queued now, because they were acknowledged or are handed out only once.
    pub released: Vec<WaitingTask>,
}

/// A task in a server's queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitingTask {
    /// Larger than that of every task before it.
    pub id: u64,
    /// Where it comes from.
    pub key: TaskKey,
    /// When it was queued.
    pub queued: Timestamp,
    /// What to do.
    pub task: Task,
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No server is there, or not the one that alone will do. (The wording is the ODIN gateway's.)
    #[error("no server to assign room too")]
    NoServer,
    /// The room is on no server.
    #[error("no server for room found")]
    NoRoom,
    /// The user or the whole room is shut out.
    #[error("{0}")]
    Barred(Barred),
    /// The server has not taken its tasks for long.
    #[error("too many tasks are waiting for the server of the room")]
    QueueFull,
    /// A bound of the grid is reached.
    #[error("the gateway holds as many {0} as it can")]
    Full(&'static str),
}

/// What a command changed for others.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The answer for whoever sent it.
    pub outcome: Outcome,
    /// Servers that have tasks waiting since.
    pub woken: Vec<ServerRef>,
}

/// The state. As JSON it is what gateways hand to one another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    pools: BTreeMap<String, Pool>,
    last_task_id: u64,
    last_tick: Option<Timestamp>,
}

/// Hands out ids and keys to the tasks of one command.
#[derive(Debug)]
struct TaskSource<'a> {
    last_id: &'a mut u64,
    command: u64,
    index: u32,
    now: Timestamp,
    woken: Vec<String>,
}

impl TaskSource<'_> {
    /// Ids follow the clock, so that they grow also over a restart that forgets everything. The command's part keeps
    /// gateways that cannot hear each other from giving two tasks of one millisecond the same id.
    fn next(&mut self, task: Task) -> WaitingTask {
        let fresh = self
            .now
            .0
            .saturating_mul(1000)
            .saturating_add(self.command % 1000);
        *self.last_id = (*self.last_id + 1).max(fresh);
        let key = TaskKey {
            command: self.command,
            index: self.index,
        };
        self.index += 1;
        WaitingTask {
            id: *self.last_id,
            key,
            queued: self.now,
            task,
        }
    }
}

impl Grid {
    /// Carries out a command.
    pub fn apply(&mut self, command: &Command, now: Timestamp, timing: &Timing) -> Applied {
        let pool = match &command.action {
            Action::Tick { silence_counts } => {
                self.tick(now, timing, *silence_counts);
                return Applied {
                    outcome: Outcome::Done,
                    woken: Vec::new(),
                };
            }
            Action::Connect(connect) => &connect.pool,
            Action::Report(report) => &report.server.pool,
            Action::Take { server } | Action::Release(Release { server, .. }) => &server.pool,
            Action::Moderate { pool, .. } | Action::Bind(Bind { pool, .. }) => pool,
        };
        let mut tasks = TaskSource {
            last_id: &mut self.last_task_id,
            command: command.id,
            index: 0,
            now,
            woken: Vec::new(),
        };
        // Pools are named in the settings, not by callers: there are only so many.
        let state = self.pools.entry(pool.clone()).or_default();
        let outcome = match &command.action {
            Action::Connect(connect) => Outcome::Connected(state.connect(connect, &mut tasks)),
            Action::Report(report) => Outcome::Tasks(state.report(report, timing, &mut tasks)),
            Action::Take { server } => Outcome::Tasks(Ok(state.take(&server.address))),
            Action::Moderate { task, .. } => Outcome::Moderated(state.moderate(task, &mut tasks)),
            Action::Bind(bind) => {
                state.adopt(bind, &mut tasks);
                Outcome::Done
            }
            Action::Release(Release { server, tasks }) => {
                state.release(&server.address, tasks);
                Outcome::Done
            }
            Action::Tick { .. } => Outcome::Done,
        };
        let woken = tasks.woken.into_iter().map(|address| ServerRef {
            pool: pool.clone(),
            address,
        });
        Applied {
            outcome,
            woken: woken.collect(),
        }
    }

    fn tick(&mut self, now: Timestamp, timing: &Timing, silence_counts: bool) {
        // Every gateway asks for ticks; one per interval is meant.
        let recently = timing.update_interval.mul_f64(0.8);
        if self
            .last_tick
            .is_some_and(|last| now.since(last) < recently)
        {
            return;
        }
        self.last_tick = Some(now);
        for pool in self.pools.values_mut() {
            pool.tick(now, timing, silence_counts);
        }
    }

    /// What a customer used at the last tick, in all pools.
    pub fn usage(&self, customer: &str) -> Usage {
        let mut sum = Usage::default();
        for usage in self.pools.values().filter_map(|pool| pool.usage(customer)) {
            sum.peers = sum.peers.saturating_add(usage.peers);
            sum.rooms = sum.rooms.saturating_add(usage.rooms);
        }
        sum
    }

    /// A pool, once it has seen a command.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name)
    }

    /// All pools that have seen a command.
    pub fn pools(&self) -> impl Iterator<Item = (&str, &Pool)> {
        self.pools.iter().map(|(name, pool)| (name.as_str(), pool))
    }

    /// The address of the listed server whose key this is.
    pub fn server_of_key(&self, key: &KeyId) -> Option<&str> {
        self.pools.values().find_map(|pool| pool.server_of_key(key))
    }

    /// The server a room lives on, also when it is put aside at the moment.
    pub fn server_of_room(&self, pool: &str, room: RoomHash) -> Option<&str> {
        Some(&self.pools.get(pool)?.binding(room)?.server)
    }
}
