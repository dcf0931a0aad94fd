//! The whole simulator over real sockets.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Server;
use crate::config::Config;
use crate::faults::FaultPlan;
use crate::model::ApiVersion;
use crate::secret::Secret;
use crate::world::{Token, World};

const TOKEN: &str = "local-development-token";

struct Simulator {
    base: String,
    control: String,
    client: Client,
}

impl Simulator {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(World::default_world());
        config.control_listen = Some(([127, 0, 0, 1], 0).into());
        change(&mut config);
        let server = Server::bind(config).await.unwrap();
        let base = server.base_url();
        let control = format!("http://{}", server.control_addr().unwrap());
        tokio::spawn(server.run(std::future::pending()));
        Self {
            base,
            control,
            client: Client::new(),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        self.send_as(TOKEN, method, path, body).await
    }

    async fn send_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Response {
        let request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        request.send().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        self.send(Method::GET, path, None)
            .await
            .json()
            .await
            .unwrap()
    }

    async fn set_faults(&self, plan: Value) {
        let url = format!("{}/faults", self.control);
        let response = self.client.put(url).json(&plan).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }
}

fn always(kind: &str) -> Value {
    json!({ "rules": [{ "operations": ["getServers"], "faults": [{ "kind": kind, "rate": 1.0 }] }] })
}

#[tokio::test]
async fn metadata_changes_are_found_by_the_filter() {
    let fleet = Simulator::start(|_| {}).await;
    let body = json!({ "metadata": { "instance_state": "occupied", "players": [1, 2] } });
    let path = "/v1/services/101/metadata";
    let server: Value = fleet
        .send(Method::PATCH, path, Some(body))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(server["metadata"]["instance_state"], "occupied");
    let list = fleet
        .json("/v1/apps/1/services?filter[metadata]=instance_state=%22occupied%22")
        .await;
    let ids: Vec<&Value> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["id"])
        .collect();
    assert_eq!(ids, [101, 104]);
    let contains = fleet
        .json("/v1/apps/1/services?filter[metadata]=players=2")
        .await;
    assert_eq!(contains["meta"]["total"], 0, "0.9.0 has no array filter");
}

#[tokio::test]
async fn refusals_have_their_status_and_shape() {
    let fleet = Simulator::start(|_| {}).await;
    for (token, method, path, body, status) in [
        ("nope", Method::GET, "/v1/apps", None, 401),
        (TOKEN, Method::GET, "/v1/apps/99", None, 404),
        (TOKEN, Method::GET, "/v1/apps/x", None, 404),
        (TOKEN, Method::GET, "/v1/nothing", None, 404),
        (TOKEN, Method::PATCH, "/v1/apps", None, 405),
        (TOKEN, Method::POST, "/v1/apps", Some(json!([1])), 422),
        (TOKEN, Method::DELETE, "/v1/apps/1", None, 403),
        (
            TOKEN,
            Method::POST,
            "/v1/services/101/autoscaling/ready",
            None,
            404,
        ),
    ] {
        let response = fleet.send_as(token, method, path, body).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let body: Value = response.json().await.unwrap();
        assert!(body["message"].is_string(), "{path}: {body}");
    }
    let body = Some(json!({}));
    let response = fleet
        .send(Method::POST, "/v1/apps/1/location-settings", body)
        .await;
    let body: Value = response.json().await.unwrap();
    let first = body["errors"]["name"][0].as_str().unwrap();
    assert!(body["message"].as_str().unwrap().starts_with(first));
    assert!(body["message"].as_str().unwrap().contains("more error"));
}

