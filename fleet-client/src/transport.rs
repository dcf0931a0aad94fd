//! The one way to the network: attempts, waits and the deadline of a call. Knows HTTP, not the operations.
//!
//! The generated client hands every request to [`ClientHooks::exec`] and expects an answer whose body is JSON. An
//! answer that is not, or that never came although nothing failed on the wire, is replaced by an error body of
//! the documented shape, marked with [`FAULT_HEADER`] so that [`crate::Error`] can tell it from the real thing.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use progenitor_client::{ClientHooks, OperationInfo};
use reqwest::{Request, Response};

use crate::{
    generated::{Client, types::ApiError},
    retry::{self, RetryPolicy},
};

/// Bytes of one answer, at most. The largest page (100 services with backups and metadata) stays under 1 MiB.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Characters of a foreign body that an error shows: enough to recognise a proxy's page.
const EXCERPT_CHARS_MAX: usize = 160;

/// Marks an error body that this module made. Never believed when it comes from the network.
pub(crate) const FAULT_HEADER: &str = "x-fleet-client-fault";

/// The fault of an answer that is not one of the API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refused with a body that is not the API's.
    Foreign,
    /// Larger than [`RESPONSE_BYTES_MAX`].
    Oversize,
    /// The deadline passed.
    Deadline,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Foreign, Self::Oversize, Self::Deadline];

    fn label(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Oversize => "oversize",
            Self::Deadline => "deadline",
        }
    }

    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(FAULT_HEADER)?;
        Self::ALL.into_iter().find(|fault| value == fault.label())
    }
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer came, with this status.
    Status(StatusCode),
    /// No connection, or it broke.
    Connection,
    /// The request or the deadline ran out of time.
    Timeout,
}

/// One attempt of a call, as an observer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The `operationId` of the document in snake case: `get_servers`, `docker_services_metadata_update`.
    pub operation: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// From sending to the last byte of the body.
    pub elapsed: Duration,
    /// Another attempt follows.
    pub will_retry: bool,
}

/// What a [`Client`] carries beside its address.
#[derive(Clone)]
pub(crate) struct Transport {
    pub(crate) retry: RetryPolicy,
    pub(crate) deadline: Option<Instant>,
    pub(crate) observer: Option<Arc<dyn Fn(Attempt) + Send + Sync>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("retry", &self.retry)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// The same client with a deadline: no attempt and no wait of its calls goes past it. Cheap.
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        let mut client = self.clone();
        client.inner.deadline = Some(deadline);
        client
    }
}

