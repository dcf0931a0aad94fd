//! The bridge over HTTP: who may call, what is refused before any Fleet call, how failures look, how it ends.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use fleet_bridge::{AccessToken, Config, Scope, Server};
use http::StatusCode;
use integration_tests::{Exchange, ScriptedFleet};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};

struct Running {
    fleet: ScriptedFleet,
    base: String,
    http: Client,
}

impl Running {
    async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let fleet = ScriptedFleet::start().await.expect("a fleet");
        let mut config = Config::new(1, &fleet.base_url(), "fleet-token").expect("settings");
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        adjust(&mut config);
        let server = Server::bind(config).await.expect("a bridge");
        let base = server.base_url();
        tokio::spawn(server.run(std::future::pending()));
        let http = Client::builder().no_proxy().build().expect("a client");
        Self { fleet, base, http }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    async fn get(&self, path: &str) -> Response {
        self.call(Method::GET, path)
            .send()
            .await
            .expect("an answer")
    }

    /// What comes back for these bytes on a connection of their own.
    async fn raw(&self, call: &str) -> String {
        let address = self.base.strip_prefix("http://").expect("plain HTTP");
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        socket.write_all(call.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        // After a body that could not be read the connection may end without ceremony.
        let _ = socket.read_to_string(&mut answer).await;
        answer
    }

    fn fleet_answers(&self, status: u16, body: &Value) {
        self.fleet.prepare([exchange(status, &body.to_string())]);
    }
}

fn exchange(status: u16, body: &str) -> Exchange {
    Exchange {
        status: StatusCode::from_u16(status).expect("a status"),
        content_type: "application/json".to_owned(),
        body: body.as_bytes().to_owned(),
    }
}

/// The Fleet's first answer in one of the shared cases.
fn case_body(id: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/bridge-cases.json");
    let text = std::fs::read_to_string(path).expect("the cases");
    let cases: Value = serde_json::from_str(&text).expect("JSON");
    let mut cases = cases["cases"].as_array().expect("a list").iter();
    let case = cases.find(|case| case["id"] == id).expect("the case");
    case["steps"][0]["fleet"][0]["response"]["body"].clone()
}

/// Checks the shape that every error has, and returns its kind.
async fn problem(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(
        response.headers()["content-type"],
        fleet_bridge::PROBLEM_JSON
    );
    let id = response.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["status"], status);
    assert_eq!(body["request_id"], *id);
    assert!(!body["detail"].as_str().expect("a text").is_empty());
    (status, body["kind"].as_str().expect("a kind").to_owned())
}

async fn expect(response: Response, status: u16, kind: &str) {
    assert_eq!(problem(response).await, (status, kind.to_owned()));
}

#[test]
fn the_contract_in_the_repository_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/fleet-bridge.json");
    let file = std::fs::read_to_string(path).expect("the contract");
    assert!(
        file == fleet_bridge::openapi_json(),
        "run `cargo xtask openapi`"
    );
}

