//! What the game server is doing, and what that means for its instance metadata. No IO, no clock, no HTTP.
//!
//! A change takes two steps, because Fleet has the last word: [`Lifecycle::decide`] says what has to be written,
//! and only when that has been written does [`Lifecycle::commit`] make it true here. A write that failed leaves no
//! trace.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::ExitState;

/// Longest match id in bytes. It travels in every ping answer, which must stay small.
pub const MATCH_ID_BYTES_MAX: usize = 128;

/// Most players of one match. Their ids travel in the metadata, which every List repeats.
pub const PLAYERS_MAX: u32 = 1_000;

/// Written as `last_outcome` when the program ends in the middle of a match.
const OUTCOME_ABORTED: &str = "aborted";

/// Key/value data of an instance.
pub(crate) type Metadata = Map<String, Value>;

/// A match as its matchmaker asked for it. Its parts have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) id: Arc<str>,
    pub(crate) game_mode: String,
    pub(crate) map_guid: String,
    pub(crate) join_mode: String,
    pub(crate) user_ids: Vec<String>,
    pub(crate) player_count: u32,
}

/// What a caller wants.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Start a match.
    Start(Match),
    /// Finish the running match.
    Finish {
        /// Which match; empty means whichever runs.
        match_id: String,
        /// How it ended.
        outcome: String,
    },
    /// So many players are in the match now.
    Players(u32),
}

/// What a caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Started,
    Finished,
    PlayersUpdated,
    /// Another match runs.
    Occupied {
        running: Arc<str>,
    },
    /// No match runs.
    NoMatch,
}

/// What the game server is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Idle,
    Occupied(Match),
}

impl State {
    /// The value of `instance_state`.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Occupied(_) => "occupied",
        }
    }

    /// The match that runs.
    pub(crate) fn running(&self) -> Option<&Match> {
        match self {
            Self::Idle => None,
            Self::Occupied(running) => Some(running),
        }
    }
}

/// What to do about a command.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing changes.
    Answer(Reply),
    /// Write [`Change::update`]; if that succeeds, [`Lifecycle::commit`] the change.
    Publish(Change),
}

/// A change that Fleet has to hear of first.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) update: Metadata,
    pub(crate) reply: Reply,
    next: State,
}

/// The game server's own view of itself.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// Keys that are the same in every update.
    constants: Metadata,
    state: State,
}

