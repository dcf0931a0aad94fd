//! The running server against a Fleet that takes or refuses updates.

use std::time::Duration;

use mock_game_server::{Config, Server, ServerError};
use serde_json::{Value, json};
use tokio::{net::UdpSocket, sync::oneshot, task::JoinHandle, time::timeout};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

const PATIENCE: Duration = Duration::from_secs(10);

struct Running {
    fleet: MockServer,
    base: String,
    game: std::net::SocketAddr,
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

async fn answer_with(fleet: &MockServer, template: ResponseTemplate) {
    fleet.reset().await;
    Mock::given(matchers::method("PATCH"))
        .and(matchers::path("/api/v1/services/42/metadata"))
        .respond_with(template)
        .mount(fleet)
        .await;
}

impl Running {
    async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let fleet = MockServer::start().await;
        answer_with(&fleet, accepted()).await;
        let mut config = Config::local(format!("{}/api", fleet.uri()), "t", 42).expect("a config");
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

    async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let client = reqwest::Client::new();
        let request = client
            .post(format!("{}{path}", self.base))
            .body(body.to_owned());
        let response = request.send().await.expect("an answer");
        (
            response.status().as_u16(),
            response.json().await.expect("JSON"),
        )
    }

    /// The metadata of every update so far.
    async fn updates(&self) -> Vec<Value> {
        let requests = self.fleet.received_requests().await.expect("recorded");
        let body = |request: &wiremock::Request| {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            body["metadata"].clone()
        };
        requests.iter().map(body).collect()
    }
}

#[tokio::test]
async fn it_announces_itself_and_plays_a_match() {
    let server =
        Running::start(|config| config.public_url = Some("http://h:{port}".to_owned())).await;
    let (status, body) = server
        .post("/match/start", r#"{"match_id":"m1","user_ids":["a","b"]}"#)
        .await;
    assert_eq!((status, body), (200, json!({"status": "match started"})));
    let (status, _) = server.post("/players", r#"{"count":7}"#).await;
    assert_eq!(status, 200);
    let (status, body) = server
        .post("/match/finish", r#"{"match_id":"m1","outcome":"draw"}"#)
        .await;
    assert_eq!((status, body), (200, json!({"status": "match finished"})));

    let updates = server.updates().await;
    let states: Vec<_> = updates
        .iter()
        .map(|it| it["instance_state"].clone())
        .collect();
    assert_eq!(
        states,
        [json!("idle"), json!("occupied"), Value::Null, json!("idle")]
    );
    assert_eq!(updates[0]["game_port"], server.game.port());
    let match_api = server.base.replace("127.0.0.1", "h");
    assert_eq!(updates[0]["match_api"], match_api);
    assert_eq!(updates[2], json!({"player_count": 7}));
}

#[tokio::test]
async fn a_second_match_is_refused_and_names_the_first() {
    let server = Running::start(|_| {}).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    let refused = (409, json!({"error": "match m1 is running"}));
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
    assert_eq!(server.updates().await.len(), 2, "a refusal writes nothing");
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
}

#[tokio::test]
async fn bad_requests_get_the_guides_answers() {
    let server = Running::start(|_| {}).await;
    let invalid = (400, json!({"error": "invalid JSON body"}));
    for body in ["", "{", "[]", "{\"match_id\":7}", "\u{0}"] {
        assert_eq!(server.post("/match/start", body).await, invalid, "{body:?}");
    }
    let missing = (400, json!({"error": "match_id is required"}));
    assert_eq!(server.post("/match/start", "{}").await, missing);
    assert_eq!(
        server.post("/match/start", r#"{"match_id":null}"#).await,
        missing
    );
    let wrong = reqwest::get(format!("{}/match/start", server.base))
        .await
        .expect("an answer");
    assert_eq!(wrong.status(), 405);
    assert_eq!(
        wrong.json::<Value>().await.expect("JSON"),
        json!({"error": "method not allowed"})
    );
    let health = reqwest::get(format!("{}/health", server.base))
        .await
        .expect("an answer");
    assert_eq!(health.json::<Value>().await.expect("JSON")["status"], "ok");
}

#[tokio::test]
async fn while_the_fleet_refuses_nothing_changes() {
    let server = Running::start(|_| {}).await;
    answer_with(
        &server.fleet,
        ResponseTemplate::new(403).set_body_json(json!({"message": "no"})),
    )
    .await;
    let (status, body) = server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    assert_eq!(status, 502);
    assert!(
        body["error"].as_str().expect("a text").contains("no"),
        "{body}"
    );
    answer_with(&server.fleet, accepted()).await;
    assert_eq!(
        server.post("/match/start", r#"{"match_id":"m2"}"#).await.0,
        200
    );
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
    assert_eq!(server.updates().await.len(), 3);
}

#[tokio::test]
async fn on_the_way_out_it_says_so() {
    let server = Running::start(|_| {}).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    let Running {
        fleet, stop, ended, ..
    } = server;
    stop.send(()).expect("it runs");
    timeout(PATIENCE, ended)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("updated");
    let last = fleet
        .received_requests()
        .await
        .expect("recorded")
        .pop()
        .expect("an update");
    let body: Value = serde_json::from_slice(&last.body).expect("JSON");
    assert_eq!(body["metadata"]["instance_state"], "stopped");
}

#[tokio::test]
async fn a_match_ends_when_its_time_is_over() {
    let server =
        Running::start(|config| config.match_duration = Some(Duration::from_millis(50))).await;
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    let finished = async {
        while server.updates().await.last().expect("updates")["instance_state"] != "idle" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, finished).await.expect("in time");
    assert_eq!(
        server.updates().await.last().expect("updates")["last_outcome"],
        "time is up"
    );
}

#[tokio::test]
async fn the_game_port_answers_pings_and_nothing_else() {
    let server = Running::start(|_| {}).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(server.game).await.expect("an address");
    for datagram in [b"hello".as_slice(), &[0xff; 1200], b"ping short"] {
        socket.send(datagram).await.expect("sent");
    }
    socket.send(b"ping 0123456789abcdef").await.expect("sent");
    let mut buffer = [0; 256];
    let length = timeout(PATIENCE, socket.recv(&mut buffer))
        .await
        .expect("in time")
        .expect("a pong");
    assert_eq!(&buffer[..length], b"pong 0123456789abcdef 42 idle");
    server.post("/match/start", r#"{"match_id":"m1"}"#).await;
    socket.send(b"ping fedcba9876543210").await.expect("sent");
    let length = timeout(PATIENCE, socket.recv(&mut buffer))
        .await
        .expect("in time")
        .expect("a pong");
    assert_eq!(&buffer[..length], b"pong fedcba9876543210 42 occupied");
}

#[tokio::test]
async fn it_does_not_start_when_nobody_would_find_it() {
    let fleet = MockServer::start().await;
    answer_with(
        &fleet,
        ResponseTemplate::new(401).set_body_json(json!({"message": "no"})),
    )
    .await;
    let config = Config::local(format!("{}/api", fleet.uri()), "t", 42).expect("a config");
    let error = Server::bind(config).await.expect_err("no server");
    assert!(matches!(
        error,
        ServerError::Announce(fleet_client::Error::Unauthenticated(_))
    ));
}
