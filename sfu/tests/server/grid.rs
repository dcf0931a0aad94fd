//! A gateway in this process, above voice servers.

use std::{net::SocketAddr, time::Duration};

use gateway::{Config as GatewayConfig, Customer, CustomerSource};
use gateway_api::{AccessKey, MasterKey, sign};
use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep},
};

use crate::{
    client::Member,
    world::{PATIENCE, World},
};

/// A gateway on a runtime of its own, which can end as suddenly as a process that is killed.
pub(crate) struct Gateway {
    runtime: Option<Runtime>,
    settings: GatewayConfig,
    pub(crate) url: String,
    pub(crate) internal_url: String,
    key: AccessKey,
    http: reqwest::Client,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        let key = AccessKey::from_random(&[8; 31]);
        let customer = Customer::with_key("studio", key.key_pair().public_jwk());
        let master = MasterKey::from_bytes(vec![9; 32]);
        let mut settings = GatewayConfig::new(master, CustomerSource::Static(vec![customer]));
        settings.listen = ([127, 0, 0, 1], 0).into();
        settings.internal.listen = Some(([127, 0, 0, 1], 0).into());
        settings.timing.update_interval = Duration::from_millis(300);
        settings.timing.disable_timeout = Duration::from_millis(1_000);
        let mut gateway = Self {
            runtime: None,
            settings,
            url: String::new(),
            internal_url: String::new(),
            key,
            http: reqwest::Client::new(),
        };
        gateway.revive().await;
        gateway
    }

    /// Starts it, the second time on the ports of the first.
    pub(crate) async fn revive(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let settings = self.settings.clone();
        let started = runtime.spawn(async {
            let server = gateway::Server::bind(settings).await.expect("its ports");
            let (url, internal_url) = (server.base_url(), server.internal_url());
            tokio::spawn(server.run(std::future::pending()));
            (url, internal_url)
        });
        let (url, internal_url) = started.await.expect("it starts");
        let address = |url: &str| -> SocketAddr {
            let rest = url.trim_start_matches("http://");
            let host = rest.split('/').next().expect("a host");
            host.parse().expect("an address")
        };
        self.settings.listen = address(&url);
        self.settings.internal.listen = Some(address(&internal_url));
        (self.url, self.internal_url) = (url, internal_url);
        self.runtime = Some(runtime);
    }

    /// Ends it in the middle of everything.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().expect("it runs").shutdown_background();
    }

    /// Calls a method as the customer, for a room.
    pub(crate) async fn call(&self, method: &str, user: &str, params: Value) -> Value {
        let token = sign(&json!({"rid": "room", "uid": user}), &self.key.key_pair());
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let request = self.http.post(&self.url).bearer_auth(token).json(&call);
        match request.send().await {
            Ok(answer) => answer.json().await.expect("JSON"),
            Err(_) => Value::Null,
        }
    }

    /// Asks for the moderation of the room, which must be taken.
    pub(crate) async fn moderate(&self, method: &str, params: Value) {
        let answer = self.call(method, "moderator", params).await;
        assert_eq!(answer["result"], json!({}), "{method}: {answer}");
    }

    /// The server and the token for a user in the room.
    pub(crate) async fn connect(&self, user: &str) -> (String, String) {
        let began = Instant::now();
        loop {
            let answer = self.call("Connect", user, json!({})).await;
            let text = |name: &str| answer["result"][name].as_str().map(str::to_owned);
            if let (Some(address), Some(token)) = (text("address"), text("token")) {
                return (address, token);
            }
            assert!(began.elapsed() < PATIENCE, "{answer}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets a client in through the gateway.
    pub(crate) async fn member(&self, world: &World, user: &str) -> Member {
        let (_, token) = self.connect(user).await;
        let mut main = world.authenticated(&token).await;
        let stream = main.join("room", b"", [0.0; 3]).await.expect("let in");
        world.enter(main, &stream).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A runtime may not wait for its end within another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
