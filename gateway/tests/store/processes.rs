//! Two gateway programs behind one Redis, called over HTTP as customers and voice servers call them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gateway_api::{Claims, KeyKind, KeyPair, Names, sign};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{task::JoinSet, time};

use crate::{redis_server::RedisServer, world::eventually_async};

const SERVERS: [&str; 3] = ["a.test:1", "b.test:1", "c.test:1"];

/// How long Redis is away while calls go on.
const OUTAGE: Duration = Duration::from_secs(10);

/// A gateway's process; it is killed with the value.
struct Process {
    child: Child,
    settings: PathBuf,
    url: String,
    internal: String,
}

/// As tokens name them.
type RoomAndUser<'a> = (&'a str, &'a str);

fn free_address() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("a bound port").to_string()
}

fn key() -> KeyPair {
    KeyPair::from_seed(&[1; 32], KeyKind::Customer)
}

fn spawn(settings: &PathBuf) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.arg("--config").arg(settings);
    command.env(
        "BIFROST_GATEWAY_MASTER_KEY",
        "QmlmcsO2c3QgdGVzdCBtYXN0ZXIga2V5IG9mIDMyIEI=",
    );
    command.stdout(Stdio::null());
    command.spawn().expect("the gateway starts")
}

impl Process {
    async fn start(folder: &TempDir, redis: &RedisServer) -> Self {
        let (listen, internal) = (free_address(), free_address());
        let settings = folder.path().join(format!("{listen}.toml"));
        let (jwk, redis) = (key().public_jwk(), redis.url());
        let text = format!(
            // Servers that report once stay for the test.
            "listen = \"{listen}\"\nallow_published_keys = true\n[internal]\nlisten = \"{internal}\"\n\
             [store]\nredis = \"{redis}\"\n[sfu]\ndisable_timeout = 30\n\
             [[customers]]\nid = \"studio\"\n[[customers.access_keys]]\n\
             kid = \"{}\"\nkty = \"OKP\"\ncrv = \"Ed25519\"\nx = \"{}\"\n",
            jwk.kid, jwk.x
        );
        fs::write(&settings, text).expect("a written file");
        let process = Self {
            child: spawn(&settings),
            settings,
            url: format!("http://{listen}/"),
            internal: format!("http://{internal}/internal"),
        };
        process.is_ready("ok").await;
        process
    }

    /// Ends it as `kill -9` does.
    fn kill(&mut self) {
        self.child.kill().expect("a process of ours");
        self.child.wait().expect("a process of ours");
    }

    async fn restart(&mut self) {
        self.child = spawn(&self.settings);
        self.is_ready("ok").await;
    }

    async fn status(&self) -> Option<String> {
        let url = format!("{}readyz", self.url);
        let answer = reqwest::get(url).await.ok()?;
        let answer: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        answer["status"].as_str().map(str::to_owned)
    }

