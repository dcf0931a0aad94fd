//! The voice of a match: near its game server, on a node that takes rooms, for as long as the match lasts.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Json, Router, extract::State, routing::post};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{SecondsFormat, Utc};
use fleet_bridge::{Config, MatchSettings, Server, VoiceSettings};
use gateway_api::AccessKey;
use http::HeaderMap;
use mock_fleet::World;
use mock_game_server::MatchPort;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

const FLEET_TOKEN: &str = "local-development-token";

/// The calls of a gateway that grants everything: the claims of the token, and the call.
type Calls = Arc<Mutex<Vec<(Value, Value)>>>;

struct Ground {
    http: reqwest::Client,
    bridge: String,
    fleet: mock_fleet::Handle,
    services: Vec<i64>,
    calls: Calls,
}

/// Two game servers and two services that stand for voice servers.
async fn ground() -> Ground {
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let mut world =
        World::from_toml(include_str!("../worlds/bench.toml"), "bench.toml").expect("a world");
    world.apps[0].location_settings[0].num_instances = 4;
    let fleet = mock_fleet::Server::bind(mock_fleet::Config::new(world))
        .await
        .expect("a fleet");
    let (handle, url) = (fleet.handle(), fleet.base_url());
    tokio::spawn(fleet.run(std::future::pending()));
    let services = loop {
        let list = http.get(format!("{url}/v1/apps/1/services?filter[status]=running"));
        let page: Value = list
            .bearer_auth(FLEET_TOKEN)
            .send()
            .await
            .expect("a fleet")
            .json()
            .await
            .expect("a page");
        let ids: Vec<i64> = page["data"]
            .as_array()
            .expect("data")
            .iter()
            .filter_map(|it| it["id"].as_i64())
            .collect();
        if ids.len() == 4 {
            break ids;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for id in &services[..2] {
        let mut config = mock_game_server::Config::local(&url, FLEET_TOKEN, *id).expect("settings");
        config.match_port = Some(MatchPort::Own);
        let server = mock_game_server::Server::bind(config)
            .await
            .expect("a game server");
        tokio::spawn(async move { server.run(std::future::pending()).await });
    }
    let calls = Calls::default();
    let gateway = gateway(Arc::clone(&calls)).await;
    let mut config = Config::new(1, &url, FLEET_TOKEN).expect("settings");
    config.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config.matches = Some(MatchSettings {
        sweep: Duration::from_millis(200),
        ..MatchSettings::default()
    });
    config.voice = Some(VoiceSettings {
        gateway_url: "https://voice.example.com".to_owned(),
        call_url: gateway,
        key: AccessKey::from_random(&[7; gateway_api::RANDOM_BYTES]).key_pair(),
        token_time: Duration::from_secs(60),
        ca_file: None,
        nodes: true,
    });
    let server = Server::bind(config).await.expect("a bridge");
    let bridge = server.base_url();
    tokio::spawn(server.run(std::future::pending()));
    Ground {
        http,
        bridge,
        fleet: handle,
        services,
        calls,
    }
}

async fn gateway(calls: Calls) -> String {
    let take = async |State(calls): State<Calls>, headers: HeaderMap, Json(call): Json<Value>| {
        let token = headers["authorization"]
            .to_str()
            .expect("a text")
            .strip_prefix("Bearer ")
            .expect("a token");
        let claims = claims(token);
        calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((claims, call));
        Json(json!({"jsonrpc": "2.0", "id": 1, "result": {}}))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/", post(take)).with_state(calls);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/")
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).expect("Base64");
    serde_json::from_slice(&payload).expect("JSON")
}

impl Ground {
    /// Writes what a voice server would report.
    fn report(&self, at: usize, address: &str, load: f64, draining: bool) {
        let reported_at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let node = json!({"address": address, "load": load, "draining": draining, "reported_at": reported_at});
        let update = [("instance_state", json!("voice")), ("voice_node", node)];
        let update: Map<_, _> = update
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        assert!(self.fleet.merge_metadata(self.services[at], update));
    }

    async fn make(&self, key: &str) -> Value {
        let players = json!([{"user_id": "a", "team": "red"}, {"user_id": "b", "team": "blue"}, {"user_id": "c"}]);
        let body = json!({"players": players, "voice": {"match": true, "teams": true}});
        let call = self
            .http
            .post(format!("{}/v1/matches", self.bridge))
            .header("Idempotency-Key", key);
        let answer = call.json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 201);
        answer.json().await.expect("JSON")
    }

    /// The voice server that the tokens of a new match wish for, once the bridge has seen what was reported.
    async fn preferred(&self, key: &str) -> Option<String> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let made = self.make(key).await;
        self.end(&made).await;
        let token = made["players"][0]["voice"]["token"]
            .as_str()
            .expect("a token");
        claims(token)["internal"]["prefer"]
            .as_str()
            .map(str::to_owned)
    }

    async fn end(&self, made: &Value) -> Value {
        let url = format!(
            "{}/v1/matches/{}",
            self.bridge,
            made["id"].as_str().expect("an id")
        );
        let answer = self.http.delete(url).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.json().await.expect("JSON")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_player_gets_the_rooms_of_the_match_and_they_are_closed_with_it() {
    let ground = ground().await;
    let made = ground.make("k").await;
    assert_eq!(ground.make("k").await, made, "the same tokens, too");
    let id = made["id"].as_str().expect("an id");
    let room = |name: &str, kind: &str| json!({"name": format!("{{{id}}}{name}"), "kind": kind});
    for (at, team) in [(0, Some("red")), (1, Some("blue")), (2, None)] {
        let player = &made["players"][at];
        let voice = &player["voice"];
        let mut rooms = vec![room("match", "match")];
        rooms.extend(team.map(|team| room(&format!("team/{team}"), "team")));
        assert_eq!(voice["gateway"], "https://voice.example.com");
        assert_eq!(voice["rooms"], json!(rooms));
        let claims = claims(voice["token"].as_str().expect("a token"));
        let names: Vec<_> = rooms.iter().map(|room| &room["name"]).collect();
        assert_eq!(
            (&claims["uid"], &claims["rid"]),
            (&player["user_id"], &json!(names))
        );
        let lasts =
            claims["exp"].as_i64().expect("a time") - claims["nbf"].as_i64().expect("a time");
        assert_eq!(lasts, 3600, "as long as the lease");
    }
    let seen: Value = {
        let url = format!("{}/v1/matches/{id}", ground.bridge);
        ground
            .http
            .get(url)
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON")
    };
    assert!(
        seen["players"][0].get("voice").is_none(),
        "who only looks gets no tokens"
    );

    ground.end(&made).await;
    ground.end(&made).await;
    let calls = ground.calls.lock().unwrap_or_else(PoisonError::into_inner);
    let mut closed: Vec<_> = calls
        .iter()
        .map(|(_, call)| call["params"]["room_id"].as_str().expect("a room"))
        .collect();
    closed.sort_unstable();
    let expected = ["match", "team/blue", "team/red"].map(|name| format!("{{{id}}}{name}"));
    assert_eq!(closed, expected, "each once");
    for (claims, call) in calls.iter() {
        assert_eq!(
            (&claims["sub"], &call["method"]),
            (&json!("RoomClose"), &json!("RoomClose"))
        );
        assert_eq!(claims["rid"], call["params"]["room_id"]);
        assert!(call["params"]["ban_time"].as_u64() > Some(3_500), "{call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_or_is_full_or_silent_is_not_chosen() {
    let ground = ground().await;
    assert_eq!(ground.preferred("k0").await, None);
    ground.report(2, "node-2:4433", 0.5, false);
    ground.report(3, "node-3:4433", 0.2, false);
    assert_eq!(ground.preferred("k1").await.as_deref(), Some("node-3:4433"));
    ground.report(3, "node-3:4433", 0.2, true);
    assert_eq!(ground.preferred("k2").await.as_deref(), Some("node-2:4433"));
    ground.report(2, "node-2:4433", 0.5, true);
    assert_eq!(ground.preferred("k3").await, None, "the gateway chooses");
}
