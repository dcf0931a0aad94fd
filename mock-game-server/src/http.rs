//! The HTTP side: reads requests into commands, and is the only file that chooses statuses and texts. What a command
//! leads to is decided by [`crate::lifecycle`].
//!
//! The texts of the guide's program are kept word for word, because matchmakers may compare them.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRef, FromRequest, Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use service::Secret;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use crate::{
    driver::{Failure, Game},
    lifecycle::{Command, MATCH_ID_BYTES_MAX, Match, PLAYERS_MAX, Reply},
    ping::Standing,
};

/// Longest request body in bytes. All of it ends up in the metadata, for which Fleet names no limit; this is what
/// [`PLAYERS_MAX`] long user ids take.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest wait for a request body. Bodies are small; a slower caller holds a connection on purpose.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// The join mode of a match that names none, as in the guide.
const JOIN_MODE_DEFAULT: &str = "free";

/// What requests are answered from.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) game: Game,
    pub(crate) standing: watch::Receiver<Standing>,
    /// What callers of the match API must present, if anything.
    pub(crate) token: Option<Secret>,
}

impl FromRef<Api> for Game {
    fn from_ref(api: &Api) -> Self {
        api.game.clone()
    }
}

pub(crate) fn router(api: Api) -> Router {
    let guarded = Router::new()
        .route(
            "/match",
            get(show_match).fallback(async || BadRequest::Method("GET")),
        )
        .route("/match/start", post(start_match))
        .route("/match/finish", post(finish_match))
        .route("/players", post(set_players))
        .method_not_allowed_fallback(async || BadRequest::Method("POST"))
        .route_layer(middleware::from_fn_with_state(api.clone(), authorise));
    Router::new()
        .route("/health", any(health))
        .route("/healthz", any(health))
        .merge(guarded)
        .fallback(async || BadRequest::Route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

/// Lets nobody in who does not know the token, if there is one.
async fn authorise(State(api): State<Api>, request: Request, next: Next) -> Response {
    let is_right = |token: &Secret| {
        let presented = bearer(request.headers()).unwrap_or_default();
        bool::from(token.expose().as_bytes().ct_eq(presented.as_bytes()))
    };
    if api.token.as_ref().is_none_or(is_right) {
        return next.run(request).await;
    }
    BadRequest::Unauthenticated.into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// `POST /match/start`. As in the guide, everything but the match id may be missing or null.
#[derive(Debug, Default, Deserialize)]
struct StartRequest {
    match_id: Option<String>,
    game_mode: Option<String>,
    map_guid: Option<String>,
    join_mode: Option<String>,
    user_ids: Option<Vec<String>>,
    fence: Option<u64>,
}

/// `POST /match/finish`.
#[derive(Debug, Default, Deserialize)]
struct FinishRequest {
    match_id: Option<String>,
    outcome: Option<String>,
    fence: Option<u64>,
}

/// `POST /players`.
#[derive(Debug, Default, Deserialize)]
struct PlayersRequest {
    #[serde(default)]
    count: Value,
}

async fn health() -> Response {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    answer(StatusCode::OK, json!({ "status": "ok", "time": time }))
}

async fn show_match(State(api): State<Api>) -> Response {
    let standing = api.standing.borrow().clone();
    let body = json!({
        "state": standing.state,
        "match_id": standing.match_id.as_deref().unwrap_or_default(),
        "fence": standing.fence,
    });
    answer(StatusCode::OK, body)
}

async fn start_match(
    State(game): State<Game>,
    JsonBody(request): JsonBody<StartRequest>,
) -> Result<Result<Reply, Failure>, BadRequest> {
    let wanted = request.into_match()?;
    Ok(game.ask(Command::Start(wanted)).await)
}

async fn finish_match(
    State(game): State<Game>,
    JsonBody(request): JsonBody<FinishRequest>,
) -> Result<Reply, Failure> {
    let command = Command::Finish {
        match_id: request.match_id.unwrap_or_default(),
        outcome: request.outcome.unwrap_or_default(),
        fence: request.fence,
    };
    game.ask(command).await
}

async fn set_players(
    State(game): State<Game>,
    JsonBody(request): JsonBody<PlayersRequest>,
) -> Result<Result<Reply, Failure>, BadRequest> {
    let count = request.count.as_u64().and_then(|it| u32::try_from(it).ok());
    let count = count
        .filter(|it| *it <= PLAYERS_MAX)
        .ok_or(BadRequest::Count)?;
    Ok(game.ask(Command::Players(count)).await)
}

impl StartRequest {
    fn into_match(self) -> Result<Match, BadRequest> {
        let id = self
            .match_id
            .filter(|it| !it.is_empty())
            .ok_or(BadRequest::MatchIdMissing)?;
        if id.len() > MATCH_ID_BYTES_MAX || id.chars().any(char::is_control) {
            return Err(BadRequest::MatchId);
        }
        let user_ids = self.user_ids.unwrap_or_default();
        let player_count = u32::try_from(user_ids.len()).ok();
        let player_count = player_count
            .filter(|it| *it <= PLAYERS_MAX)
            .ok_or(BadRequest::UserIds)?;
        let join_mode = self.join_mode.filter(|it| !it.is_empty());
        Ok(Match {
            id: id.into(),
            game_mode: self.game_mode.unwrap_or_default(),
            map_guid: self.map_guid.unwrap_or_default(),
            join_mode: join_mode.unwrap_or_else(|| JOIN_MODE_DEFAULT.to_owned()),
            user_ids,
            player_count,
            fence: self.fence,
        })
    }
}

/// A JSON object, or `null` for an empty one, whatever its content type says: the guide's curl commands and its
/// program do not look at that either.
struct JsonBody<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = BadRequest;

    async fn from_request(request: Request, state: &S) -> Result<Self, BadRequest> {
        let bytes = tokio::time::timeout(BODY_TIME_MAX, Bytes::from_request(request, state))
            .await
            .map_err(|_| BadRequest::Slow)?
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => BadRequest::Long(BODY_BYTES_MAX),
                _ => BadRequest::Json,
            })?;
        // A detour, because a struct can also be read from an array, and `[]` is no request.
        let object: Option<Map<String, Value>> =
            serde_json::from_slice(&bytes).map_err(|_| BadRequest::Json)?;
        serde_json::from_value(Value::Object(object.unwrap_or_default()))
            .map(Self)
            .map_err(|_| BadRequest::Json)
    }
}

