//! What the game server is doing, and what may happen next. No IO, no clock.
//!
//! A change is planned, written to the Fleet, and only then [committed](Lifecycle::commit): while the Fleet does
//! not know about a match, the server does not run it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// User ids of one match, at most.
pub const USER_IDS_MAX: usize = 1_000;

/// Players that may be reported, at most.
pub const PLAYERS_MAX: u32 = 100_000;

/// A match to start, as a matchmaker sends it. `null` and absent are the same.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Start {
    /// The matchmaker's id of the match; required.
    pub match_id: Option<String>,
    /// Free text.
    pub game_mode: Option<String>,
    /// Free text.
    pub map_guid: Option<String>,
    /// Free text, `free` unless told.
    pub join_mode: Option<String>,
    /// Who plays; at most [`USER_IDS_MAX`].
    pub user_ids: Option<Vec<String>>,
}

/// A match to finish. Without an id, whichever runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Finish {
    /// The match that is over.
    pub match_id: Option<String>,
    /// Free text, kept as `last_outcome`.
    pub outcome: Option<String>,
}

/// A running match.
#[derive(Clone, Debug, PartialEq)]
pub struct GameMatch {
    /// The matchmaker's id.
    pub id: String,
    /// Counts the matches of this process, so that a timer can tell a match from a later one of the same id.
    pub serial: u64,
}

/// What the server is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum State {
    /// Free for a match.
    #[default]
    Idle,
    /// In a match.
    Occupied(GameMatch),
    /// On its way out; takes no match.
    Stopped,
}

impl State {
    /// The value of `instance_state`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Occupied(_) => "occupied",
            Self::Stopped => "stopped",
        }
    }
}

/// Why a change is not possible.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A start without its id.
    #[error("match_id is required")]
    MatchIdMissing,
    /// More than [`USER_IDS_MAX`].
    #[error("user_ids has {0} entries, at most {USER_IDS_MAX} are allowed")]
    TooManyUsers(usize),
    /// More than [`PLAYERS_MAX`].
    #[error("count is {0}, at most {PLAYERS_MAX} is allowed")]
    TooManyPlayers(u32),
    /// Another match runs.
    #[error("match {0} is running")]
    Busy(String),
    /// Nothing runs.
    #[error("no match is running")]
    NoMatch,
    /// The server is going away.
    #[error("the server is stopping")]
    Stopping,
}

/// A change that is allowed: what to write to the Fleet, and what holds once it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Keys to merge into the metadata of the instance.
    pub metadata: Map<String, Value>,
    /// The state afterwards.
    pub next: State,
}

/// The state and what never changes about this server.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    state: State,
    game_port: u16,
    match_api: Option<String>,
    matches: u64,
}

impl Lifecycle {
    /// An idle server that players reach at `game_port` and a matchmaker at `match_api`.
    pub fn new(game_port: u16, match_api: Option<String>) -> Self {
        Self {
            state: State::Idle,
            game_port,
            match_api,
            matches: 0,
        }
    }

    /// What the server is doing.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The plan was written: it holds.
    pub fn commit(&mut self, plan: Plan) {
        if let State::Occupied(running) = &plan.next {
            self.matches = self.matches.max(running.serial);
        }
        self.state = plan.next;
    }

    /// What a server says of itself when it has come up.
    pub fn announce(&self) -> Plan {
        let mut metadata = self.keys(json!({"instance_state": "idle", "player_count": 0}));
        if let Some(address) = &self.match_api {
            metadata.insert("match_api".to_owned(), address.clone().into());
        }
        Plan {
            metadata,
            next: State::Idle,
        }
    }

    /// Starts a match. `None`: this match runs already, as when a matchmaker sends a start again.
    ///
    /// # Errors
    /// [`Refusal`] when the request is not complete, another match runs or the server is stopping.
    pub fn start(&self, start: Start) -> Result<Option<Plan>, Refusal> {
        let id = start.match_id.filter(|id| !id.is_empty());
        let id = id.ok_or(Refusal::MatchIdMissing)?;
        let user_ids = start.user_ids.unwrap_or_default();
        if user_ids.len() > USER_IDS_MAX {
            return Err(Refusal::TooManyUsers(user_ids.len()));
        }
        match &self.state {
            State::Idle => {}
            State::Occupied(running) if running.id == id => return Ok(None),
            State::Occupied(running) => return Err(Refusal::Busy(running.id.clone())),
            State::Stopped => return Err(Refusal::Stopping),
        }
        let join_mode = start.join_mode.filter(|mode| !mode.is_empty());
        let metadata = self.keys(json!({
            "instance_state": "occupied",
            "match_id": id,
            "game_mode": start.game_mode.unwrap_or_default(),
            "map_guid": start.map_guid.unwrap_or_default(),
            "join_mode": join_mode.as_deref().unwrap_or("free"),
            "player_count": user_ids.len(),
            "user_ids": user_ids,
        }));
        let next = State::Occupied(GameMatch {
            id,
            serial: self.matches + 1,
        });
        Ok(Some(Plan { metadata, next }))
    }