    async fn is_ready(&self, status: &str) {
        let is_so = async || self.status().await.as_deref() == Some(status);
        eventually_async(&format!("readiness is {status}"), is_so).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn call(
    http: &reqwest::Client,
    url: &str,
    token: Option<String>,
    method: &str,
    params: Value,
) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut request = http.post(url).body(body.to_string());
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.expect("an answer");
    let text = answer.text().await.expect("a whole answer");
    serde_json::from_str(&text).expect("JSON")
}

fn token((room, user): RoomAndUser<'_>) -> String {
    let methods = ["connect", "roombanclient"].map(str::to_owned).to_vec();
    let claims = Claims {
        rid: Some(room.into()),
        uid: Some(user.to_owned()),
        sub: Some(Names::Many(methods)),
        ..Claims::default()
    };
    sign(&claims, &key())
}

async fn connect(
    http: &reqwest::Client,
    url: &str,
    names: RoomAndUser<'_>,
) -> Result<String, String> {
    let answer = call(http, url, Some(token(names)), "Connect", json!({})).await;
    match answer["result"]["address"].as_str() {
        Some(address) => Ok(address.to_owned()),
        None => Err(answer["error"]["message"].to_string()),
    }
}

async fn ban(http: &reqwest::Client, url: &str, (room, user): RoomAndUser<'_>) {
    let params = json!({"room_id": room, "user_id": user, "ban_time": 600});
    let token = Some(token((room, "host")));
    let answer = call(http, url, token, "RoomBanClient", params).await;
    assert!(answer["error"].is_null(), "{answer}");
}

/// A report of a server that has carried out tasks so far; the tasks it gets.
async fn report(http: &reqwest::Client, url: &str, server: &str, done: u64) -> Vec<Value> {
    let params = json!({"public_endpoint": server, "version": "1", "load": 0, "clients": 0, "rooms": [],
        "acknowledged": done});
    let answer = call(http, url, None, "sfu.Report", params).await;
    let tasks = answer["result"]["tasks"].as_array();
    tasks.unwrap_or_else(|| panic!("{answer}")).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_ended_by_kill_9_has_forgotten_nothing_when_it_is_back() {
    let redis = RedisServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut one = Process::start(&folder, &redis).await;
    let other = Process::start(&folder, &redis).await;
    let http = reqwest::Client::new();
    for server in SERVERS {
        report(&http, &one.internal, server, 0).await;
    }

    let mut calls = JoinSet::new();
    for number in 0..200 {
        let (http, url) = (http.clone(), [&one, &other][number % 2].url.clone());
        calls.spawn(async move {
            let room = format!("room {}", number / 2 % 20);
            let address = connect(&http, &url, (&room, &format!("user {number}"))).await;
            (room, address.expect("a server"))
        });
    }
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while let Some(answer) = calls.join_next().await {
        let (room, address) = answer.expect("no panic");
        rooms.entry(room).or_default().insert(address);
    }
    assert_eq!(rooms.len(), 20);
    assert!(rooms.values().all(|it| it.len() == 1), "{rooms:?}");
    ban(&http, &one.url, ("room 0", "troll")).await;

    one.kill();
    let ban_later = ("room 1", "troll");
    ban(&http, &other.url, ban_later).await;
    one.restart().await;
    for (room, addresses) in &rooms {
        let address = connect(&http, &one.url, (room, "late")).await;
        assert_eq!(address.as_ref().ok(), addresses.first(), "{room}");
    }
    for room in ["room 0", "room 1"] {
        let refused = connect(&http, &one.url, (room, "troll")).await;
        let text = refused.expect_err("a ban");
        assert!(text.contains("banned"), "{text}");
        let home = rooms[room].first().expect("a server");
        let tasks = report(&http, &one.internal, home, 0).await;
        let is_of_room = |task: &&Value| task["id"][1] == room;
        assert_eq!(tasks.iter().filter(is_of_room).count(), 1, "{tasks:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_seconds_without_redis_under_load_lead_to_no_wrong_answer() {
    let mut redis = RedisServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut gateways = [
        Process::start(&folder, &redis).await,
        Process::start(&folder, &redis).await,
    ];
    let http = reqwest::Client::new();
    for server in SERVERS {
        report(&http, &gateways[0].internal, server, 0).await;
    }
    for gateway in &gateways {
        let is_known = async || connect(&http, &gateway.url, ("room", "host")).await.is_ok();
        eventually_async("the servers are known", is_known).await;
    }
    ban(&http, &gateways[0].url, ("room", "troll")).await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut users = JoinSet::new();
    for number in 0..8 {
        let (http, stop) = (http.clone(), Arc::clone(&stop));
        let url = gateways[number % 2].url.clone();
        users.spawn(async move {
            let mut answers = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // Rooms that all enter at about the same time, one after the other.
                let room = format!("room {}", answers.len() / 4);
                let address = connect(&http, &url, (&room, &format!("user {number}"))).await;
                answers.push((room, address.expect("a server")));
                let refused = connect(&http, &url, ("room", "troll")).await;
                assert!(refused.is_err(), "{refused:?}");
                time::sleep(Duration::from_millis(20)).await;
            }
            answers
        });
    }
    time::sleep(Duration::from_secs(1)).await;
    redis.terminate();
    for gateway in &gateways {
        gateway.is_ready("degraded").await;
    }
    time::sleep(OUTAGE).await;
    redis.restart().await;
    for gateway in &gateways {
        gateway.is_ready("ok").await;
    }
    stop.store(true, Ordering::Relaxed);

    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while let Some(answers) = users.join_next().await {
        for (room, address) in answers.expect("no panic") {
            rooms.entry(room).or_default().insert(address);
        }
    }
    assert!(rooms.len() > 20, "{} rooms", rooms.len());
    for (room, addresses) in &rooms {
        assert_eq!(addresses.len(), 1, "{room} was sent to {addresses:?}");
    }
    for gateway in &mut gateways {
        let ended = gateway.child.try_wait().expect("a process of ours");
        assert_eq!(ended, None, "a gateway has ended");
        for (room, addresses) in &rooms {
            let address = connect(&http, &gateway.url, (room, "late")).await;
            assert_eq!(address.as_ref().ok(), addresses.first(), "{room}");
        }
    }
}
