//! Create, Join and Delete through a real bridge, over a simulated Fleet with a game server for each running service.

mod ground;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use fleet_bridge::{InstanceSettings, StoreConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, StatusCode};
use mock_fleet::{ApiVersion, World};
use reqwest::Method;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::{sync::Mutex, task::JoinSet};

use self::ground::{Bridge, Fleet, WAIT_MAX, eventually, expect, instance, scaling, settings};

/// The Fleet's name of the call that says how many instances a location setting has.
const SETTING_READ: &str = "operation=\"get_app_location_setting_by_id\"";

const WEBHOOK_KEY: &str = "webhook-key";

#[tokio::test]
async fn create_takes_an_idle_server_and_runs_a_match_there() {
    let fleet = Fleet::start(2).await;
    let bridge = Bridge::start(settings(&fleet)).await;
    let body = json!({
        "max_players": 4, "user_ids": ["a", "b"], "metadata": {"game_mode": "duel"},
        "latencies": [{"user_id": "a", "latency_in_milliseconds": 12.5, "region_identifier": "europe"}],
    });
    let call = |body: &Value| {
        let call = bridge.http.post(format!("{}/v1/instances", bridge.base));
        call.header("idempotency-key", "k1").json(body).send()
    };
    let answer = call(&body).await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"]
        .to_str()
        .expect("text")
        .to_owned();
    let pending: Value = answer.json().await.expect("JSON");
    let id = pending["id"].as_str().expect("an id");
    assert_eq!(location, format!("/v1/operations/{id}"));
    assert_eq!(pending["kind"], "create_instance");

    let operation = bridge.done(id).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    assert!(operation["done_at"].is_string() && operation.get("error").is_none());
    let sessions = operation["sessions"].as_array().expect("a list");
    let users: Vec<_> = sessions.iter().map(|it| it["user_id"].clone()).collect();
    assert_eq!(users, ["a", "b"]);
    assert_eq!(operation["match"]["id"], *id);
    let server = bridge
        .get(&format!("/v1/instances/{}", instance(&operation)))
        .await;
    let metadata = &server["metadata"];
    assert_eq!(metadata["instance_state"], "occupied");
    assert_eq!(
        (&metadata["match_id"], &metadata["game_mode"]),
        (&json!(id), &json!("duel"))
    );

    let again: Value = call(&body)
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(again["id"], *id, "the same key is the same operation");
    let other = call(&json!({"max_players": 5})).await.expect("an answer");
    expect(other, 422, "idempotency_key_reused").await;

    let nobody = bridge
        .done(&bridge.create(&json!({"max_players": 4})).await)
        .await;
    assert_eq!(nobody["state"], "succeeded", "{nobody}");
    assert_eq!(nobody["sessions"], json!([]), "nobody was named");
    assert_ne!(instance(&nobody), instance(&operation));
}

