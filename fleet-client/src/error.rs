//! What can go wrong with a call, in the words of its caller.

use std::{collections::BTreeMap, error::Error as StdError, time::Duration};

use http::StatusCode;
use progenitor_client::{Error as Generated, ResponseValue};

use crate::{
    generated::types::ApiError,
    retry::retry_after,
    transport::{Fault, excerpt},
};

/// Why a call of the Fleet API failed, after its retries.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// 401: the token is missing, wrong or withdrawn.
    #[error("the Fleet API does not accept the token: {0}")]
    Unauthenticated(String),
    /// 403: the token may not do this.
    #[error("the token may not do this: {0}")]
    PermissionDenied(String),
    /// 404: no such thing.
    #[error("not found: {0}")]
    NotFound(String),
    /// 422: fields failed validation.
    #[error("the Fleet API refuses the input: {message}")]
    Validation {
        /// The API's summary.
        message: String,
        /// Its messages by field.
        fields: BTreeMap<String, Vec<String>>,
    },
    /// 429: too many calls, also after waiting.
    #[error("the Fleet API asks for fewer calls: {message}")]
    RateLimited {
        /// The API's text.
        message: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// Any other refusal that the API explains, such as 402 or 409.
    #[error("the Fleet API refuses ({}): {}", .0.status, .0.message)]
    Refused(Refusal),
    /// The service cannot be reached, breaks off, answers 5xx, or is not done in time.
    #[error("the Fleet API is not available: {message}")]
    Unavailable {
        /// What happened.
        message: String,
        /// The status, when an answer came.
        status: Option<StatusCode>,
        /// How long the service asks to wait.
        retry_after: Option<Duration>,
        /// The time was up, the call's or the request's.
        timed_out: bool,
    },
    /// An answer that is not the API's: a proxy's page, a wrong base URL, a body of another shape.
    #[error("the Fleet API's answer cannot be read{}: {problem}; it begins: {excerpt}", .status.map_or(String::new(), |status| format!(" ({status})")))]
    BadResponse {
        /// The status; not known when an answer of a documented status has another shape.
        status: Option<StatusCode>,
        /// What is wrong with it.
        problem: String,
        /// Its beginning, on one line.
        excerpt: String,
    },
    /// The call could not be made from these arguments. A mistake of the program.
    #[error("the call is not complete: {0}")]
    InvalidRequest(String),
}

/// A refusal without a variant of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status, a 4xx.
    pub status: StatusCode,
    /// The API's text.
    pub message: String,
}

impl Error {
    /// Whether the same call would be refused at any other time too: a wrong token, no such thing, bad input.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unauthenticated(_)
            | Self::PermissionDenied(_)
            | Self::NotFound(_)
            | Self::Validation { .. }
            | Self::Refused(_)
            | Self::InvalidRequest(_) => true,
            Self::RateLimited { .. } | Self::Unavailable { .. } | Self::BadResponse { .. } => false,
        }
    }
}

impl From<Generated<ApiError>> for Error {
    fn from(error: Generated<ApiError>) -> Self {
        match error {
            Generated::ErrorResponse(response) => refusal(response),
            Generated::CommunicationError(error)
            | Generated::ResponseBodyError(error)
            | Generated::InvalidUpgrade(error) => no_answer(&error),
            Generated::InvalidResponsePayload(body, error) => Self::BadResponse {
                status: None,
                problem: error.to_string(),
                excerpt: excerpt(&body),
            },
            Generated::UnexpectedResponse(response) => Self::BadResponse {
                status: Some(response.status()),
                problem: "the API does not document this status".to_owned(),
                excerpt: "not read".to_owned(),
            },
            Generated::InvalidRequest(message) | Generated::Custom(message) => {
                Self::InvalidRequest(message)
            }
        }
    }
}

fn refusal(response: ResponseValue<ApiError>) -> Error {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let fault = Fault::of(response.headers());
    let ApiError { message, errors } = response.into_inner();
    match (fault, status) {
        (Some(Fault::Oversize), _) => Error::BadResponse {
            status: None,
            problem: message,
            excerpt: "not read".to_owned(),
        },
        (_, StatusCode::TOO_MANY_REQUESTS) => Error::RateLimited {
            message,
            retry_after,
        },
        (_, status) if status.is_server_error() => Error::Unavailable {
            message,
            status: fault
                .is_none_or(|it| it == Fault::Foreign)
                .then_some(status),
            retry_after,
            timed_out: fault == Some(Fault::Deadline),
        },
        (Some(_), status) => Error::BadResponse {
            status: Some(status),
            problem: "an error page that is not the API's".to_owned(),
            excerpt: message,
        },
        (None, StatusCode::UNAUTHORIZED) => Error::Unauthenticated(message),
        (None, StatusCode::FORBIDDEN) => Error::PermissionDenied(message),
        (None, StatusCode::NOT_FOUND) => Error::NotFound(message),
        (None, StatusCode::UNPROCESSABLE_ENTITY) => Error::Validation {
            message,
            fields: errors.into_iter().collect(),
        },
        (None, status) => Error::Refused(Refusal { status, message }),
    }
}

fn no_answer(error: &reqwest::Error) -> Error {
    // The causes say what happened ("connection refused"); the outermost text only repeats the address.
    let mut message = String::new();
    let mut cause = StdError::source(error);
    while let Some(error) = cause {
        message = error.to_string();
        cause = error.source();
    }
    if message.is_empty() {
        message = "the connection failed".to_owned();
    }
    Error::Unavailable {
        message,
        status: None,
        retry_after: None,
        timed_out: error.is_timeout(),
    }
}
