//! Answers: the one place that chooses status codes.

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::refusal::{FieldErrors, Refusal};

/// What an operation answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// 200 with a JSON text.
    Json(Vec<u8>),
    /// 202 with nothing: it will happen.
    Accepted,
    /// 202 with a JSON text: it will happen to this.
    AcceptedJson(Vec<u8>),
    /// 204: it has happened.
    Done,
}

/// What an operation comes to.
pub(crate) type Outcome = Result<Answer, Refusal>;

impl Answer {
    /// 200 with the JSON form of `value`.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self::Json(to_json(value))
    }
}

/// The JSON text of a view.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("views have text keys and write into memory")
}

/// The response to an outcome.
pub(crate) fn respond(outcome: Outcome) -> Response {
    match outcome {
        Ok(Answer::Json(text)) => json_response(StatusCode::OK, text),
        Ok(Answer::Accepted) => StatusCode::ACCEPTED.into_response(),
        Ok(Answer::AcceptedJson(text)) => json_response(StatusCode::ACCEPTED, text),
        Ok(Answer::Done) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refuse(refusal),
    }
}

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unauthenticated => message(StatusCode::UNAUTHORIZED, "Unauthenticated."),
        Refusal::Forbidden(why) => message(StatusCode::FORBIDDEN, why),
        Refusal::NotFound(kind) => message(
            StatusCode::NOT_FOUND,
            &format!("No query results for model [{kind}]."),
        ),
        Refusal::Conflict(why) => message(StatusCode::CONFLICT, why),
        Refusal::Invalid(errors) => invalid(errors),
    }
}

/// 422: the message is the first error and says how many more there are.
fn invalid(FieldErrors(fields): FieldErrors) -> Response {
    let count: usize = fields.iter().map(|(_, messages)| messages.len()).sum();
    let first = fields.first().and_then(|(_, messages)| messages.first());
    let mut text = first.cloned().unwrap_or_default();
    match count {
        0 | 1 => {}
        2 => text.push_str(" (and 1 more error)"),
        more => text.push_str(&format!(" (and {} more errors)", more - 1)),
    }
    let errors: Map<String, Value> = fields
        .into_iter()
        .map(|(field, messages)| (field, json!(messages)))
        .collect();
    let body = to_json(&json!({ "message": text, "errors": errors }));
    json_response(StatusCode::UNPROCESSABLE_ENTITY, body)
}

/// 404 for a path that nothing is at.
pub(crate) fn no_route(path: &str) -> Response {
    message(
        StatusCode::NOT_FOUND,
        &format!("The route {path} could not be found."),
    )
}

/// 405 for a method that a path does not have.
pub(crate) fn no_method(method: &http::Method) -> Response {
    let text = format!("The {method} method is not supported for this route.");
    message(StatusCode::METHOD_NOT_ALLOWED, &text)
}

/// 413 for a body above the limit, or one that broke off.
pub(crate) fn too_large() -> Response {
    message(
        StatusCode::PAYLOAD_TOO_LARGE,
        "The request body is too large or incomplete.",
    )
}

/// An error body with nothing but a message.
pub(crate) fn message(status: StatusCode, text: &str) -> Response {
    json_response(status, to_json(&json!({ "message": text })))
}

fn json_response(status: StatusCode, text: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], Bytes::from(text)).into_response()
}