#[tokio::test]
async fn a_token_reaches_its_apps_only_and_may_be_for_reading() {
    let fleet = Simulator::start(|config| {
        config.world.tokens.push(Token {
            secret: Secret::new("narrow"),
            apps: Some(vec!["matchday".to_owned()]),
            read_only: true,
        });
    })
    .await;
    let apps: Value = fleet
        .send_as("narrow", Method::GET, "/v1/apps", None)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(apps["meta"]["total"], 1);
    for (method, path, status) in [
        (Method::GET, "/v1/apps/2/services", 200),
        (Method::GET, "/v1/apps/1/services", 403),
        (Method::GET, "/v1/services/101/logs", 403),
        (Method::POST, "/v1/services/114/stop", 403),
    ] {
        let response = fleet.send_as("narrow", method, path, None).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn signing_in_gives_a_token_that_works_and_can_be_refreshed() {
    let fleet = Simulator::start(|config| config.world.refresh_ends_old_token = true).await;
    let sign_in = |password: &str| json!({ "email": "developer@example.com", "password": password, "sid": "s" });
    let wrong = fleet
        .send(Method::POST, "/v1/auth/token", Some(sign_in("wrong")))
        .await;
    assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    let right = Some(sign_in("local-development-password"));
    let body: Value = fleet
        .send(Method::POST, "/v1/auth/token", right)
        .await
        .json()
        .await
        .unwrap();
    let first = body["token"].as_str().unwrap();
    let refreshed = fleet
        .send_as(first, Method::PUT, "/v1/auth/token", None)
        .await;
    let body: Value = refreshed.json().await.unwrap();
    let second = body["token"].as_str().unwrap();
    let status = async |token| {
        fleet
            .send_as(token, Method::GET, "/v1/apps", None)
            .await
            .status()
    };
    assert_eq!(status(first).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(second).await, StatusCode::OK);
}

#[tokio::test]
async fn faults_reach_the_wire_and_spare_the_health_check() {
    let fleet = Simulator::start(|_| {}).await;
    let list = || fleet.send(Method::GET, "/v1/apps/1/services", None);
    for (kind, status, content) in [
        ("rate_limited", 429, "application/json"),
        ("internal", 500, "application/json"),
        ("bad_gateway", 502, "text/html; charset=utf-8"),
        ("unavailable", 503, "application/json"),
        ("garbage", 200, "application/json"),
    ] {
        fleet.set_faults(always(kind)).await;
        let response = list().await;
        assert_eq!(response.status().as_u16(), status, "{kind}");
        assert_eq!(response.headers()["content-type"], content, "{kind}");
        assert_eq!(
            response.headers().contains_key("retry-after"),
            kind == "rate_limited"
        );
        assert!(kind == "bad_gateway" || response.json::<Value>().await.is_ok() == (status != 200));
    }
    for kind in ["drop", "truncate"] {
        fleet.set_faults(always(kind)).await;
        let url = format!("{}/v1/apps/1/services", fleet.base);
        let sent = fleet.client.get(url).bearer_auth(TOKEN).send().await;
        let body = match sent {
            Ok(response) => response.bytes().await,
            Err(error) => Err(error),
        };
        assert!(body.is_err(), "{kind}");
        let health = fleet.base.replace("/api", "/healthz");
        assert!(
            fleet
                .client
                .get(health)
                .send()
                .await
                .unwrap()
                .status()
                .is_success()
        );
    }
    let cleared = fleet
        .client
        .delete(format!("{}/faults", fleet.control))
        .send()
        .await
        .unwrap();
    assert_eq!(cleared.status(), StatusCode::NO_CONTENT);
    assert_eq!(list().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_plan_that_makes_no_sense_is_refused_by_the_control_api() {
    let fleet = Simulator::start(|_| {}).await;
    let url = format!("{}/faults", fleet.control);
    let plan = json!({ "rules": [{ "operations": ["getNothing"] }] });
    let response = fleet.client.put(url).json(&plan).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn stale_reads_show_the_past() {
    let fleet = Simulator::start(|config| {
        config.faults = FaultPlan::new(300_000, Vec::new()).unwrap();
    })
    .await;
    let path = "/v1/apps/1/services/101";
    assert_eq!(fleet.json(path).await["metadata"]["instance_state"], "idle");
    let body = json!({ "metadata": { "instance_state": "occupied" } });
    fleet
        .send(Method::PATCH, "/v1/services/101/metadata", Some(body))
        .await;
    assert_eq!(fleet.json(path).await["metadata"]["instance_state"], "idle");
    fleet.set_faults(json!({})).await;
    assert_eq!(
        fleet.json(path).await["metadata"]["instance_state"],
        "occupied"
    );
}

#[tokio::test]
async fn conditions_are_set_through_the_control_api() {
    let fleet = Simulator::start(|_| {}).await;
    for (condition, flag) in [("overload", "isPending"), ("not-found", "isNotFound")] {
        let url = format!("{}/services/101/{condition}", fleet.control);
        assert!(
            fleet
                .client
                .post(url)
                .send()
                .await
                .unwrap()
                .status()
                .is_success()
        );
        let server = fleet.json("/v1/apps/1/services/101").await;
        assert_eq!(server[flag], true, "{condition}");
        assert_eq!(
            server.get("node"),
            None,
            "an overloaded service has lost its node"
        );
    }
    let url = format!("{}/services/101/sleepy", fleet.control);
    let response = fleet.client.post(url).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let state: Value = fleet
        .client
        .get(format!("{}/state", fleet.control))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(state["services"].as_array().unwrap().len(), 15);
}

#[tokio::test]
async fn autoscaling_is_there_from_0_9_5_on() {
    let fleet = Simulator::start(|config| config.api = ApiVersion::V0_9_5).await;
    let allocate = || {
        let path = "/v1/app-location-settings/35/autoscaling/allocate";
        fleet.send(Method::POST, path, Some(json!({})))
    };
    assert_eq!(allocate().await.status(), StatusCode::CONFLICT);
    let path = "/v1/services/114/autoscaling/ready";
    assert_eq!(
        fleet.send(Method::POST, path, None).await.status(),
        StatusCode::NO_CONTENT
    );
    let server: Value = allocate().await.json().await.unwrap();
    assert_eq!(server["id"], 114);
    assert_eq!(server["autoscaling"]["status"], "allocated");
}

#[tokio::test]
async fn the_control_api_stays_on_this_machine() {
    let mut config = Config::new(World::default_world());
    config.control_listen = Some(([0, 0, 0, 0], 0).into());
    let error = Server::bind(config).await.unwrap_err();
    assert!(error.to_string().contains("--insecure"), "{error}");
}

#[tokio::test]
async fn shutdown_ends_the_server() {
    let server = Server::bind(Config::new(World::default_world()))
        .await
        .unwrap();
    server.run(std::future::ready(())).await.unwrap();
}

#[tokio::test]
async fn a_download_link_leads_to_the_archive() {
    let fleet = Simulator::start(|config| config.world.delays.backup_ms = 1).await;
    let path = "/v1/services/108/backup";
    fleet
        .send(Method::POST, path, Some(json!({ "name": "b" })))
        .await;
    let mut link = Value::Null;
    // The backup takes a millisecond; each attempt is a round trip.
    for _ in 0..1000 {
        link = fleet.json("/v1/services/108/backup/download").await;
        if link["url"].is_string() {
            break;
        }
    }
    let url = link["url"].as_str().unwrap();
    assert!(
        fleet
            .client
            .get(url)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    let wrong = format!("{url}x");
    assert_eq!(
        fleet.client.get(wrong).send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
}

fn stall_updates(ms: u32) -> Value {
    let fault = json!({ "kind": "stall", "rate": 1.0, "stall_ms": ms });
    json!({ "rules": [{ "operations": ["docker-services.metadata.update"], "faults": [fault] }] })
}

#[tokio::test]
async fn a_stalled_update_is_performed_although_its_caller_has_gone() {
    let fleet = Simulator::start(|_| {}).await;
    fleet.set_faults(stall_updates(300)).await;
    let (mut early, mut late) = (0, 0);
    for number in 0..20 {
        let url = format!("{}/v1/services/101/metadata", fleet.base);
        let update = fleet.client.patch(url).bearer_auth(TOKEN);
        let update = update.json(&json!({ "metadata": { format!("n{number}"): number } }));
        let gone = update.timeout(Duration::from_millis(60)).send().await;
        assert!(gone.unwrap_err().is_timeout());
        let service = fleet.json("/v1/apps/1/services/101").await;
        let is_there = service["metadata"][format!("n{number}")] == number;
        *(if is_there { &mut early } else { &mut late }) += 1;
    }
    assert!(early > 0 && late > 0, "{early} early, {late} late");
    tokio::time::sleep(Duration::from_millis(400)).await;
    let service = fleet.json("/v1/apps/1/services/101").await;
    for number in 0..20 {
        assert_eq!(service["metadata"][format!("n{number}")], number);
    }
}

#[tokio::test]
async fn a_stalled_call_is_answered_as_usual() {
    let fleet = Simulator::start(|_| {}).await;
    fleet.set_faults(stall_updates(50)).await;
    for number in 0..8 {
        let body = json!({ "metadata": { "n": number } });
        let asked = Instant::now();
        let path = "/v1/services/101/metadata";
        let answer = fleet.send(Method::PATCH, path, Some(body)).await;
        assert!(asked.elapsed() >= Duration::from_millis(50));
        assert_eq!(answer.status(), StatusCode::OK);
        let service: Value = answer.json().await.unwrap();
        assert_eq!(service["metadata"]["n"], number);
    }
}

#[tokio::test]
async fn a_handle_changes_the_fleet_without_http() {
    let server = Server::bind(Config::new(World::default_world())).await;
    let handle = server.unwrap().handle();
    let metadata = |value: Value| value.as_object().unwrap().clone();
    assert!(handle.merge_metadata(101, metadata(json!({ "a": 1 }))));
    let merged = handle.metadata(101).unwrap();
    assert_eq!(
        Value::Object(merged),
        json!({ "a": 1, "instance_state": "idle" })
    );
    assert!(!handle.merge_metadata(1, metadata(json!({ "a": 1 }))));
    let too_long = "x".repeat(crate::limits::METADATA_BYTES);
    assert!(!handle.merge_metadata(101, metadata(json!({ "a": too_long }))));
    assert_eq!(handle.metadata(101).unwrap()["a"], 1);
}
