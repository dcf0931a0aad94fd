//! From HTTP to an operation and back: body, token, ids, lock, answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, RawPathParams, Request, State as Extract};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, get, on};
use chrono::TimeDelta;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, StatusCode};

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
            handle(&shared, operation, &ids, request).await
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
    shared: &Shared,
    operation: &Operation,
    ids: &RawPathParams,
    request: Request,
) -> Response {
    let decision = shared.faults().decide(operation.id);
    // A timer rounds up to the next millisecond, which no delay at all must not cost.
    if !decision.delay.is_zero() {
        tokio::time::sleep(decision.delay).await;
    }
    let perform = async { perform(shared, operation, ids, request, decision.stale).await };
    let response = match decision.fault {
        None => perform.await,
        Some(fault) => inject(fault, perform).await,
    };
    let (operation, status) = (operation.id, response.status().as_u16());
    tracing::debug!(operation, status, fault = ?decision.fault.map(|fault| fault.kind), "answered");
    response
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
