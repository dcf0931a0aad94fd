//! What a gateway makes of the log: the grid, and where in the log it stands. Pure: no IO, no clock.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::grid::{Action, Applied, Command, Grid, Outcome, Timestamp, Timing};

/// How long a moderation command is remembered: a gateway that did not hear what became of it may send it again when
/// it is back, which takes seconds after an outage and longer after a network was cut.
const SEEN_AGE: Duration = Duration::from_secs(3600);

/// Most moderation commands that are remembered, so that every snapshot stays small.
const SEEN_MAX: usize = 10_000;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// From 1 in an empty log.
    pub(super) position: u64,
    /// Id of the entry before, or the epoch for its first.
    pub(super) after: u64,
    /// Id of the command.
    pub(super) id: u64,
    /// When Redis took it.
    pub(super) at: Timestamp,
    /// `None` when this version of the gateway cannot read it.
    pub(super) command: Option<Command>,
    /// Length of the command.
    pub(super) size_bytes: usize,
}

/// An entry that does not follow the one before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {found} of the log does not follow what was read up to {read}")]
pub(super) struct Gap {
    read: u64,
    found: u64,
}

/// The grid, and where in the log it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Replica {
    /// Its last entry.
    pub(super) position: u64,
    /// Id of its last entry, or the epoch. Two logs of the same length are told apart by it.
    pub(super) last: u64,
    clock: Timestamp,
    grid: Grid,
    seen: VecDeque<(u64, Timestamp)>,
}

impl Replica {
    pub(super) fn grid(&self) -> &Grid {
        &self.grid
    }

    /// Takes in the next entry of the log. One that cannot be read changes nothing.
    pub(super) fn follow(&mut self, entry: &Entry, timing: &Timing) -> Result<Applied, Gap> {
        if entry.position != self.position + 1 || entry.after != self.last {
            return Err(Gap {
                read: self.position,
                found: entry.position,
            });
        }
        self.position = entry.position;
        self.last = entry.id;
        Ok(match &entry.command {
            Some(command) => self.apply(command, entry.at, timing),
            None => nothing(Outcome::Done),
        })
    }

    /// Carries out a command. Time never goes back.
    pub(super) fn apply(&mut self, command: &Command, now: Timestamp, timing: &Timing) -> Applied {
        self.clock = self.clock.max(now);
        // Everything else may come twice.
        if matches!(command.action, Action::Moderate { .. }) {
            if self.seen.iter().any(|(id, _)| *id == command.id) {
                return nothing(Outcome::Moderated(Ok(())));
            }
            self.see(command.id);
        }
        self.grid.apply(command, self.clock, timing)
    }

    fn see(&mut self, id: u64) {
        let clock = self.clock;
        let is_old = |(_, at): &(u64, Timestamp)| clock.since(*at) > SEEN_AGE;
        while self.seen.len() >= SEEN_MAX || self.seen.front().is_some_and(is_old) {
            self.seen.pop_front();
        }
        self.seen.push_back((id, clock));
    }
}

