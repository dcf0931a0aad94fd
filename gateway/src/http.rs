//! From a request to an answer: the path, then who calls, then the body. The order of checks, the statuses and the
//! headers are the ODIN gateway's; `/healthz`, `/readyz` and `/metrics` are ours.

use std::{error::Error as _, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method as Verb, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD,
        CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER,
    },
};
use http_body_util::LengthLimitError;
use serde_json::json;

use crate::{
    auth,
    error::{Denied, RpcError},
    methods::{self, Caller, Method},
    rpc::{self, Reply},
    state::Gateway,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What metrics are written in: <https://prometheus.io/docs/instrumenting/content_negotiation/>.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Browsers may call from any page: what protects the gateway is the token, not where the page comes from.
const FIXED_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization,Content-Type"),
    ),
    // No browser needs it in an answer; clients may have come to expect it.
    (
        ACCESS_CONTROL_REQUEST_METHOD,
        HeaderValue::from_static("POST"),
    ),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Which socket a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The one for customers and clients.
    Main,
    /// The one for voice servers and operators only.
    Internal,
}

#[derive(Clone, Debug)]
struct Shared {
    gateway: Arc<Gateway>,
    listener: Listener,
}

/// All paths of a listener.
pub(crate) fn router(gateway: Arc<Gateway>, listener: Listener) -> Router {
    Router::new()
        .fallback(answer)
        .with_state(Shared { gateway, listener })
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// Calls of customers and clients, in a pool.
    External(String),
    /// Calls of voice servers and operators, in a pool.
    Internal(String),
    Alive,
    Ready,
    Metrics,
}

async fn answer(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let gateway = &shared.gateway;
    let mut response = match pass(gateway, shared.listener, peer, request).await {
        Ok(response) => response,
        Err(denied) => refuse(gateway, &denied),
    };
    gateway.metrics.http(response.status().as_u16());
    for (name, value) in FIXED_HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

fn refuse(gateway: &Gateway, denied: &Denied) -> Response {
    gateway.metrics.denied(denied.label());
    tracing::debug!(reason = denied.label(), "{denied}");
    let (status, _) = denied.codes();
    let body = rpc::error_body(RpcError::from(denied));
    let mut response = respond(status, JSON, body);
    if let Denied::TooMany(seconds) = denied {
        response
            .headers_mut()
            .insert(RETRY_AFTER, (*seconds).into());
    }
    response
}

fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

async fn pass(
    gateway: &Gateway,
    listener: Listener,
    peer: SocketAddr,
    request: Request,
) -> Result<Response, Denied> {
    let route = route(gateway, listener, request.uri().path()).ok_or(Denied::NotFound)?;
    if request.method() == Verb::OPTIONS {
        return Ok(Response::new(Body::empty()));
    }
    let pool = match route {
        // The health of a gateway that is full must still be seen.
        Route::Alive => return Ok(respond(StatusCode::OK, TEXT, "ok\n")),
        Route::Ready => return Ok(ready(gateway)),
        Route::Metrics => {
            auth::internal(gateway, request.headers())?;
            return Ok(respond(
                StatusCode::OK,
                OPEN_METRICS,
                gateway.metrics.text(gateway),
            ));
        }
        Route::External(ref pool) | Route::Internal(ref pool) => pool.clone(),
    };
    let is_internal = matches!(route, Route::Internal(_));
    let Ok(_permit) = gateway.permits.try_acquire() else {
        return Err(Denied::Overloaded(gateway.config.limit.requests));
    };
    let (parts, body) = request.into_parts();
    let caller = Caller {
        licensee: authorize(gateway, peer, &parts.headers, is_internal)?,
        pool,
        peer,
    };
    let allows = |method: Method| {
        let licensee = caller.licensee.as_ref();
        licensee.is_none_or(|it| it.restrictions.allows(method.name()))
    };
    let methods = Method::of_route(is_internal);
    if !methods.iter().copied().any(allows) {
        return Err(Denied::Restricted);
    }
    let body = read(gateway, body, is_internal).await?;
    let find = |name: &str| {
        let method = methods.iter().find(|method| method.name() == name);
        method.copied().filter(|method| allows(*method))
    };
    let call = |method, params| methods::call(gateway, &caller, method, params);
    let Reply { status, body } = rpc::answer(&body, gateway.config.limit.batch, find, call).await;
    Ok(match body {
        Some(body) => respond(status, JSON, body),
        None => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        }
    })
}

