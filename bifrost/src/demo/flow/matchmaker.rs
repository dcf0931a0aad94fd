//! What a matchmaker asks of the bridge.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use voice_client::LeaveReason;

use super::{
    events::{self, LIFE},
    talk::Players,
};
use crate::demo::{timeline::Timeline, world::World};

/// One HTTP call about an instance, or about events.
const CALL_MAX: Duration = Duration::from_secs(5);

/// One HTTP call that makes or ends a match. The bridge gives up earlier and says why.
const MATCH_CALL_MAX: Duration = Duration::from_secs(30);

/// Until every game server is listed as idle.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Between two looks at the list.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

const IDLE_QUERY: &str = r#"{"Metadata":{"instance_state":"idle"},"Status":"running"}"#;

/// Names the one match that the demo asks for.
const KEY: &str = "demo-1";

/// The players and their teams.
const PLAYERS: [(&str, &str); 2] = [("user-1", "red"), ("user-2", "blue")];

/// A match that runs, as far as its matchmaker and its players look at it.
pub(crate) struct Made {
    pub(super) id: String,
    pub(super) instance: String,
    pub(super) address: SocketAddr,
    pub(super) seats: Vec<Seat>,
    answer: Value,
}

/// What one player of a match is given.
pub(super) struct Seat {
    pub(super) user_id: String,
    pub(super) gateway: String,
    pub(super) rooms: Vec<String>,
    pub(super) token: String,
}

/// Knows the bridge's address, and nothing else of the world.
pub(crate) struct Matchmaker<'a> {
    http: Client,
    bridge: String,
    timeline: &'a Timeline,
}

impl<'a> Matchmaker<'a> {
    pub(crate) fn new(world: &World, timeline: &'a Timeline) -> Result<Self> {
        // Everything is on this machine: a proxy could not reach it.
        let http = Client::builder().timeout(CALL_MAX).no_proxy().build()?;
        Ok(Self {
            http,
            bridge: world.bridge_url().to_owned(),
            timeline,
        })
    }

    pub(super) async fn list(&self, expected: usize) -> Result<()> {
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
        let ids: Vec<_> = idle.iter().filter_map(|it| it["id"].as_str()).collect();
        let ids = ids.join(", ");
        self.timeline.held(&format!("{expected} are idle: {ids}"));
        Ok(())
    }

    pub(super) async fn make(&self) -> Result<Made> {
        self.timeline
            .step("Make a match: a game server that runs it, and voice for two players");
        let url = format!("{}/v1/matches", self.bridge);
        self.timeline.command(&format!(
            "curl -s {url} -H 'Idempotency-Key: {KEY}' -H 'Content-Type: application/json' -d '{}'",
            wish()
        ));
        let made = Made::read(self.post().await?)?;
        let Made {
            id,
            instance,
            address,
            ..
        } = &made;
        let city = text(&made.answer["instance"], "city")?;
        self.timeline.held(&format!(
            "{id} runs on instance {instance} in {city}, which players reach at {address}"
        ));
        for seat in &made.seats {
            let (user_id, rooms) = (&seat.user_id, seat.rooms.join(" and "));
            self.timeline
                .held(&format!("{user_id} has a voice token for {rooms}"));
        }
        Ok(made)
    }

    pub(super) async fn make_again(&self, made: &Made) -> Result<()> {
        self.timeline
            .step("Make it again with the same key, as after an answer that was lost");
        let answer = self.post().await?;
        ensure!(
            answer == made.answer,
            "the same key should give the same answer: {} is not {} as it was",
            answer["id"],
            made.id
        );
        let id = &made.id;
        self.timeline.held(&format!(
            "{id} again, and the same tokens; another key makes another match"
        ));
        Ok(())
    }

    async fn post(&self) -> Result<Value> {
        let request = self.http.post(format!("{}/v1/matches", self.bridge));
        let request = request.header("Idempotency-Key", KEY).json(&wish());
        read(request.timeout(MATCH_CALL_MAX), StatusCode::CREATED).await
    }

    pub(super) async fn expect_occupied(&self, made: &Made) -> Result<()> {
        self.timeline.step("Get its server: it is occupied");
        let url = format!("{}/v1/instances/{}", self.bridge, made.instance);
        self.timeline.command(&format!("curl -s {url}"));
        let instance = read(self.http.get(url), StatusCode::OK).await?;
        let metadata = &instance["metadata"];
        for (name, value, expected) in [
            (
                "instance_state",
                &metadata["instance_state"],
                json!("occupied"),
            ),
            ("match_id", &metadata["match_id"], json!(made.id)),
            (
                "player_count",
                &instance["player_count"],
                json!(PLAYERS.len()),
            ),
        ] {
            ensure!(
                *value == expected,
                "{name} should be {expected}, not {value}"
            );
            self.timeline.held(&format!("{name} is {value}"));
        }
        Ok(())
    }

