//! The guide's flow, as a matchmaker and a player do it. Every step says what it expected when it fails.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout},
};

use super::{timeline::Timeline, world::World};

/// One HTTP call or one ping.
const STEP_MAX: Duration = Duration::from_secs(5);

/// Until every game server is listed as idle.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Between two looks at the list.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// Longest answer of a game port: twice the ping, and some room to notice a longer one.
const PONG_BYTES_MAX: usize = 256;

const IDLE_QUERY: &str = r#"{"Metadata":{"instance_state":"idle"},"Status":"running"}"#;
const NONCE: &str = "bifrost000000001";
const MATCH_ID: &str = "match-123";
const USER_IDS: [&str; 2] = ["user-1", "user-2"];

/// An instance, as far as a matchmaker looks at it.
struct Picked {
    id: String,
    address: SocketAddr,
    match_api: String,
}

/// One match, from an idle server back to an idle server.
pub(crate) async fn play(world: &World, timeline: &Timeline) -> Result<()> {
    let matchmaker = Matchmaker::new(world, timeline)?;
    let picked = matchmaker.pick(world.game_servers()).await?;
    matchmaker.start(&picked).await?;
    matchmaker.expect_listed(&picked, false).await?;
    matchmaker.expect_occupied(&picked).await?;
    matchmaker.ping(&picked).await?;
    matchmaker.finish(&picked).await?;
    matchmaker.expect_listed(&picked, true).await
}

/// Knows the bridge's address, and nothing else of the world.
pub(crate) struct Matchmaker<'a> {
    http: reqwest::Client,
    bridge: String,
    timeline: &'a Timeline,
}

