//! Tasks as they come: each read by itself, and none carried out twice.

use std::collections::{HashSet, VecDeque};

use gateway_api::{QueuedTask, Task};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::rpc::short;

/// How many carried-out tasks are remembered. A gateway lets 10,000 wait for one server, so that what comes again is
/// among the last so many.
const REMEMBERED_MAX: usize = 20_000;

/// What an answer brings.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) tasks: Vec<Received>,
}

/// A task that came.
#[derive(Debug, PartialEq)]
pub(super) enum Received {
    /// One that can be carried out.
    Known(QueuedTask),
    /// One that a newer gateway thought of, or that is malformed.
    Unknown { name: String, task_id: Option<u64> },
}

impl<'de> Deserialize<'de> for Received {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Only one task at a time takes up so much memory: a message is a list of numbers.
        Value::deserialize(deserializer).map(Self::from)
    }
}

impl From<Value> for Received {
    fn from(value: Value) -> Self {
        let name = value["task"].as_str().unwrap_or_default();
        let (name, task_id) = (short(name), value["task_id"].as_u64());
        match serde_json::from_value(value) {
            Ok(task) => Self::Known(task),
            Err(_) => Self::Unknown { name, task_id },
        }
    }
}

impl Received {
    pub(super) fn task_id(&self) -> Option<u64> {
        match self {
            Self::Known(task) => task.task_id,
            Self::Unknown { task_id, .. } => *task_id,
        }
    }

    /// Its name in counters.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Known(task) => task.task.name(),
            Self::Unknown { .. } => UNKNOWN,
        }
    }
}

/// What tasks are counted as that this server does not know.
pub(super) const UNKNOWN: &str = "unknown";

/// Every name that tasks are counted by.
pub(super) const NAMES: [&str; 7] = [
    "RoomClose",
    "RoomUpdate",
    "RoomBanClient",
    "RoomSendMessage",
    "RoomMuteClient",
    "RoomUnmuteClient",
    UNKNOWN,
];

/// The task itself, if this server knows it.
impl From<Received> for Option<Task> {
    fn from(received: Received) -> Self {
        match received {
            Received::Known(task) => Some(task.task),
            Received::Unknown { .. } => None,
        }
    }
}

/// What was carried out. Numbers are remembered one by one and not only the largest: a gateway that was cut off from
/// others hands out numbers of its own clock.
#[derive(Debug, Default)]
pub(super) struct Done {
    ids: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Done {
    pub(super) fn contains(&self, task_id: u64) -> bool {
        self.ids.contains(&task_id)
    }

    pub(super) fn remember(&mut self, task_id: u64) {
        if !self.ids.insert(task_id) {
            return;
        }
        self.order.push_back(task_id);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unknown_task_does_not_lose_the_others() {
        let text = r#"{"tasks":[
            {"task":"RoomUpdate","id":["n","r"],"user_data":[1],"task_id":1},
            {"task":"RoomPaint","colour":"red","task_id":2},
            {"task":"RoomUpdate","id":["n","r"],"user_data":[256],"task_id":3},
            7,
            {"task":"RoomUpdate","id":["n","r"],"user_data":[2]}
        ]}"#;
        let answer: Answer = serde_json::from_str(text).unwrap();
        let seen: Vec<_> = answer
            .tasks
            .iter()
            .map(|it| (it.name(), it.task_id()))
            .collect();
        let expected = [
            ("RoomUpdate", Some(1)),
            (UNKNOWN, Some(2)),
            (UNKNOWN, Some(3)),
            (UNKNOWN, None),
            ("RoomUpdate", None),
        ];
        assert_eq!(seen, expected);
        let Received::Unknown { name, .. } = &answer.tasks[1] else {
            panic!("{:?}", answer.tasks[1]);
        };
        assert_eq!(name, "RoomPaint");
    }

    #[test]
    fn an_answer_without_a_list_of_tasks_is_malformed() {
        for text in ["{}", "[]", "null", r#"{"tasks":null}"#, r#"{"tasks":{}}"#] {
            assert!(serde_json::from_str::<Answer>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_done_is_remembered_for_as_long_as_it_can_come_again() {
        let mut done = Done::default();
        for id in 0..=REMEMBERED_MAX as u64 {
            done.remember(id);
            done.remember(id);
        }
        assert!(!done.contains(0));
        assert!(done.contains(1));
        assert_eq!(
            (done.ids.len(), done.order.len()),
            (REMEMBERED_MAX, REMEMBERED_MAX)
        );
    }
}
