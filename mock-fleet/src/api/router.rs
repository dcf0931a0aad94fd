//! From HTTP to an operation and back: body, token, ids, lock, answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawPathParams, Request, State as Extract};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, get, on};
use chrono::TimeDelta;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

use super::answer::{self, Outcome};
use super::call::Call;
use super::operations::{Action, OPERATIONS, Operation};
use crate::clock::Clock;
use crate::faults::{Faults, inject};
use crate::limits;
use crate::model::ApiVersion;
use crate::query::Query;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::access::Caller;

/// What all calls share. No lock is held across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// A state as it was, for stale reads.
    snapshot: Mutex<Option<Arc<State>>>,
    faults: Mutex<Faults>,
    clock: Clock,
    api: ApiVersion,
    /// Room for calls that are performed late.
    stalls: Arc<Semaphore>,
}

impl Shared {
    /// Shares a state.
    pub(crate) fn new(state: State, faults: Faults, clock: Clock, api: ApiVersion) -> Self {
        let (state, faults) = (Mutex::new(state), Mutex::new(faults));
        Self {
            state,
            snapshot: Mutex::new(None),
            faults,
            clock,
            api,
            stalls: Arc::new(Semaphore::new(limits::FAULT_STALLS)),
        }
    }

    /// The version of the API that is spoken.
    pub(crate) fn api(&self) -> ApiVersion {
        self.api
    }

    /// The state, brought up to the present.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(self.clock.now());
        state
    }

    /// The faults that are injected.
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A state that is at most `age` old.
    fn stale(&self, age: TimeDelta) -> Arc<State> {
        let now = self.clock.now();
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*snapshot {
            Some(state) if now - state.now <= age => Arc::clone(state),
            _ => Arc::clone(snapshot.insert(Arc::new(self.state().clone()))),
        }
    }
}

/// The routes of the API and its health check.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for operation in OPERATIONS
        .iter()
        .filter(|operation| operation.since <= shared.api)
    {
        let filter = MethodFilter::try_from(operation.method.clone())
            .expect("the table holds plain HTTP methods");
        let handler = move |Extract(shared): Extract<Arc<Shared>>, ids, request| async move {
            handle(&shared, operation, ids, request).await
        };
        router = router.route(&format!("/api{}", operation.path), on(filter, handler));
    }
    router
        .route("/api/downloads/{key}/{archive}", get(download))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|request: Request| async move { answer::no_route(request.uri().path()) })
        .method_not_allowed_fallback(|request: Request| async move {
            answer::no_method(request.method())
        })
        .with_state(shared)
}

async fn handle(
    shared: &Arc<Shared>,
    operation: &'static Operation,
    ids: RawPathParams,
    request: Request,
) -> Response {
    let decision = shared.faults().decide(operation.id);
    // A timer rounds up to the next millisecond, which no delay at all must not cost.
    if !decision.delay.is_zero() {
        tokio::time::sleep(decision.delay).await;
    }
    let late = decision.fault.and_then(|fault| fault.stall);
    let late = late.filter(|stall| !stall.performs_first);
    let response = match (decision.fault, late) {
        (_, Some(stall)) => {
            perform_late(shared, operation, ids, request, stall.time, decision.stale).await
        }
        (None, None) => perform(shared, operation, &ids, request, decision.stale).await,
        (Some(fault), None) => {
            let perform = perform(shared, operation, &ids, request, decision.stale);
            inject(fault, perform).await
        }
    };
    let (operation, status) = (operation.id, response.status().as_u16());
    tracing::debug!(operation, status, fault = ?decision.fault.map(|fault| fault.kind), "answered");
    response
}

/// Performs a call after a time, whether or not its caller still waits: the request has arrived, and nothing calls it
/// back.
async fn perform_late(
    shared: &Arc<Shared>,
    operation: &'static Operation,
    ids: RawPathParams,
    request: Request,
    time: Duration,
    stale: Option<TimeDelta>,
) -> Response {
    let Ok(permit) = Arc::clone(&shared.stalls).try_acquire_owned() else {
        return answer::message(StatusCode::SERVICE_UNAVAILABLE, "Too many calls stall.");
    };
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, limits::BODY_BYTES).await else {
        return answer::too_large();
    };
    let request = Request::from_parts(parts, body.into());
    let shared = Arc::clone(shared);
    let performed = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        let response = perform(&shared, operation, &ids, request, stale).await;
        drop(permit);
        response
    });
    performed
        .await
        .unwrap_or_else(|_| answer::message(StatusCode::INTERNAL_SERVER_ERROR, "Server Error"))
}

async fn perform(
    shared: &Shared,
    operation: &Operation,
    ids: &RawPathParams,
    request: Request,
    stale: Option<TimeDelta>,
) -> Response {
    let ids: Option<Vec<i64>> = ids.iter().map(|(_, text)| text.parse().ok()).collect();
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, limits::BODY_BYTES).await else {
        return answer::too_large();
    };
    let host = parts
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let call = Call {
        caller: Caller {
            apps: Some(Vec::new()),
            read_only: true,
        },
        bearer: bearer(&parts.headers).unwrap_or_default().to_owned(),
        ids: Vec::new(),
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        body,
        url: format!("http://{host}{}", parts.uri.path()),
        base_url: format!("http://{host}/api"),
        api: shared.api,
    };
    answer::respond(run(shared, operation.action, call, ids, stale))
}

fn run(
    shared: &Shared,
    action: Action,
    mut call: Call,
    ids: Option<Vec<i64>>,
    stale: Option<TimeDelta>,
) -> Outcome {
    let mut state = shared.state();
    if !matches!(action, Action::Open(_)) {
        call.caller = state
            .access
            .caller(&call.bearer)
            .ok_or(Refusal::Unauthenticated)?
            .clone();
    }
    call.ids = ids.ok_or(Refusal::NotFound("id"))?;
    let change = match action {
        Action::Read(read) => {
            let Some(age) = stale else {
                return read(&state, &call);
            };
            drop(state);
            return read(&shared.stale(age), &call);
        }
        Action::Write(_) if call.caller.read_only => {
            return Err(Refusal::Forbidden("This token may only read."));
        }
        Action::Write(change) | Action::Sign(change) | Action::Open(change) => change,
    };
    let outcome = change(&mut state, &call);
    state.changed();
    outcome
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The archive behind a download link, as long as the link works.
async fn download(
    Extract(shared): Extract<Arc<Shared>>,
    Path((key, archive)): Path<(String, String)>,
) -> Response {
    let state = shared.state();
    let known = state.downloads.iter().any(|link| {
        link.key == key && link.archive_name == archive && state.now < link.valid_until
    });
    if !known {
        return answer::message(StatusCode::NOT_FOUND, "The link is not valid any more.");
    }
    format!("simulated archive {archive}\n").into_response()
}
