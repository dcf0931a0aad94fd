//! Game servers that take no time: a start or a finish is in the metadata when it is answered.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Result, ensure};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
    serve::ListenerExt as _,
};
use mock_fleet::Handle;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

/// The id of an app's first service.
const FIRST_SERVICE: i64 = 101;

/// All of them, by service. They run until the process ends.
pub(crate) struct GameServers {
    match_apis: BTreeMap<i64, String>,
}

#[derive(Clone)]
struct GameServer {
    fleet: Handle,
    service: i64,
}

impl GameServers {
    /// Starts so many, all idle, and announces their ports.
    pub(crate) async fn start(fleet: Handle, count: u16) -> Result<Self> {
        let mut match_apis = BTreeMap::new();
        for service in (FIRST_SERVICE..).take(count.into()) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            match_apis.insert(service, format!("http://{address}"));
            let server = GameServer {
                fleet: fleet.clone(),
                service,
            };
            let announced =
                json!({"instance_state": "idle", "match_id": "", "match_port": address.port()});
            ensure!(server.write(announced), "there is no service {service}");
            let router = Router::new()
                .route("/match", get(show))
                .route("/match/start", post(start))
                .route("/match/finish", post(finish))
                .with_state(server);
            let listener = listener.tap_io(|stream| {
                let _ = stream.set_nodelay(true);
            });
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        Ok(Self { match_apis })
    }

    /// The service and the match API of one of them.
    pub(crate) fn nth(&self, number: usize) -> Option<(i64, &str)> {
        let (service, url) = self.match_apis.iter().nth(number)?;
        Some((*service, url))
    }
}

impl GameServer {
    fn write(&self, metadata: Value) -> bool {
        let Value::Object(metadata) = metadata else {
            return false;
        };
        self.fleet.merge_metadata(self.service, metadata)
    }

    fn metadata(&self) -> Map<String, Value> {
        self.fleet.metadata(self.service).unwrap_or_default()
    }

    fn answer(&self, metadata: Value) -> (StatusCode, Json<Value>) {
        if self.write(metadata) {
            (StatusCode::OK, Json(json!({"status": "done"})))
        } else {
            let problem = json!({"error": "the metadata is too large"});
            (StatusCode::BAD_GATEWAY, Json(problem))
        }
    }
}

async fn show(State(server): State<GameServer>) -> Json<Value> {
    let metadata = server.metadata();
    let state = metadata
        .get("instance_state")
        .filter(|it| *it == "occupied");
    Json(json!({
        "state": state.map_or("idle", |_| "occupied"),
        "match_id": metadata.get("match_id"),
        "fence": metadata.get("fence"),
    }))
}

async fn start(
    State(server): State<GameServer>,
    Json(request): Json<Value>,
) -> (StatusCode, Json<Value>) {
    server.answer(json!({
        "instance_state": "occupied",
        "match_id": request["match_id"],
        "fence": request["fence"],
    }))
}

async fn finish(State(server): State<GameServer>) -> (StatusCode, Json<Value>) {
    server.answer(json!({"instance_state": "idle", "match_id": ""}))
}
