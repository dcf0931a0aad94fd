//! The store, the Fleet and the game servers of a run.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::chance::Chance;
use crate::{
    matches::{
        claim::{self, Judge},
        record::{Match, Stage, VoicePlan},
        world::{Doing, Failed, Finished, Pace, Started, World},
    },
    model::{Keys, Server},
    store::{Commit, Committed, Document, Key, Timestamp, Unavailable, Version},
};

/// A game server: what it runs, and the fences it has seen.
#[derive(Default)]
pub(super) struct GameServer {
    pub(super) running: Option<String>,
    pub(super) fence: u64,
    pub(super) finished: u64,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) now: u64,
    pub(super) documents: BTreeMap<Key, (u64, String, Option<Timestamp>)>,
    pub(super) metadata: BTreeMap<i64, Map<String, Value>>,
    pub(super) games: BTreeMap<i64, GameServer>,
    /// Updates whose caller has given up and that have not arrived yet.
    pub(super) late: Vec<(i64, Map<String, Value>)>,
    /// For which record a server was added, and when.
    pub(super) scaled: Vec<(String, u64)>,
    pub(super) random: u64,
    /// Until when the task that has just been polled sleeps.
    pub(super) sleeps_until: u64,
    pub(super) violations: Vec<String>,
}

/// The model, shared by all bridges of a run.
pub(super) struct Model<C> {
    pub(super) state: Mutex<State>,
    pub(super) chance: Mutex<C>,
    /// Game servers that know fences, and late writes, which only those survive.
    pub(super) has_fences: bool,
    pub(super) faults: bool,
    /// Nothing goes wrong after this time.
    pub(super) horizon: u64,
}

/// One bridge's view of the model.
pub(super) struct Bridge<C> {
    pub(super) model: Arc<Model<C>>,
    pub(super) keys: Keys,
    pub(super) pace: Pace,
}

pub(super) const PACE: Pace = Pace {
    claim: Duration::from_secs(20),
    occupied: Duration::from_secs(2),
    start_attempts: 2,
    avoid: Duration::from_secs(5),
    keep: Duration::from_secs(600),
};

/// Lets others run; becomes ready the second time.
pub(super) struct Turn(bool);

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// Ready from a time on.
pub(super) struct Until<'a, C>(&'a Model<C>, u64);

impl<C> Future for Until<'_, C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state();
        if state.now >= self.1 {
            return Poll::Ready(());
        }
        state.sleeps_until = self.1;
        Poll::Pending
    }
}

impl<C> Model<C> {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl<C: Chance> Model<C> {
    pub(super) fn choose(&self, options: usize) -> usize {
        if options < 2 || self.state().now > self.horizon {
            return 0;
        }
        self.chance.lock().unwrap().choose(options)
    }

    /// 0: it happens; 1: it does not, and no answer comes; 2: it happens, and no answer comes; 3: it happens later.
    pub(super) fn fate(&self, can_be_late: bool) -> usize {
        if !self.faults {
            return 0;
        }
        self.choose(if can_be_late && self.has_fences { 4 } else { 3 })
    }
}

impl State {
    pub(super) fn server(&self, id: i64) -> Server {
        let mut metadata = self.metadata[&id].clone();
        metadata.insert("game_port".to_owned(), 7777.into());
        Server {
            metadata,
            address: Some("127.0.0.1".to_owned()),
            ..Server::sample(id)
        }
    }

    pub(super) fn merge(&mut self, id: i64, update: Map<String, Value>) {
        self.metadata.entry(id).or_default().extend(update);
    }

    pub(super) fn game_writes(&mut self, id: i64) {
        let running = self.games[&id].running.clone();
        let state = if running.is_some() {
            claim::OCCUPIED
        } else {
            claim::IDLE
        };
        let picture = json!({ "instance_state": state, "match_id": running.unwrap_or_default() });
        if let Value::Object(picture) = picture {
            self.merge(id, picture);
        }
    }

