//! Whole fleets under a virtual clock: servers that fall silent and come back, answers that are lost, users that are
//! banned or muted, and hundreds of rooms; the same seed makes the same run.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use gateway_api::{KeyId, Span};

use super::*;

mod mutes;
mod scenarios;

const SERVERS: usize = 8;
const ROOMS: usize = 200;
const USERS: usize = 40;

/// Rooms that mutes are for, and users: few, so that the same two are muted and unmuted again and again.
const MUTED_ROOMS: usize = 20;
const MUTED_USERS: usize = 3;

/// Ten years, in seconds: a mute that is to be taken back.
const LONG_SECS: u64 = 315_360_000;

/// A room, who is not heard in it, and who does not hear.
type Muted = (RoomId, String, Option<String>);

/// A voice server as far as a gateway is concerned.
#[derive(Debug, Default)]
struct Sfu {
    acknowledges: bool,
    is_draining: bool,
    silent_until: u64,
    next_report: u64,
    /// Peers by room; a room lives as long as somebody is in it.
    rooms: BTreeMap<RoomId, BTreeSet<String>>,
    last_task: u64,
    done: Vec<Task>,
    /// Until when.
    mutes: BTreeMap<Muted, u64>,
}

impl Sfu {
    fn carry_out(&mut self, task: &Task, now: u64) {
        match task {
            Task::RoomClose { id, .. } => drop(self.rooms.remove(id)),
            Task::RoomBanClient { id, user_id, .. } => {
                if let Some(peers) = self.rooms.get_mut(id) {
                    peers.remove(user_id);
                }
            }
            Task::RoomMuteClient { mute_time, .. } => {
                let until = Timestamp(now).after((*mute_time).into()).0;
                self.mutes.extend(muted(task).map(|it| (it, until)));
            }
            Task::RoomUnmuteClient { .. } => {
                let lifted = muted(task);
                self.mutes.retain(|it, _| Some(it) != lifted.as_ref());
            }
            Task::RoomUpdate { .. } | Task::RoomSendMessage { .. } => {}
        }
        self.rooms.retain(|_, peers| !peers.is_empty());
        self.done.push(task.clone());
    }

    /// The process ends and another one begins under its address.
    fn restart(&mut self) {
        self.rooms.clear();
        self.mutes.clear();
        self.last_task = 0;
    }
}

/// What a task mutes or unmutes.
fn muted(task: &Task) -> Option<Muted> {
    match task {
        Task::RoomMuteClient {
            id,
            user_id,
            listener_id,
            ..
        }
        | Task::RoomUnmuteClient {
            id,
            user_id,
            listener_id,
        } => Some((id.clone(), user_id.clone(), listener_id.clone())),
        _ => None,
    }
}

struct World {
    random: Rng,
    now: u64,
    timing: Timing,
    grid: Grid,
    /// Gets the same commands.
    replica: Grid,
    sfus: Vec<Sfu>,
    /// What acknowledging servers must carry out, in this order.
    wanted: Vec<Vec<Task>>,
    bans: Vec<(RoomId, String, u64)>,
    /// Until when.
    mutes: BTreeMap<Muted, u64>,
    loses_answers: bool,
}

fn address(server: usize) -> String {
    format!("s{server}.test:4433")
}

fn room(at: usize) -> RoomId {
    // Some rooms share a tag.
    let name = match at % 10 {
        0 => format!("{{tag{}}}{at}", at / 50),
        _ => format!("room{at}"),
    };
    ("ns".to_owned(), name).into()
}

impl World {
    fn new(seed: u64) -> Self {
        let sfu = |at| Sfu {
            acknowledges: at % 2 == 0,
            ..Sfu::default()
        };
        Self {
            random: Rng::with_seed(seed),
            now: 1_700_000_000_000,
            timing: Timing {
                remove_timeout: Duration::from_secs(60),
                ..Timing::default()
            },
            grid: Grid::default(),
            replica: Grid::default(),
            sfus: (0..SERVERS).map(sfu).collect(),
            wanted: vec![Vec::new(); SERVERS],
            bans: Vec::new(),
            mutes: BTreeMap::new(),
            loses_answers: true,
        }
    }

    fn apply(&mut self, action: Action) -> Outcome {
        let id = self.random.u64(..);
        let command = Command { id, action };
        let now = Timestamp(self.now);
        let applied = self.grid.apply(&command, now, &self.timing);
        let text = serde_json::to_string(&command).unwrap();
        let same = serde_json::from_str(&text).unwrap();
        let replied = self.replica.apply(&same, now, &self.timing);
        assert_eq!(applied, replied);
        applied.outcome
    }

