//! What callers are told when something goes wrong. The only file that chooses statuses.

use std::{collections::BTreeMap, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{model::SkipReason, store::Unavailable};

/// The media type of every error body (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The stable name of an error: callers decide by it, not by texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A parameter, id or body is not usable.
    InvalidArgument,
    /// `query` is not the JSON of a query.
    InvalidQuery,
    /// The filter cannot be said in Fleet's filter language.
    UnsupportedFilter,
    /// The cursor does not belong to this list.
    InvalidCursor,
    /// No such instance, app or route.
    NotFound,
    /// The caller's token (401), or the bridge's own (502).
    Unauthenticated,
    /// The scope of the caller's token (403), or what the bridge's own may do (502).
    PermissionDenied,
    /// Fleet refuses the input; `errors` says why, by field.
    Validation,
    /// Fleet or the bridge cannot answer in time. Try again.
    Unavailable,
    /// Fleet answers something else than its interface promises.
    BadResponse,
    /// The server exists, but players cannot be sent to it.
    ConversionFailed,
    /// No server was free in time. Try again.
    Exhausted,
    /// The game server refuses to start this match.
    StartRejected,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The match does not run: it has not started, or is over.
    NotRunning,
    /// The match has no seat left.
    MatchFull,
    /// The operation is over: there is nothing to cancel.
    NotPending,
    /// ODIN Fleet has no such operation, or the bridge is not set up for it.
    Unimplemented,
    /// A mistake of the bridge.
    Internal,
}

