//! The guide's flow, as a matchmaker and a player do it. Every step says what it expected when it fails.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout},
};

use super::{timeline::Timeline, world::Fleet};

/// One HTTP call or one ping.
const STEP_MAX: Duration = Duration::from_secs(5);

/// Until every game server has marked itself idle.
const IDLE_MAX: Duration = Duration::from_secs(20);

const IDLE_QUERY: &str = r#"{"Metadata":{"instance_state":"idle"},"Status":"running"}"#;
const NONCE: &str = "bifrost000000001";
const MATCH_ID: &str = "match-123";

/// An instance, as far as a matchmaker looks at it.
struct Picked {
    id: String,
    address: SocketAddr,
    match_api: String,
}

/// One match, from an idle server back to an idle server.
pub(crate) async fn play(fleet: &Fleet, timeline: &Timeline) -> Result<()> {
    let http = reqwest::Client::builder().timeout(STEP_MAX).build()?;
    let matchmaker = Matchmaker {
        http,
        bridge: fleet.bridge_url(),
        timeline,
    };
    let picked = matchmaker.pick(fleet.game_servers()).await?;
    matchmaker.start(&picked).await?;
    matchmaker.expect_listed(&picked, false).await?;
    matchmaker.expect_occupied(&picked).await?;
    matchmaker.ping(&picked).await?;
    matchmaker.finish(&picked).await?;
    matchmaker.expect_listed(&picked, true).await
}

struct Matchmaker<'a> {
    http: reqwest::Client,
    bridge: String,
    timeline: &'a Timeline,
}

impl Matchmaker<'_> {
    async fn pick(&self, expected: usize) -> Result<Picked> {
        self.timeline
            .step("List the idle game servers", &self.list_command());
        let deadline = Instant::now() + IDLE_MAX;
        let idle = loop {
            let idle = self.idle().await?;
            if idle.len() == expected {
                break idle;
            }
            let seen = idle.len();
            ensure!(
                Instant::now() < deadline,
                "{seen} of {expected} servers are idle"
            );
            sleep(Duration::from_millis(100)).await;
        };
        let first = idle.first().context("no server is idle")?;
        let picked = Picked::read(first)?;
        let names: Vec<_> = idle.iter().filter_map(|it| it["id"].as_str()).collect();
        self.timeline
            .held(&format!("{expected} are idle: {}", names.join(", ")));
        self.timeline.held(&format!(
            "picked instance {} at {}",
            picked.id, picked.address
        ));
        Ok(picked)
    }

    async fn start(&self, picked: &Picked) -> Result<()> {
        let body = json!({"match_id": MATCH_ID, "game_mode": "DEATH_MATCH", "map_guid": "map-01",
            "join_mode": "free", "user_ids": ["user-1", "user-2"]});
        self.tell(picked, "Start a match on it", "start", &body)
            .await
    }

    async fn finish(&self, picked: &Picked) -> Result<()> {
        let body = json!({"match_id": MATCH_ID, "outcome": "team-blue-wins"});
        self.tell(picked, "Finish the match", "finish", &body).await
    }

    async fn tell(&self, picked: &Picked, title: &str, action: &str, body: &Value) -> Result<()> {
        let url = format!("{}/match/{action}", picked.match_api);
        self.timeline
            .step(title, &format!("curl -s -X POST {url} -d '{body}'"));
        let response = self.http.post(url).json(body).send().await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        ensure!(
            status.is_success(),
            "the game server answers {status}: {answer}"
        );
        self.timeline.held(&answer.to_string());
        Ok(())
    }

    async fn expect_listed(&self, picked: &Picked, wanted: bool) -> Result<()> {
        let title = if wanted {
            "List again: it is idle again"
        } else {
            "List again: it is gone"
        };
        self.timeline.step(title, &self.list_command());
        let idle = self.idle().await?;
        let is_listed = idle.iter().any(|instance| instance["id"] == picked.id);
        match (is_listed, wanted) {
            (true, false) => bail!("instance {} is still listed as idle", picked.id),
            (false, true) => bail!("instance {} is not listed as idle again", picked.id),
            _ => self.timeline.held(&format!("{} are idle", idle.len())),
        }
        Ok(())
    }

    async fn expect_occupied(&self, picked: &Picked) -> Result<()> {
        let url = format!("{}/v1/instances/{}", self.bridge, picked.id);
        self.timeline
            .step("Get it: it is occupied", &format!("curl -s {url}"));
        let instance: Value = self
            .http
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let state = &instance["metadata"]["instance_state"];
        ensure!(state == "occupied", "instance_state is {state}");
        ensure!(
            instance["player_count"] == 2,
            "player_count is {}",
            instance["player_count"]
        );
        self.timeline
            .held("instance_state is occupied, player_count is 2");
        Ok(())
    }

    async fn ping(&self, picked: &Picked) -> Result<()> {
        let address = picked.address;
        let command = format!(
            "printf 'ping {NONCE}' | nc -u -w1 {} {}",
            address.ip(),
            address.port()
        );
        self.timeline
            .step("Connect to it, as a player would", &command);
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
        socket.connect(address).await?;
        let sent = Instant::now();
        socket.send(format!("ping {NONCE}").as_bytes()).await?;
        let mut buffer = [0; 256];
        let answer = timeout(STEP_MAX, socket.recv(&mut buffer)).await;
        let length = answer.with_context(|| format!("no pong from {address}"))??;
        let pong = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let expected = format!("pong {NONCE} {} occupied {MATCH_ID}", picked.id);
        ensure!(
            pong == expected,
            "the game port answers {pong:?}, not {expected:?}"
        );
        let micros = sent.elapsed().as_micros();
        self.timeline.held(&format!("{pong} (after {micros} µs)"));
        Ok(())
    }

    async fn idle(&self) -> Result<Vec<Value>> {
        let request = self.http.get(format!("{}/v1/instances", self.bridge));
        let request = request.query(&[("query", IDLE_QUERY), ("limit", "100")]);
        let response = request.send().await?;
        let status = response.status();
        let mut page: Value = response.json().await?;
        ensure!(status.is_success(), "the bridge answers {status}: {page}");
        match page["instances"].take() {
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
