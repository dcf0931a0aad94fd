//! A gateway in this process, with a customer and the calls that tests make.

use std::{
    process::{Child, Command},
    time::{Duration, SystemTime},
};

use gateway::{Config, Customer, CustomerSource, Server, ServerError};
use gateway_api::{KeyKind, KeyPair, MasterKey, sign};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A voice server's address.
pub(crate) const SERVER: &str = "sfu-1.test:4433";

/// Every method of the external route.
pub(crate) const ALL: [&str; 7] = [
    "Connect",
    "RoomClose",
    "RoomUpdate",
    "RoomBanClient",
    "RoomSendMessage",
    "RoomMuteClient",
    "RoomUnmuteClient",
];

/// A gateway at work.
pub(crate) struct World {
    pub(crate) base: String,
    pub(crate) internal: String,
    /// The customer's.
    pub(crate) key: KeyPair,
    pub(crate) master: MasterKey,
    pub(crate) http: reqwest::Client,
    _stop: oneshot::Sender<()>,
}

/// An answer: HTTP status and body.
pub(crate) type Answer = (u16, Value);

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_secs()).expect("before 292 billion")
}

pub(crate) fn customer(id: &str, key: &KeyPair) -> Customer {
    Customer::with_key(id, key.public_jwk())
}

pub(crate) fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32], KeyKind::Customer)
}

/// Settings of a gateway on free ports of this machine.
pub(crate) fn config() -> Config {
    let master = MasterKey::from_bytes(vec![9; 32]);
    let customers = CustomerSource::Static(vec![customer("studio", &key(1))]);
    let mut config = Config::new(master, customers);
    config.listen = ([127, 0, 0, 1], 0).into();
    config.internal.listen = Some(([127, 0, 0, 1], 0).into());
    config
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        adjust(&mut config);
        Self::try_start(config)
            .await
            .expect("the settings are right")
    }

    pub(crate) async fn try_start(config: Config) -> Result<Self, ServerError> {
        let master = config.master_key.clone();
        let server = Server::bind(config).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (base, internal) = (server.base_url(), server.internal_url());
        tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Ok(Self {
            base,
            internal,
            key: key(1),
            master,
            http: reqwest::Client::new(),
            _stop: stop,
        })
    }

    /// Claims of a token for a room, with these changes.
    pub(crate) fn claims(&self, changes: Value) -> Value {
        let mut claims = json!({"rid": "room", "uid": "bob", "exp": now() + 300, "nbf": now()});
        if let (Value::Object(claims), Value::Object(changes)) = (&mut claims, changes) {
            claims.extend(changes);
        }
        claims
    }

    /// The customer's token with these changes to its claims.
    pub(crate) fn token(&self, changes: Value) -> String {
        sign(&self.claims(changes), &self.key)
    }

    /// Posts a body with an `Authorization` header.
    pub(crate) async fn post(
        &self,
        url: &str,
        authorization: Option<&str>,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let mut request = self.http.post(url).body(body);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// A call of a customer.
    pub(crate) async fn call(&self, method: &str, params: Value, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.post(&self.base, Some(&bearer), request(method, &params))
            .await
    }

    pub(crate) async fn connect(&self, changes: Value) -> Answer {
        self.call("Connect", json!({}), &self.token(changes)).await
    }

    /// A call of a voice server or an operator.
    pub(crate) async fn internal(&self, method: &str, params: Value) -> Value {
        let (status, answer) = self
            .post(&self.internal, None, request(method, &params))
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["result"].clone()
    }

    /// A server reports these rooms of the customer; gives its tasks.
    pub(crate) async fn report(&self, address: &str, rooms: &[&str], more: Value) -> Value {
        let room = |name: &&str| {
            let age = json!({"secs": 1, "nanos": 0});
            json!({"id": ["studio", name], "customer": "studio", "age": age, "peers": 1})
        };
        let rooms: Vec<Value> = rooms.iter().map(room).collect();
        let mut params = json!({
            "public_endpoint": address, "version": "1", "load": 0, "clients": 0, "rooms": rooms,
        });
        if let (Value::Object(params), Value::Object(more)) = (&mut params, more) {
            params.extend(more);
        }
        self.internal("sfu.Report", params).await["tasks"].clone()
    }

    /// Puts the customer's room on a server.
    pub(crate) async fn room_on(&self, address: &str) {
        self.report(address, &["room"], json!({})).await;
    }
}

pub(crate) fn request(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string()
}

pub(crate) fn message(answer: &Answer) -> &str {
    answer.1["error"]["message"].as_str().unwrap_or_default()
}

/// Tries until it holds, for as long as anything may take here.
pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool, what: &str) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

/// A program; it is killed with the value.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill").success());
    }
}