impl Kind {
    /// The name on the wire and in metric labels.
    pub fn label(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::InvalidQuery => "invalid_query",
            Self::UnsupportedFilter => "unsupported_filter",
            Self::InvalidCursor => "invalid_cursor",
            Self::NotFound => "not_found",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::Validation => "validation",
            Self::Unavailable => "unavailable",
            Self::BadResponse => "bad_response",
            Self::ConversionFailed => "conversion_failed",
            Self::Exhausted => "exhausted",
            Self::StartRejected => "start_rejected",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::NotRunning => "not_running",
            Self::MatchFull => "match_full",
            Self::NotPending => "not_pending",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A parameter, id or body is not usable.
    #[error("{0}")]
    InvalidArgument(String),
    /// `query` cannot be read.
    #[error("`query` cannot be read: {0}")]
    InvalidQuery(String),
    /// Fleet's filter language has no words for it.
    #[error("the filter cannot be sent to Fleet: {0}")]
    UnsupportedFilter(String),
    /// Not a cursor of this list.
    #[error("the cursor is not usable: {0}")]
    InvalidCursor(&'static str),
    /// The body is longer than allowed.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// The body is not declared as JSON.
    #[error("send the body as `Content-Type: application/json`")]
    UnsupportedMediaType,
    /// No such path.
    #[error("no such route; /docs shows what there is")]
    NoRoute,
    /// The path exists, the method does not.
    #[error("this route does not take this method")]
    MethodNotAllowed,
    /// No token, or one that nobody has.
    #[error("send a token of the bridge's configuration as `Authorization: Bearer …`")]
    CallerUnauthenticated,
    /// A read token for a write call.
    #[error("the token has the scope `read`; this call needs `write`")]
    CallerForbidden,
    /// More calls than the bridge takes at once.
    #[error("the bridge has {0} calls under way and takes no more")]
    Overloaded(usize),
    /// More readers of the events than the bridge takes at once.
    #[error("the bridge has {0} readers of its events and takes no more")]
    TooManySubscribers(usize),
    /// What bridges share cannot be reached.
    #[error("{0}")]
    Store(String),
    /// The deadline of the call passed within the bridge.
    #[error("the call was not done within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// An update whose end nobody saw.
    #[error(
        "{0}; the update may have been applied all the same: read the instance, or send the same update again"
    )]
    UpdateUnconfirmed(Box<Self>),
    /// A server that cannot be shown as an instance.
    #[error("{}server {id} cannot be offered to players: {reason}", if *.applied { "the update was applied, but " } else { "" })]
    NotConvertible {
        /// Fleet's id.
        id: i64,
        /// What is missing.
        reason: SkipReason,
        /// The call was an update, and it has happened.
        applied: bool,
    },
    /// No server was free in time.
    #[error("no server was free in time: {0}")]
    Exhausted(String),
    /// The game server refuses to start this match.
    #[error("the game server does not start this match: {0}")]
    StartRejected(String),
    /// The key was used for another request.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// No such match.
    #[error("there is no match {0:?}, or it ended too long ago to be remembered")]
    NoMatch(String),
    /// The player has no seat.
    #[error("the user {0:?} has no seat in this match, or had one for too long without arriving")]
    NoSeat(String),
    /// The match does not run.
    #[error("the match is {0}, not running")]
    NotRunning(&'static str),
    /// No match of this bridge's runs there.
    #[error("no match runs on instance {0}, as far as this bridge knows")]
    NoMatchOn(i64),
    /// No such operation.
    #[error("there is no operation {0:?}, or it ended too long ago to be remembered")]
    NoOperation(String),
    /// The operation is over.
    #[error("the operation is over ({0}): there is nothing to cancel")]
    OperationOver(&'static str),
    /// The match has no seat left.
    #[error("the match has {free} of {max} seats left, not {wanted}")]
    MatchFull {
        /// Seats that are left.
        free: usize,
        /// Seats of the match.
        max: usize,
        /// Seats that were asked for.
        wanted: usize,
    },
    /// A gateway or game server does not answer.
    #[error("{0}")]
    Away(String),
    /// Fleet has no such operation, or the bridge is not set up for it.
    #[error("{0}")]
    Unimplemented(&'static str),
    /// Fleet's answer, or its absence.
    #[error("{0}")]
    Fleet(#[from] fleet_client::Error),
    /// A mistake of the bridge; the log says more.
    #[error("the bridge made a mistake; its log says more under this request id")]
    Internal,
}

impl From<Unavailable> for Error {
    fn from(error: Unavailable) -> Self {
        Self::Store(error.to_string())
    }
}

/// An error body (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Identifies the kind, as a URI.
    #[serde(rename = "type")]
    #[schema(example = "urn:bifrost:fleet-bridge:invalid_query")]
    pub type_uri: String,
    /// The status in words.
    #[schema(example = "Bad Request")]
    pub title: String,
    /// The status again.
    #[schema(example = 400)]
    pub status: u16,
    /// What was wrong, and where.
    pub detail: String,
    /// The stable name of the error.
    pub kind: Kind,
    /// Finds the call in the bridge's log.
    pub request_id: String,
    /// Fleet's status, when Fleet's answer is the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// Fleet's messages by field.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, Vec<String>>,
}

impl Error {
    /// A parameter, id or body is not usable.
    pub fn invalid_argument(detail: impl Into<String>) -> Self {
        Self::InvalidArgument(detail.into())
    }

    /// The same refusal, of a part of a larger whole.
    pub(crate) fn within(self, place: &str) -> Self {
        match self {
            Self::InvalidArgument(text) => Self::InvalidArgument(format!("`{place}`: {text}")),
            Self::InvalidQuery(text) => Self::InvalidQuery(format!("`{place}`: {text}")),
            Self::UnsupportedFilter(text) => Self::UnsupportedFilter(format!("`{place}`: {text}")),
            other => other,
        }
    }

    /// The error behind a bare status, from a part that does not know problems, such as the documentation's files.
    /// `None` when the status is no failure.
    pub(crate) fn of_status(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::NOT_FOUND => Some(Self::NoRoute),
            StatusCode::METHOD_NOT_ALLOWED => Some(Self::MethodNotAllowed),
            _ if status.is_client_error() => Some(Self::InvalidArgument(format!(
                "this call cannot be answered: {status}"
            ))),
            _ if status.is_server_error() => Some(Self::Internal),
            _ => None,
        }
    }

    /// The same failure, of an update: when the answer is missing or cannot be read, the Fleet may have done its part.
    pub(crate) fn of_update(self) -> Self {
        use fleet_client::Error as Fleet;
        match self {
            Self::Deadline(_)
            | Self::Fleet(Fleet::Unavailable { .. } | Fleet::BadResponse { .. }) => {
                Self::UpdateUnconfirmed(Box::new(self))
            }
            other => other,
        }
    }

    /// The stable name.
    pub fn kind(&self) -> Kind {
        use fleet_client::Error as Fleet;
        match self {
            Self::InvalidArgument(_)
            | Self::BodyTooLarge(_)
            | Self::UnsupportedMediaType
            | Self::MethodNotAllowed => Kind::InvalidArgument,
            Self::InvalidQuery(_) => Kind::InvalidQuery,
            Self::UnsupportedFilter(_) => Kind::UnsupportedFilter,
            Self::InvalidCursor(_) => Kind::InvalidCursor,
            Self::NoRoute | Self::Fleet(Fleet::NotFound(_)) => Kind::NotFound,
            Self::CallerUnauthenticated | Self::Fleet(Fleet::Unauthenticated(_)) => {
                Kind::Unauthenticated
            }
            Self::CallerForbidden | Self::Fleet(Fleet::PermissionDenied(_)) => {
                Kind::PermissionDenied
            }
            Self::Fleet(Fleet::Validation { .. }) => Kind::Validation,
            Self::Overloaded(_)
            | Self::TooManySubscribers(_)
            | Self::Store(_)
            | Self::Away(_)
            | Self::Deadline(_)
            | Self::Fleet(Fleet::RateLimited { .. } | Fleet::Unavailable { .. }) => {
                Kind::Unavailable
            }
            Self::Fleet(Fleet::BadResponse { .. } | Fleet::Refused(_)) => Kind::BadResponse,
            Self::UpdateUnconfirmed(error) => error.kind(),
            Self::NotConvertible { .. } => Kind::ConversionFailed,
            Self::Exhausted(_) => Kind::Exhausted,
            Self::StartRejected(_) => Kind::StartRejected,
            Self::KeyReused => Kind::IdempotencyKeyReused,
            Self::NoMatch(_) | Self::NoSeat(_) | Self::NoOperation(_) => Kind::NotFound,
            Self::NotRunning(_) | Self::NoMatchOn(_) => Kind::NotRunning,
            Self::OperationOver(_) => Kind::NotPending,
            Self::MatchFull { .. } => Kind::MatchFull,
            Self::Unimplemented(_) => Kind::Unimplemented,
            Self::Internal | Self::Fleet(Fleet::InvalidRequest(_)) => Kind::Internal,
        }
    }

    /// The status of the answer. Fleet's 401 and 403 are about the bridge's token, not the caller's: to the caller
    /// they are a gateway that does not work.
    pub fn status(&self) -> StatusCode {
        use fleet_client::Error as Fleet;
        match self {
            Self::InvalidArgument(_)
            | Self::InvalidQuery(_)
            | Self::UnsupportedFilter(_)
            | Self::InvalidCursor(_) => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NoRoute | Self::Fleet(Fleet::NotFound(_)) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::CallerUnauthenticated => StatusCode::UNAUTHORIZED,
            Self::CallerForbidden => StatusCode::FORBIDDEN,
            Self::Overloaded(_)
            | Self::TooManySubscribers(_)
            | Self::Store(_)
            | Self::Away(_)
            | Self::Fleet(Fleet::RateLimited { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Fleet(Fleet::Unavailable { timed_out, .. }) => {
                if *timed_out {
                    StatusCode::GATEWAY_TIMEOUT
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            }
            Self::UpdateUnconfirmed(error) => error.status(),
            Self::NotConvertible { .. }
            | Self::NotRunning(_)
            | Self::NoMatchOn(_)
            | Self::OperationOver(_)
            | Self::MatchFull { .. } => StatusCode::CONFLICT,
            Self::NoMatch(_) | Self::NoSeat(_) | Self::NoOperation(_) => StatusCode::NOT_FOUND,
            Self::StartRejected(_) | Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Exhausted(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unimplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Fleet(Fleet::Validation { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Fleet(
                Fleet::Unauthenticated(_)
                | Fleet::PermissionDenied(_)
                | Fleet::BadResponse { .. }
                | Fleet::Refused(_),
            ) => StatusCode::BAD_GATEWAY,
            Self::Internal | Self::Fleet(Fleet::InvalidRequest(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn upstream_status(&self) -> Option<u16> {
        use fleet_client::Error as Fleet;
        let error = match self {
            Self::Fleet(error) => error,
            Self::UpdateUnconfirmed(error) => return error.upstream_status(),
            _ => return None,
        };
        match error {
            Fleet::Unauthenticated(_) => Some(401),
            Fleet::PermissionDenied(_) => Some(403),
            Fleet::NotFound(_) => Some(404),
            Fleet::Validation { .. } => Some(422),
            Fleet::RateLimited { .. } => Some(429),
            Fleet::Refused(refusal) => Some(refusal.status.as_u16()),
            Fleet::Unavailable { status, .. } | Fleet::BadResponse { status, .. } => {
                status.map(|status| status.as_u16())
            }
            Fleet::InvalidRequest(_) => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        use fleet_client::Error as Fleet;
        match self {
            Self::Overloaded(_) | Self::Exhausted(_) | Self::Store(_) => {
                Some(Duration::from_secs(1))
            }
            Self::Fleet(
                Fleet::RateLimited { retry_after, .. } | Fleet::Unavailable { retry_after, .. },
            ) => *retry_after,
            Self::UpdateUnconfirmed(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The whole answer.
    pub(crate) fn render(self, request_id: &str) -> Response {
        let status = self.status();
        let kind = self.kind();
        let problem = Problem {
            type_uri: format!("urn:bifrost:fleet-bridge:{}", kind.label()),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            kind,
            request_id: request_id.to_owned(),
            upstream_status: self.upstream_status(),
            errors: BTreeMap::new(),
        };
        let retry_after = self.retry_after();
        let errors = match self {
            Self::Fleet(fleet_client::Error::Validation { fields, .. }) => fields,
            _ => BTreeMap::new(),
        };
        let problem = Problem { errors, ..problem };
        let body =
            serde_json::to_vec(&problem).expect("a problem is plain data with texts as keys");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}

/// Carried in the extensions of an unfinished answer: the edge knows the request id and renders it.
#[derive(Clone, Debug)]
pub(crate) struct Pending(pub(crate) std::sync::Arc<std::sync::Mutex<Option<Error>>>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        let pending = Pending(std::sync::Arc::new(std::sync::Mutex::new(Some(self))));
        response.extensions_mut().insert(pending);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleets_refusal_of_our_token_is_not_the_callers() {
        let error = Error::Fleet(fleet_client::Error::Unauthenticated("no".to_owned()));
        assert_eq!(error.kind(), Kind::Unauthenticated);
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(error.upstream_status(), Some(401));
        assert_eq!(
            Error::CallerUnauthenticated.status(),
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(Error::CallerUnauthenticated.kind(), Kind::Unauthenticated);
    }

    #[test]
    fn only_an_update_that_the_fleet_may_have_seen_is_unconfirmed() {
        let unreadable = || {
            Error::Fleet(fleet_client::Error::BadResponse {
                status: None,
                problem: "no JSON".to_owned(),
                excerpt: String::new(),
            })
        };
        let error = unreadable().of_update();
        assert!(matches!(error, Error::UpdateUnconfirmed(_)), "{error:?}");
        assert_eq!(error.kind(), unreadable().kind());
        assert_eq!(error.status(), unreadable().status());
        let refused = Error::Fleet(fleet_client::Error::NotFound("no".to_owned())).of_update();
        assert!(matches!(refused, Error::Fleet(_)), "{refused:?}");
    }

    #[test]
    fn a_kinds_label_is_its_name_on_the_wire() {
        for kind in [
            Kind::InvalidArgument,
            Kind::ConversionFailed,
            Kind::BadResponse,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.label());
        }
    }

    #[test]
    fn a_rate_limit_hands_its_wait_to_the_caller() {
        let error = Error::Fleet(fleet_client::Error::RateLimited {
            message: "slow".to_owned(),
            retry_after: Some(Duration::from_secs(30)),
        });
        let response = error.render("id");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "30");
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
    }
}
