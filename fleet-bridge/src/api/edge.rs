//! What every call passes through: its id, its span, its deadline, the count of calls under way, the metrics, and
//! the rendering of errors.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use futures::FutureExt as _;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ALLOW, CONTENT_TYPE},
};
use tracing::Instrument as _;

use super::{Bridge, Deadline, matches, overview::Visitor};
use crate::{
    auth::{self, Scope},
    error::{Error, PROBLEM_JSON, Pending},
    page,
};

/// Every route of the bridge.
const ROUTES: [&str; 24] = [
    "/v1/instances",
    "/v1/instances/",
    "/v1/instances/{id}",
    "/v1/instances/{id}/sessions",
    "/v1/operations/{id}",
    "/v1/matches",
    "/v1/matches/{id}",
    "/v1/matches/{id}/finish",
    "/v1/matches/{id}/renew",
    "/v1/matches/{id}/players",
    "/v1/matches/{id}/players/{user_id}",
    "/v1/matches/{id}/players/{user_id}/confirm",
    "/v1/events",
    "/v1/access",
    "/v1/overview",
    "/v1/voice/nodes",
    "/v1/voice/connect",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/",
    "/docs/{*rest}",
];

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over from a caller.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// A Fleet call ends at the deadline by itself and says why; only what hangs elsewhere is cut off, this much later.
const DEADLINE_SLACK: Duration = Duration::from_millis(200);

pub(super) async fn pass(
    State(bridge): State<Arc<Bridge>>,
    matched: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let _in_flight = bridge.metrics.begin();
    let method = request.method().clone();
    let route = known_route(matched.as_ref());
    let id = request_id(request.headers());
    let span = tracing::info_span!("request", %id, %method, route);
    let mut response = admit(&bridge, route, request, next, started)
        .instrument(span.clone())
        .await;

    let error = pending(&response).or_else(|| unexplained(route, &response));
    let kind = error.as_ref().map_or("", |error| error.kind().label());
    if let Some(error) = error {
        span.in_scope(|| log(&error));
        let mut rendered = error.render(&id);
        if let Some(allow) = response.headers_mut().remove(ALLOW) {
            rendered.headers_mut().insert(ALLOW, allow);
        }
        response = rendered;
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let answer = (response.status().as_u16(), kind);
    let method = known_method(&method);
    bridge
        .metrics
        .request(route, method, answer, started.elapsed());
    response
}

async fn admit(
    bridge: &Bridge,
    route: &str,
    mut request: Request,
    next: Next,
    started: Instant,
) -> Response {
    use axum::response::IntoResponse as _;

    let is_visitor = bridge.config.page.public
        && !bridge.config.tokens.is_empty()
        && may_visit(route, request.method())
        && auth::is_nobody(request.headers());
    if is_visitor {
        request.extensions_mut().insert(Visitor);
    } else if let Some(scope) = needed_scope(route, request.method())
        && let Err(error) = auth::authorize(&bridge.config.tokens, request.headers(), scope)
    {
        return error.into_response();
    }
    // The health of a bridge that is full must still be seen.
    let _permit = match bridge.permits.try_acquire() {
        Ok(permit) => Some(permit),
        Err(_) if matches!(route, "/healthz" | "/readyz" | "/metrics") => None,
        Err(_) => return Error::Overloaded(bridge.config.limit.requests).into_response(),
    };
    let allowed = allowed(bridge, route, request.method());
    request.extensions_mut().insert(Deadline(started + allowed));
    let is_update = *request.method() == Method::PATCH;
    let work = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(allowed + DEADLINE_SLACK, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Error::Internal.into_response(),
        Err(_) if is_update => Error::Deadline(allowed).of_update().into_response(),
        Err(_) => Error::Deadline(allowed).into_response(),
    }
}

/// How long a call may take. Making a match takes as long as its request says, within the settings' limit.
fn allowed(bridge: &Bridge, route: &str, method: &Method) -> Duration {
    let usual = Duration::from_millis(bridge.config.limit.request_deadline_ms);
    match (route, matches::allowed(bridge)) {
        ("/v1/matches", Some(allowed)) if *method == Method::POST => usual + allowed,
        _ => usual,
    }
}

/// What the settings may open to callers without a token: no players, no addresses, and nothing that is held open.
fn may_visit(route: &str, method: &Method) -> bool {
    *method == Method::GET && matches!(route, "/v1/overview" | "/v1/voice/nodes")
}

/// Health, documentation and the files of the page are open; everything else, and what does not exist, needs a token.
fn needed_scope(route: &str, method: &Method) -> Option<Scope> {
    match route {
        "/healthz" | "/readyz" | "/openapi.json" | "/v1/access" => None,
        _ if page::paths().any(|path| path == route) => None,
        _ if route.starts_with("/docs") => None,
        _ if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) => Some(Scope::Read),
        _ => Some(Scope::Write),
    }
}

fn pending(response: &Response) -> Option<Error> {
    let Pending(error) = response.extensions().get::<Pending>()?;
    error.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The error of a failure that says nothing about itself. Not ready is an answer, not a failure.
fn unexplained(route: &str, response: &Response) -> Option<Error> {
    let is_explained = route == "/readyz"
        || response
            .headers()
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            == Some(PROBLEM_JSON.as_bytes());
    Error::of_status(response.status()).filter(|_| !is_explained)
}

/// The caller's mistakes are the caller's to see; what an operator can mend is a warning.
fn log(error: &Error) {
    let kind = error.kind().label();
    if error.status().is_server_error() {
        tracing::warn!(kind, "{error}");
    } else {
        tracing::debug!(kind, "{error}");
    }
}

/// The caller's id, if it can safely stand in a log; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let given = headers.get(REQUEST_ID).map(HeaderValue::as_bytes);
    let given = given.filter(|id| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()));
    match given.filter(|id| id.iter().copied().all(is_safe)) {
        Some(id) => String::from_utf8_lossy(id).into_owned(),
        None => format!("{:032x}", fastrand::u128(..)),
    }
}

/// The route as a text that lives on in metric labels.
fn known_route(matched: Option<&MatchedPath>) -> &'static str {
    let is_matched = |route: &&str| matched.is_some_and(|matched| matched.as_str() == *route);
    let mut routes = ROUTES.into_iter().chain(page::paths());
    routes.find(is_matched).unwrap_or("unmatched")
}

/// Callers may invent methods; they may not invent metric labels.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn check(route: &str, status: u16, content_type: &'static str) -> Option<Kind> {
        let mut response = Response::default();
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        let value = HeaderValue::from_static(content_type);
        response.headers_mut().insert(CONTENT_TYPE, value);
        unexplained(route, &response).map(|error| error.kind())
    }

    #[test]
    fn every_route_of_the_contract_is_known() {
        let document: serde_json::Value =
            serde_json::from_str(&super::super::openapi_json()).unwrap();
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(ROUTES.contains(&path.as_str()), "{path}");
        }
    }

    #[test]
    fn only_a_failure_that_says_nothing_is_explained() {
        let plain = "text/plain";
        let docs = "/docs/{*rest}";
        assert_eq!(check(docs, 404, plain), Some(Kind::NotFound));
        assert_eq!(check(docs, 405, plain), Some(Kind::InvalidArgument));
        assert_eq!(check(docs, 500, plain), Some(Kind::Internal));
        assert_eq!(check(docs, 404, PROBLEM_JSON), None);
        assert_eq!(check(docs, 303, plain), None);
        assert_eq!(check("/readyz", 503, "application/json"), None);
    }
}