fn nothing(outcome: Outcome) -> Applied {
    Applied {
        outcome,
        woken: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::{RoomId, Task};

    use super::*;
    use crate::grid::{Connect, Pick, ServerRef, ServerReport};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn room() -> RoomId {
        RoomId::from(("n".to_owned(), "r".to_owned()))
    }

    fn report() -> Action {
        Action::Report(ServerReport {
            server: ServerRef {
                pool: String::new(),
                address: "a:1".to_owned(),
            },
            key_id: "key".to_owned().into(),
            version: "1".to_owned(),
            load: 0.1 + 0.2,
            clients: 0,
            rooms: Vec::new(),
            acknowledged: Some(0),
            released: None,
            draining: false,
        })
    }

    fn connect() -> Action {
        Action::Connect(Connect {
            pool: String::new(),
            rooms: vec![room()],
            customer: "c".to_owned(),
            user: "u".to_owned(),
            forced: None,
            preferred: None,
            pick: Pick::Roll(u64::MAX),
        })
    }

    fn moderate() -> Action {
        let pool = String::new();
        let task = Task::RoomUpdate {
            id: room(),
            user_data: vec![1],
        };
        Action::Moderate { pool, task }
    }

    fn entry(position: u64, after: u64, id: u64, action: Action) -> Entry {
        Entry {
            position,
            after,
            id,
            at: NOW,
            command: Some(Command { id, action }),
            size_bytes: 0,
        }
    }

    fn waiting(replica: &Replica) -> usize {
        let pool = replica.grid().pool("").unwrap();
        pool.server("a:1").unwrap().tasks_waiting()
    }

    #[test]
    fn a_replica_from_json_goes_on_as_the_one_it_was_made_of() {
        let timing = Timing::default();
        let mut replica = Replica::default();
        for (at, action) in [report(), connect(), moderate()].into_iter().enumerate() {
            let at = at as u64;
            replica
                .follow(&entry(at + 1, at, at + 1, action), &timing)
                .unwrap();
        }
        let tick = Action::Tick {
            silence_counts: true,
        };
        replica.follow(&entry(4, 3, 4, tick), &timing).unwrap();
        let text = serde_json::to_string(&replica).unwrap();
        let copy: Replica = serde_json::from_str(&text).unwrap();
        assert_eq!(copy, replica);
        assert_eq!(waiting(&copy), 1);
    }

    #[test]
    fn a_missing_entry_and_an_entry_of_another_history_are_noticed() {
        let timing = Timing::default();
        let mut replica = Replica::default();
        replica.follow(&entry(1, 0, 10, report()), &timing).unwrap();
        let before = replica.clone();
        for (position, after) in [(3, 10), (2, 11), (1, 10)] {
            let wrong = entry(position, after, 20, connect());
            assert!(replica.follow(&wrong, &timing).is_err());
        }
        assert_eq!(replica, before);
        let right = entry(2, 10, 20, connect());
        assert!(replica.follow(&right, &timing).is_ok());
    }

    #[test]
    fn moderation_that_arrives_twice_is_carried_out_once() {
        let timing = Timing::default();
        let mut replica = Replica::default();
        for (id, action) in [(1, report()), (2, connect()), (3, moderate())] {
            replica.apply(&Command { id, action }, NOW, &timing);
        }
        let again = Command {
            id: 3,
            action: moderate(),
        };
        let applied = replica.apply(&again, NOW, &timing);
        assert_eq!(applied.outcome, Outcome::Moderated(Ok(())));
        assert_eq!(waiting(&replica), 1);
        let another = Command { id: 4, ..again };
        replica.apply(&another, NOW, &timing);
        assert_eq!(waiting(&replica), 2);
    }

    #[test]
    fn what_was_seen_is_forgotten_by_age_and_number() {
        let mut replica = Replica::default();
        for id in 0..SEEN_MAX as u64 + 5 {
            replica.see(id);
        }
        assert_eq!(replica.seen.len(), SEEN_MAX);
        assert_eq!(replica.seen.front(), Some(&(5, Timestamp(0))));
        replica.clock = NOW;
        replica.see(1);
        assert_eq!(replica.seen.len(), 1);
    }

    #[test]
    fn time_does_not_go_back() {
        let timing = Timing::default();
        let mut replica = Replica::default();
        let command = |id| Command {
            id,
            action: report(),
        };
        replica.apply(&command(1), NOW, &timing);
        replica.apply(&command(2), Timestamp(5), &timing);
        let pool = replica.grid().pool("").unwrap();
        assert_eq!(pool.server("a:1").unwrap().last_seen, NOW);
    }

    #[test]
    fn an_entry_of_a_later_version_is_passed_over() {
        let mut replica = Replica::default();
        let mut unknown = entry(1, 0, 10, report());
        unknown.command = None;
        let applied = replica.follow(&unknown, &Timing::default()).unwrap();
        assert_eq!(applied.outcome, Outcome::Done);
        assert_eq!((replica.position, replica.last), (1, 10));
    }
}
