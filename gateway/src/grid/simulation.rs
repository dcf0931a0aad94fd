//! Whole fleets under a virtual clock: servers that fall silent and come back, answers that are lost, users that are
//! banned, and hundreds of rooms; the same seed makes the same run.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use gateway_api::{KeyId, Span};

use super::*;

const SERVERS: usize = 8;
const ROOMS: usize = 200;
const USERS: usize = 40;

/// A voice server as far as a gateway is concerned.
#[derive(Debug, Default)]
struct Sfu {
    acknowledges: bool,
    silent_until: u64,
    next_report: u64,
    /// Peers by room; a room lives as long as somebody is in it.
    rooms: BTreeMap<RoomId, BTreeSet<String>>,
    last_task: u64,
    done: Vec<Task>,
}

impl Sfu {
    fn carry_out(&mut self, task: &Task) {
        match task {
            Task::RoomClose { id, .. } => drop(self.rooms.remove(id)),
            Task::RoomBanClient { id, user_id, .. } => {
                if let Some(peers) = self.rooms.get_mut(id) {
                    peers.remove(user_id);
                }
            }
            Task::RoomUpdate { .. } | Task::RoomSendMessage { .. } => {}
        }
        self.rooms.retain(|_, peers| !peers.is_empty());
        self.done.push(task.clone());
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
                sfu.carry_out(&waiting.task);
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
            pick: Pick::Roll(self.random.u64(..)),
        };
        let outcome = self.apply(Action::Connect(connect));
        let now = self.now;
        let is_banned = self
            .bans
            .iter()
            .any(|(banned, who, until)| *banned == room && *who == user && *until > now);
        match outcome {
            Outcome::Connected(Ok(address)) => {
                assert!(!is_banned, "{user} is banned from {room:?}");
                self.join(&address, room, user);
            }
            Outcome::Connected(Err(refused)) => {
                let is_right = is_banned || refused == Refused::NoServer;
                assert!(is_right, "{refused}");
            }
            other => panic!("{other:?}"),
        }
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
        let server = self.grid.server_of_room("", room.hash()).map(str::to_owned);
        let action = Action::Moderate {
            pool: String::new(),
            task: task.clone(),
        };
        match (self.apply(action), server) {
            (Outcome::Moderated(Ok(())), Some(server)) => {
                self.bans.push((room, user, self.now + secs * 1000));
                let at = (0..SERVERS).find(|at| address(*at) == server).unwrap();
                self.wanted[at].push(task);
            }
            (Outcome::Moderated(Err(Refused::NoRoom)), None) => {}
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
            85 => {
                let at = self.random.usize(..SERVERS);
                // Shorter than the removal timeout: the server keeps its rooms meanwhile.
                let until = self.now + self.random.u64(1_000..40_000);
                let sfu = &mut self.sfus[at];
                if sfu.next_report > self.now {
                    sfu.silent_until = until.max(sfu.silent_until);
                }
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
    for seed in 0..12 {
        let mut world = run(seed);
        world.loses_answers = false;
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
    for seed in 100..112 {
        let mut world = run(seed);
        world.loses_answers = false;
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

#[test]
fn a_ban_follows_its_room_to_another_server() {
    let mut world = World::new(300);
    for at in 0..2 {
        world.report(at);
    }
    let connect = |user: &str, forced: Option<String>| {
        Action::Connect(Connect {
            pool: String::new(),
            rooms: vec![room(1)],
            customer: "c".to_owned(),
            user: user.to_owned(),
            forced,
            pick: Pick::Roll(0),
        })
    };
    let there = Outcome::Connected(Ok(address(0)));
    assert_eq!(world.apply(connect("bob", Some(address(0)))), there);
    let ban = Task::RoomBanClient {
        id: room(1),
        user_id: "bob".to_owned(),
        ban_time: Duration::from_secs(60).into(),
    };
    let action = Action::Moderate {
        pool: String::new(),
        task: ban,
    };
    assert_eq!(world.apply(action), Outcome::Moderated(Ok(())));

    world.now += 10_000;
    world.loses_answers = false;
    world.report(1);
    world.apply(Action::Tick {
        silence_counts: true,
    });
    let moved = Outcome::Connected(Ok(address(1)));
    assert_eq!(
        world.apply(connect("eve", None)),
        moved,
        "server 0 is silent"
    );
    world.report(1);
    let [
        Task::RoomBanClient {
            user_id, ban_time, ..
        },
    ] = world.sfus[1].done.as_slice()
    else {
        panic!("{:?}", world.sfus[1].done);
    };
    assert_eq!((user_id.as_str(), ban_time.secs), ("bob", 50));
    let Outcome::Connected(Err(refused)) = world.apply(connect("bob", None)) else {
        panic!("bob is let in");
    };
    let text = "user is banned from room \"room1\" for another 50 s";
    assert_eq!(refused.to_string(), text);
    world.now += 50_000;
    assert_eq!(world.apply(connect("bob", None)), moved, "the ban is over");
}

#[test]
fn decisions_made_alone_are_kept_and_do_not_undo_others() {
    let mut world = World::new(400);
    for at in 0..2 {
        world.report(at);
    }
    let bind = |at: usize, address: String| Action::Bind {
        pool: String::new(),
        room: room(at),
        customer: "c".to_owned(),
        address,
        instead_of: Vec::new(),
    };
    world.apply(bind(1, address(0)));
    world.apply(bind(1, address(1)));
    world.apply(bind(2, "nobody:1".to_owned()));
    let server = |world: &World, at: usize| {
        world
            .grid
            .server_of_room("", room(at).hash())
            .map(str::to_owned)
    };
    assert_eq!(server(&world, 1), Some(address(0)));
    assert_eq!(server(&world, 2), None);
}

#[test]
fn a_decision_made_alone_replaces_that_of_a_command_nobody_was_told_the_answer_of() {
    let mut world = World::new(600);
    for at in 0..2 {
        world.report(at);
    }
    let connect = |id: u64, forced: Option<String>| Command {
        id,
        action: Action::Connect(Connect {
            pool: String::new(),
            rooms: vec![room(1)],
            customer: "c".to_owned(),
            user: "bob".to_owned(),
            forced,
            pick: Pick::Hash,
        }),
    };
    let bind = |instead_of: &[u64]| Action::Bind {
        pool: String::new(),
        room: room(1),
        customer: "c".to_owned(),
        address: address(1),
        instead_of: instead_of.to_vec(),
    };
    let (now, timing) = (Timestamp(world.now), world.timing);
    let mut server_after = |command: u64, instead_of: &[u64]| {
        let mut grid = world.grid.clone();
        grid.apply(&connect(70, Some(address(0))), now, &timing);
        grid.apply(&connect(command, None), now, &timing);
        let id = world.random.u64(..);
        let action = bind(instead_of);
        grid.apply(&Command { id, action }, now, &timing);
        let server = grid.server_of_room("", room(1).hash());
        server.map(str::to_owned)
    };
    assert_eq!(server_after(71, &[70, 71]), Some(address(1)));
    // Somebody else was sent to the first server since.
    assert_eq!(server_after(72, &[70, 71]), Some(address(0)));
}

#[test]
fn the_id_of_another_gateways_task_acknowledges_nothing() {
    let mut world = World::new(700);
    world.report(0);
    let bind = Action::Bind {
        pool: String::new(),
        room: room(1),
        customer: "c".to_owned(),
        address: address(0),
        instead_of: Vec::new(),
    };
    world.apply(bind);
    let update = |text: u8| Action::Moderate {
        pool: String::new(),
        task: Task::RoomUpdate {
            id: room(1),
            user_data: vec![text],
        },
    };
    for text in 1..=3 {
        assert_eq!(world.apply(update(text)), Outcome::Moderated(Ok(())));
    }
    let ids = |grid: &Grid| -> Vec<u64> {
        let mut grid = grid.clone();
        let server = ServerRef {
            pool: String::new(),
            address: address(0),
        };
        let action = Action::Take { server };
        let (now, timing) = (Timestamp(world.now), Timing::default());
        match grid.apply(&Command { id: 1, action }, now, &timing).outcome {
            Outcome::Tasks(Ok(delivery)) => delivery.tasks.iter().map(|it| it.id).collect(),
            other => panic!("{other:?}"),
        }
    };
    let waiting = ids(&world.grid);
    assert_eq!(waiting.len(), 3);
    let after = |acknowledged: u64| {
        let mut grid = world.grid.clone();
        let action = Action::Report(ServerReport {
            server: ServerRef {
                pool: String::new(),
                address: address(0),
            },
            key_id: KeyId::from("key".to_owned()),
            version: String::new(),
            load: 0.0,
            clients: 0,
            rooms: Vec::new(),
            acknowledged: Some(acknowledged),
            released: None,
        });
        let now = Timestamp(world.now);
        grid.apply(&Command { id: 2, action }, now, &Timing::default());
        ids(&grid)
    };
    assert_eq!(after(waiting[2] + 1), waiting);
    assert_eq!(after(waiting[1]), waiting[2..]);
}

#[test]
fn silence_does_not_count_while_gateways_cannot_hear_each_other() {
    let mut world = World::new(500);
    world.report(0);
    let is_disabled = |world: &World| {
        let server = world
            .grid
            .pool("")
            .and_then(|pool| pool.server(&address(0)));
        server.map(|it| it.disabled)
    };
    for (silence_counts, expected) in [(false, Some(false)), (true, Some(true))] {
        world.now += 10_000;
        world.apply(Action::Tick { silence_counts });
        assert_eq!(is_disabled(&world), expected);
    }
    world.now += 60_000;
    world.apply(Action::Tick {
        silence_counts: false,
    });
    assert_eq!(is_disabled(&world), None, "removed all the same");
}

#[test]
fn a_room_that_somebody_was_sent_to_is_not_forgotten_by_a_report_under_way() {
    let mut world = World::new(600);
    world.loses_answers = false;
    world.report(0);
    world.report(1);
    world.sfus[0]
        .rooms
        .insert(room(1), BTreeSet::from(["a".to_owned()]));
    world.now += 1;
    world.report(0);
    world.now += 1;
    world.sfus[0].rooms.clear();
    let connect = Connect {
        pool: String::new(),
        rooms: vec![room(1)],
        customer: "c".to_owned(),
        user: "b".to_owned(),
        forced: None,
        pick: Pick::Roll(0),
    };
    world.apply(Action::Connect(connect));
    world.report(0);
    let bound = world.grid.server_of_room("", room(1).hash());
    assert_eq!(bound, Some(address(0).as_str()));
}
