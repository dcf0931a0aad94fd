//! The control API: what tests and people do to the fleet from outside. It listens on a port of
//! its own, knows no tokens, and is never subject to faults.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State as Extract};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Shared, message};
use crate::faults::FaultPlan;
use crate::view::{Viewer, time};
use crate::world::Condition;

/// The routes of the control API.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(
            "/faults",
            get(show_faults).put(set_faults).delete(clear_faults),
        )
        .route("/services/{id}/{condition}", post(set_condition))
        .route("/state", get(show_state))
        .with_state(shared)
}

async fn show_faults(Extract(shared): Extract<Arc<Shared>>) -> Json<FaultPlan> {
    Json(shared.faults().plan.clone())
}

async fn set_faults(
    Extract(shared): Extract<Arc<Shared>>,
    plan: Result<Json<FaultPlan>, JsonRejection>,
) -> Response {
    match plan {
        Ok(Json(plan)) => {
            shared.faults().plan = plan;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(rejection) => message(StatusCode::UNPROCESSABLE_ENTITY, &rejection.body_text()),
    }
}

async fn clear_faults(Extract(shared): Extract<Arc<Shared>>) -> StatusCode {
    shared.faults().plan = FaultPlan::default();
    StatusCode::NO_CONTENT
}

async fn set_condition(
    Extract(shared): Extract<Arc<Shared>>,
    Path((id, word)): Path<(String, String)>,
) -> Response {
    let word: Result<_, serde::de::value::Error> =
        Condition::deserialize(serde::de::value::StrDeserializer::new(&word));
    let (Ok(condition), Ok(id)) = (word, id.parse()) else {
        let text = "Not a service and one of healthy, unhealthy, overload, not-found, stopped.";
        return message(StatusCode::NOT_FOUND, text);
    };
    let mut state = shared.state();
    let outcome = state.set_condition(id, condition);
    state.changed();
    match outcome {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(_) => message(StatusCode::NOT_FOUND, "There is no such service."),
    }
}

async fn show_state(Extract(shared): Extract<Arc<Shared>>) -> Json<Value> {
    let state = shared.state();
    let viewer = Viewer {
        state: &state,
        api: shared.api(),
    };
    let services: Vec<_> = state
        .services
        .iter()
        .filter_map(|service| {
            Some(json!({ "appId": service.app_id, "service": viewer.server(service)? }))
        })
        .collect();
    Json(json!({
        "now": time(state.now),
        "apps": state.apps.iter().map(|app| viewer.app(app)).collect::<Vec<_>>(),
        "services": services,
    }))
}