    pub(super) fn start(
        &mut self,
        id: i64,
        match_id: &str,
        fence: u64,
        has_fences: bool,
    ) -> Started {
        let game = self.games.entry(id).or_default();
        if has_fences && (fence <= game.finished || fence < game.fence) {
            return Started::Refused;
        }
        game.fence = game.fence.max(fence);
        if let Some(running) = game.running.clone().filter(|running| running != match_id) {
            self.violations.push(format!(
                "{match_id} was to start on server {id}, where {running} runs"
            ));
            return Started::Refused;
        }
        game.running = Some(match_id.to_owned());
        self.game_writes(id);
        Started::Yes
    }

    pub(super) fn finish(&mut self, id: i64, match_id: &str, fence: u64) -> Finished {
        let game = self.games.entry(id).or_default();
        game.finished = game.finished.max(fence);
        if game
            .running
            .as_deref()
            .is_some_and(|running| running != match_id)
        {
            return Finished::Another;
        }
        game.running = None;
        self.game_writes(id);
        Finished::Yes
    }
}

pub(super) fn server_of(api: &str) -> i64 {
    api.parse().unwrap()
}

impl<C: Chance + Send> World for Bridge<C> {
    fn now(&self) -> Timestamp {
        Timestamp(self.model.state().now)
    }

    fn random(&self) -> u64 {
        let mut state = self.model.state();
        state.random += 1;
        state.random
    }

    async fn sleep(&self, duration: Duration) {
        let until = (self.now() + duration).0;
        Until(&self.model, until).await;
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }

    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn owner(&self) -> &str {
        "ours"
    }

    fn heartbeat(&self) -> Option<(&str, Duration)> {
        None
    }

