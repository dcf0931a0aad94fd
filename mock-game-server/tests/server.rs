//! The running server against a Fleet that takes or refuses updates.

use std::{future::Future, net::SocketAddr, time::Duration};

use mock_game_server::{
    Config, ExitState, MATCH_ID_BYTES_MAX, PING_BYTES_MAX, PLAYERS_MAX, Server, ServerError,
};
use serde_json::{Value, json};
use tokio::{
    net::UdpSocket,
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    fleet: MockServer,
    base: String,
    game: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), fleet_client::Error>>,
}

fn accepted() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({
        "id": 42, "appLocationSettingId": 1, "instance": 1, "serverConfigId": 1, "serverConfigName": "c",
        "name": "n", "status": "running", "status_message": null, "isBackupable": false,
        "isRestorable": false, "isPending": false, "isNotFound": false, "isHealthy": true,
        "isStopped": false, "maintenance": false, "ports": [], "env": {},
        "restartPolicy": {"condition": "any"},
        "location": {"city": "c", "cityDisplay": "C", "continent": "europe", "country": "de",
            "isProtected": false},
        "resources": {"id": 1, "name": "S", "slug": "s", "type": "shared", "cpuLimit": "1",
            "memoryLimitBytes": 1, "memoryLimitMiB": 1, "memoryLimitFileSizeString": "1"},
        "backups": [], "metadata": {}, "createdAt": null, "updatedAt": null
    }))
}

/// A failure that is not tried again within the same call.
fn refused() -> ResponseTemplate {
    ResponseTemplate::new(403).set_body_json(json!({"message": "not you"}))
}

/// As [`refused`], but one that passes.
fn away() -> ResponseTemplate {
    ResponseTemplate::new(503)
        .insert_header("retry-after", "60")
        .set_body_json(json!({"message": "later"}))
}

/// From now on the Fleet answers like this. Forgets earlier updates.
async fn answer_with(fleet: &MockServer, template: ResponseTemplate) {
    fleet.reset().await;
    Mock::given(matchers::method("PATCH"))
        .and(matchers::path("/api/v1/services/42/metadata"))
        .and(matchers::header("authorization", "Bearer t0ken"))
        .respond_with(template)
        .mount(fleet)
        .await;
}

/// The metadata of every update so far.
async fn updates(fleet: &MockServer) -> Vec<Value> {
    let requests = fleet.received_requests().await.expect("recorded");
    let body = |request: &wiremock::Request| {
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        body["metadata"].clone()
    };
    requests.iter().map(body).collect()
}

