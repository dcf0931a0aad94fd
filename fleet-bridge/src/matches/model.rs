//! The claim protocol, explored: the real steps of [`super::flow`], [`super::obtain`] and [`super::sweep`] run over a
//! model of the store, the Fleet and the game servers, in every order that a bounded number of switches between
//! bridges allows, with faults, crashes and late writes; and then in many more orders drawn by seed.

mod chance;
mod checks;
mod outside;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use serde_json::Map;

use self::{
    chance::{Chance, Drawn, Exhaustive},
    checks::{check_answers, check_quiet, check_scaled},
    outside::{Bridge, GameServer, Model, PACE, State},
};
use super::{
    claim::Judge,
    flow::{Work, read_match, read_server},
    obtain::{Obtained, Wish, begin, obtain},
    record::{Background, Match, Reason, Stage, WORK_TIME},
    request::{MatchRequest, Player, VoiceWish},
    sweep,
    world::World,
};
use crate::{
    model::Keys,
    store::{Key, Timestamp},
};

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
    // The last has found something once.
    for seed in (0..500).chain([1681]) {
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
