//! Turning a fault into what goes over the wire.

use std::io;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::{Html, IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use super::{Fault, FaultKind};
use crate::api::message;
use crate::limits;

/// What a gateway says when the server behind it does not answer.
const GATEWAY_PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

/// The response to a call that a fault happens to. Only a truncated or a late answer performs the call.
pub(crate) async fn inject(fault: Fault, perform: impl Future<Output = Response>) -> Response {
    let mut response = match fault.kind {
        FaultKind::RateLimited => message(StatusCode::TOO_MANY_REQUESTS, "Too Many Attempts."),
        FaultKind::Internal => message(StatusCode::INTERNAL_SERVER_ERROR, "Server Error"),
        FaultKind::BadGateway => (StatusCode::BAD_GATEWAY, Html(GATEWAY_PAGE)).into_response(),
        FaultKind::Unavailable => message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        FaultKind::Garbage => {
            let json = HeaderValue::from_static("application/json");
            (
                [(header::CONTENT_TYPE, json)],
                "{\"data\": [{\"id\": 1,, <?php",
            )
                .into_response()
        }
        FaultKind::Drop => broken(Bytes::new(), 1),
        FaultKind::Truncate => truncated(perform.await).await,
        FaultKind::Hang => {
            tokio::time::sleep(Duration::from_millis(limits::FAULT_DELAY_MS)).await;
            broken(Bytes::new(), 1)
        }
        FaultKind::Stall => {
            let stall = fault.stall.map(|stall| stall.time).unwrap_or_default();
            let response = perform.await;
            tokio::time::sleep(stall).await;
            response
        }
    };
    let retry_after = fault.retry_after_seconds.or(match fault.kind {
        FaultKind::RateLimited => Some(1),
        _ => None,
    });
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The first half of a response that promises the whole.
async fn truncated(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let whole = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut response = broken(whole.slice(..whole.len() / 2), whole.len().max(1));
    *response.status_mut() = parts.status;
    response.headers_mut().extend(parts.headers);
    response
}

/// A response that promises `length` bytes and breaks off after `start`.
fn broken(start: Bytes, length: usize) -> Response {
    let cut = io::Error::new(io::ErrorKind::ConnectionAborted, "injected fault");
    let chunks = [Ok(start), Err(cut)];
    let body = Body::from_stream(futures::stream::iter(
        chunks
            .into_iter()
            .filter(|chunk| !chunk.as_ref().is_ok_and(Bytes::is_empty)),
    ));
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}