/// Waits for the first update whose state is this, and returns it.
async fn update_to(fleet: &MockServer, state: &str) -> Value {
    let found = async {
        loop {
            let all = updates(fleet).await;
            if let Some(update) = all.iter().find(|it| it["instance_state"] == state) {
                return update.clone();
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, found).await.expect("an update in time")
}

/// Lets this much time pass at once.
async fn skip(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

fn config(fleet: &MockServer) -> Config {
    Config::local(format!("{}/api", fleet.uri()), "t0ken", 42).expect("a config")
}

impl Running {
    async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let fleet = MockServer::start().await;
        answer_with(&fleet, accepted()).await;
        Self::against(fleet, adjust).await
    }

    async fn against(fleet: MockServer, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(&fleet);
        adjust(&mut config);
        let server = Server::bind(config).await.expect("a server");
        let base = format!("http://{}", server.http_addr());
        let game = server.game_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self {
            fleet,
            base,
            game,
            stop,
            ended,
        }
    }

    fn post(&self, path: &str, body: &str) -> impl Future<Output = (u16, Value)> + use<> {
        let request = reqwest::Client::new()
            .post(format!("{}{path}", self.base))
            .body(body.to_owned());
        async {
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            (status, response.json().await.expect("JSON"))
        }
    }

    async fn ends(self) -> (Result<(), fleet_client::Error>, Value) {
        self.stop.send(()).expect("it runs");
        let ended = timeout(PATIENCE, self.ended).await;
        let result = ended.expect("in time").expect("no panic");
        (result, updates(&self.fleet).await.pop().expect("an update"))
    }

    async fn ping(&self, datagram: &str) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        socket.connect(self.game).await.expect("an address");
        socket.send(datagram.as_bytes()).await.expect("sent");
        let mut buffer = [0; 1024];
        let received = timeout(PATIENCE, socket.recv(&mut buffer)).await;
        let length = received.expect("in time").expect("a pong");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

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
        json!({"error": "match m1 is running", "match_id": "m1"}),
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
    assert_eq!(server.post("/match", "").await, nowhere);
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
async fn while_the_fleet_refuses_nothing_changes() {
    let server = Running::start(|_| {}).await;
    answer_with(&server.fleet, refused()).await;
    let (status, body) = server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    assert_eq!(status, 502);
    let text = body["error"].as_str().expect("a text");
    assert!(
        text.contains("not you") && !text.contains("t0ken"),
        "{text}"
    );
    assert_eq!(server.ping("ping a").await, "pong a 42 idle");

    answer_with(&server.fleet, accepted()).await;
    assert_eq!(
        server.post("/match/start", r#"{"match_id":"m2"}"#).await.0,
        200
    );
    answer_with(&server.fleet, refused()).await;
    assert_eq!(server.post("/match/finish", "{}").await.0, 502);
    assert_eq!(server.ping("ping a").await, "pong a 42 occupied m2");
}

#[tokio::test]
async fn after_a_failure_the_fleet_is_told_again_what_holds() {
    let server = Running::start(|_| {}).await;
    // The Fleet may have taken the update although it says otherwise.
    answer_with(&server.fleet, refused()).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    answer_with(&server.fleet, accepted()).await;
    assert_eq!(updates(&server.fleet).await, [] as [Value; 0]);
    skip(Duration::from_secs(2)).await;
    assert_eq!(update_to(&server.fleet, "idle").await["match_id"], "");
    skip(Duration::from_secs(3600)).await;
    assert_eq!(server.ping("ping a").await, "pong a 42 idle");
    assert_eq!(updates(&server.fleet).await.len(), 1, "once is enough");
}

#[tokio::test]
async fn a_short_outage_is_not_noticed() {
    let server = Running::start(|_| {}).await;
    server.fleet.reset().await;
    let failing = Mock::given(matchers::any()).respond_with(ResponseTemplate::new(502));
    failing.up_to_n_times(2).mount(&server.fleet).await;
    let working = Mock::given(matchers::any()).respond_with(accepted());
    working.mount(&server.fleet).await;
    assert_eq!(
        server.post("/match/start", r#"{"match_id":"m1"}"#).await.0,
        200
    );
    assert_eq!(updates(&server.fleet).await.len(), 3);
}

#[tokio::test]
async fn on_the_way_out_it_says_so() {
    let server = Running::start(|_| {}).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    let (result, last) = server.ends().await;
    result.expect("updated");
    assert_eq!(last["instance_state"], "stopped");
    assert_eq!(last["match_id"], "");
    assert_eq!(last["last_outcome"], "aborted");
}

#[tokio::test]
async fn it_can_be_left_behind_idle() {
    let server = Running::start(|config| config.exit_state = ExitState::Idle).await;
    answer_with(&server.fleet, accepted()).await;
    let (result, last) = server.ends().await;
    result.expect("updated");
    assert_eq!(last["instance_state"], "idle");
    assert_eq!(last["last_outcome"], Value::Null);
}

#[tokio::test]
async fn a_last_update_that_fails_is_reported() {
    let server = Running::start(|_| {}).await;
    answer_with(&server.fleet, refused()).await;
    let (result, _) = server.ends().await;
    assert!(matches!(
        result,
        Err(fleet_client::Error::PermissionDenied(_))
    ));
}

#[tokio::test]
async fn an_update_that_hangs_does_not_delay_the_end() {
    let server = Running::start(|_| {}).await;
    answer_with(&server.fleet, accepted().set_delay(PATIENCE * 2)).await;
    let caller = tokio::spawn(server.post("/match/start", r#"{"match_id":"m1"}"#));
    update_to(&server.fleet, "occupied").await;
    answer_with(&server.fleet, accepted()).await;
    let (result, last) = server.ends().await;
    result.expect("updated");
    assert_eq!(last["instance_state"], "stopped");
    let ending = (503, json!({"error": "this server is ending"}));
    assert_eq!(caller.await.expect("no panic"), ending);
}

#[tokio::test]
async fn a_match_ends_when_its_time_is_over() {
    let server =
        Running::start(|config| config.match_duration = Some(Duration::from_secs(600))).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    answer_with(&server.fleet, accepted()).await;
    skip(Duration::from_secs(599)).await;
    assert_eq!(server.ping("ping a").await, "pong a 42 occupied m1");
    skip(Duration::from_secs(1)).await;
    let update = update_to(&server.fleet, "idle").await;
    assert_eq!(update["last_outcome"], "time-limit");
}

#[tokio::test]
async fn a_match_whose_time_is_over_ends_when_the_fleet_is_back() {
    let server =
        Running::start(|config| config.match_duration = Some(Duration::from_secs(600))).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    for outage in [600, 2, 4] {
        answer_with(&server.fleet, refused()).await;
        skip(Duration::from_secs(outage)).await;
        update_to(&server.fleet, "idle").await;
        assert_eq!(server.ping("ping a").await, "pong a 42 occupied m1");
    }
    answer_with(&server.fleet, accepted()).await;
    skip(Duration::from_secs(60)).await;
    update_to(&server.fleet, "idle").await;
    let next = server.post("/match/start", r#"{"match_id":"m2"}"#).await;
    assert_eq!(next.0, 200);
}

#[tokio::test]
async fn a_finished_match_takes_its_timer_along() {
    let server =
        Running::start(|config| config.match_duration = Some(Duration::from_secs(600))).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    skip(Duration::from_secs(590)).await;
    server.post("/match/finish", "{}").await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    skip(Duration::from_secs(590)).await;
    assert_eq!(server.ping("ping a").await, "pong a 42 occupied m1");
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

#[tokio::test]
async fn it_does_not_start_when_nobody_would_find_it() {
    let fleet = MockServer::start().await;
    let body = json!({"message": "no"});
    answer_with(&fleet, ResponseTemplate::new(401).set_body_json(body)).await;
    let error = Server::bind(config(&fleet)).await.expect_err("no server");
    assert!(matches!(
        error,
        ServerError::Announce(fleet_client::Error::Unauthenticated(_))
    ));
}

#[tokio::test]
async fn a_fleet_that_is_away_at_the_start_is_told_later() {
    let fleet = MockServer::start().await;
    answer_with(&fleet, away()).await;
    let server = Running::against(fleet, |_| {}).await;
    assert_eq!(server.ping("ping a").await, "pong a 42 idle");
    answer_with(&server.fleet, accepted()).await;
    skip(Duration::from_secs(2)).await;
    update_to(&server.fleet, "idle").await;
}