    fn report(&mut self, at: usize) {
        let sfu = &self.sfus[at];
        let reported = |(id, peers): (&RoomId, &BTreeSet<String>)| ReportedRoom {
            id: id.clone(),
            customer: "c".to_owned(),
            age: Span::default(),
            peers: peers.len() as u64,
        };
        let report = ServerReport {
            server: ServerRef {
                pool: String::new(),
                address: address(at),
            },
            key_id: KeyId::from(format!("key{at}")),
            version: "1".to_owned(),
            load: sfu.rooms.len() as f64 / ROOMS as f64,
            clients: 0,
            rooms: sfu.rooms.iter().map(reported).collect(),
            acknowledged: sfu.acknowledges.then_some(sfu.last_task),
            released: None,
            draining: sfu.is_draining,
        };
        let Outcome::Tasks(Ok(delivery)) = self.apply(Action::Report(report)) else {
            panic!("a report brings tasks");
        };
        let is_lost = self.loses_answers && self.random.u8(..100) < 20;
        if is_lost {
            return;
        }
        let sfu = &mut self.sfus[at];
        for waiting in delivery.tasks {
            let is_new = !sfu.acknowledges || waiting.id > sfu.last_task;
            if is_new {
                sfu.last_task = waiting.id;
                sfu.carry_out(&waiting.task, self.now);
            }
        }
    }

