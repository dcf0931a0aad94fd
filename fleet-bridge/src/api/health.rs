//! For whoever runs the bridge: is it up, can it work, what has it done.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{Extension, State},
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use tokio::sync::OwnedMutexGuard;
use tracing::Instrument as _;
use utoipa::ToSchema;

use super::{Bridge, Deadline};
use crate::error::{Error, Kind};

/// An answer about the Fleet is given again for this long: probes must not become load.
const READINESS_MAX: Duration = Duration::from_secs(5);

/// The content type of Prometheus' text format, as prometheus-client writes it.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the bridge can work.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// The Fleet can be reached and takes the token.
    ready: bool,
    /// `ok`, or the kind of what is wrong.
    #[schema(example = "ok")]
    fleet: &'static str,
    /// `ok`, or `unavailable`: what bridges share cannot be reached, and no matches are made.
    #[schema(example = "ok")]
    store: &'static str,
}

type Known = OwnedMutexGuard<Option<(Instant, Readiness)>>;

/// Is the process up?
#[utoipa::path(get, path = "/healthz", tag = "operation", security(()),
    responses((status = 200, description = "It is", body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Can it work? The Fleet is asked at most every five seconds.
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()),
    responses(
        (status = 200, description = "It can", body = Readiness),
        (status = 503, description = "The Fleet is away or refuses the token", body = Readiness)
    ))]
pub(super) async fn readyz(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
) -> Result<Response, Error> {
    // Held while the Fleet is asked: all who wait share the answer.
    let known = Arc::clone(&bridge.readiness).lock_owned().await;
    let fresh = known
        .as_ref()
        .filter(|(at, _)| at.elapsed() < READINESS_MAX);
    let readiness = match fresh {
        Some((_, readiness)) => readiness.clone(),
        None => {
            // A task of its own, which takes the lock along: a prober that goes away neither ends the Fleet call
            // nor makes room for a second one.
            let probe = probe(bridge, known, deadline).in_current_span();
            tokio::spawn(probe).await.map_err(|_| Error::Internal)?
        }
    };
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok((status, Json(readiness)).into_response())
}

/// Asks the Fleet and keeps its answer.
async fn probe(bridge: Arc<Bridge>, mut known: Known, deadline: Instant) -> Readiness {
    let (fleet, store) = tokio::join!(bridge.fleet.check(deadline), bridge.store.healthy());
    let readiness = Readiness {
        ready: fleet.is_ok() && store,
        fleet: fleet.map_or_else(|error| error.kind().label(), |()| "ok"),
        store: if store {
            "ok"
        } else {
            Kind::Unavailable.label()
        },
    };
    *known = Some((Instant::now(), readiness.clone()));
    readiness
}

/// What has it done? Needs a token where the bridge has some.
#[utoipa::path(get, path = "/metrics", tag = "operation", security((), ("token" = [])),
    responses(
        (status = 200, description = "Prometheus' text format", body = String,
            content_type = "application/openmetrics-text"),
        super::instances::Refusals
    ))]
pub(super) async fn metrics(State(bridge): State<Arc<Bridge>>) -> Response {
    bridge.metrics.index_age(bridge.index.age());
    ([(CONTENT_TYPE, METRICS_TYPE)], bridge.metrics.text()).into_response()
}
