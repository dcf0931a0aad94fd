//! The paths of web clients and game servers.

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawQuery, State, WebSocketUpgrade},
    response::{AppendHeaders, IntoResponse as _, Response},
    routing::{any, get, post},
};
use http::{StatusCode, header::ALT_SVC};
use sfu_core::limits::FRAME_BYTES_MAX;

use super::{game_server, main_stream, room_stream, socket::Socket};
use crate::{
    control::{Control, Phase},
    metrics::Connection,
};

/// Bytes read from a connection at once: commands are small, and there are thousands of connections.
const READ_BYTES: usize = 4 * 1024;

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 4 * 1024;

/// What people see who open the address in a browser, e.g. to accept its certificate.
const ABOUT: &str = "This is a voice server. Clients come in through a gateway.\n";

/// `/main` and `/room?<stream>` for clients, `/positions` for game servers. Whoever asks for `/` is told where WebTransport is served (RFC 7838), at `native`.
pub(crate) fn router(control: Arc<Control>, native: Option<String>) -> Router {
    let service = native.map(|address| format!("h3=\"{address}\""));
    let about = move || {
        let service = service.clone();
        async move { (AppendHeaders(service.map(|it| (ALT_SVC, it))), ABOUT) }
    };
    Router::new()
        .route("/", get(about))
        .route("/main", any(main))
        .route("/room", any(room))
        .route(
            "/positions",
            post(game_server::post).get(game_server::socket),
        )
        .with_state(control)
}

fn limited(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
}

async fn main(State(control): State<Arc<Control>>, upgrade: WebSocketUpgrade) -> Response {
    if *control.phase().borrow() != Phase::Serving {
        control.metrics.closed("server_closing");
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "server is closing");
    }
    let Ok(stranger) = Arc::clone(&control.strangers).try_acquire_owned() else {
        control.metrics.closed("too_many_strangers");
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many connections that have not authenticated",
        );
    };
    limited(upgrade).on_upgrade(async move |socket| {
        let _open = control.metrics.connection(Connection::WebSocket);
        main_stream::serve(control, Socket::Web(Box::new(socket)), stranger).await;
    })
}

/// The query is the bare name of the stream.
async fn room(
    State(control): State<Arc<Control>>,
    RawQuery(stream): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Response {
    let ticket = stream.and_then(|stream| control.tickets.redeem(&stream));
    let Some(ticket) = ticket else {
        control.metrics.closed("no_such_stream");
        return refusal(StatusCode::NOT_FOUND, "no such stream");
    };
    limited(upgrade).on_upgrade(async move |socket| {
        let _open = control.metrics.connection(Connection::WebSocket);
        room_stream::serve(control, Socket::Web(Box::new(socket)), ticket).await;
    })
}

fn refusal(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}
