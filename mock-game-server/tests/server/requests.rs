//! What callers of the match API and players on the game port are told.

use std::time::Duration;

use mock_game_server::{MATCH_ID_BYTES_MAX, PING_BYTES_MAX, PLAYERS_MAX};
use serde_json::{Value, json};
use tokio::{net::UdpSocket, time::timeout};

use crate::harness::{PATIENCE, Running, accepted, answer_with, update_to, updates};

#[tokio::test]
async fn it_announces_itself_and_plays_a_match() {
    let server =
        Running::start(|config| config.public_url = Some("http://h:{port}".to_owned())).await;
    let start =
        r#"{"match_id":"m1","game_mode":"DEATH_MATCH","map_guid":"map-01","user_ids":["a","b"]}"#;
    let started = (200, json!({"status": "match started"}));
    assert_eq!(server.post("/match/start", start).await, started);
    let updated = (200, json!({"status": "players updated"}));
    assert_eq!(server.post("/players", r#"{"count":7}"#).await, updated);
    let finish = r#"{"match_id":"m1","outcome":"draw"}"#;
    let finished = (200, json!({"status": "match finished"}));
    assert_eq!(server.post("/match/finish", finish).await, finished);

    let port = server.game.port();
    let match_api = server.base.replace("127.0.0.1", "h");
    let idle = json!({
        "instance_state": "idle", "game_port": port, "match_api": match_api, "match_id": "", "user_ids": [],
        "player_count": 0,
    });
    let mut occupied = json!({
        "instance_state": "occupied", "game_port": port, "match_api": match_api, "match_id": "m1",
        "game_mode": "DEATH_MATCH", "map_guid": "map-01", "join_mode": "free", "user_ids": ["a", "b"],
        "player_count": 2,
    });
    let mut expected = vec![idle.clone(), occupied.clone()];
    occupied["player_count"] = 7.into();
    expected.push(occupied);
    expected.push(idle);
    expected[3]["last_outcome"] = "draw".into();
    assert_eq!(updates(&server.fleet).await, expected);
}

#[tokio::test]
async fn a_second_match_is_refused_and_names_the_first() {
    let server = Running::start(|_| {}).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    let refused = (
        409,
        json!({"error": "match m1 is running", "match_id": "m1", "reason": "occupied"}),
    );
    assert_eq!(
        server.post("/match/start", r#"{"match_id":"m2"}"#).await,
        refused
    );
    assert_eq!(
        server.post("/match/finish", r#"{"match_id":"m2"}"#).await,
        refused
    );
    assert_eq!(
        server.post("/match/start", r#"{"match_id":"m1"}"#).await.0,
        200
    );
    assert_eq!(
        updates(&server.fleet).await.len(),
        2,
        "neither a refusal nor a repetition writes anything"
    );
}

#[tokio::test]
async fn of_two_starts_at_once_one_wins() {
    let server = Running::start(|_| {}).await;
    answer_with(
        &server.fleet,
        accepted().set_delay(Duration::from_millis(100)),
    )
    .await;
    let (a, b) = tokio::join!(
        server.post("/match/start", r#"{"match_id":"m1"}"#),
        server.post("/match/start", r#"{"match_id":"m2"}"#),
    );
    let mut statuses = [a.0, b.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(updates(&server.fleet).await.len(), 1);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_leave_half_a_start() {
    let server = Running::start(|_| {}).await;
    answer_with(
        &server.fleet,
        accepted().set_delay(Duration::from_millis(100)),
    )
    .await;
    let start = server.post("/match/start", r#"{"match_id":"m1"}"#);
    let caller = tokio::spawn(start);
    update_to(&server.fleet, "occupied").await;
    caller.abort();
    let other = server.post("/match/start", r#"{"match_id":"m2"}"#).await;
    assert_eq!(other.1["error"], "match m1 is running");
}

#[tokio::test]
async fn bad_requests_get_the_guides_answers() {
    let server = Running::start(|_| {}).await;
    let invalid = (400, json!({"error": "invalid JSON body"}));
    for body in [
        "",
        "{",
        "[]",
        r#"["m1",null,null,null,null]"#,
        "7",
        r#"{"match_id":7}"#,
        r#"{"match_id":"m1","user_ids":"a"}"#,
        "\u{0}",
    ] {
        for path in ["/match/start", "/match/finish"] {
            if path == "/match/finish" && body.contains("user_ids") {
                continue;
            }
            assert_eq!(server.post(path, body).await, invalid, "{path} {body:?}");
        }
    }
    let missing = (400, json!({"error": "match_id is required"}));
    for body in ["{}", "null", r#"{"match_id":null}"#, r#"{"match_id":""}"#] {
        assert_eq!(server.post("/match/start", body).await, missing, "{body}");
    }
    for path in ["/match/start", "/match/finish", "/players"] {
        let wrong = reqwest::get(format!("{}{path}", server.base)).await;
        let wrong = wrong.expect("an answer");
        assert_eq!(wrong.status(), 405);
        assert_eq!(wrong.headers()["allow"], "POST");
        let body: Value = wrong.json().await.expect("JSON");
        assert_eq!(body, json!({"error": "method not allowed"}));
    }
    let nowhere = (404, json!({"error": "not found"}));
    assert_eq!(server.post("/matches", "").await, nowhere);
    assert_eq!(updates(&server.fleet).await.len(), 1, "the announcement");
}

#[tokio::test]
async fn what_is_too_much_is_refused_with_its_limit() {
    let server = Running::start(|_| {}).await;
    let long_id = json!({"match_id": "m".repeat(MATCH_ID_BYTES_MAX + 1)});
    let odd_id = json!({"match_id": "m\n1"});
    for start in [long_id, odd_id] {
        let (status, body) = server.post("/match/start", &start.to_string()).await;
        assert_eq!(status, 400);
        let text = body["error"].as_str().expect("a text");
        assert!(
            text.starts_with("match_id must have at most 128 bytes"),
            "{text}"
        );
    }
    let crowd = json!({"match_id": "m1", "user_ids": vec!["u"; 1 + PLAYERS_MAX as usize]});
    let (status, body) = server.post("/match/start", &crowd.to_string()).await;
    let text = json!({"error": "user_ids must have at most 1000 entries"});
    assert_eq!((status, body), (400, text));
    let (status, body) = server
        .post("/match/start", &" ".repeat(64 * 1024 + 1))
        .await;
    let text = json!({"error": "the request body has more than 65536 bytes"});
    assert_eq!((status, body), (413, text));
}

#[tokio::test]
async fn players_are_counted_in_a_match_only() {
    let server = Running::start(|_| {}).await;
    let no_match = (409, json!({"error": "no match is running"}));
    assert_eq!(server.post("/players", r#"{"count":1}"#).await, no_match);
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    let bounds = (
        400,
        json!({"error": "count must be a whole number from 0 to 1000"}),
    );
    for body in [
        "{}",
        r#"{"count":-1}"#,
        r#"{"count":1.5}"#,
        r#"{"count":"1"}"#,
        r#"{"count":1001}"#,
        r#"{"count":18446744073709551616}"#,
    ] {
        assert_eq!(server.post("/players", body).await, bounds, "{body}");
    }
    assert_eq!(server.post("/players", r#"{"count":1000}"#).await.0, 200);
}

#[tokio::test]
async fn its_health_is_the_guides() {
    let server = Running::start(|_| {}).await;
    for path in ["/health", "/healthz"] {
        let health = reqwest::get(format!("{}{path}", server.base)).await;
        let health: Value = health.expect("an answer").json().await.expect("JSON");
        assert_eq!(health["status"], "ok");
        let time = health["time"].as_str().expect("a time");
        assert!(
            time.len() == "2026-11-21T03:00:00Z".len() && time.ends_with('Z'),
            "{time}"
        );
    }
}

#[tokio::test]
async fn the_game_port_answers_pings_and_nothing_else() {
    let server = Running::start(|_| {}).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(server.game).await.expect("an address");
    let long = [b"ping a".as_slice(), &[b' '; PING_BYTES_MAX]].concat();
    for datagram in [b"".as_slice(), b"hello", &[0xff; 1200], b"ping", &long] {
        socket.send(datagram).await.expect("sent");
    }
    socket.send(b"ping 0123456789abcdef").await.expect("sent");
    let mut buffer = [0; 1024];
    let received = timeout(PATIENCE, socket.recv(&mut buffer)).await;
    let length = received.expect("in time").expect("a pong");
    assert_eq!(&buffer[..length], b"pong 0123456789abcdef 42 idle");
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    assert_eq!(server.ping("ping b").await, "pong b 42 occupied m1");
}

#[tokio::test]
async fn the_announced_port_may_be_another_than_its_own() {
    let server = Running::start(|config| config.announced_port = Some(20001)).await;
    assert_eq!(updates(&server.fleet).await[0]["game_port"], 20001);
    assert_eq!(server.ping("ping a").await, "pong a 42 idle");
}
