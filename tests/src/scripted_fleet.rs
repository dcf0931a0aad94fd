//! A Fleet that plays prepared answers in order and remembers what it was asked.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE};

/// One prepared answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Its status.
    pub status: StatusCode,
    /// Its content type.
    pub content_type: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// One request that came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// GET, PATCH, …
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Exchange>,
    requests: Vec<Recorded>,
}

/// The running stub. After the last answer it repeats it, as a service that is retried would; without any it
/// answers 500.
#[derive(Clone, Debug)]
pub struct ScriptedFleet {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl ScriptedFleet {
    /// Starts on a free loopback port.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let fleet = Self {
            address: listener.local_addr()?,
            script: Arc::default(),
        };
        let router = Router::new().fallback(play).with_state(fleet.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(fleet)
    }

    /// The base URL of the API, ending in `/api`.
    pub fn base_url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// Sets the answers to come and forgets what was asked before.
    pub fn prepare(&self, answers: impl IntoIterator<Item = Exchange>) {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.answers = answers.into_iter().collect();
        script.requests.clear();
    }

    /// What has been asked since.
    pub fn requests(&self) -> Vec<Recorded> {
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.requests.clone()
    }
}

async fn play(
    State(fleet): State<ScriptedFleet>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut script = fleet.script.lock().unwrap_or_else(PoisonError::into_inner);
    script.requests.push(Recorded {
        method,
        uri,
        headers,
        body,
    });
    let answer = if script.answers.len() > 1 {
        script.answers.pop_front()
    } else {
        script.answers.front().cloned()
    };
    match answer {
        Some(answer) => {
            let headers = [(CONTENT_TYPE, answer.content_type)];
            (answer.status, headers, answer.body).into_response()
        }
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