    fn is_abandoned(&self) -> bool {
        false
    }

    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Document>>, Unavailable> {
        Turn(false).await;
        let state = self.model.state();
        let document = |key| {
            let (version, text, _) = state.documents.get(key)?;
            Some(Document {
                version: Version(*version),
                text: text.as_str().into(),
            })
        };
        Ok(keys.iter().map(document).collect())
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, Unavailable> {
        Turn(false).await;
        // The store repeats a commit until it knows what became of it: there is no unknown end here.
        let mut state = self.model.state();
        let is_expected = |(key, version): &(Key, Option<Version>)| {
            state.documents.get(key).map(|(found, ..)| Version(*found)) == *version
        };
        if !commit.expect.iter().all(is_expected) {
            return Ok(Committed::Conflict);
        }
        for put in &commit.put {
            let text = put.text.clone().unwrap();
            if let Key::Match(id) = &put.key {
                let record: Match = serde_json::from_str(&text).unwrap();
                check_running(&mut state, id, &record);
                check_delivery(&mut state, &record, commit);
            }
            state
                .documents
                .insert(put.key.clone(), (commit.id, text, put.due));
        }
        Ok(Committed::Done)
    }

    async fn candidates(&self, record: &Match) -> Vec<i64> {
        let now = self.now();
        let is_avoided = |id: i64| {
            record
                .tried
                .iter()
                .any(|it| it.server == id && now < it.until)
        };
        let state = self.model.state();
        let seems_free = |id: &i64| {
            let judge = Judge {
                keys: &self.keys,
                owner: "ours",
                heartbeat: None,
                now,
            };
            !is_avoided(*id) && judge.verdict(&state.server(*id), u64::MAX) == claim::Verdict::Free
        };
        state.games.keys().copied().filter(seems_free).collect()
    }

    fn allocates(&self) -> bool {
        false
    }

    async fn scale_up(&self, record: &Match) {
        Turn(false).await;
        let fate = self.model.fate(false);
        let mut state = self.model.state();
        let now = state.now;
        state.scaled.push((record.id.clone(), now));
        if fate != 1 {
            let id = state.games.keys().max().copied().unwrap_or(0) + 1;
            state.games.insert(id, GameServer::default());
            state.game_writes(id);
        }
    }

    async fn deallocate(&self, _: i64) -> Result<(), Failed> {
        Ok(())
    }

    async fn read(&self, server: i64) -> Result<Server, Failed> {
        Turn(false).await;
        if self.model.faults && self.model.choose(2) == 1 {
            return Err(Failed::Unclear);
        }
        Ok(self.model.state().server(server))
    }

    async fn write(&self, server: i64, metadata: Map<String, Value>) -> Result<Server, Failed> {
        Turn(false).await;
        let fate = self.model.fate(true);
        let mut state = self.model.state();
        match fate {
            0 => state.merge(server, metadata),
            1 => return Err(Failed::Unclear),
            2 => {
                state.merge(server, metadata);
                return Err(Failed::Unclear);
            }
            _ => {
                state.late.push((server, metadata));
                return Err(Failed::Unclear);
            }
        }
        Ok(state.server(server))
    }

    fn match_api(&self, server: &Server) -> Option<String> {
        Some(server.id.to_string())
    }

    async fn start(&self, api: &str, fence: u64, record: &Match) -> Started {
        Turn(false).await;
        let fate = self.model.fate(false);
        let mut state = self.model.state();
        if fate == 1 {
            return Started::Unclear;
        }
        let started = state.start(server_of(api), &record.id, fence, self.model.has_fences);
        if fate == 2 { Started::Unclear } else { started }
    }

    async fn finish(&self, api: &str, fence: u64, match_id: &str, _: &str) -> Finished {
        Turn(false).await;
        let fate = self.model.fate(false);
        let mut state = self.model.state();
        if fate == 1 {
            return Finished::Unclear;
        }
        let finished = state.finish(server_of(api), match_id, fence);
        if fate == 2 {
            Finished::Unclear
        } else {
            finished
        }
    }

    async fn doing(&self, api: &str) -> Doing {
        Turn(false).await;
        if !self.model.has_fences {
            return Doing::Unknown;
        }
        if self.model.faults && self.model.choose(2) == 1 {
            return Doing::Unclear;
        }
        let state = self.model.state();
        match &state.games[&server_of(api)].running {
            Some(id) => Doing::Runs(id.clone()),
            None => Doing::Nothing,
        }
    }

    fn plan_voice(&self, _: &Match, _: &Server) -> Option<VoicePlan> {
        None
    }

    async fn close_voice(&self, _: &Match) {}
}

/// What the store says runs must run: nobody is told of a match that does not.
pub(super) fn check_running(state: &mut State, id: &str, record: &Match) {
    let Stage::Running(hold) = &record.stage else {
        return;
    };
    let before = state.documents.get(&Key::Match(id.to_owned()));
    let before: Option<Match> = before.map(|(_, text, _)| serde_json::from_str(text).unwrap());
    let is_new = before.is_none_or(|it| !matches!(it.stage, Stage::Running(_)));
    if is_new && state.games[&hold.server].running.as_deref() != Some(id) {
        state
            .violations
            .push(format!("{id} is said to run on server {}", hold.server));
    }
    for (key, (_, text, _)) in &state.documents {
        if let Key::Match(other) = key
            && other != id
            && let Ok(other) = serde_json::from_str::<Match>(text)
            && matches!(&other.stage, Stage::Running(it) if it.server == hold.server)
        {
            state.violations.push(format!(
                "{id} and {} are both said to run on one server",
                other.id
            ));
            return;
        }
    }
}

/// Word of the end of a creation is written together with that end, once.
pub(super) fn check_delivery(state: &mut State, record: &Match, commit: &Commit) {
    if record.background.is_none() {
        return;
    }
    let before = state.documents.get(&Key::Match(record.id.clone()));
    let before: Option<Match> = before.map(|(_, text, _)| serde_json::from_str(text).unwrap());
    let ends = record.is_made() && !before.is_some_and(|it| it.is_made());
    let puts = commit.put.iter();
    let told = puts.filter(|put| put.key == Key::Webhook(record.id.clone()));
    if told.count() != usize::from(ends) {
        let id = &record.id;
        let text = format!("word of {id} is written {ends} with its end");
        state.violations.push(text);
    }
}
