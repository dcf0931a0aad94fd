//! What a matchmaker that shares its servers with others relies on: fences, who has the server, the port and the token
//! of the match API, heartbeats, and the journal.

use std::time::Duration;

use mock_game_server::{MatchPort, Server, ServerError};
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use wiremock::MockServer;

use crate::harness::{Running, accepted, answer_with, config, refused, skip, update_to, updates};

async fn standing(server: &Running) -> Value {
    let answer = reqwest::get(format!("{}/match", server.base)).await;
    answer.expect("an answer").json().await.expect("JSON")
}

#[tokio::test]
async fn a_claim_that_is_over_starts_nothing() {
    let server = Running::start(|_| {}).await;
    let idle = json!({"state": "idle", "match_id": "", "fence": null});
    assert_eq!(standing(&server).await, idle);
    let start = r#"{"match_id":"m1","fence":7}"#;
    assert_eq!(server.post("/match/start", start).await.0, 200);
    assert_eq!(server.post("/match/start", start).await.0, 200);
    let occupied = json!({"state": "occupied", "match_id": "m1", "fence": 7});
    assert_eq!(standing(&server).await, occupied);
    let finish = r#"{"match_id":"m1","fence":7}"#;
    assert_eq!(server.post("/match/finish", finish).await.0, 200);

    let (status, body) = server.post("/match/start", start).await;
    assert_eq!((status, &body["reason"]), (409, &json!("stale_fence")));
    assert!(body["error"].is_string(), "{body}");
    assert_eq!(standing(&server).await["fence"], 7);
    assert_eq!(updates(&server.fleet).await.len(), 3, "no refusal writes");
}

