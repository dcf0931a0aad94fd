//! A voice server as its reports show it, and the tasks that wait for it.

use std::collections::VecDeque;

use gateway_api::{KeyId, ReportedRoom, Task};
use serde::{Deserialize, Serialize};

use super::{Delivery, Refused, ServerReport, TaskKey, TaskSource, Timestamp, WaitingTask};

/// Most tasks that wait for one server. More are refused: nothing is dropped without a word.
pub const TASKS_MAX: usize = 10_000;

/// Most bytes of messages, user data and reasons that wait for one server.
pub const TASK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A voice server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Id of its key.
    pub key_id: KeyId,
    /// Its version, as last reported.
    pub version: String,
    /// Whether it gets no rooms, because it is silent or about to end.
    pub disabled: bool,
    /// Its first report.
    pub first_seen: Timestamp,
    /// Its last report.
    pub last_seen: Timestamp,
    /// What it said last.
    pub report: LastReport,
    /// Whether its last report acknowledged tasks.
    pub acknowledges: bool,
    tasks: VecDeque<WaitingTask>,
    /// Of messages, user data and reasons in `tasks`.
    task_bytes: usize,
    /// The last task that it acknowledged, 0 for none.
    #[serde(default)]
    acknowledged: u64,
}

/// What a server said last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LastReport {
    /// How busy it is; any number.
    pub load: f64,
    /// Connected clients.
    pub clients: u64,
    /// Its rooms.
    pub rooms: Vec<ReportedRoom>,
}

impl Server {
    pub(super) fn new(key_id: KeyId, now: Timestamp) -> Self {
        Self {
            key_id,
            version: String::new(),
            disabled: false,
            first_seen: now,
            last_seen: now,
            report: LastReport::default(),
            acknowledges: false,
            tasks: VecDeque::new(),
            task_bytes: 0,
            acknowledged: 0,
        }
    }

    /// Takes over what a report says; gives the report before.
    pub(super) fn update(&mut self, report: &ServerReport, now: Timestamp) -> LastReport {
        report.version.clone_into(&mut self.version);
        self.disabled = report.draining;
        self.last_seen = now;
        self.acknowledges = report.acknowledged.is_some();
        self.acknowledged = report.acknowledged.unwrap_or_default();
        let last = LastReport {
            load: report.load,
            clients: report.clients,
            rooms: report.rooms.clone(),
        };
        std::mem::replace(&mut self.report, last)
    }

    /// Whether a report says that the server was started anew: it has carried out nothing, and did before.
    pub(super) fn is_restarted_by(&self, report: &ServerReport) -> bool {
        self.acknowledged != 0 && report.acknowledged == Some(0)
    }

    /// How many tasks wait.
    pub fn tasks_waiting(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn has_room_for_task(&self) -> Result<(), Refused> {
        if self.tasks.len() < TASKS_MAX && self.task_bytes < TASK_BYTES_MAX {
            return Ok(());
        }
        Err(Refused::QueueFull)
    }

    /// Queues a task. What a customer asks for is refused before when the queue is full; what the grid asks for is then
    /// left out: a stray room is seen again in the next report, a banned user is refused by the gateway all the same, and
    /// mutes wait until there is room for them.
    pub(super) fn queue(&mut self, task: Task, address: &str, source: &mut TaskSource<'_>) {
        if self.has_room_for_task().is_err() {
            return;
        }
        self.task_bytes += payload(&task);
        self.tasks.push_back(source.next(task));
        source.woken.push(address.to_owned());
    }

    /// Whether this very task waits already.
    pub(super) fn awaits(&self, task: &Task) -> bool {
        self.tasks.iter().any(|it| it.task == *task)
    }

    /// Removes what was acknowledged. An id that does not wait here says nothing about what does: a gateway that was
    /// alone for a while may have given it.
    pub(super) fn acknowledge(&mut self, last: u64) -> Vec<WaitingTask> {
        match self.tasks.iter().position(|task| task.id == last) {
            Some(at) => self.remove(|tasks| tasks.drain(..=at).collect()),
            None => Vec::new(),
        }
    }

    /// Takes tasks out of the queue.
    fn remove<R>(&mut self, remove: impl FnOnce(&mut VecDeque<WaitingTask>) -> R) -> R {
        let removed = remove(&mut self.tasks);
        self.task_bytes = self.tasks.iter().map(|it| payload(&it.task)).sum();
        removed
    }

    /// Removes these tasks.
    pub(super) fn release(&mut self, keys: &[TaskKey]) {
        self.remove(|tasks| tasks.retain(|task| !keys.contains(&task.key)));
    }

    /// What goes out now. A server that acknowledges keeps its queue; any other gets each task once.
    pub(super) fn deliver(&mut self) -> Delivery {
        if self.acknowledges {
            return Delivery {
                tasks: self.tasks.iter().cloned().collect(),
                acknowledges: true,
                released: Vec::new(),
            };
        }
        let tasks: Vec<_> = self.remove(|tasks| tasks.drain(..).collect());
        Delivery {
            released: tasks.clone(),
            tasks,
            acknowledges: false,
        }
    }
}

fn payload(task: &Task) -> usize {
    match task {
        Task::RoomUpdate { user_data, .. } => user_data.len(),
        Task::RoomSendMessage { message, .. } => message.len(),
        Task::RoomMuteClient { reason, .. } => reason.len(),
        Task::RoomClose { .. } | Task::RoomBanClient { .. } | Task::RoomUnmuteClient { .. } => 0,
    }
}