/// What is wrong with a request before anybody decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRequest {
    Route,
    /// Only this method is answered here.
    Method(&'static str),
    /// The token is missing or wrong.
    Unauthenticated,
    Json,
    /// The body did not arrive in time.
    Slow,
    /// The body has more bytes than this.
    Long(usize),
    MatchIdMissing,
    MatchId,
    UserIds,
    Count,
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let done = |text| answer(StatusCode::OK, json!({ "status": text }));
        match self {
            Self::Started => done("match started"),
            Self::Finished => done("match finished"),
            Self::PlayersUpdated => done("players updated"),
            Self::Occupied { ref running } => conflict(
                &self,
                json!({"error": format!("match {running} is running"), "match_id": &**running}),
            ),
            Self::StaleFence => conflict(
                &self,
                json!({"error": "this server has been claimed anew or released since"}),
            ),
            Self::NoMatch => refusal(StatusCode::CONFLICT, "no match is running"),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Fleet(_) => StatusCode::BAD_GATEWAY,
            Self::Busy | Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
        };
        refusal(status, &self.to_string())
    }
}

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Route => (StatusCode::NOT_FOUND, "not found".to_owned()),
            Self::Method(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method not allowed".to_owned(),
            ),
            Self::Unauthenticated => (
                StatusCode::UNAUTHORIZED,
                "the bearer token is missing or wrong".to_owned(),
            ),
            Self::Json => (StatusCode::BAD_REQUEST, "invalid JSON body".to_owned()),
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "the request body did not arrive in time".to_owned(),
            ),
            Self::Long(bytes_max) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request body has more than {bytes_max} bytes"),
            ),
            Self::MatchIdMissing => (StatusCode::BAD_REQUEST, "match_id is required".to_owned()),
            Self::MatchId => (
                StatusCode::BAD_REQUEST,
                format!(
                    "match_id must have at most {MATCH_ID_BYTES_MAX} bytes and no control characters"
                ),
            ),
            Self::UserIds => (
                StatusCode::BAD_REQUEST,
                format!("user_ids must have at most {PLAYERS_MAX} entries"),
            ),
            Self::Count => (
                StatusCode::BAD_REQUEST,
                format!("count must be a whole number from 0 to {PLAYERS_MAX}"),
            ),
        };
        let mut response = refusal(status, &text);
        let headers = response.headers_mut();
        match self {
            Self::Method(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Unauthenticated => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// 409 with the word for it that a program can compare.
fn conflict(reply: &Reply, mut body: Value) -> Response {
    body["reason"] = reply.refusal().into();
    answer(StatusCode::CONFLICT, body)
}

fn refusal(status: StatusCode, text: &str) -> Response {
    answer(status, json!({ "error": text }))
}

fn answer(status: StatusCode, body: Value) -> Response {
    (status, Json(body)).into_response()
}