#[tokio::test]
async fn a_token_opens_what_its_scope_says() {
    let bridge = Running::start(|config| {
        let token = |scope, secret: &str| AccessToken {
            name: secret.to_owned(),
            scope,
            secret: secret.to_owned(),
        };
        config.tokens = vec![token(Scope::Read, "reader"), token(Scope::Write, "writer")];
    })
    .await;
    bridge.fleet_answers(404, &json!({"message": "no"}));
    let call = |method, token: &str| bridge.call(method, "/v1/instances/1").bearer_auth(token);
    let read = call(Method::GET, "reader").send().await.expect("an answer");
    expect(read, 404, "not_found").await;
    let write = call(Method::PATCH, "reader")
        .json(&json!({}))
        .send()
        .await
        .expect("an answer");
    expect(write, 403, "permission_denied").await;
    let write = call(Method::PATCH, "writer")
        .json(&json!({}))
        .send()
        .await
        .expect("an answer");
    expect(write, 404, "not_found").await;
    let unknown = call(Method::GET, "nobody").send().await.expect("an answer");
    assert_eq!(unknown.headers()["www-authenticate"], "Bearer");
    expect(unknown, 401, "unauthenticated").await;
    expect(bridge.get("/metrics").await, 401, "unauthenticated").await;
    expect(bridge.get("/no/such/route").await, 401, "unauthenticated").await;
    for path in ["/healthz", "/openapi.json", "/docs/"] {
        assert_eq!(bridge.get(path).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_update_never_reaches_the_fleet() {
    let bridge = Running::start(|config| config.limit.body_bytes = 100).await;
    let patch = |body: &str, media_type: &str| {
        let call = bridge.call(Method::PATCH, "/v1/instances/1");
        call.header("content-type", media_type)
            .body(body.to_owned())
            .send()
    };
    for body in [
        "",
        "{",
        "[]",
        "7",
        r#"{"players": 1}"#,
        r#"{"player_count": -1}"#,
        "{} {}",
        "{\"metadata\": 7}",
    ] {
        let answer = patch(body, "application/json").await.expect("an answer");
        expect(answer, 400, "invalid_argument").await;
    }
    let answer = patch("{}", "text/plain").await.expect("an answer");
    expect(answer, 415, "invalid_argument").await;
    let answer = patch(&" ".repeat(101), "application/json; charset=utf-8")
        .await
        .expect("an answer");
    expect(answer, 413, "invalid_argument").await;
    assert!(bridge.fleet.requests().is_empty());
}

#[tokio::test]
async fn a_body_that_is_no_http_is_not_called_too_large() {
    let bridge = Running::start(|_| {}).await;
    let answer = bridge
        .raw(
            "PATCH /v1/instances/1 HTTP/1.1\r\nhost: bridge\r\ncontent-type: application/json\r\n\
            transfer-encoding: chunked\r\nconnection: close\r\n\r\nno length\r\n{}",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains(r#""kind":"invalid_argument""#), "{answer}");
    assert!(bridge.fleet.requests().is_empty());
}

#[tokio::test]
async fn what_does_not_exist_is_a_problem_too() {
    let bridge = Running::start(|_| {}).await;
    for path in ["/v2", "/docs/nothing.js"] {
        expect(bridge.get(path).await, 404, "not_found").await;
    }
    expect(bridge.get("/v1/instances/").await, 400, "invalid_argument").await;
    let put = bridge
        .call(Method::PUT, "/v1/instances/1")
        .send()
        .await
        .expect("an answer");
    assert!(
        put.headers()["allow"]
            .to_str()
            .expect("text")
            .contains("PATCH")
    );
    expect(put, 405, "invalid_argument").await;
    for (method, path) in [
        (Method::POST, "/v1/instances"),
        (Method::POST, "/v1/instances/1/sessions"),
        (Method::DELETE, "/v1/instances/1"),
    ] {
        let answer = bridge.call(method, path).send().await.expect("an answer");
        expect(answer, 501, "unimplemented").await;
    }
    assert!(bridge.fleet.requests().is_empty());
    let metrics = bridge.get("/metrics").await.text().await.expect("text");
    for route in ["unmatched", "/docs/{*rest}"] {
        let labels = format!(r#"{{route="{route}",method="GET",status="404",kind="not_found"}}"#);
        assert!(metrics.contains(&labels), "{labels} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_request_id_is_taken_over_when_it_is_safe() {
    let bridge = Running::start(|_| {}).await;
    for (given, is_kept) in [
        ("trace-1.a_B", true),
        ("a b", false),
        (&"x".repeat(65), false),
    ] {
        let call = bridge
            .call(Method::GET, "/healthz")
            .header("x-request-id", given);
        let answer = call.send().await.expect("an answer");
        assert_eq!(
            answer.headers()["x-request-id"] == *given,
            is_kept,
            "{given}"
        );
    }
}

#[tokio::test]
async fn every_failure_of_the_fleet_has_its_status_and_kind() {
    let bridge = Running::start(|_| {}).await;
    let message = json!({"message": "no"});
    for (fleet, body, status, kind) in [
        (401, message.clone(), 502, "unauthenticated"),
        (403, message.clone(), 502, "permission_denied"),
        (404, message.clone(), 404, "not_found"),
        (409, message.clone(), 502, "bad_response"),
        (
            422,
            json!({"message": "bad", "errors": {"a": ["b"]}}),
            422,
            "validation",
        ),
        (429, message.clone(), 503, "unavailable"),
        (500, message, 503, "unavailable"),
        (502, json!("<html>"), 503, "unavailable"),
        (200, json!("garbage"), 502, "bad_response"),
    ] {
        bridge.fleet_answers(fleet, &body);
        let answer = bridge.get("/v1/instances/1").await;
        assert_eq!(problem(answer).await, (status, kind.to_owned()), "{fleet}");
    }
}

#[tokio::test]
async fn an_update_without_an_answer_says_that_it_may_have_been_applied() {
    let mut config = local();
    config.limit.request_deadline_ms = 300;
    let _listener = silent_fleet(&mut config).await;
    let (base, _stop, _ended) = start_at(config).await;
    let patch = Client::new().patch(format!("{base}/v1/instances/1"));
    let answer = patch.json(&json!({})).send().await.expect("an answer");
    assert_eq!(answer.status(), 504);
    let body: Value = answer.json().await.expect("JSON");
    let detail = body["detail"].as_str().expect("a text");
    assert!(detail.contains("may have been applied"), "{detail}");
}

#[tokio::test]
async fn an_update_that_has_not_come_in_was_not_applied() {
    let bridge = Running::start(|config| config.limit.request_deadline_ms = 300).await;
    let answer = bridge
        .raw(
            "PATCH /v1/instances/1 HTTP/1.1\r\nhost: bridge\r\ncontent-type: application/json\r\n\
            content-length: 2\r\nconnection: close\r\n\r\n{",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains(r#""kind":"unavailable""#), "{answer}");
    assert!(!answer.contains("may have been applied"), "{answer}");
    assert!(bridge.fleet.requests().is_empty());
}

/// A Fleet that takes connections and never answers.
async fn silent_fleet(config: &mut Config) -> tokio::net::TcpListener {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    config.api_url = format!("http://{}/api", listener.local_addr().expect("an address"));
    listener
}

async fn start_at(config: Config) -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let server = Server::bind(config).await.expect("a bridge");
    let base = server.base_url();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    (base, stop, ended)
}

fn local() -> Config {
    let mut config = Config::new(1, "http://127.0.0.1:1/api", "t").expect("settings");
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config
}

#[tokio::test]
async fn a_silent_fleet_costs_no_more_than_the_deadline() {
    let mut config = local();
    config.limit.request_deadline_ms = 300;
    let _listener = silent_fleet(&mut config).await;
    let (base, _stop, _ended) = start_at(config).await;
    let answer = reqwest::get(format!("{base}/v1/instances"))
        .await
        .expect("an answer");
    expect(answer, 504, "unavailable").await;
}

#[tokio::test]
async fn a_full_bridge_says_so_and_shows_its_health() {
    let mut config = local();
    config.limit.requests = 1;
    config.limit.request_deadline_ms = 3_000;
    let listener = silent_fleet(&mut config).await;
    let (base, _stop, _ended) = start_at(config).await;
    let slow = tokio::spawn(reqwest::get(format!("{base}/v1/instances")));
    // The first call holds its place once it has reached the Fleet.
    listener.accept().await.expect("a call");
    let second = reqwest::get(format!("{base}/v1/instances"))
        .await
        .expect("an answer");
    assert_eq!(second.headers()["retry-after"], "1");
    expect(second, 503, "unavailable").await;
    assert_eq!(
        reqwest::get(format!("{base}/healthz"))
            .await
            .expect("an answer")
            .status(),
        200
    );
    let first = slow.await.expect("no panic").expect("an answer");
    expect(first, 504, "unavailable").await;
}

#[tokio::test]
async fn an_open_call_is_answered_on_the_way_out() {
    let mut config = local();
    config.limit.request_deadline_ms = 500;
    let listener = silent_fleet(&mut config).await;
    let (base, stop, ended) = start_at(config).await;
    let slow = tokio::spawn(reqwest::get(format!("{base}/v1/instances")));
    listener.accept().await.expect("a call");
    stop.send(()).expect("it runs");
    expect(
        slow.await.expect("no panic").expect("an answer"),
        504,
        "unavailable",
    )
    .await;
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("in time")
        .expect("no panic");
    assert!(
        reqwest::get(format!("{base}/healthz")).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn readiness_asks_the_fleet_once_for_many_probes() {
    let bridge = Running::start(|_| {}).await;
    bridge.fleet_answers(401, &json!({"message": "no"}));
    let probes: Vec<_> = (0..20)
        .map(|_| tokio::spawn(bridge.call(Method::GET, "/readyz").send()))
        .collect();
    for probe in probes {
        let answer = probe.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 503);
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(
            body,
            json!({"ready": false, "fleet": "unauthenticated", "store": "ok"})
        );
    }
    assert_eq!(bridge.fleet.requests().len(), 1);
}

#[tokio::test]
async fn left_out_servers_and_retries_are_counted() {
    let bridge = Running::start(|_| {}).await;
    let body = case_body("conv-no-game-port");
    bridge
        .fleet
        .prepare([exchange(502, ""), exchange(200, &body.to_string())]);
    let list: Value = bridge
        .get("/v1/instances")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(list["instances"], json!([]));
    let metrics = bridge.get("/metrics").await.text().await.expect("text");
    for line in [
        r#"bifrost_bridge_skipped_servers_total{reason="no_game_port"} 1"#,
        r#"bifrost_bridge_fleet_retries_total{operation="get_servers"} 1"#,
        r#"bifrost_bridge_fleet_attempts_total{operation="get_servers",outcome="502"} 1"#,
        r#"bifrost_bridge_requests_total{route="/v1/instances",method="GET",status="200",kind=""} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_prober_that_goes_away_does_not_start_another_fleet_call() {
    let mut config = local();
    config.limit.request_deadline_ms = 1_000;
    let listener = silent_fleet(&mut config).await;
    let (base, _stop, _ended) = start_at(config).await;
    let gone = tokio::spawn(reqwest::get(format!("{base}/readyz")));
    let _fleet_call = listener.accept().await.expect("a call");
    gone.abort();
    // The bridge has noticed once the only call under way is the one that asks for the figure.
    let metrics = format!("{base}/metrics");
    loop {
        let text = reqwest::get(&metrics).await.expect("an answer").text();
        let text = text.await.expect("text");
        if text.contains("bifrost_bridge_requests_in_flight 1\n") {
            break;
        }
    }
    let answer = reqwest::get(format!("{base}/readyz")).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 503);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(
        body,
        json!({"ready": false, "fleet": "unavailable", "store": "ok"})
    );
    let listener = listener.into_std().expect("a listener");
    assert!(listener.accept().is_err(), "the Fleet was called twice");
}

#[tokio::test]
async fn an_update_of_a_server_without_a_port_says_that_it_was_applied() {
    let bridge = Running::start(|_| {}).await;
    let server = case_body("get-no-port");
    bridge.fleet_answers(200, &server);
    let call = bridge
        .call(Method::PATCH, "/v1/instances/101")
        .json(&json!({"metadata": {"a": 1}}));
    let answer = call.send().await.expect("an answer");
    assert_eq!(answer.status(), 409);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["kind"], "conversion_failed");
    assert!(
        body["detail"]
            .as_str()
            .expect("a text")
            .contains("was applied"),
        "{body}"
    );
}
