//! Bodies of calls: JSON within its limits of size and time.

use std::{
    error::Error as StdError,
    iter,
    time::{Duration, Instant},
};

use axum::body::Body;
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use super::Bridge;
use crate::error::Error;

/// Reads a body that is `what`.
///
/// # Errors
/// 415, 413, 400 with the path of the mistake, or 504.
pub(super) async fn read<T: DeserializeOwned>(
    bridge: &Bridge,
    headers: &HeaderMap,
    body: Body,
    deadline: Instant,
    what: &str,
) -> Result<T, Error> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Error::UnsupportedMediaType);
    }
    let limit = bridge.config.limit.body_bytes;
    // Its own time limit: a change that has not come in has certainly not been made.
    let whole = tokio::time::timeout_at(deadline.into(), axum::body::to_bytes(body, limit)).await;
    let allowed = Duration::from_millis(bridge.config.limit.request_deadline_ms);
    let bytes = whole
        .map_err(|_| Error::Deadline(allowed))?
        .map_err(|error| unread(&error, limit))?;
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let read = serde_path_to_error::deserialize(&mut reader);
    let value = read.map_err(|error| match error.path().to_string().as_str() {
        "." => Error::invalid_argument(format!("the body is not {what}: {}", error.inner())),
        path => Error::invalid_argument(format!(
            "the body is not {what}: `{path}`: {}",
            error.inner()
        )),
    })?;
    let whole = reader.end();
    whole.map_err(|error| {
        Error::invalid_argument(format!("the body has more than one value: {error}"))
    })?;
    Ok(value)
}

/// Why a body could not be read: it is too long, or broke off, or is no HTTP.
fn unread(error: &axum::Error, limit: usize) -> Error {
    let mut causes = iter::successors(Some(error as &dyn StdError), |&cause| cause.source());
    if causes.any(|cause| cause.is::<LengthLimitError>()) {
        return Error::BodyTooLarge(limit);
    }
    Error::invalid_argument(format!("the body cannot be read: {error}"))
}
