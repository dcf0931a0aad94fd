//! What the game server is doing, and what that means for its instance metadata. No IO, no clock, no HTTP.
//!
//! A change takes two steps, because Fleet has the last word: [`Lifecycle::decide`] says what has to be written,
//! and only when that has been written does [`Lifecycle::commit`] make it true here. A write that failed leaves no
//! trace.
//!
//! A matchmaker that shares its servers with others numbers its claims of a server: the *fence* of a request. Numbers
//! only grow, so a request with an old one comes from somebody whose claim is over, however late it arrives. Fences
//! count when they are seen: whether Fleet takes what the request leads to does not matter.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::ExitState;

/// Longest match id in bytes. It travels in every ping answer, which must stay small.
pub const MATCH_ID_BYTES_MAX: usize = 128;

/// Most players of one match. Their ids travel in the metadata, which every List repeats.
pub const PLAYERS_MAX: u32 = 1_000;

/// Written as `last_outcome` when the program ends in the middle of a match.
pub(crate) const OUTCOME_ABORTED: &str = "aborted";

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
    /// The claim it was started under.
    pub(crate) fence: Option<u64>,
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
        /// The claim it was started under.
        fence: Option<u64>,
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
    /// The request's claim is over: a newer one has been seen, or its match has been finished.
    StaleFence,
    /// No match runs.
    NoMatch,
}

impl Reply {
    /// The word for a refusal that concerns who has the server.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Occupied { .. } => Some("occupied"),
            Self::StaleFence => Some("stale_fence"),
            Self::Started | Self::Finished | Self::PlayersUpdated | Self::NoMatch => None,
        }
    }
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

/// Where others reach this server; the same in every update.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses<'a> {
    /// Port that players connect to.
    pub(crate) game_port: u16,
    /// Base URL of the match API.
    pub(crate) match_api: Option<&'a str>,
    /// Port of the match API.
    pub(crate) match_port: Option<u16>,
}

/// The highest fences that requests have carried.
#[derive(Debug, Default)]
struct Fences {
    seen: Option<u64>,
    finished: Option<u64>,
}

impl Fences {
    /// Notes the fence of a start; false when its claim is over.
    fn admit_start(&mut self, fence: Option<u64>) -> bool {
        let is_over = fence.is_some() && (fence < self.seen || fence <= self.finished);
        self.seen = self.seen.max(fence);
        !is_over
    }

    /// From now on nothing starts under this claim or an older one.
    fn finish(&mut self, fence: Option<u64>) {
        self.seen = self.seen.max(fence);
        self.finished = self.finished.max(fence);
    }
}

/// The game server's own view of itself.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// Keys that are the same in every update.
    constants: Metadata,
    state: State,
    fences: Fences,
}

