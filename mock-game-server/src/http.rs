//! The match API: the guide's endpoints, bodies and answers. The only file that chooses statuses.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    lifecycle::{Finish, Refusal, Start},
    server::{Failure, Game},
};

/// Bytes of a request body: room for [`crate::USER_IDS_MAX`] ids of 60 characters.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct Players {
    count: u32,
}

pub(crate) fn router(game: Arc<Game>) -> Router {
    Router::new()
        .route("/health", get(health).fallback(method_not_allowed))
        .route("/match/start", post(start).fallback(method_not_allowed))
        .route("/match/finish", post(finish).fallback(method_not_allowed))
        .route("/players", post(players).fallback(method_not_allowed))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(game)
}

async fn health() -> Json<Value> {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    Json(json!({"status": "ok", "time": time}))
}

async fn start(State(game): State<Arc<Game>>, body: Bytes) -> Response {
    match read::<Start>(&body) {
        Ok(request) => answer(game.start(request).await, "match started"),
        Err(InvalidBody) => error(StatusCode::BAD_REQUEST, "invalid JSON body"),
    }
}

async fn finish(State(game): State<Arc<Game>>, body: Bytes) -> Response {
    match read::<Finish>(&body) {
        Ok(request) => answer(game.finish(request).await, "match finished"),
        Err(InvalidBody) => error(StatusCode::BAD_REQUEST, "invalid JSON body"),
    }
}

async fn players(State(game): State<Arc<Game>>, body: Bytes) -> Response {
    match read::<Players>(&body) {
        Ok(request) => answer(game.players(request.count).await, "players updated"),
        Err(InvalidBody) => error(StatusCode::BAD_REQUEST, "invalid JSON body"),
    }
}

async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "not found")
}

struct InvalidBody;

/// The body is JSON whatever its content type says, as in the guide.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, InvalidBody> {
    serde_json::from_slice(body).map_err(|_| InvalidBody)
}

fn answer(result: Result<(), Failure>, done: &str) -> Response {
    match result {
        Ok(()) => Json(json!({ "status": done })).into_response(),
        Err(Failure::Refused(refusal)) => {
            let status = match refusal {
                Refusal::MatchIdMissing | Refusal::TooManyUsers(_) | Refusal::TooManyPlayers(_) => {
                    StatusCode::BAD_REQUEST
                }
                Refusal::Busy(_) | Refusal::NoMatch => StatusCode::CONFLICT,
                Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            error(status, &refusal.to_string())
        }
        Err(Failure::Fleet(failure)) => error(StatusCode::BAD_GATEWAY, &failure.to_string()),
    }
}

fn error(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}
