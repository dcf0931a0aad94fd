//! Calls of a gateway: JSON-RPC 2.0 over HTTP POST, with Basic credentials where the gateway asks for them.

use std::{fmt::Write as _, time::Duration};

use reqwest::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use service::Secret;

/// Longest time until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer, in bytes: what may wait for one server (16 MiB as numbers in JSON, and 10,000 names), and some more.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How much of a gateway's words goes on into an error, in characters.
const WORDS_MAX: usize = 200;

/// JSON-RPC's own errors are numbered from here ...
const RPC_ERRORS_FIRST: i64 = -32_700;
/// ... to here.
const RPC_ERRORS_LAST: i64 = -32_600;
/// Of these, the one that is not the caller's fault.
const RPC_INTERNAL: i64 = -32_603;

/// Why a call has no result. Never tells credentials or the URL.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer came, or not all of it.
    #[error("the gateway cannot be reached")]
    Transport(#[source] reqwest::Error),
    /// HTTP says that the call was not taken.
    #[error("the gateway answers {status}: {words}")]
    Status {
        /// What it says in numbers.
        status: StatusCode,
        /// And in words.
        words: String,
    },
    /// The method says no.
    #[error("the gateway answers error {code}: {words}")]
    Refused {
        /// What it says in numbers.
        code: i64,
        /// And in words.
        words: String,
    },
    /// The answer has not the form of one.
    #[error("the gateway's answer {0}")]
    Malformed(String),
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        // An operator may hold the URL for a secret: its path or query can be one.
        Self::Transport(error.without_url())
    }
}

impl CallError {
    /// Whether the same call will fare no better.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                let is_passing = [
                    StatusCode::REQUEST_TIMEOUT,
                    StatusCode::TOO_EARLY,
                    StatusCode::TOO_MANY_REQUESTS,
                ];
                !status.is_server_error() && !is_passing.contains(status)
            }
            Self::Refused { code, .. } => {
                (RPC_ERRORS_FIRST..=RPC_ERRORS_LAST).contains(code) && *code != RPC_INTERNAL
            }
            Self::Transport(_) | Self::Malformed(_) => false,
        }
    }
}

#[derive(Serialize)]
struct Call<'a, P> {
    jsonrpc: &'static str,
    method: &'static str,
    params: &'a P,
    id: u64,
}

#[derive(Deserialize)]
struct Answer<R> {
    #[serde(default = "none")]
    result: Option<R>,
    error: Option<Failure>,
}

// serde's own default would ask for one of `R`.
fn none<R>() -> Option<R> {
    None
}

#[derive(Deserialize)]
struct Failure {
    code: i64,
    #[serde(default)]
    message: String,
}

/// A gateway's address and what opens it.
#[derive(Clone, Debug)]
pub(super) struct Rpc {
    http: reqwest::Client,
    url: String,
    credentials: Option<(String, Secret)>,
}

impl Rpc {
    pub(super) fn new(
        url: String,
        credentials: Option<(String, Secret)>,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // Credentials are for this URL alone.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            url,
            credentials,
        })
    }

    /// Calls a method, and waits at most this long for all of the answer.
    pub(super) async fn call<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &P,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let call = Call {
            jsonrpc: "2.0",
            method,
            params,
            id: 1,
        };
        let mut request = self.http.post(&self.url).timeout(timeout).json(&call);
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, Some(password.expose()));
        }
        let response = request.send().await?;
        let status = response.status();
        let body = body(response).await?;
        if !status.is_success() {
            let answer = serde_json::from_slice::<Answer<serde::de::IgnoredAny>>(&body).ok();
            let failure = answer.and_then(|answer| answer.error);
            let words = failure.map_or_else(String::new, |failure| short(&failure.message));
            return Err(CallError::Status { status, words });
        }
        read(&body)
    }
}

/// The result in the body of an answer.
fn read<R: DeserializeOwned>(body: &[u8]) -> Result<R, CallError> {
    let answer: Answer<R> = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        CallError::Malformed(format!("is not understood (line {line}, column {column})"))
    })?;
    match (answer.result, answer.error) {
        (_, Some(failure)) => Err(CallError::Refused {
            code: failure.code,
            words: short(&failure.message),
        }),
        (Some(result), None) => Ok(result),
        (None, None) => Err(CallError::Malformed("has no result".to_owned())),
    }
}

async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            let text = format!("is longer than {ANSWER_BYTES_MAX} bytes");
            return Err(CallError::Malformed(text));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// The first words, on one line and without what moves a terminal's cursor.
pub(super) fn short(words: &str) -> String {
    let mut line = String::new();
    for word in words.chars().take(WORDS_MAX) {
        match word.is_control() {
            true => line.push(' '),
            false => line.push(word),
        }
    }
    if words.chars().nth(WORDS_MAX).is_some() {
        // Writing to a String does not fail.
        let _ = write!(line, " ...");
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_a_gateway_answers_is_a_result_or_tells_why_not() {
        let result = read::<Value>(br#"{"jsonrpc":"2.0","result":{"a":1},"id":1}"#);
        assert_eq!(result.unwrap()["a"], 1);
        let refused = br#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"no\nway"},"id":1}"#;
        let error = read::<Value>(refused).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the gateway answers error -32600: no way"
        );
        for body in [&b"{}"[..], b"", b"[]", b"<html>", b"{\"result\":"] {
            assert!(
                matches!(read::<Value>(body), Err(CallError::Malformed(_))),
                "{body:?}"
            );
        }
    }

    #[test]
    fn only_what_may_change_is_tried_again() {
        let refused = |code| CallError::Refused {
            code,
            words: String::new(),
        };
        for (code, is_final) in [
            (-32_700, true),
            (-32_600, true),
            (-32_601, true),
            (-32_602, true),
            (-32_603, false),
            (-32_010, false),
            (400, false),
        ] {
            assert_eq!(refused(code).is_final(), is_final, "{code}");
        }
        for (status, is_final) in [
            (StatusCode::UNAUTHORIZED, true),
            (StatusCode::FORBIDDEN, true),
            (StatusCode::NOT_FOUND, true),
            (StatusCode::FOUND, true),
            (StatusCode::REQUEST_TIMEOUT, false),
            (StatusCode::TOO_MANY_REQUESTS, false),
            (StatusCode::INTERNAL_SERVER_ERROR, false),
            (StatusCode::BAD_GATEWAY, false),
        ] {
            let words = String::new();
            let error = CallError::Status { status, words };
            assert_eq!(error.is_final(), is_final, "{status}");
        }
    }

    #[test]
    fn long_words_are_cut() {
        assert_eq!(short("a\u{1b}[2Jb"), "a [2Jb");
        let cut = short(&"ä".repeat(10_000));
        assert_eq!(cut.chars().count(), WORDS_MAX + 4);
    }
}