#[tokio::test]
async fn the_fence_of_a_refused_finish_is_remembered() {
    let server = Running::start(|_| {}).await;
    let start = r#"{"match_id":"m1","fence":7}"#;
    assert_eq!(server.post("/match/start", start).await.0, 200);
    let (status, body) = server
        .post("/match/finish", r#"{"match_id":"m2","fence":8}"#)
        .await;
    let expected = json!({"error": "match m1 is running", "reason": "occupied", "match_id": "m1"});
    assert_eq!((status, body), (409, expected));
    assert_eq!(server.post("/match/finish", "{}").await.0, 200);
    let (status, body) = server
        .post("/match/start", r#"{"match_id":"m2","fence":8}"#)
        .await;
    assert_eq!((status, &body["reason"]), (409, &json!("stale_fence")));
}

#[tokio::test]
async fn a_fence_is_a_whole_number() {
    let server = Running::start(|_| {}).await;
    for fence in ["-1", "1.5", "\"7\"", "18446744073709551616"] {
        let start = format!(r#"{{"match_id":"m1","fence":{fence}}}"#);
        assert_eq!(server.post("/match/start", &start).await.0, 400, "{fence}");
    }
    let start = r#"{"match_id":"m1","fence":18446744073709551615}"#;
    assert_eq!(server.post("/match/start", start).await.0, 200);
}

#[tokio::test]
async fn who_has_the_server_is_only_read() {
    let server = Running::start(|_| {}).await;
    let wrong = reqwest::Client::new().post(format!("{}/match", server.base));
    let wrong = wrong.send().await.expect("an answer");
    assert_eq!(wrong.status(), 405);
    assert_eq!(wrong.headers()["allow"], "GET");
}

#[tokio::test]
async fn the_port_of_the_match_api_is_announced_on_request() {
    let server = Running::start(|config| config.match_port = Some(MatchPort::Own)).await;
    let announced = &updates(&server.fleet).await[0]["match_port"];
    assert!(server.base.ends_with(&format!(":{announced}")));
    let published = "20001".parse().map(MatchPort::Published).ok();
    let server = Running::start(|config| config.match_port = published).await;
    assert_eq!(updates(&server.fleet).await[0]["match_port"], 20001);
}

#[tokio::test]
async fn the_match_api_asks_for_its_token() {
    let server =
        Running::start(|config| config.match_token = Some("s3cret".to_owned().into())).await;
    let http = reqwest::Client::new();
    let start = |token: Option<&str>| {
        let request = http.post(format!("{}/match/start", server.base));
        let request = request.body(r#"{"match_id":"m1"}"#);
        match token {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        }
    };
    for token in [
        None,
        Some("s3cret"),
        Some("Bearer s3cre"),
        Some("Bearer s3crex"),
        Some("Basic s3cret"),
    ] {
        let answer = start(token).send().await.expect("an answer");
        assert_eq!(answer.status(), 401, "{token:?}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }
    for (path, status) in [("/match", 401), ("/health", 200), ("/nowhere", 404)] {
        let answer = reqwest::get(format!("{}{path}", server.base)).await;
        assert_eq!(answer.expect("an answer").status(), status, "{path}");
    }
    assert_eq!(server.post("/match/finish", "{}").await.0, 401);
    assert_eq!(server.post("/players", "{}").await.0, 401);
    let answer = start(Some("Bearer s3cret")).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
}

#[tokio::test]
async fn its_heart_beats_alone() {
    let period = Duration::from_secs(30);
    let server = Running::start(|config| config.heartbeat = Some(period)).await;
    assert!(
        updates(&server.fleet).await[0]
            .get("heartbeat_at")
            .is_none()
    );
    for _ in 0..2 {
        let beat = beat(&server.fleet).await;
        let time = beat["heartbeat_at"].as_str().expect("a time");
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert_eq!(beat.as_object().map(serde_json::Map::len), Some(1));
        answer_with(&server.fleet, accepted()).await;
        skip(period).await;
    }
}

/// Waits for the first heartbeat.
async fn beat(fleet: &MockServer) -> Value {
    loop {
        let all = updates(fleet).await;
        if let Some(beat) = all.iter().find(|it| it.get("heartbeat_at").is_some()) {
            return beat.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_journal_tells_what_became_true() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let server = Running::start(|config| config.journal = Some(path.clone())).await;
    server.post("/match/finish", "{}").await;
    server
        .post("/match/start", r#"{"match_id":"m1","fence":7}"#)
        .await;
    server
        .post("/match/start", r#"{"match_id":"m1","fence":7}"#)
        .await;
    server
        .post("/match/start", r#"{"match_id":"m2","fence":8}"#)
        .await;
    server
        .post("/match/start", r#"{"match_id":"m0","fence":6}"#)
        .await;
    answer_with(&server.fleet, refused()).await;
    let finish = r#"{"match_id":"m1","fence":7,"outcome":"draw"}"#;
    assert_eq!(server.post("/match/finish", finish).await.0, 502);
    answer_with(&server.fleet, accepted()).await;
    assert_eq!(server.post("/match/finish", finish).await.0, 200);
    server.post("/match/start", r#"{"match_id":"m3"}"#).await;
    update_to(&server.fleet, "occupied").await;
    server.ends().await.0.expect("updated");

    let text = std::fs::read_to_string(path).expect("a journal");
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        let line_is_dated = line["at_ms"].as_u64().is_some_and(|it| it > 0);
        assert!(line_is_dated && line["service_id"] == 42, "{line}");
        let line = line.as_object_mut().expect("an object");
        line.retain(|key, _| key != "at_ms" && key != "service_id");
        Value::Object(line.clone())
    });
    let refused = |id, fence, reason| {
        json!({"event": "refused", "match_id": id, "fence": fence, "call": "start", "reason": reason,
            "running": "m1"})
    };
    let expected = [
        json!({"event": "idle", "match_id": "", "fence": null}),
        json!({"event": "idle", "match_id": "", "fence": null}),
        json!({"event": "start", "match_id": "m1", "fence": 7}),
        refused("m2", 8, "occupied"),
        refused("m0", 6, "stale_fence"),
        json!({"event": "finish", "match_id": "m1", "fence": 7, "reason": "draw"}),
        json!({"event": "start", "match_id": "m3", "fence": null}),
        json!({"event": "finish", "match_id": "m3", "fence": null, "reason": "aborted"}),
    ];
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_is_named() {
    let fleet = MockServer::start().await;
    let mut config = config(&fleet);
    config.journal = Some("/no/such/folder/journal".into());
    let error = Server::bind(config).await.expect_err("no server");
    assert!(matches!(error, ServerError::Journal { .. }));
    assert!(error.to_string().contains("/no/such/folder/journal"));
}