    fn connect(&mut self) {
        let room = room(self.random.usize(..ROOMS));
        let user = format!("u{}", self.random.usize(..USERS));
        let connect = Connect {
            pool: String::new(),
            rooms: vec![room.clone()],
            customer: "c".to_owned(),
            user: user.clone(),
            forced: None,
            preferred: self.wish(),
            pick: Pick::Roll(self.random.u64(..)),
        };
        let preferred = connect.preferred.clone();
        let home = self.grid.server_of_room("", room.hash());
        let wanted = [home.map(str::to_owned), preferred].into_iter().flatten();
        let wanted = wanted.into_iter().find(|it| self.usable().contains(it));
        let nobody_is_there = self.usable().is_empty();
        let outcome = self.apply(Action::Connect(connect));
        let now = self.now;
        let is_banned = self
            .bans
            .iter()
            .any(|(banned, who, until)| *banned == room && *who == user && *until > now);
        match outcome {
            Outcome::Connected(Ok(address)) => {
                assert!(!is_banned, "{user} is banned from {room:?}");
                assert_eq!(wanted.unwrap_or_else(|| address.clone()), address);
                self.join(&address, room, user);
            }
            Outcome::Connected(Err(refused)) => {
                let is_right = match refused {
                    Refused::NoServer => nobody_is_there,
                    _ => is_banned,
                };
                assert!(is_right, "{refused:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// One of four tokens wishes for a server: one that is there, or was, or never will be.
    fn wish(&mut self) -> Option<String> {
        let at = self.random.usize(..4 * (SERVERS + 1));
        (at <= SERVERS).then(|| address(at))
    }

    /// The servers that take rooms.
    fn usable(&self) -> Vec<String> {
        let servers = self.grid.pool("").into_iter().flat_map(Pool::servers);
        let usable = servers.filter(|(_, server)| !server.disabled);
        usable.map(|(address, _)| address.to_owned()).collect()
    }

    fn join(&mut self, to: &str, room: RoomId, user: String) {
        let at = (0..SERVERS).find(|at| address(*at) == to).unwrap();
        let now = self.now;
        if self.sfus[at].silent_until <= now {
            self.sfus[at].rooms.entry(room).or_default().insert(user);
        }
    }

    fn ban(&mut self) {
        let room = room(self.random.usize(..ROOMS));
        let user = format!("u{}", self.random.usize(..USERS));
        let secs = self.random.u64(..120);
        let task = Task::RoomBanClient {
            id: room.clone(),
            user_id: user.clone(),
            ban_time: Duration::from_secs(secs).into(),
        };
        if self.moderate(&task) {
            self.bans.push((room, user, self.now + secs * 1000));
        }
    }

    fn mute(&mut self) {
        let secs = match self.random.bool() {
            true => LONG_SECS,
            false => self.random.u64(1..60),
        };
        let muted = self.two_users();
        let task = Task::RoomMuteClient {
            id: muted.0.clone(),
            user_id: muted.1.clone(),
            listener_id: muted.2.clone(),
            mute_time: Duration::from_secs(secs).into(),
            reason: "noise".to_owned(),
        };
        if self.moderate(&task) {
            self.mutes.insert(muted, self.now + secs * 1000);
        }
    }

    fn unmute(&mut self) {
        let muted = self.two_users();
        let task = Task::RoomUnmuteClient {
            id: muted.0.clone(),
            user_id: muted.1.clone(),
            listener_id: muted.2.clone(),
        };
        self.moderate(&task);
        self.mutes.remove(&muted);
    }

    fn two_users(&mut self) -> Muted {
        let mut user = || format!("u{}", self.random.usize(..MUTED_USERS));
        let (user, listener) = (user(), user());
        let listener = self.random.bool().then_some(listener);
        (room(self.random.usize(..MUTED_ROOMS)), user, listener)
    }

    /// Whether somebody does as is asked: the room's server, or the gateway for a mute whose room is on none.
    fn moderate(&mut self, task: &Task) -> bool {
        let server = self.grid.server_of_room("", task.room().hash());
        let at = server.and_then(|server| (0..SERVERS).find(|at| address(*at) == server));
        let until = muted(task).and_then(|it| self.mutes.get(&it).copied());
        let is_unmute = matches!(task, Task::RoomUnmuteClient { .. });
        let outcome = self.apply(Action::Moderate {
            pool: String::new(),
            task: task.clone(),
        });
        match (outcome, at) {
            (Outcome::Moderated(Ok(())), Some(at)) => {
                self.wanted[at].push(task.clone());
                true
            }
            (Outcome::Moderated(Ok(())), None) => {
                assert!(is_unmute && until.is_some(), "{task:?}");
                true
            }
            (Outcome::Moderated(Err(Refused::NoRoom)), None) => {
                // What is over is forgotten with a tick.
                assert!(
                    !is_unmute || until.is_none_or(|it| it <= self.now),
                    "{task:?}"
                );
                false
            }
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self) {
        let at = self.random.usize(..SERVERS);
        let rooms = &mut self.sfus[at].rooms;
        let mut left = self.random.usize(..3);
        rooms.retain(|_, peers| {
            if left > 0 {
                left -= 1;
                peers.pop_first();
            }
            !peers.is_empty()
        });
    }

    /// From now on everybody is heard, and wants to serve.
    fn calm_down(&mut self) {
        self.loses_answers = false;
        for sfu in &mut self.sfus {
            sfu.is_draining = false;
        }
    }

    /// A tenth of a second.
    fn step(&mut self, is_wild: bool) {
        self.now += 100;
        for at in 0..SERVERS {
            if self.sfus[at].next_report <= self.now && self.sfus[at].silent_until <= self.now {
                self.sfus[at].next_report = self.now + 5_000;
                self.report(at);
            }
        }
        if self.now.is_multiple_of(5_000) {
            let silence_counts = true;
            self.apply(Action::Tick { silence_counts });
        }
        if !is_wild {
            return;
        }
        match self.random.u8(..100) {
            0..60 => self.connect(),
            60..80 => self.leave(),
            80..85 => self.ban(),
            85..88 => self.mute(),
            88..90 => self.unmute(),
            90 => {
                let at = self.random.usize(..SERVERS);
                // Shorter than the removal timeout: the server keeps its rooms meanwhile.
                let until = self.now + self.random.u64(1_000..40_000);
                let sfu = &mut self.sfus[at];
                if sfu.next_report > self.now {
                    sfu.silent_until = until.max(sfu.silent_until);
                }
            }
            91 => {
                let at = self.random.usize(..SERVERS);
                self.sfus[at].is_draining ^= true;
            }
            92 if self.random.u8(..4) == 0 => {
                let at = self.random.usize(..SERVERS);
                self.sfus[at].restart();
            }
            _ => {}
        }
    }
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..6_000 {
        world.step(true);
    }
    world
}

#[test]
fn rooms_live_on_one_server_once_all_have_spoken() {
    for seed in 0..6 {
        let mut world = run(seed);
        world.calm_down();
        // Everybody is back, and has heard of collisions.
        for _ in 0..600 {
            world.step(false);
        }
        let mut homes: BTreeMap<RoomHash, usize> = BTreeMap::new();
        for (at, sfu) in world.sfus.iter().enumerate() {
            for room in sfu.rooms.keys() {
                let home = *homes.entry(room.hash()).or_insert(at);
                assert_eq!(home, at, "seed {seed}: {room:?}");
            }
        }
        assert!(homes.len() > 20, "seed {seed}: {} rooms", homes.len());
        for (hash, at) in homes {
            let bound = world.grid.server_of_room("", hash);
            assert_eq!(bound, Some(address(at).as_str()), "seed {seed}");
        }
    }
}

#[test]
fn an_acknowledging_server_carries_out_every_task_once_and_in_order() {
    for seed in 100..106 {
        let mut world = run(seed);
        world.calm_down();
        for _ in 0..600 {
            world.step(false);
        }
        let mut checked = 0;
        for (at, sfu) in world
            .sfus
            .iter()
            .enumerate()
            .filter(|(_, it)| it.acknowledges)
        {
            // Beside what customers asked for, there are closed strays and bans that followed a room.
            let mut done = sfu.done.iter();
            for task in &world.wanted[at] {
                assert!(done.any(|it| it == task), "seed {seed}: {task:?}");
                checked += 1;
            }
            let waiting = world
                .grid
                .pool("")
                .and_then(|pool| pool.server(&address(at)));
            assert_eq!(waiting.unwrap().tasks_waiting(), 0, "seed {seed}");
        }
        assert!(checked > 0, "seed {seed}");
    }
}

#[test]
fn a_grid_is_read_back_as_it_was_and_goes_on_alike() {
    let mut world = run(200);
    let text = serde_json::to_string(&world.grid).unwrap();
    world.replica = serde_json::from_str(&text).unwrap();
    assert_eq!(world.replica, world.grid);
    for _ in 0..2_000 {
        world.step(true);
    }
    assert_eq!(world.replica, world.grid);
}
