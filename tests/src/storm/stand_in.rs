//! Bridges that are none: just enough of the contract for the storm to blow against, right or wrong on purpose.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{delete, post},
};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use super::Ground;

/// What a stand-in does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// Takes any server and believes that its match has started.
    Blind,
    /// Takes any server and tries the next when it is refused.
    Groping,
    /// Forgets keys.
    Forgetful,
    /// Never looks after the leases.
    Careless,
    /// Says that a match has ended when it was asked to end it.
    Hasty,
}

/// How often a stand-in looks after a match.
const WATCH_PAUSE: Duration = Duration::from_millis(20);

/// Time of an allocation and a finish.
const CALL_TIME_MAX: Duration = Duration::from_secs(5);

/// The answer to a key, once there is one; locked while it is being found.
type Slot = Arc<tokio::sync::Mutex<Option<Vec<u8>>>>;

/// What all stand-ins of one storm share.
#[derive(Debug)]
struct Shared {
    flaw: Flaw,
    match_apis: Arc<HashMap<i64, String>>,
    http: reqwest::Client,
    book: Mutex<Book>,
    /// One call with a key at a time.
    keys: Mutex<HashMap<String, Slot>>,
}

#[derive(Debug, Default)]
struct Book {
    /// The match that has each server.
    claims: BTreeMap<i64, String>,
    /// The server of each match, until it has ended.
    matches: HashMap<String, i64>,
    next: u64,
}

/// Starts so many stand-ins that share what they know; returns where they are.
pub(crate) async fn start(ground: &Ground, count: usize, flaw: Flaw) -> Vec<String> {
    let shared = Arc::new(Shared {
        flaw,
        match_apis: ground.match_apis(),
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        book: Mutex::default(),
        keys: Mutex::default(),
    });
    let mut bridges = Vec::new();
    for _ in 0..count {
        let router = Router::new()
            .route("/v1/matches", post(create))
            .route("/v1/matches/{id}", delete(release))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.unwrap();
        bridges.push(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    bridges
}

async fn create(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let slot = Arc::clone(shared.keys.lock().unwrap().entry(key).or_default());
    let slot = slot.lock_owned().await;
    // A caller that goes away must not take the allocation along.
    let answer = tokio::spawn(shared.create(slot, body)).await.unwrap();
    match answer {
        Some(body) => (StatusCode::CREATED, body).into_response(),
        None => {
            let problem = Json(json!({"kind": "exhausted"}));
            (StatusCode::SERVICE_UNAVAILABLE, problem).into_response()
        }
    }
}

async fn release(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let server = shared.book().matches.get(&id).copied();
    if let Some(server) = server {
        let release = Arc::clone(&shared).release(server, id.clone());
        let ended = tokio::spawn(release);
        if shared.flaw != Flaw::Hasty && !ended.await.unwrap() {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    }
    Json(json!({"id": id, "state": "ended"})).into_response()
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn create(
        self: Arc<Self>,
        mut slot: OwnedMutexGuard<Option<Vec<u8>>>,
        body: Value,
    ) -> Option<Vec<u8>> {
        if let Some(answer) = slot.as_ref().filter(|_| self.flaw != Flaw::Forgetful) {
            return Some(answer.clone());
        }
        let id = {
            let mut book = self.book();
            book.next += 1;
            format!("m-{}", book.next)
        };
        let give_up = tokio::time::Instant::now() + CALL_TIME_MAX;
        while tokio::time::Instant::now() < give_up {
            if let Some(server) = self.try_one(&id).await {
                let lease = body["lease_seconds"].as_i64().unwrap();
                let answer = json!({
                    "id": id, "state": "running", "instance": {"id": server.to_string()},
                    "expires_at": (Utc::now() + TimeDelta::seconds(lease)).to_rfc3339(),
                });
                let lease = Duration::from_secs(lease.unsigned_abs());
                tokio::spawn(self.clone().watch(server, id, lease));
                let answer = serde_json::to_vec(&answer).unwrap();
                *slot = Some(answer.clone());
                return Some(answer);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// Takes a server and starts the match on it.
    async fn try_one(&self, id: &str) -> Option<i64> {
        let server = {
            let mut book = self.book();
            let servers: Vec<i64> = self.match_apis.keys().copied().collect();
            let asks_first = !matches!(self.flaw, Flaw::Blind | Flaw::Groping);
            let is_free = |server: &i64| !asks_first || !book.claims.contains_key(server);
            let free: Vec<i64> = servers.into_iter().filter(is_free).collect();
            let server = *free.get(fastrand::usize(..free.len().max(1)))?;
            book.claims.insert(server, id.to_owned());
            server
        };
        let is_started = self.call(server, "start", id).await == Some(200);
        if !is_started && self.flaw != Flaw::Blind {
            let mut book = self.book();
            if book.claims.get(&server).is_some_and(|owner| owner == id) {
                book.claims.remove(&server);
            }
            return None;
        }
        self.book().matches.insert(id.to_owned(), server);
        Some(server)
    }

    async fn release(self: Arc<Self>, server: i64, id: String) -> bool {
        let status = self.call(server, "finish", &id).await;
        let is_over = matches!(status, Some(200 | 409));
        if is_over {
            self.forget(server, &id);
        }
        is_over
    }

    fn forget(&self, server: i64, id: &str) {
        let mut book = self.book();
        book.matches.remove(id);
        if book.claims.get(&server).is_some_and(|owner| owner == id) {
            book.claims.remove(&server);
        }
    }

    /// Notices that the server has finished the match, and ends it when its lease does.
    async fn watch(self: Arc<Self>, server: i64, id: String, lease: Duration) {
        let end = tokio::time::Instant::now() + lease;
        while self.book().matches.contains_key(&id) {
            tokio::time::sleep(WATCH_PAUSE).await;
            let url = format!("{}/match", self.match_apis[&server]);
            let standing: Value = self
                .http
                .get(url)
                .send()
                .await
                .unwrap()
                .json()
                .await
                .unwrap();
            if standing["match_id"] != *id {
                self.forget(server, &id);
            } else if tokio::time::Instant::now() > end && self.flaw != Flaw::Careless {
                Arc::clone(&self).release(server, id.clone()).await;
            }
        }
    }

    async fn call(&self, server: i64, what: &str, id: &str) -> Option<u16> {
        let url = format!("{}/match/{what}", self.match_apis[&server]);
        let request = self.http.post(url).json(&json!({"match_id": id}));
        let response = request.timeout(CALL_TIME_MAX).send().await.ok()?;
        Some(response.status().as_u16())
    }
}