    /// Finishes the match. On an idle server it writes idle again, so a finish that is sent twice is harmless.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when another match runs, [`Refusal::Stopping`] when the server is going away.
    pub fn finish(&self, finish: Finish) -> Result<Plan, Refusal> {
        let id = finish.match_id.unwrap_or_default();
        match &self.state {
            State::Occupied(running) if !id.is_empty() && running.id != id => {
                Err(Refusal::Busy(running.id.clone()))
            }
            State::Stopped => Err(Refusal::Stopping),
            State::Idle | State::Occupied(_) => Ok(Plan {
                metadata: self.keys(json!({
                    "instance_state": "idle",
                    "match_id": "",
                    "last_outcome": finish.outcome.unwrap_or_default(),
                    "user_ids": [],
                    "player_count": 0,
                })),
                next: State::Idle,
            }),
        }
    }

    /// Reports how many players are in the match.
    ///
    /// # Errors
    /// [`Refusal`] when no match runs or the count is out of bounds.
    pub fn players(&self, count: u32) -> Result<Plan, Refusal> {
        if count > PLAYERS_MAX {
            return Err(Refusal::TooManyPlayers(count));
        }
        if !matches!(self.state, State::Occupied(_)) {
            return Err(Refusal::NoMatch);
        }
        let mut metadata = Map::new();
        metadata.insert("player_count".to_owned(), count.into());
        Ok(Plan {
            metadata,
            next: self.state.clone(),
        })
    }

    /// Says good-bye, with `label` as the state that a matchmaker sees from now on.
    pub fn leave(&self, label: &str) -> Plan {
        Plan {
            metadata: self.keys(json!({
                "instance_state": label,
                "match_id": "",
                "user_ids": [],
                "player_count": 0,
            })),
            next: State::Stopped,
        }
    }

    fn keys(&self, mut keys: Value) -> Map<String, Value> {
        let mut metadata = keys.as_object_mut().map(std::mem::take).unwrap_or_default();
        metadata.insert("game_port".to_owned(), self.game_port.into());
        metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(id: &str) -> Start {
        Start {
            match_id: Some(id.to_owned()),
            user_ids: Some(vec!["u1".to_owned(), "u2".to_owned()]),
            ..Start::default()
        }
    }

    fn occupied(id: &str) -> Lifecycle {
        let mut lifecycle = Lifecycle::new(7777, None);
        let plan = lifecycle.start(start(id)).unwrap().unwrap();
        lifecycle.commit(plan);
        lifecycle
    }

    #[test]
    fn a_start_writes_the_guides_keys_and_the_player_count() {
        let plan = Lifecycle::new(7777, None)
            .start(start("m1"))
            .unwrap()
            .unwrap();
        let expected = json!({
            "instance_state": "occupied", "match_id": "m1", "game_mode": "", "map_guid": "",
            "join_mode": "free", "user_ids": ["u1", "u2"], "game_port": 7777, "player_count": 2
        });
        assert_eq!(Value::from(plan.metadata), expected);
    }

    #[test]
    fn a_finish_writes_the_guides_keys() {
        let finish = Finish {
            outcome: Some("blue".to_owned()),
            ..Finish::default()
        };
        let plan = occupied("m1").finish(finish).unwrap();
        let expected = json!({
            "instance_state": "idle", "match_id": "", "last_outcome": "blue", "user_ids": [],
            "game_port": 7777, "player_count": 0
        });
        assert_eq!(Value::from(plan.metadata), expected);
        assert_eq!(plan.next, State::Idle);
    }

    #[test]
    fn a_plan_that_is_not_committed_changes_nothing() {
        let lifecycle = Lifecycle::new(7777, None);
        lifecycle.start(start("m1")).unwrap();
        assert_eq!(lifecycle.state(), &State::Idle);
    }

    #[test]
    fn one_match_at_a_time() {
        let lifecycle = occupied("m1");
        assert_eq!(
            lifecycle.start(start("m2")),
            Err(Refusal::Busy("m1".to_owned()))
        );
        assert_eq!(lifecycle.start(start("m1")), Ok(None));
        let other = Finish {
            match_id: Some("m2".to_owned()),
            ..Finish::default()
        };
        assert_eq!(lifecycle.finish(other), Err(Refusal::Busy("m1".to_owned())));
    }

    #[test]
    fn a_start_needs_an_id_and_a_bounded_list_of_users() {
        let lifecycle = Lifecycle::new(7777, None);
        assert_eq!(
            lifecycle.start(Start::default()),
            Err(Refusal::MatchIdMissing)
        );
        assert_eq!(lifecycle.start(start("")), Err(Refusal::MatchIdMissing));
        let crowd = Start {
            user_ids: Some(vec![String::new(); USER_IDS_MAX + 1]),
            ..start("m1")
        };
        assert_eq!(
            lifecycle.start(crowd),
            Err(Refusal::TooManyUsers(USER_IDS_MAX + 1))
        );
    }

    #[test]
    fn players_are_counted_in_a_match_only() {
        assert_eq!(Lifecycle::new(7777, None).players(3), Err(Refusal::NoMatch));
        let lifecycle = occupied("m1");
        assert_eq!(lifecycle.players(3).unwrap().metadata["player_count"], 3);
        assert_eq!(
            lifecycle.players(PLAYERS_MAX + 1),
            Err(Refusal::TooManyPlayers(PLAYERS_MAX + 1))
        );
    }

    #[test]
    fn a_server_that_left_takes_no_match() {
        let mut lifecycle = occupied("m1");
        let plan = lifecycle.leave("stopped");
        assert_eq!(plan.metadata["instance_state"], "stopped");
        lifecycle.commit(plan);
        assert_eq!(lifecycle.start(start("m2")), Err(Refusal::Stopping));
        assert_eq!(lifecycle.finish(Finish::default()), Err(Refusal::Stopping));
    }
}