/// Limits by address come before the signature, which costs the most; limits by key come after it, so that nobody can
/// use up a customer's calls without the customer's key.
fn authorize(
    gateway: &Gateway,
    peer: SocketAddr,
    headers: &HeaderMap,
    is_internal: bool,
) -> Result<Option<auth::Licensee>, Denied> {
    if is_internal {
        auth::internal(gateway, headers)?;
        return Ok(None);
    }
    let client = gateway.rates.client_address(peer, headers);
    gateway
        .rates
        .allow_address(client)
        .map_err(|it| Denied::TooMany(it.seconds()))?;
    let licensee = auth::external(gateway, headers)?;
    gateway
        .rates
        .allow_key(&licensee.kid)
        .map_err(|it| Denied::TooMany(it.seconds()))?;
    Ok(Some(licensee))
}

async fn read(gateway: &Gateway, body: Body, is_internal: bool) -> Result<Bytes, Denied> {
    let limit = &gateway.config.limit;
    let bytes_max = match is_internal {
        true => limit.internal_body_bytes,
        false => limit.body_bytes,
    };
    let deadline = Duration::from_millis(limit.request_deadline_ms);
    match tokio::time::timeout(deadline, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(|it| it.is::<LengthLimitError>()) => {
            Err(Denied::TooLarge(bytes_max))
        }
        Ok(Err(_)) => Err(Denied::Body),
        Err(_) => Err(Denied::Slow(limit.request_deadline_ms)),
    }
}

/// `/internal` is on the listener of its own, if there is one, and else on the main one.
fn route(gateway: &Gateway, listener: Listener, path: &str) -> Option<Route> {
    let has_own_listener = gateway.config.internal.listen.is_some();
    let is_internal_here = listener == Listener::Internal || !has_own_listener;
    let route = match path {
        "/healthz" => Route::Alive,
        "/readyz" => Route::Ready,
        "/metrics" => Route::Metrics,
        "/" => Route::External(default_pool(gateway)),
        "/internal" => Route::Internal(default_pool(gateway)),
        _ => {
            let (name, rest) = path.strip_prefix('/')?.split_once('/')?;
            let pools = gateway.config.pools.as_ref()?;
            let pool = pools.available.iter().find(|pool| *pool == name)?;
            match rest {
                "" => Route::External(pool.clone()),
                "internal" => Route::Internal(pool.clone()),
                _ => return None,
            }
        }
    };
    let is_here = match route {
        Route::External(_) => listener == Listener::Main,
        Route::Internal(_) | Route::Metrics => is_internal_here,
        Route::Alive | Route::Ready => true,
    };
    is_here.then_some(route)
}

fn default_pool(gateway: &Gateway) -> String {
    let pools = gateway.config.pools.as_ref();
    pools.map(|pools| pools.default.clone()).unwrap_or_default()
}

/// A gateway that lost its Redis still serves, and says so.
fn ready(gateway: &Gateway) -> Response {
    let customers = gateway.customers.health();
    let is_ready = !gateway.is_draining() && customers.is_usable(&gateway.config);
    let store = gateway.store.health();
    let status = match (is_ready, store.online) {
        (false, _) => "unavailable",
        (true, false) => "degraded",
        (true, true) => "ok",
    };
    let body = json!({
        "status": status,
        "draining": gateway.is_draining(),
        "store": store,
        "customers": customers,
    });
    let code = match is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    respond(code, JSON, body.to_string())
}
