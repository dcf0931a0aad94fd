//! Matches through the whole stack: the bridge, a Fleet and real game servers.

mod ground;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use fleet_bridge::{Config, StoreConfig};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use self::ground::Ground;

fn two_players() -> Value {
    json!({"players": [{"user_id": "a", "team": "red"}, {"user_id": "b", "team": "blue"}], "max_players": 3,
        "settings": {"game_mode": "duel"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_match_runs_on_a_server_of_its_own_and_gives_it_back() {
    let ground = Ground::start(2).await;
    let bridge = ground.bridge(|_| {}).await;
    let (status, made) = ground.make(&bridge, "k1", &two_players()).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(
        (&made["state"], &made["lease_seconds"]),
        (&json!("running"), &json!(3600))
    );
    let server = &made["instance"]["id"];
    let metadata = ground.metadata(server);
    assert_eq!(metadata["instance_state"], "occupied");
    assert_eq!(
        (&metadata["match_id"], &metadata["claim"]["match"]),
        (&made["id"], &made["id"])
    );
    assert_eq!(metadata["game_mode"], "duel");

    let (_, other) = ground.make(&bridge, "k2", &two_players()).await;
    assert_ne!(&other["instance"]["id"], server);
    let quick = json!({"players": [{"user_id": "c"}], "deadline_ms": 400});
    let (status, none) = ground.make(&bridge, "k3", &quick).await;
    assert_eq!(
        (status, &none["kind"]),
        (503, &json!("exhausted")),
        "{none}"
    );
    let detail = none["detail"].as_str().expect("a detail");
    assert!(
        detail.contains("of 2 servers") && detail.contains("2 busy"),
        "{detail}"
    );

    let path = format!("/v1/matches/{}", made["id"].as_str().expect("an id"));
    let (status, ended) = ground
        .ask(Method::DELETE, &bridge, &path, Value::Null)
        .await;
    assert_eq!(
        (status, &ended["state"], &ended["reason"]),
        (200, &json!("ended"), &json!("released"))
    );
    let metadata = ground.metadata(server);
    assert_eq!(
        (&metadata["instance_state"], &metadata["claim"]["match"]),
        (&json!("idle"), &json!(""))
    );
    let (status, again) = ground
        .ask(Method::DELETE, &bridge, &path, Value::Null)
        .await;
    assert_eq!(
        (status, again),
        (200, ended),
        "ending what is over changes nothing"
    );
    let (status, none) = ground.make(&bridge, "k3", &quick).await;
    assert_eq!(status, 201, "what came to nothing is tried again: {none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_match_that_its_game_server_is_told_to_finish_is_finished() {
    let ground = Ground::start(1).await;
    let bridge = ground.bridge(|_| {}).await;
    let (_, made) = ground.make(&bridge, "k", &two_players()).await;
    let path = format!("/v1/matches/{}", made["id"].as_str().expect("an id"));
    let finish = format!("{path}/finish");
    let (status, told) = ground
        .ask(Method::POST, &bridge, &finish, Value::Null)
        .await;
    assert_eq!((status, &told["id"]), (202, &made["id"]));
    let ended = async || {
        let (_, seen) = ground.ask(Method::GET, &bridge, &path, Value::Null).await;
        (&seen["state"], &seen["reason"]) == (&json!("ended"), &json!("finished"))
    };
    ground.until("the match has ended", ended).await;
    let metadata = ground.metadata(&made["instance"]["id"]);
    assert_eq!(metadata["instance_state"], "idle");
    let (status, refusal) = ground
        .ask(Method::POST, &bridge, &finish, Value::Null)
        .await;
    assert_eq!((status, &refusal["kind"]), (409, &json!("not_running")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gives_the_same_match_also_after_a_restart() {
    let ground = Ground::start(2).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file: PathBuf = folder.path().join("bridge.journal");
    let stored = |config: &mut Config| config.store = StoreConfig::File(file.clone());
    let bridge = ground.bridge(stored).await;
    let body = two_players();
    let both = tokio::join!(
        ground.make(&bridge, "k", &body),
        ground.make(&bridge, "k", &body)
    );
    assert_eq!(both.0, both.1);
    bridge.end().await;
    let bridge = ground.bridge(stored).await;
    assert_eq!(ground.make(&bridge, "k", &two_players()).await, both.0);
    let mut other = two_players();
    other["max_players"] = 4.into();
    let (status, refused) = ground.make(&bridge, "k", &other).await;
    assert_eq!(
        (status, &refused["kind"]),
        (422, &json!("idempotency_key_reused"))
    );
    bridge.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_leaves_no_server_behind() {
    let ground = Ground::start(1).await;
    let bridge = ground.bridge(|_| {}).await;
    for round in 0..10 {
        let key = format!("k{round}");
        let request = ground
            .http
            .post(format!("{}/v1/matches", bridge.url))
            .header("Idempotency-Key", &key);
        let gone = request
            .timeout(Duration::from_millis(round))
            .json(&two_players())
            .send()
            .await;
        let path = "/v1/matches?state=running".to_owned();
        if gone.is_ok() {
            let (_, running) = ground.ask(Method::GET, &bridge, &path, Value::Null).await;
            let id = running["matches"][0]["id"]
                .as_str()
                .expect("an id")
                .to_owned();
            ground
                .ask(
                    Method::DELETE,
                    &bridge,
                    &format!("/v1/matches/{id}"),
                    Value::Null,
                )
                .await;
        }
        // Whatever has become of it, the same key gives a match or the next one has room.
        let (status, made) = ground.make(&bridge, &key, &two_players()).await;
        assert_eq!(status, 201, "round {round}: {made}");
        let path = format!("/v1/matches/{}", made["id"].as_str().expect("an id"));
        let (_, ended) = ground
            .ask(Method::DELETE, &bridge, &path, Value::Null)
            .await;
        assert_eq!(ended["state"], "ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_not_renewed_ends_the_match() {
    let ground = Ground::start(1).await;
    let bridge = ground.bridge(|_| {}).await;
    let mut body = two_players();
    body["lease_seconds"] = 2.into();
    let (_, made) = ground.make(&bridge, "k", &body).await;
    let path = format!("/v1/matches/{}", made["id"].as_str().expect("an id"));
    let renewal = json!({"lease_seconds": 3});
    let (status, renewed) = ground
        .ask(Method::POST, &bridge, &format!("{path}/renew"), renewal)
        .await;
    assert_eq!(status, 200, "{renewed}");
    assert!(renewed["expires_at"].as_str() > made["expires_at"].as_str());
    let until = &ground.metadata(&made["instance"]["id"])["claim"]["lease_until"];
    assert_eq!(
        *until, renewed["expires_at"],
        "the claim is renewed with it"
    );
    ground
        .until("the match has expired", async || {
            let (_, seen) = ground.ask(Method::GET, &bridge, &path, Value::Null).await;
            seen["reason"] == "expired" && seen["state"] == "ended"
        })
        .await;
    assert_eq!(
        ground.metadata(&made["instance"]["id"])["instance_state"],
        "idle"
    );
    let (status, late) = ground
        .ask(Method::POST, &bridge, &format!("{path}/renew"), json!({}))
        .await;
    assert_eq!((status, &late["kind"]), (409, &json!("not_running")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_match_that_its_game_server_finishes_is_over() {
    let ground = Ground::start(1).await;
    let bridge = ground.bridge(|_| {}).await;
    let (_, made) = ground.make(&bridge, "k", &two_players()).await;
    let server = &made["instance"]["id"];
    let port = ground.metadata(server)["match_port"].clone();
    let body = json!({"match_id": made["id"], "outcome": "red"});
    let url = format!("http://127.0.0.1:{port}/match/finish");
    assert_eq!(
        ground.call(Method::POST, url, None, &body).await.status(),
        200
    );
    let path = format!("/v1/matches/{}", made["id"].as_str().expect("an id"));
    ground
        .until("the bridge has noticed", async || {
            let (_, seen) = ground.ask(Method::GET, &bridge, &path, Value::Null).await;
            seen["reason"] == "finished" && seen["state"] == "ended"
        })
        .await;
    assert_eq!(
        ground.metadata(server)["last_outcome"],
        "red",
        "it was not finished again"
    );
    assert_eq!(ground.make(&bridge, "k2", &two_players()).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_something_left_behind_is_put_in_order() {
    let ground = Ground::start(1).await;
    let service = ground.services(1).await[0];
    let write = |claim: Value, state: &str| {
        let update = json!({"instance_state": state, "claim": claim});
        let Value::Object(update) = update else {
            unreachable!("an object")
        };
        assert!(ground.handle.merge_metadata(service, update));
    };
    let claim = |expires_at: &str| json!({"owner": "others", "match": "m-9", "fence": 41, "expires_at": expires_at, "lease_until": expires_at});
    write(claim("2999-01-01T00:00:00Z"), "reserved");
    let bridge = ground.bridge(|_| {}).await;
    let quick = json!({"players": [{"user_id": "c"}], "deadline_ms": 500});
    let (status, none) = ground.make(&bridge, "k", &quick).await;
    assert_eq!(status, 503);
    assert!(
        none["detail"]
            .as_str()
            .expect("a detail")
            .contains("1 claimed by others"),
        "{none}"
    );
    write(claim("2020-01-01T00:00:00Z"), "reserved");
    ground
        .until("the server is idle", async || {
            let metadata = ground.metadata(&json!(service.to_string()));
            metadata["instance_state"] == "idle" && metadata["claim"]["match"] == ""
        })
        .await;
    // As after an update that arrived late: the game server says that it runs nothing.
    write(
        json!({"owner": "others", "match": "", "fence": 43, "expires_at": null}),
        "occupied",
    );
    ground
        .until("the server is idle again", async || {
            ground.metadata(&json!(service.to_string()))["instance_state"] == "idle"
        })
        .await;
    let (status, made) = ground.make(&bridge, "k", &quick).await;
    assert_eq!(status, 201, "{made}");
    let fence = &ground.metadata(&made["instance"]["id"])["claim"]["fence"];
    assert!(fence.as_u64() > Some(43), "{fence}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_players_get_the_seats_that_are_left() {
    let ground = Ground::start(1).await;
    let seat_time = Duration::from_secs(1);
    let bridge = ground
        .bridge(|config| config.matches.as_mut().expect("matches").seat_time = seat_time)
        .await;
    let (_, made) = ground.make(&bridge, "k", &two_players()).await;
    let path = format!(
        "/v1/matches/{}/players",
        made["id"].as_str().expect("an id")
    );
    let late = |user: &str| json!({"players": [{"user_id": user}]});
    let (status, joined) = ground.ask(Method::POST, &bridge, &path, late("c")).await;
    assert_eq!(status, 200, "{joined}");
    let session = joined["players"][0]["session_id"].clone();
    assert!(joined["players"][0]["reserved_until"].is_string());
    let (_, again) = ground.ask(Method::POST, &bridge, &path, late("c")).await;
    assert_eq!(
        again["players"][0]["session_id"], session,
        "a seat is taken once"
    );
    let (status, full) = ground.ask(Method::POST, &bridge, &path, late("d")).await;
    assert_eq!(
        (status, &full["kind"]),
        (409, &json!("match_full")),
        "{full}"
    );
    sleep(seat_time + Duration::from_millis(200)).await;
    let (status, joined) = ground.ask(Method::POST, &bridge, &path, late("d")).await;
    assert_eq!(status, 200, "a seat that nobody came for is free: {joined}");
    let (status, _) = ground
        .ask(
            Method::POST,
            &bridge,
            &format!("{path}/d/confirm"),
            Value::Null,
        )
        .await;
    assert_eq!(status, 200);
    sleep(seat_time + Duration::from_millis(200)).await;
    assert_eq!(
        ground.ask(Method::POST, &bridge, &path, late("e")).await.0,
        409,
        "the player came"
    );
    assert_eq!(
        ground
            .ask(Method::DELETE, &bridge, &format!("{path}/d"), Value::Null)
            .await
            .0,
        200
    );
    assert_eq!(
        ground.ask(Method::POST, &bridge, &path, late("e")).await.0,
        200,
        "and left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_never_share_a_server() {
    let ground = Ground::start(5).await;
    let bridge = ground.bridge(|_| {}).await;
    for round in 0..3 {
        let calls = (0..5).map(|at| {
            let key = format!("{round}-{at}");
            let ground = &ground;
            let bridge = &bridge;
            async move { ground.make(bridge, &key, &two_players()).await }
        });
        let made = futures::future::join_all(calls).await;
        let servers: BTreeSet<String> = made
            .iter()
            .map(|(status, made)| {
                assert_eq!(*status, 201, "{made}");
                made["instance"]["id"].as_str().expect("an id").to_owned()
            })
            .collect();
        assert_eq!(servers.len(), 5);
        for (_, made) in made {
            let path = format!("/v1/matches/{}", made["id"].as_str().expect("an id"));
            assert_eq!(
                ground
                    .ask(Method::DELETE, &bridge, &path, Value::Null)
                    .await
                    .0,
                200
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_met_is_refused_with_its_reason() {
    let ground = Ground::start(1).await;
    let bridge = ground.bridge(|_| {}).await;
    let url = format!("{}/v1/matches", bridge.url);
    let response = ground.call(Method::POST, url, None, &two_players()).await;
    assert_eq!(response.status(), 400);
    let text = response.text().await.expect("a text");
    assert!(text.contains("Idempotency-Key"), "{text}");
    for (body, word) in [
        (json!({"players": []}), "`players`"),
        (
            json!({"players": [{"user_id": "a"}], "voice": {"match": true}}),
            "[voice]",
        ),
        (
            json!({"players": [{"user_id": "a"}], "selectors": [{"query": {"Citty": "x"}}]}),
            "selectors[0]",
        ),
        (
            json!({"players": [{"user_id": "a", "taem": "red"}]}),
            "players[0].taem",
        ),
    ] {
        let (status, refused) = ground.make(&bridge, "k", &body).await;
        assert_eq!(status, 400, "{refused}");
        assert!(
            refused["detail"].as_str().expect("a detail").contains(word),
            "{refused}"
        );
    }
    let (status, none) = ground
        .ask(Method::GET, &bridge, "/v1/matches/m-0", Value::Null)
        .await;
    assert_eq!((status, &none["kind"]), (404, &json!("not_found")));
    let bare = ground.bridge(|config| config.matches = None).await;
    let (status, off) = ground.make(&bare, "k", &two_players()).await;
    assert_eq!((status, &off["kind"]), (501, &json!("unimplemented")));
}