impl<'a> Matchmaker<'a> {
    pub(crate) fn new(world: &World, timeline: &'a Timeline) -> Result<Self> {
        // Everything is on this machine: a proxy could not reach it.
        let http = reqwest::Client::builder()
            .timeout(STEP_MAX)
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            bridge: world.bridge_url().to_owned(),
            timeline,
        })
    }

    async fn pick(&self, expected: usize) -> Result<Picked> {
        self.timeline.step("List the idle game servers");
        self.timeline.command(&self.list_command());
        let deadline = Instant::now() + IDLE_MAX;
        let idle = loop {
            let idle = self.idle().await?;
            let seen = idle.len();
            if seen == expected {
                break idle;
            }
            ensure!(
                Instant::now() < deadline,
                "{seen} of {expected} servers are idle"
            );
            sleep(IDLE_PAUSE).await;
        };
        let picked = Picked::read(idle.first().context("no server is idle")?)?;
        let ids: Vec<_> = idle.iter().filter_map(|it| it["id"].as_str()).collect();
        let ids = ids.join(", ");
        self.timeline.held(&format!("{expected} are idle: {ids}"));
        let Picked { id, address, .. } = &picked;
        self.timeline.held(&format!(
            "picked instance {id}, which players reach at {address}"
        ));
        Ok(picked)
    }

    async fn start(&self, picked: &Picked) -> Result<()> {
        self.timeline.step("Start a match on it");
        let body = json!({
            "match_id": MATCH_ID, "game_mode": "DEATH_MATCH", "map_guid": "map-01", "join_mode": "free",
            "user_ids": USER_IDS,
        });
        self.tell(picked, "start", &body).await
    }

    async fn finish(&self, picked: &Picked) -> Result<()> {
        self.timeline.step("Finish the match");
        let body = json!({ "match_id": MATCH_ID, "outcome": "team-blue-wins" });
        self.tell(picked, "finish", &body).await
    }

    async fn tell(&self, picked: &Picked, action: &str, body: &Value) -> Result<()> {
        let url = format!("{}/match/{action}", picked.match_api);
        self.timeline
            .command(&format!("curl -s -X POST {url} -d '{body}'"));
        let answer = read(self.http.post(url).json(body), "the game server").await?;
        self.timeline.held(&answer.to_string());
        Ok(())
    }

    async fn expect_listed(&self, picked: &Picked, wanted: bool) -> Result<()> {
        self.timeline.step(match wanted {
            true => "List again: it is idle again",
            false => "List again: it is gone",
        });
        self.timeline.command(&self.list_command());
        let idle = self.idle().await?;
        let is_listed = idle.iter().any(|instance| instance["id"] == picked.id);
        match (is_listed, wanted) {
            (true, false) => bail!("instance {} is still listed as idle", picked.id),
            (false, true) => bail!("instance {} is not listed as idle again", picked.id),
            (true, true) | (false, false) => {}
        }
        self.timeline.held(&format!("{} are idle", idle.len()));
        Ok(())
    }

    async fn expect_occupied(&self, picked: &Picked) -> Result<()> {
        self.timeline.step("Get it: it is occupied");
        let url = format!("{}/v1/instances/{}", self.bridge, picked.id);
        self.timeline.command(&format!("curl -s {url}"));
        let instance = read(self.http.get(url), "the bridge").await?;
        let state = &instance["metadata"]["instance_state"];
        ensure!(state == "occupied", "instance_state is {state}");
        let players = &instance["player_count"];
        ensure!(*players == USER_IDS.len(), "player_count is {players}");
        self.timeline.held(&format!(
            "instance_state is {state}, player_count is {players}"
        ));
        Ok(())
    }

    async fn ping(&self, picked: &Picked) -> Result<()> {
        self.timeline.step("Connect to it, as a player would");
        let (address, ping) = (picked.address, format!("ping {NONCE}"));
        let (ip, port) = (address.ip(), address.port());
        self.timeline
            .command(&format!("printf '{ping}' | nc -u -w1 {ip} {port}"));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(address).await?;
        let sent = Instant::now();
        socket.send(ping.as_bytes()).await?;
        let mut buffer = [0; PONG_BYTES_MAX];
        let received = timeout(STEP_MAX, socket.recv(&mut buffer)).await;
        let length = received.with_context(|| format!("no pong from {address}"))??;
        let pong = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let micros = sent.elapsed().as_micros();
        let expected = format!("pong {NONCE} {} occupied {MATCH_ID}", picked.id);
        ensure!(
            pong == expected,
            "the game port answers {pong:?}, not {expected:?}"
        );
        self.timeline.held(&format!("{pong} (after {micros} µs)"));
        Ok(())
    }

    /// The instances that a matchmaker may pick.
    pub(crate) async fn idle(&self) -> Result<Vec<Value>> {
        let request = self.http.get(format!("{}/v1/instances", self.bridge));
        let request = request.query(&[("query", IDLE_QUERY), ("limit", "100")]);
        match read(request, "the bridge").await?["instances"].take() {
            Value::Array(instances) => Ok(instances),
            other => bail!("instances is {other}"),
        }
    }

    fn list_command(&self) -> String {
        format!(
            "curl -sG {}/v1/instances -d limit=100 --data-urlencode 'query={IDLE_QUERY}'",
            self.bridge
        )
    }
}

/// The answer to a request, if it is a good one.
async fn read(request: reqwest::RequestBuilder, whom: &str) -> Result<Value> {
    let response = request
        .send()
        .await
        .with_context(|| format!("{whom} does not answer"))?;
    let status = response.status();
    let answer: Value = response
        .json()
        .await
        .with_context(|| format!("{whom} answers {status}"))?;
    ensure!(status.is_success(), "{whom} answers {status}: {answer}");
    Ok(answer)
}

impl Picked {
    fn read(instance: &Value) -> Result<Self> {
        let text = |value: &Value, name: &str| {
            let text = value[name].as_str().map(str::to_owned);
            text.with_context(|| format!("the instance has no {name}: {instance}"))
        };
        let connection = &instance["connection_info"];
        let port = connection["port"]
            .as_u64()
            .and_then(|it| u16::try_from(it).ok());
        let port = port.context("the instance has no port")?;
        Ok(Self {
            id: text(instance, "id")?,
            address: SocketAddr::new(text(connection, "ip_address")?.parse()?, port),
            match_api: text(&instance["metadata"], "match_api")?,
        })
    }
}