impl ClientHooks<Transport> for Client {
    async fn exec(&self, request: Request, info: &OperationInfo) -> reqwest::Result<Response> {
        let mut delays = self.inner.retry.delays();
        loop {
            // All bodies are JSON in memory, so a copy is always there; without one, there is one attempt.
            let again = request.try_clone();
            let started = Instant::now();
            let Some(time_left) = self.inner.time_left(started) else {
                return Ok(deadline_passed());
            };
            let method = request.method().clone();
            let Some(this) = again else {
                return attempt(self, request, time_left).await;
            };
            let result = attempt(self, this, time_left).await;
            let wait = wanted_wait(&result, &method)
                .and_then(|asked| Some((asked, delays.next()?)))
                .map(|(asked, delay)| asked.map_or(delay, |asked| asked.max(delay)))
                .filter(|wait| self.inner.may_wait(*wait));
            self.inner.report(info, &result, started, wait.is_some());
            match wait {
                None => return result,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

impl Transport {
    /// What is left until the deadline; `None` when it has passed.
    fn time_left(&self, now: Instant) -> Option<Duration> {
        match self.deadline {
            None => Some(Duration::MAX),
            Some(deadline) => deadline
                .checked_duration_since(now)
                .filter(|left| !left.is_zero()),
        }
    }

    /// A wait that would end past the deadline is not begun: the caller gets the true error, and sooner.
    fn may_wait(&self, wait: Duration) -> bool {
        wait <= self.retry.delay_max
            && self
                .time_left(Instant::now())
                .is_some_and(|left| wait < left)
    }

    fn report(
        &self,
        info: &OperationInfo,
        result: &reqwest::Result<Response>,
        started: Instant,
        will_retry: bool,
    ) {
        let outcome = match result {
            Ok(response) if Fault::of(response.headers()) == Some(Fault::Deadline) => {
                Outcome::Timeout
            }
            Ok(response) => Outcome::Status(response.status()),
            Err(error) if error.is_timeout() => Outcome::Timeout,
            Err(_) => Outcome::Connection,
        };
        let attempt = Attempt {
            operation: info.operation_id,
            outcome,
            elapsed: started.elapsed(),
            will_retry,
        };
        if let Some(observer) = &self.observer {
            observer(attempt);
        }
        tracing::trace!(?attempt, "fleet call");
    }
}

/// `None`: the result stands. `Some`: try again, after the time that the service asked for, if it did.
fn wanted_wait(
    result: &reqwest::Result<Response>,
    method: &http::Method,
) -> Option<Option<Duration>> {
    match result {
        Ok(response) => {
            let is_ours = matches!(
                Fault::of(response.headers()),
                Some(Fault::Deadline | Fault::Oversize)
            );
            (!is_ours && retry::is_retryable(response.status(), method))
                .then(|| retry::retry_after(response.headers()))
        }
        // Nothing was sent when the connection was never made.
        Err(error) => (error.is_connect() || retry::is_idempotent(method)).then_some(None),
    }
}

async fn attempt(
    client: &Client,
    request: Request,
    time_left: Duration,
) -> reqwest::Result<Response> {
    let exchange = async {
        let response = client.client.execute(request).await?;
        read(response).await
    };
    match tokio::time::timeout(time_left, exchange).await {
        Ok(result) => result,
        Err(_) => Ok(deadline_passed()),
    }
}

/// Takes the whole body in, within its limit, so that a body that breaks off is an attempt that failed.
async fn read(mut response: Response) -> reqwest::Result<Response> {
    let status = response.status();
    let mut headers = std::mem::take(response.headers_mut());
    headers.remove(FAULT_HEADER);
    // Pages come in many chunks; knowing the length saves copying them while the buffer grows.
    let length = response.content_length().unwrap_or(0);
    if length > RESPONSE_BYTES_MAX as u64 {
        return Ok(oversize());
    }
    let Some(mut body) = response.chunk().await?.map(BytesMut::from) else {
        return Ok(answer(status, headers, Bytes::new()));
    };
    body.reserve((length as usize).saturating_sub(body.len()));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return Ok(oversize());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer(status, headers, body.freeze()))
}

fn answer(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response {
    let is_refusal = status.is_client_error() || status.is_server_error();
    if is_refusal && serde_json::from_slice::<ApiError>(&body).is_err() {
        return fault(status, headers, Fault::Foreign, &excerpt(&body));
    }
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Response::from(response)
}

fn deadline_passed() -> Response {
    let text = "the deadline of the call passed";
    fault(
        StatusCode::GATEWAY_TIMEOUT,
        HeaderMap::new(),
        Fault::Deadline,
        text,
    )
}

fn oversize() -> Response {
    let text = format!("the answer is larger than {RESPONSE_BYTES_MAX} bytes");
    fault(
        StatusCode::BAD_GATEWAY,
        HeaderMap::new(),
        Fault::Oversize,
        &text,
    )
}

fn fault(status: StatusCode, mut headers: HeaderMap, fault: Fault, message: &str) -> Response {
    headers.insert(FAULT_HEADER, HeaderValue::from_static(fault.label()));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut response = http::Response::new(serde_json::json!({ "message": message }).to_string());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Response::from(response)
}

/// The beginning of a foreign body, on one line.
pub(crate) fn excerpt(body: &[u8]) -> String {
    // A character takes at most four bytes.
    let head = &body[..body.len().min(EXCERPT_CHARS_MAX * 4)];
    let text = String::from_utf8_lossy(head);
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(EXCERPT_CHARS_MAX) {
        line.truncate(end);
        line.push('…');
    }
    if line.is_empty() {
        line.push_str("an empty body");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(b"<html>\n  <b>502</b>"), "<html> <b>502</b>");
        assert_eq!(excerpt(b""), "an empty body");
        let long = excerpt("ß".repeat(5_000).as_bytes());
        assert_eq!(long.chars().count(), EXCERPT_CHARS_MAX + 1);
    }
}
