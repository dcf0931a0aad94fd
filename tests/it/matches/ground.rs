//! What matches need: a Fleet, game servers, and bridges that can be ended.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use fleet_bridge::{Config, MatchSettings, Server};
use mock_fleet::World;
use mock_game_server::MatchPort;
use reqwest::{Client, Method, Response};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};

const FLEET_TOKEN: &str = "local-development-token";
const PATIENCE: Duration = Duration::from_secs(20);

/// A Fleet with a game server for each of its services.
pub(super) struct Ground {
    pub(super) fleet: String,
    pub(super) handle: mock_fleet::Handle,
    pub(super) http: Client,
}

/// A bridge that ends when it is told to.
pub(super) struct Bridge {
    pub(super) url: String,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) task: JoinHandle<()>,
}

impl Ground {
    pub(super) async fn start(servers: u32) -> Self {
        let mut world = World::from_toml(include_str!("../../worlds/bench.toml"), "bench.toml")
            .expect("a world");
        world.apps[0].location_settings[0].num_instances = servers;
        let fleet = mock_fleet::Server::bind(mock_fleet::Config::new(world))
            .await
            .expect("a fleet");
        let (handle, base) = (fleet.handle(), fleet.base_url());
        tokio::spawn(fleet.run(std::future::pending()));
        let ground = Self {
            fleet: base,
            handle,
            http: Client::builder().no_proxy().build().expect("a client"),
        };
        for id in ground.services(servers).await {
            let config = mock_game_server::Config::local(&ground.fleet, FLEET_TOKEN, id);
            let mut config = config.expect("settings");
            config.match_port = Some(MatchPort::Own);
            let server = mock_game_server::Server::bind(config)
                .await
                .expect("a game server");
            tokio::spawn(async move { server.run(std::future::pending()).await });
        }
        ground
    }

    /// Ids of all services, once they run.
    pub(super) async fn services(&self, count: u32) -> Vec<i64> {
        let url = format!(
            "{}/v1/apps/1/services?perPage=100&filter[status]=running",
            self.fleet
        );
        let started = Instant::now();
        loop {
            let page = self
                .http
                .get(&url)
                .bearer_auth(FLEET_TOKEN)
                .send()
                .await
                .expect("a fleet");
            let page: Value = page.json().await.expect("a page");
            let ids: Vec<_> = page["data"]
                .as_array()
                .expect("data")
                .iter()
                .map(|it| it["id"].as_i64())
                .collect();
            if ids.len() == count as usize {
                return ids.into_iter().map(|id| id.expect("an id")).collect();
            }
            assert!(started.elapsed() < PATIENCE, "{} services run", ids.len());
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn bridge(&self, change: impl FnOnce(&mut Config)) -> Bridge {
        let mut config = Config::new(1, &self.fleet, FLEET_TOKEN).expect("settings");
        config.listen = (Ipv4Addr::LOCALHOST, 0).into();
        config.matches = Some(MatchSettings {
            sweep: Duration::from_millis(200),
            ..MatchSettings::default()
        });
        change(&mut config);
        let server = Server::bind(config).await.expect("a bridge");
        let url = server.base_url();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        let stop = Some(stop);
        Bridge { url, stop, task }
    }

    pub(super) async fn call(
        &self,
        method: Method,
        url: String,
        key: Option<&str>,
        body: &Value,
    ) -> Response {
        let mut request = self.http.request(method, url);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        request.send().await.expect("an answer")
    }

    pub(super) async fn make(&self, bridge: &Bridge, key: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/v1/matches", bridge.url);
        let response = self.call(Method::POST, url, Some(key), body).await;
        (
            response.status().as_u16(),
            response.json().await.expect("JSON"),
        )
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        bridge: &Bridge,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let url = format!("{}{path}", bridge.url);
        let response = self.call(method, url, None, &body).await;
        (
            response.status().as_u16(),
            response.json().await.expect("JSON"),
        )
    }

    pub(super) fn metadata(&self, server: &Value) -> Value {
        let id = server.as_str().expect("an id").parse().expect("a number");
        Value::Object(self.handle.metadata(id).expect("a service"))
    }

    /// Waits until something holds.
    pub(super) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(
                started.elapsed() < PATIENCE,
                "it did not become true: {what}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Bridge {
    pub(super) async fn end(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.task.await.expect("it ends");
    }
}
