//! Voice servers that carry out and acknowledge tasks, users who connect, customers who moderate: all over two stores.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use gateway::Store;
use gateway_api::Task;
use tokio::{task::JoinSet, time};

use crate::world::{self, Gateway, connect, eventually, message, moderate};

const SERVERS: [&str; 4] = ["s0:1", "s1:1", "s2:1", "s3:1"];

#[derive(Default)]
struct Seen {
    /// Servers that were answered for each room.
    rooms: BTreeMap<String, BTreeSet<String>>,
    /// Messages that were accepted.
    accepted: BTreeSet<u32>,
    /// Messages of them that were on their way when Redis was lost. Another gateway may have read one from the log that
    /// its own gateway then did not: it is carried out at least once.
    caught: BTreeSet<u32>,
    /// How often each message was carried out.
    carried_out: HashMap<u32, u32>,
    /// Answers of any kind.
    answers: u64,
}

/// Everything at once, until it is ended.
pub(crate) struct Load {
    seen: Arc<Mutex<Seen>>,
    users: JoinSet<()>,
    servers: JoinSet<()>,
    stop_users: Arc<AtomicBool>,
}

impl Load {
    pub(crate) async fn start(one: &Gateway, other: &Gateway) -> Self {
        let stores = [Arc::clone(&one.store), Arc::clone(&other.store)];
        for address in SERVERS {
            world::report(&stores[0], address, &BTreeSet::new(), Some(0)).await;
        }
        let all = |gateway: &Gateway| {
            gateway
                .store
                .read(|grid| grid.pool("").is_some_and(|it| it.servers().count() == 4))
        };
        eventually("all know the servers", || all(one) && all(other)).await;

        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop_users = Arc::new(AtomicBool::new(false));
        let numbers = Arc::new(AtomicU32::new(0));
        let (mut users, mut servers) = (JoinSet::new(), JoinSet::new());
        for store in &stores {
            for _ in 0..3 {
                users.spawn(enter(
                    Arc::clone(store),
                    Arc::clone(&seen),
                    Arc::clone(&stop_users),
                ));
            }
            users.spawn(send(
                Arc::clone(store),
                Arc::clone(&seen),
                Arc::clone(&stop_users),
                Arc::clone(&numbers),
            ));
        }
        for address in SERVERS {
            servers.spawn(serve(stores.clone(), address, Arc::clone(&seen)));
        }
        Self {
            seen,
            users,
            servers,
            stop_users,
        }
    }

    pub(crate) fn answers(&self) -> u64 {
        self.seen.lock().expect("no panic").answers
    }

    /// Ends it and checks that nothing was answered wrongly and nothing was forgotten.
    pub(crate) async fn finish(mut self, one: &Gateway, other: &Gateway) {
        self.stop_users.store(true, Ordering::Relaxed);
        while let Some(ended) = self.users.join_next().await {
            ended.expect("no panic");
        }
        eventually("both are online", || {
            one.store.health().online && other.store.health().online
        })
        .await;
        let seen = Arc::clone(&self.seen);
        let is_done = || {
            let seen = seen.lock().expect("no panic");
            let is_carried_out = |number| seen.carried_out.contains_key(number);
            seen.accepted.iter().all(is_carried_out)
        };
        eventually("every accepted message was carried out", is_done).await;
        // Whatever would be delivered twice has its chance.
        time::sleep(Duration::from_millis(300)).await;
        self.servers.shutdown().await;
        world::equal(one, other).await;

        let seen = self.seen.lock().expect("no panic");
        let grid = one.grid();
        assert!(seen.rooms.len() > 100, "{} rooms", seen.rooms.len());
        assert!(seen.accepted.len() > 50, "{} messages", seen.accepted.len());
        for (name, servers) in &seen.rooms {
            assert_eq!(servers.len(), 1, "room {name} was sent to {servers:?}");
            let server = grid.server_of_room("", world::room(name).hash());
            let told = servers.first().map(String::as_str);
            assert_eq!(server, told, "room {name}");
        }
        let caught = seen.caught.len();
        assert!(caught < 10, "{caught} messages were caught by the outage");
        let is_twice = |it: &(&u32, &u32)| *it.1 > 1 && !seen.caught.contains(it.0);
        let twice: Vec<_> = seen.carried_out.iter().filter(is_twice).collect();
        assert!(twice.is_empty(), "carried out more than once: {twice:?}");
    }
}

/// Users enter rooms; now and then there is a new room.
async fn enter(store: Arc<Store>, seen: Arc<Mutex<Seen>>, stop: Arc<AtomicBool>) {
    let start = time::Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let newest = 40 + start.elapsed().as_millis() / 20;
        let number = match fastrand::bool() {
            true => newest,
            false => fastrand::u128(..newest),
        };
        let name = format!("r{number}");
        let address = connect(&store, &name, "user").await.expect("a server");
        {
            let mut seen = seen.lock().expect("no panic");
            seen.answers += 1;
            seen.rooms.entry(name).or_default().insert(address);
        }
        time::sleep(Duration::from_millis(fastrand::u64(1..10))).await;
    }
}

/// Customers send messages into rooms that exist.
async fn send(
    store: Arc<Store>,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    numbers: Arc<AtomicU32>,
) {
    while !stop.load(Ordering::Relaxed) {
        let name = {
            let seen = seen.lock().expect("no panic");
            fastrand::choice(seen.rooms.keys()).cloned()
        };
        if let Some(name) = name {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            // A gateway that is alone does not know the newest rooms of the other one.
            let was_online = store.health().online;
            if moderate(&store, message(&name, number)).await.is_ok() {
                let mut seen = seen.lock().expect("no panic");
                seen.accepted.insert(number);
                if was_online && !store.health().online {
                    seen.caught.insert(number);
                }
            }
        }
        time::sleep(Duration::from_millis(fastrand::u64(5..20))).await;
    }
}

/// A server reports to either store in turn, as behind one address.
async fn serve(stores: [Arc<Store>; 2], address: &'static str, seen: Arc<Mutex<Seen>>) {
    let mut done = HashSet::new();
    let mut last = 0;
    for store in stores.iter().cycle() {
        let rooms = {
            let seen = seen.lock().expect("no panic");
            let is_ours = |it: &(&String, &BTreeSet<String>)| it.1.contains(address);
            let ours = seen.rooms.iter().filter(is_ours);
            ours.map(|(name, _)| name.clone()).collect()
        };
        let delivery = world::report(store, address, &rooms, Some(last)).await;
        {
            let mut seen = seen.lock().expect("no panic");
            seen.answers += 1;
            for waiting in delivery.tasks {
                last = waiting.id;
                let Task::RoomSendMessage { message, .. } = waiting.task else {
                    panic!("{address} is told to {:?}", waiting.task);
                };
                if done.insert(waiting.id) {
                    let number = u32::from_be_bytes(message.try_into().expect("four bytes"));
                    *seen.carried_out.entry(number).or_default() += 1;
                }
            }
        }
        time::sleep(Duration::from_millis(30)).await;
    }
}
