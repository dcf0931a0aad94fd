//! The claim protocol, explored: the real steps of [`super::flow`], [`super::obtain`] and [`super::sweep`] run over a
//! model of the store, the Fleet and the game servers, in every order that a bounded number of switches between
//! bridges allows, with faults, crashes and late writes; and then in many more orders drawn by seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::{
    claim::{self, Claim, Judge},
    delivery::Delivery,
    flow::{SCALE_PAUSE, Work, read_match, read_server},
    obtain::{Obtained, Wish, begin, obtain},
    record::{Background, Match, Reason, ServerClaim, Stage, VoicePlan, WORK_TIME},
    request::{MatchRequest, Player, VoiceWish},
    sweep,
    world::{Doing, Failed, Finished, Pace, Started, World},
};
use crate::{
    model::{Keys, Server},
    store::{Commit, Committed, Document, Key, Timestamp, Unavailable, Version},
};

/// Answers all questions of one run: which bridge goes on, what goes wrong.
trait Chance {
    /// One of `options`, of which the first is the ordinary one.
    fn choose(&mut self, options: usize) -> usize;
}

/// Every run there is, one after another: as a number whose digits are the choices, counted up.
#[derive(Default)]
struct Exhaustive {
    digits: Vec<(usize, usize)>,
    at: usize,
    /// Choices other than the ordinary one that a run may still make.
    budget: usize,
    left: usize,
}

impl Exhaustive {
    fn with_budget(budget: usize) -> Self {
        Self {
            budget,
            left: budget,
            ..Self::default()
        }
    }

    /// Goes on to the next run; `false` when all have been seen.
    fn next(&mut self) -> bool {
        self.at = 0;
        self.left = self.budget;
        while let Some((choice, options)) = self.digits.pop() {
            if choice + 1 < options {
                self.digits.push((choice + 1, options));
                return true;
            }
        }
        false
    }
}

impl Chance for Exhaustive {
    fn choose(&mut self, options: usize) -> usize {
        let options = if self.left == 0 { 1 } else { options };
        if self.at == self.digits.len() {
            self.digits.push((0, options));
        }
        let (choice, _) = self.digits[self.at];
        self.at += 1;
        self.left -= usize::from(choice > 0);
        choice
    }
}

/// Draws runs; the ordinary choice is the likely one.
struct Drawn(fastrand::Rng);

impl Chance for Drawn {
    fn choose(&mut self, options: usize) -> usize {
        if options < 2 || self.0.u8(..) < 170 {
            return 0;
        }
        self.0.usize(..options)
    }
}

/// A game server: what it runs, and the fences it has seen.
#[derive(Default)]
struct GameServer {
    running: Option<String>,
    fence: u64,
    finished: u64,
}

#[derive(Default)]
struct State {
    now: u64,
    documents: BTreeMap<Key, (u64, String, Option<Timestamp>)>,
    metadata: BTreeMap<i64, Map<String, Value>>,
    games: BTreeMap<i64, GameServer>,
    /// Updates whose caller has given up and that have not arrived yet.
    late: Vec<(i64, Map<String, Value>)>,
    /// For which record a server was added, and when.
    scaled: Vec<(String, u64)>,
    random: u64,
    /// Until when the task that has just been polled sleeps.
    sleeps_until: u64,
    violations: Vec<String>,
}

/// The model, shared by all bridges of a run.
struct Model<C> {
    state: Mutex<State>,
    chance: Mutex<C>,
    /// Game servers that know fences, and late writes, which only those survive.
    has_fences: bool,
    faults: bool,
    /// Nothing goes wrong after this time.
    horizon: u64,
}

/// One bridge's view of the model.
struct Bridge<C> {
    model: Arc<Model<C>>,
    keys: Keys,
    pace: Pace,
}

const PACE: Pace = Pace {
    claim: Duration::from_secs(20),
    occupied: Duration::from_secs(2),
    start_attempts: 2,
    avoid: Duration::from_secs(5),
    keep: Duration::from_secs(600),
};

/// Lets others run; becomes ready the second time.
struct Turn(bool);

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
struct Until<'a, C>(&'a Model<C>, u64);

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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl<C: Chance> Model<C> {
    fn choose(&self, options: usize) -> usize {
        if options < 2 || self.state().now > self.horizon {
            return 0;
        }
        self.chance.lock().unwrap().choose(options)
    }

    /// 0: it happens; 1: it does not, and no answer comes; 2: it happens, and no answer comes; 3: it happens later.
    fn fate(&self, can_be_late: bool) -> usize {
        if !self.faults {
            return 0;
        }
        self.choose(if can_be_late && self.has_fences { 4 } else { 3 })
    }
}