#[tokio::test]
async fn create_scales_up_when_no_server_is_idle_and_never_beyond_its_bound() {
    let fleet = Fleet::start(1).await;
    let mut config = settings(&fleet);
    config.instances.scale = scaling(&fleet, 2);
    let bridge = Bridge::start(config).await;
    let body = json!({"max_players": 2, "user_ids": ["a"]});
    let first = bridge.created(&body).await;
    assert_eq!(fleet.instances().await, 1, "an idle one was enough");
    let second = bridge.created(&body).await;
    assert_ne!(first, second);
    assert_eq!(fleet.instances().await, 2);

    let third = bridge.create(&body).await;
    let path = format!("/v1/operations/{third}");
    // The setting is read before it would be raised: once for the second, once for the third.
    let has_looked = async || {
        let metrics = bridge.metrics().await;
        let reads = metrics.lines().find(|line| {
            line.starts_with("bifrost_bridge_fleet_attempts_total") && line.contains(SETTING_READ)
        });
        reads.filter(|line| line.ends_with(" 2")).map(drop)
    };
    eventually(has_looked).await;
    assert_eq!(bridge.get(&path).await["state"], "pending");
    assert_eq!(fleet.instances().await, 2, "that is the most");

    let cancelled = bridge.delete(&path).await;
    assert_eq!(cancelled.status(), 200);
    let cancelled: Value = cancelled.json().await.expect("JSON");
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    expect(bridge.delete(&path).await, 409, "not_pending").await;
    expect(bridge.delete("/v1/operations/m-0").await, 404, "not_found").await;
    assert_eq!(
        bridge
            .delete(&format!("/v1/matches/{third}"))
            .await
            .status(),
        200
    );
    let metrics = bridge.metrics().await;
    assert!(
        metrics.contains("bifrost_bridge_settings_scaled_up_total 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn create_fails_when_no_server_is_free_in_time() {
    let fleet = Fleet::start(1).await;
    let mut config = settings(&fleet);
    config.instances.create_time = Duration::from_secs(2);
    let bridge = Bridge::start(config).await;
    let body = json!({"max_players": 2});
    bridge.created(&body).await;
    let operation = bridge.done(&bridge.create(&body).await).await;
    assert_eq!(operation["state"], "failed");
    assert_eq!(operation["error"]["kind"], "exhausted");
    assert!(operation["done_at"].is_string() && operation.get("instance").is_none());
    expect(
        bridge
            .delete(&format!(
                "/v1/operations/{}",
                operation["id"].as_str().expect("an id")
            ))
            .await,
        409,
        "not_pending",
    )
    .await;
}

#[tokio::test]
async fn what_cannot_be_created_is_refused_and_named() {
    let fleet = Fleet::start(1).await;
    let bridge = Bridge::start(settings(&fleet)).await;
    for body in [
        json!({}),
        json!({"max_players": 0}),
        json!({"max_players": 1, "user_ids": ["a", "b"]}),
        json!({"max_players": 2, "user_ids": ["a", "a"]}),
        json!({"max_players": 2, "count": 1}),
        json!({"max_players": 2, "voice": {"match": true}}),
        json!({"max_players": 2, "webhook": "https://example.com/"}),
    ] {
        let answer = bridge.post("/v1/instances", &body).await;
        expect(answer, 400, "invalid_argument").await;
    }
    let matches = bridge.get("/v1/matches").await;
    assert_eq!(matches["matches"], json!([]));
    let made = bridge
        .http
        .post(format!("{}/v1/matches", bridge.base))
        .header("idempotency-key", "m")
        .json(&json!({"players": [{"user_id": "a"}]}))
        .send();
    let made: Value = made.await.expect("an answer").json().await.expect("JSON");
    let path = format!("/v1/operations/{}", made["id"].as_str().expect("an id"));
    let answer = bridge.call(Method::GET, &path, None).await;
    expect(answer, 404, "not_found").await;
}

#[test]
fn a_bridge_that_starts_again_goes_on_with_what_was_asked_of_it() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let (world, first, second) = (runtime(), runtime(), runtime());
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = world.block_on(Fleet::start(1));
    let start = || {
        let mut config = settings(&fleet);
        config.store = StoreConfig::File(folder.path().join("store"));
        Bridge::start(config)
    };
    let body = json!({"max_players": 2, "user_ids": ["a"]});
    let (running, pending) = first.block_on(async {
        let bridge = start().await;
        let running = bridge.create(&body).await;
        bridge.done(&running).await;
        let pending = bridge.create(&body).await;
        (running, pending)
    });
    // Everything in it ends at once, as in a crash.
    first.shutdown_timeout(WAIT_MAX);
    second.block_on(async {
        let bridge = start().await;
        assert_eq!(
            bridge.get(&format!("/v1/operations/{pending}")).await["state"],
            "pending"
        );
        let ended = bridge.delete(&format!("/v1/matches/{running}")).await;
        assert_eq!(ended.status(), 200);
        let operation = bridge.done(&pending).await;
        assert_eq!(operation["state"], "succeeded", "{operation}");
        let over = bridge.get(&format!("/v1/operations/{running}")).await;
        assert_eq!(
            over["state"], "succeeded",
            "a match that is over was created"
        );
        assert_eq!(over["match"]["state"], "ended");
    });
}

/// What a receiver was sent: signature and body, and what it answers next.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<(String, String)>>>);

impl Received {
    /// Fails at first.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let url = format!(
            "http://{}/done/",
            listener.local_addr().expect("an address")
        );
        let router = Router::new().route("/done/{game}", post(Self::take));
        let router = router.with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        url
    }

    async fn take(State(received): State<Self>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let signature = headers["bifrost-signature"].to_str().expect("text");
        let body = String::from_utf8(body.into()).expect("text");
        let mut received = received.0.lock().await;
        received.push((signature.to_owned(), body));
        match received.len() {
            1 => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::NO_CONTENT,
        }
    }

    async fn all(&self) -> Vec<(String, String)> {
        self.0.lock().await.clone()
    }
}

