//! Where game servers say where users are and who does not hear whom: batches in JSON, each in a POST of its own or one after
//! the other over a WebSocket.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use serde_json::Value;
use sfu_core::{Refusal, RoomKey};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    batch::{Answer, Batch},
    close::Close,
    main_stream::closing,
};
use crate::{
    auth::Identity,
    control::{Control, DirectionError, Phase},
    metrics::{CallOutcome, Connection},
};

/// Bytes of one batch: four thousand users with their places.
pub(super) const BATCH_BYTES_MAX: usize = 512 * 1024;

/// How long one may take to come.
const BATCH_TIME: Duration = Duration::from_secs(10);

/// Its name in metrics and logs.
const METHOD: &str = "Positions";

/// Between two looks at whether a silent game server is there still, where web clients are not pinged.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Why a batch does nothing.
enum Problem {
    /// It makes no sense.
    Batch(String),
    /// The token does not open its room, or opens several and it names none.
    Room(&'static str),
    Control(DirectionError),
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Batch(_) => StatusCode::BAD_REQUEST,
            Self::Room(_) => StatusCode::FORBIDDEN,
            Self::Control(DirectionError::Refused(Refusal::Closed)) => StatusCode::CONFLICT,
            Self::Control(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Batch(text) => text,
            Self::Room(text) => text.to_owned(),
            Self::Control(error) => error.to_string(),
        }
    }
}

/// One batch.
pub(super) async fn post(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // First the token: strangers do not have anything read.
    let identity = match identify(&control, &headers) {
        Ok(identity) => identity,
        Err(refusal) => return *refusal,
    };
    let bytes = match timeout(BATCH_TIME, to_bytes(body, BATCH_BYTES_MAX)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            control.metrics.call(METHOD, CallOutcome::Rejected);
            let text = format!("a batch has at most {BATCH_BYTES_MAX} bytes");
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, text);
        }
        Err(_) => {
            control.metrics.call(METHOD, CallOutcome::Rejected);
            let text = "the batch did not come in time";
            return refusal(StatusCode::REQUEST_TIMEOUT, text.to_owned());
        }
    };
    let (id, result) = carry_out(&control, &identity, &bytes).await;
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(problem) => {
            let status = problem.status();
            (status, Json(Answer::refused(id, problem.text()))).into_response()
        }
    }
}

/// Batches one after the other, each answered before the next one is read.
pub(super) async fn socket(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let identity = match identify(&control, &headers) {
        Ok(identity) => identity,
        Err(refusal) => return *refusal,
    };
    let upgrade = upgrade
        .max_message_size(BATCH_BYTES_MAX)
        .max_frame_size(BATCH_BYTES_MAX);
    upgrade.on_upgrade(async move |mut socket| {
        let _open = control.metrics.connection(Connection::WebSocket);
        if let Some(close) = serve(&control, &mut socket, &identity).await {
            control.metrics.closed(close.label());
            let last = Message::Close(Some(close.frame()));
            let _ = timeout(control.web.timeout, socket.send(last)).await;
        }
    })
}

/// Until the game server ends it, or gives the reason for which it is ended.
async fn serve(control: &Control, socket: &mut WebSocket, identity: &Identity) -> Option<Close> {
    let settings = control.web;
    let mut phase = control.phase();
    let mut ping = interval(settings.ping_interval.unwrap_or(PING_INTERVAL));
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            _ = ping.tick() => {
                if heard.elapsed() > settings.timeout.max(2 * ping.period()) {
                    return Some(Close::Silent);
                }
                let question = socket.send(Message::Ping(Bytes::new()));
                if timeout(settings.timeout, question).await.is_err() {
                    return Some(Close::TooSlow);
                }
                continue;
            }
            () = closing(&mut phase) => return Some(Close::ServerClosing),
        };
        heard = Instant::now();
        let bytes = match message {
            None | Some(Ok(Message::Close(_))) => return None,
            Some(Err(_)) => return Some(Close::Broken),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(text))) => Bytes::from(text),
            Some(Ok(Message::Binary(bytes))) => bytes,
        };
        let (id, result) = carry_out(control, identity, &bytes).await;
        let answer = result.unwrap_or_else(|problem| Answer::refused(id, problem.text()));
        let text = serde_json::to_string(&answer).unwrap_or_default();
        let sent = socket.send(Message::Text(Utf8Bytes::from(text)));
        match timeout(settings.timeout, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some(Close::TooSlow),
        }
    }
}

async fn carry_out(
    control: &Control,
    identity: &Identity,
    bytes: &[u8],
) -> (Option<Value>, Result<Answer, Problem>) {
    let (id, result) = match Batch::parse(bytes) {
        Err(text) => (None, Err(Problem::Batch(text))),
        Ok(batch) => {
            let id = batch.id.clone();
            (id, direct(control, identity, batch).await)
        }
    };
    let outcome = match &result {
        Ok(_) => CallOutcome::Success,
        Err(Problem::Control(_)) => CallOutcome::Failure,
        Err(Problem::Batch(_) | Problem::Room(_)) => CallOutcome::Rejected,
    };
    control.metrics.call(METHOD, outcome);
    (id, result)
}

async fn direct(control: &Control, identity: &Identity, batch: Batch) -> Result<Answer, Problem> {
    let room = room(identity, batch.room_id).map_err(Problem::Room)?;
    for mute in &batch.direction.mutes {
        tracing::debug!(
            room = room.name,
            user = mute.user_id,
            reason = mute.reason,
            "muted"
        );
    }
    let directed = control
        .direct(&room, &identity.customer, batch.direction)
        .await;
    let directed = directed.map_err(Problem::Control)?;
    Ok(Answer {
        id: batch.id,
        present: Some(directed.present),
        forgotten: (directed.forgotten > 0).then_some(directed.forgotten),
        error: None,
    })
}

/// The room that is meant, if the token opens it.
fn room(identity: &Identity, room_id: Option<String>) -> Result<RoomKey, &'static str> {
    let name = match (room_id, &identity.rooms[..]) {
        (Some(name), rooms) if rooms.contains(&name) => name,
        (Some(_), _) => return Err("the token does not open this room"),
        (None, [only]) => only.clone(),
        (None, _) => return Err("the token opens several rooms: room_id must name one"),
    };
    Ok(RoomKey {
        namespace: identity.namespace.clone(),
        name,
    })
}

/// Whoever shows a game server's token.
fn identify(control: &Control, headers: &HeaderMap) -> Result<Identity, Box<Response>> {
    let refuse = |status, text: &str| {
        control.metrics.call(METHOD, CallOutcome::Rejected);
        Box::new(refusal(status, text.to_owned()))
    };
    if *control.phase().borrow() >= Phase::Closing {
        let text = "server is closing";
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    let header = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let token = header.and_then(|it| it.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, token)) = token else {
        let text = "the token of a game server is needed: Authorization: Bearer …";
        return Err(refuse(StatusCode::UNAUTHORIZED, text));
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    control
        .authenticator
        .identify_game_server(now.unwrap_or_default(), token.trim())
        .map_err(|error| refuse(error.status(), &error.to_string()))
}

fn refusal(status: StatusCode, text: String) -> Response {
    (status, Json(Answer::refused(None, text))).into_response()
}