impl State {
    fn server(&self, id: i64) -> Server {
        let mut metadata = self.metadata[&id].clone();
        metadata.insert("game_port".to_owned(), 7777.into());
        Server {
            metadata,
            address: Some("127.0.0.1".to_owned()),
            ..Server::sample(id)
        }
    }

    fn merge(&mut self, id: i64, update: Map<String, Value>) {
        self.metadata.entry(id).or_default().extend(update);
    }

    fn game_writes(&mut self, id: i64) {
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

    fn start(&mut self, id: i64, match_id: &str, fence: u64, has_fences: bool) -> Started {
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

    fn finish(&mut self, id: i64, match_id: &str, fence: u64) -> Finished {
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

fn server_of(api: &str) -> i64 {
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
fn check_running(state: &mut State, id: &str, record: &Match) {
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
fn check_delivery(state: &mut State, record: &Match, commit: &Commit) {
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

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What one run does.
#[derive(Clone, Copy)]
struct Script {
    servers: i64,
    /// Keys of the requests, one a bridge.
    requests: &'static [&'static str],
    /// Keys of the creations, one a bridge.
    creations: &'static [&'static str],
    has_fences: bool,
    faults: bool,
    crashes: bool,
}

const PLAYED: Duration = Duration::from_secs(3);
const LEASE_SECONDS: u64 = 30;

fn wish(key: &str, now: Timestamp) -> Wish {
    let player = |name: &str| Player {
        user_id: name.to_owned(),
        team: None,
        latencies: Vec::new(),
    };
    Wish {
        key: Some(key.to_owned()),
        digest: key.to_owned(),
        request: MatchRequest {
            selectors: Vec::new(),
            players: vec![player("a"), player("b")],
            max_players: Some(2),
            settings: Map::new(),
            voice: VoiceWish::default(),
            lease_seconds: Some(LEASE_SECONDS),
            deadline_ms: None,
        },
        give_up_at: now + Duration::from_secs(10),
        background: None,
    }
}

/// A bridge with one request: the match is made, played and released.
async fn request<C: Chance + Send>(
    bridge: Bridge<C>,
    key: &'static str,
    answers: Arc<Mutex<Vec<(String, Match)>>>,
) {
    let wish = wish(key, bridge.now());
    let obtained = obtain(&bridge, &wish, Duration::from_secs(5)).await;
    let Ok(Obtained::Match(record)) = obtained else {
        return;
    };
    if !matches!(record.stage, Stage::Running(_)) {
        return;
    }
    answers
        .lock()
        .unwrap()
        .push((key.to_owned(), (*record).clone()));
    bridge.sleep(PLAYED).await;
    let read = read_match(&bridge, &record.id).await.unwrap();
    if let Some(read) = read {
        // Whatever stops this, the sweep goes on with it.
        let _ = Work::on(&bridge, read).stop(Reason::Released).await;
    }
}

/// A bridge with one creation: it is written down, and whoever finds it due goes on with it.
async fn create<C: Chance + Send>(
    bridge: Bridge<C>,
    key: &'static str,
    answers: Arc<Mutex<Vec<(String, Match)>>>,
) {
    let now = bridge.now();
    let mut wish = wish(key, now);
    wish.request.players.clear();
    wish.give_up_at = now + CREATE_TIME;
    wish.background = Some(Background {
        may_scale: true,
        scaled_at: None,
        webhook: Some("https://example.com".to_owned()),
    });
    let Ok(Obtained::Match(record)) = begin(&bridge, &wish).await else {
        return;
    };
    let mut begun = (*record).clone();
    begun.place = None;
    answers.lock().unwrap().push((key.to_owned(), begun));
    for _ in 0..3 {
        let _ = sweep::resume(&bridge, &record.id).await;
        bridge.sleep(Duration::from_secs(1)).await;
    }
}

/// A bridge that looks after what is left: the sweep, as the driver runs it.
async fn sweeper<C: Chance + Send>(bridge: Bridge<C>) {
    loop {
        bridge.sleep(Duration::from_secs(2)).await;
        let now = bridge.now();
        let due: Vec<_> = bridge
            .model
            .state()
            .documents
            .iter()
            .filter_map(|(key, (_, _, due))| match key {
                Key::Match(id) if due.is_some_and(|due| due <= now) => Some(id.clone()),
                _ => None,
            })
            .collect();
        for id in due {
            let _ = sweep::resume(&bridge, &id).await;
        }
        let servers: Vec<i64> = bridge.model.state().games.keys().copied().collect();
        for server in servers {
            let known = read_server(&bridge, server).await.unwrap().0;
            let seen = bridge.model.state().server(server);
            let judge = Judge {
                keys: &bridge.keys,
                owner: "ours",
                heartbeat: None,
                now: bridge.now(),
            };
            if sweep::is_suspicious(&seen, &known, &judge) {
                let _ = sweep::check(&bridge, server).await;
            }
        }
    }
}

/// How long a creation looks for a server: longer than until one is scaled up again.
const CREATE_TIME: Duration = Duration::from_secs(20);

/// When every run begins.
const START: u64 = 1_800_000_000_000;

/// Milliseconds in which things may go wrong: two matches after one another fit into it.
const HORIZON: u64 = 15_000;

/// Milliseconds after which every lease and every worker's time has certainly ended, and several sweeps have passed.
const QUIET: u64 = 1_000 * (LEASE_SECONDS + 3 * WORK_TIME.as_secs());

fn run<C: Chance + Send + 'static>(script: Script, chance: C) -> (C, Vec<String>) {
    let mut state = State {
        now: START,
        ..State::default()
    };
    for id in 1..=script.servers {
        state.games.insert(id, GameServer::default());
        state.game_writes(id);
    }
    let model = Arc::new(Model {
        state: Mutex::new(state),
        chance: Mutex::new(chance),
        has_fences: script.has_fences,
        faults: script.faults,
        horizon: START + HORIZON,
    });
    let bridge = || Bridge {
        model: Arc::clone(&model),
        keys: Keys::default(),
        pace: PACE,
    };
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut tasks: Vec<Option<Task>> = Vec::new();
    for key in script.requests {
        tasks.push(Some(Box::pin(request(bridge(), key, Arc::clone(&answers)))));
    }
    for key in script.creations {
        tasks.push(Some(Box::pin(create(bridge(), key, Arc::clone(&answers)))));
    }
    tasks.push(Some(Box::pin(sweeper(bridge()))));
    schedule(&model, script, &mut tasks);
    drop(tasks);
    check_answers(&model, &answers.lock().unwrap());
    check_quiet(&model);
    check_scaled(&model);
    let Ok(model) = Arc::try_unwrap(model) else {
        panic!("everybody else is gone")
    };
    (
        model.chance.into_inner().unwrap(),
        model.state.into_inner().unwrap().violations,
    )
}

/// Lets the bridges take turns: one goes on until it sleeps, unless a choice says otherwise. The last task is the sweep,
/// which never crashes: somebody is always there in the end.
fn schedule<C: Chance>(model: &Model<C>, script: Script, tasks: &mut [Option<Task>]) {
    let mut context = Context::from_waker(Waker::noop());
    let sweep = tasks.len() - 1;
    let mut wakes = vec![0; tasks.len()];
    let mut crashes = usize::from(script.crashes);
    let mut current = 0;
    loop {
        let now = model.state().now;
        let alive = (0..tasks.len()).filter(|at| tasks[*at].is_some());
        let next = alive.clone().map(|at| wakes[at]).min().unwrap_or(u64::MAX);
        if next > now {
            if next > model.horizon + QUIET {
                return;
            }
            model.state().now = next;
            continue;
        }
        let mut ready: Vec<usize> = alive.filter(|at| wakes[*at] <= now).collect();
        ready.sort_by_key(|at| (*at != current, *at));
        current = ready[model.choose(ready.len())];
        if crashes > 0 && current != sweep && model.choose(2) == 1 {
            crashes -= 1;
            tasks[current] = None;
            continue;
        }
        if !model.state().late.is_empty() && (model.choose(2) == 1 || now > model.horizon) {
            let mut state = model.state();
            let (server, update) = state.late.remove(0);
            state.merge(server, update);
        }
        model.state().sleeps_until = 0;
        let task = tasks[current].as_mut().expect("it is alive");
        if task.as_mut().poll(&mut context).is_ready() {
            tasks[current] = None;
        }
        wakes[current] = model.state().sleeps_until;
    }
}

/// The same key never gives two matches, or one match in two places.
fn check_answers<C>(model: &Model<C>, answers: &[(String, Match)]) {
    let mut places: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (key, record) in answers {
        let place = record.place.as_ref().map(|place| place.server);
        places
            .entry(key)
            .or_default()
            .insert(format!("{} on {place:?}", record.id));
    }
    for (key, places) in places {
        if places.len() > 1 {
            model
                .state()
                .violations
                .push(format!("{key} gave {places:?}"));
        }
    }
}

/// No record has a setting scaled up twice within the pause.
fn check_scaled<C>(model: &Model<C>) {
    let mut state = model.state();
    let scaled = std::mem::take(&mut state.scaled);
    let pause = u64::try_from(SCALE_PAUSE.as_millis()).unwrap();
    for (at, (id, time)) in scaled.iter().enumerate() {
        let earlier = scaled.iter().take(at).filter(|(other, _)| other == id);
        if earlier.into_iter().any(|(_, before)| time - before < pause) {
            let text = format!("scaled up for {id} more than once: {scaled:?}");
            state.violations.push(text);
        }
    }
}

/// In the end nothing is left: every server is idle and free, and every record is over.
fn check_quiet<C>(model: &Model<C>) {
    let mut state = model.state();
    let mut left = Vec::new();
    for (id, game) in &state.games {
        let server = state.server(*id);
        if game.running.is_some() || claim::state(&server, &Keys::default()) != claim::IDLE {
            left.push(format!(
                "server {id} is not idle in the end: {:?} {:?}",
                game.running, server.metadata
            ));
        }
        if Claim::read(&server.metadata).is_some() {
            left.push(format!(
                "server {id} is claimed in the end: {:?}",
                server.metadata
            ));
        }
    }
    for (key, (_, text, _)) in &state.documents {
        match key {
            Key::Match(id) => {
                let record: Match = serde_json::from_str(text).unwrap();
                if !matches!(record.stage, Stage::Ended(_)) {
                    left.push(format!("{id} is not over in the end: {:?}", record.stage));
                }
            }
            Key::Server(id) => {
                let claim: ServerClaim = serde_json::from_str(text).unwrap();
                if claim.match_id.is_some() {
                    left.push(format!("server {id} is not free in the end"));
                }
            }
            Key::Webhook(id) => {
                let delivery: Delivery = serde_json::from_str(text).unwrap();
                if delivery.attempts > 0 {
                    left.push(format!("word of {id} was sent by nobody"));
                }
            }
            Key::Idempotency(_) | Key::View(_) => {}
        }
    }
    state.violations.extend(left);
}

/// Explores all runs in which at most `budget` choices are not the ordinary ones.
fn explore(script: Script, budget: usize) -> usize {
    let mut chance = Exhaustive::with_budget(budget);
    let mut runs = 0;
    loop {
        let (after, violations) = run(script, chance);
        runs += 1;
        chance = after;
        let choices = chance
            .digits
            .iter()
            .enumerate()
            .filter(|(_, (choice, _))| *choice > 0);
        let choices: Vec<_> = choices.map(|(at, (choice, _))| (at, *choice)).collect();
        assert!(
            violations.is_empty(),
            "run {runs}, choices {choices:?}: {violations:#?}"
        );
        if !chance.next() {
            return runs;
        }
    }
}

const TWO_FOR_ONE: Script = Script {
    servers: 1,
    requests: &["one", "two"],
    creations: &[],
    has_fences: false,
    faults: false,
    crashes: false,
};

#[test]
fn no_order_of_two_bridges_gives_one_server_twice() {
    let runs = explore(TWO_FOR_ONE, 3);
    assert!(runs > 1_000, "{runs} runs");
}

#[test]
fn a_request_that_is_repeated_elsewhere_gives_one_match() {
    let script = Script {
        servers: 2,
        requests: &["one", "one"],
        ..TWO_FOR_ONE
    };
    let runs = explore(script, 3);
    assert!(runs > 1_000, "{runs} runs");
}

#[test]
fn a_bridge_that_dies_at_any_step_leaves_nothing_behind() {
    let script = Script {
        crashes: true,
        ..TWO_FOR_ONE
    };
    let runs = explore(script, 2);
    assert!(runs > 500, "{runs} runs");
}

#[test]
fn two_faults_anywhere_do_no_harm() {
    let script = Script {
        has_fences: true,
        faults: true,
        crashes: true,
        ..TWO_FOR_ONE
    };
    let runs = explore(script, 2);
    assert!(runs > 1_000, "{runs} runs");
}

#[test]
fn a_creation_goes_on_and_scales_once_whoever_dies() {
    let script = Script {
        servers: 0,
        requests: &[],
        creations: &["one"],
        has_fences: true,
        faults: true,
        crashes: true,
    };
    let runs = explore(script, 2);
    assert!(runs > 500, "{runs} runs");
}

#[test]
fn a_creation_that_is_repeated_elsewhere_is_one() {
    let script = Script {
        requests: &[],
        creations: &["one", "one"],
        ..TWO_FOR_ONE
    };
    let runs = explore(script, 3);
    assert!(runs > 1_000, "{runs} runs");
}

#[test]
fn many_faults_at_random_do_no_harm() {
    for seed in 0..400 {
        for has_fences in [false, true] {
            let script = Script {
                servers: 2,
                requests: &["one", "two", "three", "one"],
                creations: &["four"],
                has_fences,
                faults: true,
                crashes: true,
            };
            let (_, violations) = run(script, Drawn(fastrand::Rng::with_seed(seed)));
            assert!(
                violations.is_empty(),
                "seed {seed}, fences {has_fences}: {violations:#?}"
            );
        }
    }
}