fn check_signature(signature: &str, body: &str) {
    let (time, code) = signature.split_once(",v1=").expect("two parts");
    let time = time.strip_prefix("t=").expect("a time");
    let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_KEY.as_bytes()).expect("a key");
    mac.update(format!("{time}.{body}").as_bytes());
    let code: Vec<u8> = (0..code.len() / 2)
        .map(|at| u8::from_str_radix(&code[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    assert!(mac.verify_slice(&code).is_ok(), "{signature}");
    let age = chrono::Utc::now().timestamp() - time.parse::<i64>().expect("seconds");
    assert!((0..60).contains(&age), "{age} s old");
}

#[tokio::test]
async fn the_end_of_an_operation_is_told_until_it_is_heard() {
    let fleet = Fleet::start(1).await;
    let received = Received::default();
    let url = received.start().await;
    let mut config = settings(&fleet);
    config.instances.webhook_key = Some(WEBHOOK_KEY.to_owned().into());
    config.instances.webhook_urls = vec![url.parse().expect("an address")];
    let bridge = Bridge::start(config).await;
    let elsewhere = url.replace("/done/", "/other/");
    let answer = bridge
        .post(
            "/v1/instances",
            &json!({"max_players": 2, "webhook": elsewhere}),
        )
        .await;
    expect(answer, 400, "invalid_argument").await;

    let webhook = format!("{url}arena?secret=1");
    let id = bridge
        .create(&json!({"max_players": 2, "user_ids": ["a"], "webhook": webhook}))
        .await;
    let metric = async |outcome: &str| {
        let metrics = bridge.metrics().await;
        let line = format!("bifrost_bridge_webhooks_total{{outcome=\"{outcome}\"}} 1\n");
        metrics.contains(&line).then_some(())
    };
    eventually(async || metric("delivered").await).await;
    assert!(metric("failed").await.is_some());
    let received = received.all().await;
    assert_eq!(received.len(), 2, "{received:?}");
    let expected = bridge.get(&format!("/v1/operations/{id}")).await;
    for (signature, body) in received {
        check_signature(&signature, &body);
        let told: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(told["state"], "succeeded");
        assert_eq!(told, expected, "the receiver is told what everybody sees");
    }
}

#[tokio::test]
async fn players_join_until_the_match_is_full_and_seats_are_free_again() {
    let fleet = Fleet::start(2).await;
    let mut config = settings(&fleet);
    let seat_time = Duration::from_secs(3);
    let matches = config.matches.as_mut().expect("matches");
    matches.seat_time = seat_time;
    let bridge = Bridge::start(config).await;
    let server = bridge
        .created(&json!({"max_players": 3, "user_ids": ["a"]}))
        .await;
    let join = async |server: &str, users: &[&str]| {
        let path = format!("/v1/instances/{server}/sessions");
        let body = json!({"user_ids": users, "metadata": {"from": "test"}});
        bridge.post(&path, &body).await
    };
    let joined = join(&server, &["b", "c"]).await;
    assert_eq!(joined.status(), 200);
    let joined: Value = joined.json().await.expect("JSON");
    assert_eq!(joined["instance_info"]["id"], *server);
    assert!(joined["instance_info"]["connection_info"]["port"].is_u64());
    let sessions = joined["session_info"].as_array().expect("a list");
    let users: Vec<_> = sessions.iter().map(|it| it["user_id"].clone()).collect();
    assert_eq!(users, ["b", "c"]);
    expect(join(&server, &["d"]).await, 409, "match_full").await;
    let again: Value = join(&server, &["c"]).await.json().await.expect("JSON");
    assert_eq!(again["session_info"][0], sessions[1], "a seat is kept");

    let retried = eventually(async || {
        let answer = join(&server, &["d"]).await;
        (answer.status() == 200).then_some(answer)
    });
    let later: Value = retried.await.json().await.expect("JSON");
    assert_eq!(later["session_info"][0]["user_id"], "d");

    let services = fleet.list("services").await;
    let other = services.iter().map(|it| it["id"].to_string());
    let other = other.into_iter().find(|id| *id != server).expect("another");
    expect(join(&other, &["e"]).await, 409, "not_running").await;
    expect(join("999", &["e"]).await, 404, "not_found").await;
    expect(join("x", &["e"]).await, 400, "invalid_argument").await;
    expect(join(&server, &[]).await, 400, "invalid_argument").await;
}

#[tokio::test]
async fn delete_ends_the_match_and_stops_the_server() {
    let fleet = Fleet::start(2).await;
    let bridge = Bridge::start(settings(&fleet)).await;
    let id = bridge
        .create(&json!({"max_players": 3, "user_ids": ["a"]}))
        .await;
    let server = instance(&bridge.done(&id).await);
    let path = format!("/v1/instances/{server}");
    assert_eq!(bridge.delete(&path).await.status(), 202);
    let ended = bridge.get(&format!("/v1/matches/{id}")).await;
    assert_eq!(
        (&ended["state"], &ended["reason"]),
        (&json!("ended"), &json!("released"))
    );
    let stopped = async || {
        let service = fleet.service(&server).await;
        (service["isStopped"] == true).then_some(service)
    };
    let service = eventually(stopped).await;
    assert_eq!(service["metadata"]["instance_state"], "idle", "{service}");
    assert_eq!(service["metadata"]["claim"]["match"], "", "nobody has it");
    expect(bridge.delete("/v1/instances/999").await, 404, "not_found").await;

    let other = bridge.created(&json!({"max_players": 3})).await;
    assert_ne!(other, server, "a server that is stopped takes no match");
}

#[tokio::test]
async fn each_call_is_switched_on_by_its_own_setting() {
    let fleet = Fleet::start(1).await;
    let mut config = settings(&fleet);
    config.instances = InstanceSettings::default();
    let bridge = Bridge::start(config).await;
    for (method, path, setting) in [
        (Method::POST, "/v1/instances", "create = true"),
        (Method::GET, "/v1/operations/m-1", "create = true"),
        (Method::DELETE, "/v1/operations/m-1", "create = true"),
        (Method::POST, "/v1/instances/1/sessions", "join = true"),
        (Method::DELETE, "/v1/instances/1", "delete = true"),
    ] {
        let answer = bridge.call(method, path, None).await;
        assert_eq!(answer.status(), 501, "{path}");
        let problem: Value = answer.json().await.expect("JSON");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains(setting), "{path}: {detail}");
    }
}

/// Which servers the Fleet shows in this step of their allocation.
async fn allocation(fleet: &Fleet, status: &str) -> BTreeSet<String> {
    let services = fleet.list("services").await;
    let services = services.iter();
    let services = services.filter(|it| it["autoscaling"]["status"] == status);
    services.map(|it| it["id"].to_string()).collect()
}

#[tokio::test]
async fn two_bridges_without_a_common_store_never_get_the_same_server_from_the_fleet() {
    let fleet = Fleet::of(World::default_world(), ApiVersion::V0_9_5, 2).await;
    let mut bridges = Vec::new();
    for _ in 0..2 {
        let mut config = settings(&fleet);
        let matches = config.matches.as_mut().expect("matches");
        matches.fleet_settings = vec![fleet.setting];
        bridges.push(Bridge::start(config).await);
    }
    for round in 0..2 {
        // As many as the location setting may have servers.
        let mut asking = JoinSet::new();
        for number in 0..6 {
            let bridge = bridges[number % 2].clone();
            asking.spawn(async move {
                let call = bridge.http.post(format!("{}/v1/matches", bridge.base));
                let call = call.header("idempotency-key", format!("{round}-{number}"));
                let body = json!({"players": [{"user_id": "a"}], "deadline_ms": 20_000});
                let answer = call.json(&body).send().await.expect("an answer");
                assert_eq!(answer.status(), 201);
                let made: Value = answer.json().await.expect("JSON");
                (bridge, made)
            });
        }
        let mut made = BTreeMap::new();
        while let Some(asked) = asking.join_next().await {
            let (bridge, found) = asked.expect("a match");
            let twice = made.insert(instance(&found), (bridge, found));
            assert!(twice.is_none(), "one server for two matches");
        }
        let servers: BTreeSet<String> = made.keys().cloned().collect();
        assert_eq!(allocation(&fleet, "allocated").await, servers);
        for (bridge, found) in made.into_values() {
            let id = found["id"].as_str().expect("an id");
            let ended = bridge.delete(&format!("/v1/matches/{id}")).await;
            assert_eq!(ended.status(), 200);
        }
        let free = async || {
            allocation(&fleet, "allocated")
                .await
                .is_empty()
                .then_some(())
        };
        eventually(free).await;
    }
    let services = fleet.list("services").await;
    for service in services {
        let metadata: &Map<String, Value> = service["metadata"].as_object().expect("an object");
        assert_eq!(metadata["instance_state"], "idle", "{service}");
    }
}
