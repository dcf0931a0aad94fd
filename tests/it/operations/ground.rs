//! What operations need: a Fleet whose services are played, and a bridge over it.

use std::{
    collections::BTreeSet,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use fleet_bridge::{Config, InstanceSettings, MatchSettings, Scale, Server};
use mock_fleet::{ApiVersion, World};
use mock_game_server::MatchPort;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

pub(super) const TOKEN: &str = "local-development-token";

pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// Longer than anything here takes on a slow machine.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);

/// A Fleet of one app, and what plays its containers.
pub(super) struct Fleet {
    pub(super) http: Client,
    pub(super) url: String,
    pub(super) app: u64,
    /// Its location setting.
    pub(super) setting: i64,
}

impl Fleet {
    /// One location setting with so many servers.
    pub(super) async fn start(servers: u32) -> Self {
        let text = include_str!("../../worlds/bench.toml");
        let mut world = World::from_toml(text, "bench.toml").expect("a world");
        let app = world.apps.first_mut().expect("an app");
        let setting = app.location_settings.first_mut().expect("a setting");
        setting.num_instances = servers;
        Self::of(world, ApiVersion::default(), 1).await
    }

    pub(super) async fn of(mut world: World, api: ApiVersion, app: u64) -> Self {
        world.delays.pending_ms = 20;
        world.delays.starting_ms = 50;
        world.delays.stopping_ms = 20;
        world.delays.scale_step_ms = 10;
        let mut config = mock_fleet::Config::new(world);
        config.api = api;
        let server = mock_fleet::Server::bind(config).await.expect("a fleet");
        let url = server.base_url();
        tokio::spawn(server.run(std::future::pending()));
        let http = Client::builder().no_proxy().build().expect("a client");
        let mut fleet = Self {
            http,
            url,
            app,
            setting: 0,
        };
        let settings = fleet.list("location-settings").await;
        fleet.setting = settings[0]["id"].as_i64().expect("an id");
        let (http, url) = (fleet.http.clone(), fleet.url.clone());
        tokio::spawn(play(http, url, app, api == ApiVersion::V0_9_5));
        fleet
    }

    pub(super) async fn list(&self, what: &str) -> Vec<Value> {
        list(&self.http, &self.url, self.app, what).await
    }

    pub(super) async fn service(&self, id: &str) -> Value {
        let services = self.list("services").await;
        let id: i64 = id.parse().expect("an id");
        let service = services.iter().find(|it| it["id"] == id);
        service.expect("the service").clone()
    }

    pub(super) async fn instances(&self) -> u64 {
        let settings = self.list("location-settings").await;
        settings[0]["numInstances"].as_u64().expect("a number")
    }
}

pub(super) async fn list(http: &Client, url: &str, app: u64, what: &str) -> Vec<Value> {
    let url = format!("{url}/v1/apps/{app}/{what}?perPage=100");
    let answer = http.get(url).bearer_auth(TOKEN).send().await;
    let mut page: Value = answer.expect("an answer").json().await.expect("JSON");
    match page["data"].take() {
        Value::Array(items) => items,
        other => panic!("the Fleet lists {other}"),
    }
}

/// Starts a game server for each service that comes up; each says that it is ready where the Fleet wants to know.
pub(super) async fn play(http: Client, url: String, app: u64, says_ready: bool) {
    let mut playing = BTreeSet::new();
    loop {
        for service in list(&http, &url, app, "services").await {
            let id = service["id"].as_i64().expect("an id");
            if service["status"] != "running" || !playing.insert(id) {
                continue;
            }
            let mut config = mock_game_server::Config::local(&url, TOKEN, id).expect("settings");
            config.match_port = Some(MatchPort::Own);
            let server = mock_game_server::Server::bind(config).await;
            tokio::spawn(server.expect("a game server").run(std::future::pending()));
            if says_ready {
                let url = format!("{url}/v1/services/{id}/autoscaling/ready");
                let answer = http.post(url).bearer_auth(TOKEN).send().await;
                assert!(answer.expect("an answer").status().is_success());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

pub(super) fn settings(fleet: &Fleet) -> Config {
    let mut config = Config::new(fleet.app, &fleet.url, TOKEN).expect("settings");
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.matches = Some(MatchSettings {
        sweep: Duration::from_millis(200),
        ..MatchSettings::default()
    });
    config.instances = InstanceSettings {
        create: true,
        join: true,
        delete: true,
        ..InstanceSettings::default()
    };
    config
}

pub(super) fn scaling(fleet: &Fleet, instances_max: u32) -> Vec<Scale> {
    vec![Scale {
        location_setting: fleet.setting,
        instances_max,
    }]
}

#[derive(Clone)]
pub(super) struct Bridge {
    pub(super) http: Client,
    pub(super) base: String,
}

impl Bridge {
    pub(super) async fn start(config: Config) -> Self {
        let server = Server::bind(config).await.expect("a bridge");
        let base = server.base_url();
        tokio::spawn(server.run(std::future::pending()));
        let http = Client::builder().no_proxy().build().expect("a client");
        Self { http, base }
    }

    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let mut call = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            call = call.json(body);
        }
        call.send().await.expect("an answer")
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, None).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.expect("JSON")
    }

    pub(super) async fn delete(&self, path: &str) -> Response {
        self.call(Method::DELETE, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Response {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(super) async fn metrics(&self) -> String {
        let answer = self.call(Method::GET, "/metrics", None).await;
        answer.text().await.expect("text")
    }

    /// The id of a new operation.
    pub(super) async fn create(&self, body: &Value) -> String {
        let answer = self.post("/v1/instances", body).await;
        assert_eq!(answer.status(), 202);
        let operation: Value = answer.json().await.expect("JSON");
        operation["id"].as_str().expect("an id").to_owned()
    }

    /// The operation when it is over.
    pub(super) async fn done(&self, id: &str) -> Value {
        let path = format!("/v1/operations/{id}");
        eventually(async || Some(self.get(&path).await).filter(|it| it["state"] != "pending")).await
    }

    /// The server of a Create that succeeds.
    pub(super) async fn created(&self, body: &Value) -> String {
        let operation = self.done(&self.create(body).await).await;
        assert_eq!(operation["state"], "succeeded", "{operation}");
        instance(&operation)
    }
}

pub(super) fn instance(of: &Value) -> String {
    of["instance"]["id"].as_str().expect("an id").to_owned()
}

/// Asks until there is an answer.
pub(super) async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let answer = tokio::time::timeout(WAIT_MAX, asking).await;
    answer.expect("it does not happen")
}

pub(super) async fn expect(answer: Response, status: u16, kind: &str) {
    let found = answer.status();
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(
        (found.as_u16(), &body["kind"]),
        (status, &json!(kind)),
        "{body}"
    );
}