    /// Ends the match, and expects its players to be told by the voice server.
    pub(super) async fn end(&self, made: &Made, players: &mut Players) -> Result<()> {
        self.timeline
            .step("End the match: its server is idle again, its voice rooms are closed");
        let url = format!("{}/v1/matches/{}", self.bridge, made.id);
        self.timeline.command(&format!("curl -s -X DELETE {url}"));
        let delete = self.http.delete(url).timeout(MATCH_CALL_MAX);
        let (answer, reasons) = tokio::try_join!(
            read(delete, StatusCode::OK),
            players.dismissed(MATCH_CALL_MAX)
        )?;
        let (state, reason) = (&answer["state"], &answer["reason"]);
        ensure!(
            (state, reason) == (&json!("ended"), &json!("released")),
            "the match should be ended because it was released, not {state} because {reason}"
        );
        self.timeline
            .held(&format!("state is {state}, reason is {reason}"));
        for (user_id, reasons) in reasons {
            let count = reasons.len();
            let expected = "room_closing";
            ensure!(
                reasons
                    .iter()
                    .all(|reason| *reason == LeaveReason::RoomClosing),
                "{user_id} should leave its rooms because of {expected}, not {reasons:?}"
            );
            self.timeline.held(&format!(
                "{user_id} is told: {expected}, and {count} rooms close"
            ));
        }
        Ok(())
    }

    pub(super) async fn expect_idle(&self, made: &Made, expected: usize) -> Result<()> {
        self.timeline.step("List again: it is idle again");
        self.timeline.command(&self.list_command());
        let idle = self.idle().await?;
        let is_listed = idle.iter().any(|instance| instance["id"] == made.instance);
        let (instance, seen) = (&made.instance, idle.len());
        ensure!(
            is_listed && seen == expected,
            "instance {instance} and all {expected} should be idle, but only {seen} are"
        );
        self.timeline
            .held(&format!("{seen} are idle, {instance} is one of them"));
        Ok(())
    }

    pub(super) async fn expect_events(&self, made: &Made) -> Result<()> {
        self.timeline.step("Read what happened");
        let url = format!(
            "{}/v1/events?from=start&subject=match:{}",
            self.bridge, made.id
        );
        self.timeline
            .command(&format!("curl -sN --max-time 2 '{url}'"));
        let kinds = events::read(self.http.get(url)).await?;
        let life: Vec<_> = kinds
            .iter()
            .filter(|kind| LIFE.contains(&kind.as_str()))
            .collect();
        ensure!(
            life == LIFE,
            "the events should tell {}, not {kinds:?}",
            LIFE.join(", ")
        );
        let (count, life) = (kinds.len(), LIFE.join(", "));
        self.timeline
            .held(&format!("{count} events of this match, in order: {life}"));
        Ok(())
    }

    /// The instances that a matchmaker may pick.
    pub(crate) async fn idle(&self) -> Result<Vec<Value>> {
        let request = self.http.get(format!("{}/v1/instances", self.bridge));
        let request = request.query(&[("query", IDLE_QUERY), ("limit", "100")]);
        match read(request, StatusCode::OK).await?["instances"].take() {
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

/// What the match is to be.
fn wish() -> Value {
    let players = PLAYERS.map(|(user_id, team)| json!({"user_id": user_id, "team": team}));
    json!({
        "players": players,
        "settings": {"game_mode": "DEATH_MATCH", "map_guid": "map-01", "join_mode": "free"},
        "voice": {"match": true, "teams": true},
    })
}

/// The answer to a request, if it is the expected one.
async fn read(request: RequestBuilder, expected: StatusCode) -> Result<Value> {
    let response = request.send().await.context("the bridge does not answer")?;
    let status = response.status();
    let answer: Value = response
        .json()
        .await
        .with_context(|| format!("the bridge answers {status}"))?;
    // Only a problem is shown whole: a match has tokens.
    let detail = &answer["detail"];
    ensure!(
        status == expected,
        "the bridge should answer {expected}, not {status}: {detail}"
    );
    Ok(answer)
}

impl Made {
    fn read(answer: Value) -> Result<Self> {
        let state = &answer["state"];
        ensure!(
            *state == "running",
            "the match should be running, not {state}"
        );
        let instance = &answer["instance"];
        let connection = &instance["connection_info"];
        let port = connection["port"].as_u64();
        let port = port.and_then(|it| u16::try_from(it).ok());
        let port = port.context("the match has no port")?;
        let ip = text(connection, "ip_address")?.parse()?;
        let players = answer["players"].as_array().map(Vec::as_slice);
        let seats = players.unwrap_or_default().iter().map(Seat::read);
        let seats = seats.collect::<Result<Vec<_>>>()?;
        let users: Vec<_> = seats.iter().map(|seat| seat.user_id.as_str()).collect();
        ensure!(
            users == PLAYERS.map(|(user_id, _)| user_id),
            "the players should be those who were asked for, not {users:?}"
        );
        Ok(Self {
            id: text(&answer, "id")?,
            instance: text(instance, "id")?,
            address: SocketAddr::new(ip, port),
            seats,
            answer,
        })
    }
}

impl Seat {
    fn read(player: &Value) -> Result<Self> {
        let voice = &player["voice"];
        let rooms = voice["rooms"].as_array().map(Vec::as_slice);
        let rooms = rooms.unwrap_or_default();
        let kinds: Vec<_> = rooms
            .iter()
            .filter_map(|room| room["kind"].as_str())
            .collect();
        ensure!(
            kinds == ["match", "team"],
            "a player should have a room of the match and one of the team, not {kinds:?}"
        );
        let names = rooms.iter().map(|room| text(room, "name"));
        Ok(Self {
            user_id: text(player, "user_id")?,
            gateway: text(voice, "gateway")?,
            rooms: names.collect::<Result<_>>()?,
            token: text(voice, "token")?,
        })
    }
}

fn text(value: &Value, name: &str) -> Result<String> {
    let text = value[name].as_str().map(str::to_owned);
    text.with_context(|| format!("the answer has no {name}"))
}