impl Lifecycle {
    /// An idle game server that players reach at `game_port`, and whose matches are started at `match_api`.
    pub(crate) fn new(game_port: u16, match_api: Option<&str>) -> Self {
        let mut constants = Metadata::new();
        constants.insert("game_port".to_owned(), game_port.into());
        if let Some(url) = match_api {
            constants.insert("match_api".to_owned(), url.into());
        }
        Self {
            constants,
            state: State::Idle,
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Everything that Fleet should know right now. An update is always the whole picture, so that each one also
    /// repairs whatever an earlier one of unknown fate has left behind.
    pub(crate) fn announcement(&self) -> Metadata {
        self.picture(&self.state)
    }

    /// What Fleet should know when the program has ended.
    pub(crate) fn farewell(&self, exit_state: ExitState) -> Metadata {
        let mut update = self.picture(&State::Idle);
        if self.state.running().is_some() {
            update.insert("last_outcome".to_owned(), OUTCOME_ABORTED.into());
        }
        update.insert("instance_state".to_owned(), exit_state.label().into());
        update
    }

    /// What `command` leads to. Sending the same start or finish again is harmless: the start changes nothing, and
    /// the finish of an idle server writes idle once more, as the guide's program does.
    pub(crate) fn decide(&self, command: Command) -> Decision {
        match (command, &self.state) {
            (Command::Start(wanted), State::Idle) => {
                self.publish(State::Occupied(wanted), Reply::Started)
            }
            (Command::Start(wanted), State::Occupied(running)) if wanted.id == running.id => {
                Decision::Answer(Reply::Started)
            }
            (Command::Start(_), State::Occupied(running)) => occupied(running),
            (Command::Finish { match_id, .. }, State::Occupied(running))
                if !match_id.is_empty() && *match_id != *running.id =>
            {
                occupied(running)
            }
            (Command::Finish { outcome, .. }, _) => {
                let mut change = self.change(State::Idle, Reply::Finished);
                let outcome = Value::String(outcome);
                change.update.insert("last_outcome".to_owned(), outcome);
                Decision::Publish(change)
            }
            (Command::Players(_), State::Idle) => Decision::Answer(Reply::NoMatch),
            (Command::Players(player_count), State::Occupied(running)) => {
                let next = Match {
                    player_count,
                    ..running.clone()
                };
                self.publish(State::Occupied(next), Reply::PlayersUpdated)
            }
        }
    }

    /// Makes a change true, now that Fleet has it.
    pub(crate) fn commit(&mut self, change: Change) -> Reply {
        self.state = change.next;
        change.reply
    }

    fn publish(&self, next: State, reply: Reply) -> Decision {
        Decision::Publish(self.change(next, reply))
    }

    fn change(&self, next: State, reply: Reply) -> Change {
        Change {
            update: self.picture(&next),
            reply,
            next,
        }
    }

    fn picture(&self, state: &State) -> Metadata {
        let mut update = self.constants.clone();
        let keys = match state {
            State::Idle => json!({
                "match_id": "",
                "user_ids": [],
                "player_count": 0,
            }),
            State::Occupied(running) => json!({
                "match_id": &*running.id,
                "game_mode": running.game_mode,
                "map_guid": running.map_guid,
                "join_mode": running.join_mode,
                "user_ids": running.user_ids,
                "player_count": running.player_count,
            }),
        };
        update.insert("instance_state".to_owned(), state.label().into());
        if let Value::Object(keys) = keys {
            update.extend(keys);
        }
        update
    }
}

fn occupied(running: &Match) -> Decision {
    let running = Arc::clone(&running.id);
    Decision::Answer(Reply::Occupied { running })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_match(id: &str) -> Match {
        Match {
            id: id.into(),
            game_mode: "DEATH_MATCH".to_owned(),
            map_guid: "map-01".to_owned(),
            join_mode: "free".to_owned(),
            user_ids: vec!["user-1".to_owned(), "user-2".to_owned()],
            player_count: 2,
        }
    }

    fn start(id: &str) -> Command {
        Command::Start(a_match(id))
    }

    fn finish(id: &str) -> Command {
        Command::Finish {
            match_id: id.to_owned(),
            outcome: "draw".to_owned(),
        }
    }

    /// Decides and, if something is to be written, pretends that it was.
    fn apply(lifecycle: &mut Lifecycle, command: Command) -> (Option<Value>, Reply) {
        match lifecycle.decide(command) {
            Decision::Answer(reply) => (None, reply),
            Decision::Publish(change) => {
                let update = Value::Object(change.update.clone());
                (Some(update), lifecycle.commit(change))
            }
        }
    }

    #[test]
    fn a_match_goes_from_idle_to_occupied_to_idle() {
        let mut lifecycle = Lifecycle::new(7777, None);
        let idle = json!({
            "instance_state": "idle", "game_port": 7777, "match_id": "", "user_ids": [], "player_count": 0,
        });
        assert_eq!(Value::Object(lifecycle.announcement()), idle);

        let (update, reply) = apply(&mut lifecycle, start("m1"));
        let occupied = json!({
            "instance_state": "occupied", "game_port": 7777, "match_id": "m1", "game_mode": "DEATH_MATCH",
            "map_guid": "map-01", "join_mode": "free", "user_ids": ["user-1", "user-2"], "player_count": 2,
        });
        assert_eq!((update, reply), (Some(occupied), Reply::Started));

        let (update, reply) = apply(&mut lifecycle, finish("m1"));
        let mut finished = idle;
        finished["last_outcome"] = "draw".into();
        assert_eq!((update, reply), (Some(finished), Reply::Finished));
        assert_eq!(*lifecycle.state(), State::Idle);
    }

    #[test]
    fn the_same_start_or_finish_again_changes_nothing() {
        let mut lifecycle = Lifecycle::new(7777, None);
        apply(&mut lifecycle, start("m1"));
        assert_eq!(apply(&mut lifecycle, start("m1")), (None, Reply::Started));
        let finished = apply(&mut lifecycle, finish("m1"));
        assert_eq!(apply(&mut lifecycle, finish("m1")), finished);
    }

    #[test]
    fn another_match_is_refused_and_the_running_one_named() {
        let mut lifecycle = Lifecycle::new(7777, None);
        apply(&mut lifecycle, start("m1"));
        let refusal = Reply::Occupied {
            running: "m1".into(),
        };
        assert_eq!(apply(&mut lifecycle, start("m2")), (None, refusal.clone()));
        assert_eq!(apply(&mut lifecycle, finish("m2")), (None, refusal));
    }

    #[test]
    fn a_finish_without_an_id_ends_whichever_match_runs() {
        let mut lifecycle = Lifecycle::new(7777, None);
        apply(&mut lifecycle, start("m1"));
        assert_eq!(apply(&mut lifecycle, finish("")).1, Reply::Finished);
        assert_eq!(*lifecycle.state(), State::Idle);
    }

    #[test]
    fn a_change_that_was_not_committed_leaves_no_trace() {
        let lifecycle = Lifecycle::new(7777, None);
        let before = lifecycle.announcement();
        assert!(matches!(
            lifecycle.decide(start("m1")),
            Decision::Publish(_)
        ));
        assert_eq!(lifecycle.announcement(), before);
    }

    #[test]
    fn the_player_count_follows_the_match() {
        let mut lifecycle = Lifecycle::new(7777, None);
        assert_eq!(
            apply(&mut lifecycle, Command::Players(1)),
            (None, Reply::NoMatch)
        );
        apply(&mut lifecycle, start("m1"));
        let (update, reply) = apply(&mut lifecycle, Command::Players(5));
        assert_eq!(reply, Reply::PlayersUpdated);
        assert_eq!(update.unwrap()["player_count"], 5);
        assert_eq!(lifecycle.announcement()["player_count"], 5);
    }

    #[test]
    fn the_farewell_ends_a_running_match() {
        let mut lifecycle = Lifecycle::new(7777, Some("http://127.0.0.1:8080"));
        assert_eq!(
            lifecycle.farewell(ExitState::Idle),
            lifecycle.announcement()
        );
        apply(&mut lifecycle, start("m1"));
        let farewell = Value::Object(lifecycle.farewell(ExitState::Stopped));
        assert_eq!(
            farewell,
            json!({
                "instance_state": "stopped", "game_port": 7777, "match_api": "http://127.0.0.1:8080",
                "match_id": "", "user_ids": [], "player_count": 0, "last_outcome": "aborted",
            })
        );
    }
}