impl Lifecycle {
    /// An idle game server.
    pub(crate) fn new(addresses: Addresses<'_>) -> Self {
        let mut constants = Metadata::new();
        constants.insert("game_port".to_owned(), addresses.game_port.into());
        if let Some(url) = addresses.match_api {
            constants.insert("match_api".to_owned(), url.into());
        }
        if let Some(port) = addresses.match_port {
            constants.insert("match_port".to_owned(), port.into());
        }
        Self {
            constants,
            state: State::Idle,
            fences: Fences::default(),
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The claim that the running match was started under; without a match, the newest that was seen.
    pub(crate) fn fence(&self) -> Option<u64> {
        match &self.state {
            State::Idle => self.fences.seen,
            State::Occupied(running) => running.fence,
        }
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
    pub(crate) fn decide(&mut self, command: Command) -> Decision {
        match command {
            Command::Start(wanted) => self.start(wanted),
            Command::Finish {
                match_id,
                outcome,
                fence,
            } => self.finish(&match_id, outcome, fence),
            Command::Players(player_count) => self.players(player_count),
        }
    }

    fn start(&mut self, wanted: Match) -> Decision {
        let running = self.state.running();
        if running.is_some_and(|it| it.id == wanted.id && it.fence == wanted.fence) {
            return Decision::Answer(Reply::Started);
        }
        if !self.fences.admit_start(wanted.fence) {
            return Decision::Answer(Reply::StaleFence);
        }
        match &mut self.state {
            State::Idle => self.publish(State::Occupied(wanted), Reply::Started),
            State::Occupied(running) if wanted.id == running.id => {
                // The same match under a newer claim belongs to the newer one.
                running.fence = running.fence.max(wanted.fence);
                Decision::Answer(Reply::Started)
            }
            State::Occupied(running) => occupied(running),
        }
    }

    fn finish(&mut self, match_id: &str, outcome: String, fence: Option<u64>) -> Decision {
        self.fences.finish(fence);
        if let State::Occupied(running) = &self.state {
            if !match_id.is_empty() && *match_id != *running.id {
                return occupied(running);
            }
            if fence.is_some() && fence < running.fence {
                return Decision::Answer(Reply::StaleFence);
            }
        }
        let mut change = self.change(State::Idle, Reply::Finished);
        let outcome = Value::String(outcome);
        change.update.insert("last_outcome".to_owned(), outcome);
        Decision::Publish(change)
    }

    fn players(&self, player_count: u32) -> Decision {
        let State::Occupied(running) = &self.state else {
            return Decision::Answer(Reply::NoMatch);
        };
        let next = Match {
            player_count,
            ..running.clone()
        };
        self.publish(State::Occupied(next), Reply::PlayersUpdated)
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
            fence: None,
        }
    }

    fn lifecycle() -> Lifecycle {
        Lifecycle::new(Addresses {
            game_port: 7777,
            ..Addresses::default()
        })
    }

    fn start(id: &str) -> Command {
        Command::Start(a_match(id))
    }

    fn finish(id: &str) -> Command {
        Command::Finish {
            match_id: id.to_owned(),
            outcome: "draw".to_owned(),
            fence: None,
        }
    }

    fn start_under(fence: u64, id: &str) -> Command {
        Command::Start(Match {
            fence: Some(fence),
            ..a_match(id)
        })
    }

    fn finish_under(fence: u64, id: &str) -> Command {
        Command::Finish {
            match_id: id.to_owned(),
            outcome: "draw".to_owned(),
            fence: Some(fence),
        }
    }

    /// Applies each command and compares what its caller is told.
    fn check(commands: impl IntoIterator<Item = (Command, Reply)>) {
        let mut lifecycle = lifecycle();
        for (number, (command, expected)) in commands.into_iter().enumerate() {
            let text = format!("command {number}, {command:?}");
            assert_eq!(apply(&mut lifecycle, command).1, expected, "{text}");
        }
    }

    fn runs(id: &str) -> Reply {
        Reply::Occupied { running: id.into() }
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
        let mut lifecycle = lifecycle();
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
        let mut lifecycle = lifecycle();
        apply(&mut lifecycle, start("m1"));
        assert_eq!(apply(&mut lifecycle, start("m1")), (None, Reply::Started));
        let finished = apply(&mut lifecycle, finish("m1"));
        assert_eq!(apply(&mut lifecycle, finish("m1")), finished);
    }

    #[test]
    fn another_match_is_refused_and_the_running_one_named() {
        let mut lifecycle = lifecycle();
        apply(&mut lifecycle, start("m1"));
        let refusal = Reply::Occupied {
            running: "m1".into(),
        };
        assert_eq!(apply(&mut lifecycle, start("m2")), (None, refusal.clone()));
        assert_eq!(apply(&mut lifecycle, finish("m2")), (None, refusal));
    }

    #[test]
    fn a_finish_without_an_id_ends_whichever_match_runs() {
        let mut lifecycle = lifecycle();
        apply(&mut lifecycle, start("m1"));
        assert_eq!(apply(&mut lifecycle, finish("")).1, Reply::Finished);
        assert_eq!(*lifecycle.state(), State::Idle);
    }

    #[test]
    fn a_change_that_was_not_committed_leaves_no_trace() {
        let mut lifecycle = lifecycle();
        let before = lifecycle.announcement();
        assert!(matches!(
            lifecycle.decide(start("m1")),
            Decision::Publish(_)
        ));
        assert_eq!(lifecycle.announcement(), before);
    }

    #[test]
    fn the_player_count_follows_the_match() {
        let mut lifecycle = lifecycle();
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
        let mut lifecycle = Lifecycle::new(Addresses {
            game_port: 7777,
            match_api: Some("http://127.0.0.1:8080"),
            match_port: Some(8080),
        });
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
                "match_port": 8080, "match_id": "", "user_ids": [], "player_count": 0, "last_outcome": "aborted",
            })
        );
    }

    #[test]
    fn a_claim_that_was_finished_starts_nothing_any_more() {
        check([
            (start_under(7, "m1"), Reply::Started),
            (start_under(7, "m1"), Reply::Started),
            (finish_under(7, "m1"), Reply::Finished),
            (start_under(7, "m1"), Reply::StaleFence),
            (start_under(6, "m0"), Reply::StaleFence),
            (start_under(8, "m2"), Reply::Started),
        ]);
    }

    #[test]
    fn a_finish_that_overtakes_its_start_still_wins() {
        check([
            (finish_under(7, "m1"), Reply::Finished),
            (start_under(7, "m1"), Reply::StaleFence),
            (start("m1"), Reply::Started),
            (finish_under(8, "m2"), runs("m1")),
            (finish("m1"), Reply::Finished),
            (start_under(8, "m2"), Reply::StaleFence),
        ]);
    }

    #[test]
    fn an_older_claim_than_one_that_was_seen_is_over() {
        check([
            (start_under(7, "m1"), Reply::Started),
            (start_under(9, "m2"), runs("m1")),
            (start_under(8, "m3"), Reply::StaleFence),
            (start_under(7, "m1"), Reply::Started),
            (finish_under(7, "m1"), Reply::Finished),
            (start_under(9, "m2"), Reply::Started),
        ]);
    }

    #[test]
    fn a_late_finish_does_not_end_the_match_of_a_newer_claim() {
        check([
            (start_under(7, "m1"), Reply::Started),
            (start_under(8, "m1"), Reply::Started),
            (finish_under(7, "m1"), Reply::StaleFence),
            (finish_under(7, ""), Reply::StaleFence),
            (finish_under(8, "m1"), Reply::Finished),
        ]);
    }

    #[test]
    fn a_fence_counts_even_if_fleet_does_not_take_the_update() {
        let mut lifecycle = lifecycle();
        let decision = lifecycle.decide(finish_under(7, "m1"));
        assert!(matches!(decision, Decision::Publish(_)));
        let (update, reply) = apply(&mut lifecycle, start_under(7, "m1"));
        assert_eq!((update, reply), (None, Reply::StaleFence));
        assert_eq!(lifecycle.fence(), Some(7));
    }

    #[test]
    fn the_fence_of_a_running_match_is_its_own() {
        let mut lifecycle = lifecycle();
        assert_eq!(lifecycle.fence(), None);
        apply(&mut lifecycle, start_under(7, "m1"));
        apply(&mut lifecycle, start_under(9, "m2"));
        assert_eq!(lifecycle.fence(), Some(7));
        apply(&mut lifecycle, finish("m1"));
        assert_eq!(lifecycle.fence(), Some(9));
        apply(&mut lifecycle, start("m3"));
        assert_eq!(lifecycle.fence(), None);
    }
}
