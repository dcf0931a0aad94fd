//! Every refusal of the gateway, with the HTTP status and the JSON-RPC code it is told by. Codes and texts that the ODIN
//! gateway has are kept: clients show them, and back ends may compare them.

use gateway_api::TokenError;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::grid::Refused;

/// Why a request got no further than the door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// No such path.
    #[error("not found")]
    NotFound,
    /// Credentials are needed and none were shown.
    #[error("invalid or missing authorization")]
    Unauthenticated,
    /// A scheme without credentials.
    #[error("missing authorization")]
    Missing,
    /// Neither `Bearer` nor `Basic`.
    #[error("invalid authorization")]
    Scheme,
    /// Basic credentials that are no Base64.
    #[error("Failed to decode base64")]
    Base64,
    /// Wrong user or password.
    #[error("invalid credentials")]
    Credentials,
    /// The token says nothing good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody knows the key.
    #[error("not authorized")]
    UnknownKey,
    /// A server's token that does not say whose user it is for.
    #[error("{0} must be a string")]
    ServerClaim(&'static str),
    /// A token without room or user.
    #[error("missing required claims in token")]
    Claims,
    /// The token allows no method of this path.
    #[error("access denied by token restrictions")]
    Restricted,
    /// The caller calls too often.
    #[error("too many requests: try again in {0} s")]
    TooMany(u64),
    /// The gateway has its hands full.
    #[error("{0} calls are under way, more are not taken")]
    Overloaded(usize),
    /// The body is too long.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// The body did not come, or not as announced.
    #[error("the body could not be read")]
    Body,
    /// The body took too long.
    #[error("the body did not arrive within {0} ms")]
    Slow(u64),
}

impl Denied {
    /// Both codes.
    pub(crate) fn codes(&self) -> (StatusCode, i32) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, PARSE_ERROR),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, PARSE_ERROR),
            Self::Restricted => (StatusCode::FORBIDDEN, PARSE_ERROR),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, INVALID_REQUEST),
            Self::Overloaded(_) => (StatusCode::SERVICE_UNAVAILABLE, INVALID_REQUEST),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST),
            Self::Body => (StatusCode::BAD_REQUEST, PARSE_ERROR),
            Self::Slow(_) => (StatusCode::REQUEST_TIMEOUT, INVALID_REQUEST),
            // Not the status one would choose: it is the ODIN gateway's for every token it does not take.
            Self::Missing
            | Self::Scheme
            | Self::Base64
            | Self::Credentials
            | Self::Token(_)
            | Self::UnknownKey
            | Self::ServerClaim(_)
            | Self::Claims => (StatusCode::INTERNAL_SERVER_ERROR, INTERNAL_ERROR),
        }
    }

    /// Names it in metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Unauthenticated => "unauthenticated",
            Self::Missing | Self::Scheme | Self::Base64 => "malformed_authorization",
            Self::Credentials => "credentials",
            Self::Token(TokenError::Signature) => "signature",
            Self::Token(TokenError::Unsigned | TokenError::Algorithm | TokenError::Curve) => {
                "algorithm"
            }
            Self::Token(TokenError::Expired | TokenError::NotYet) => "time",
            Self::Token(TokenError::Audience) => "audience",
            Self::Token(_) | Self::ServerClaim(_) | Self::Claims => "malformed_token",
            Self::UnknownKey => "unknown_key",
            Self::Restricted => "restricted",
            Self::TooMany(_) => "rate",
            Self::Overloaded(_) => "overloaded",
            Self::TooLarge(_) => "too_large",
            Self::Body | Self::Slow(_) => "body",
        }
    }
}

pub(crate) const PARSE_ERROR: i32 = -32700;
pub(crate) const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL_ERROR: i32 = -32603;
const SERVER_ERROR: i32 = -32010;

/// What `rid` in a token may not be is told by this code.
const BAD_RID: i32 = 400;

/// The error of a JSON-RPC answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RpcError {
    pub(crate) code: i32,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Value>,
    /// Whether the gateway is to blame.
    #[serde(skip)]
    pub(crate) is_failure: bool,
}

impl RpcError {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
            is_failure: false,
        }
    }

    /// A call that is refused on purpose.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    /// Params or claims of the wrong form.
    pub(crate) fn schema(message: String, data: Value) -> Self {
        Self {
            data: Some(data),
            ..Self::refused(message)
        }
    }

    pub(crate) fn bad_rid(message: &'static str) -> Self {
        Self::new(BAD_RID, message)
    }

    pub(crate) fn parse() -> Self {
        Self::new(PARSE_ERROR, "Parse error")
    }

    pub(crate) fn invalid_request() -> Self {
        Self::refused("Invalid Request")
    }

    pub(crate) fn method_not_found() -> Self {
        Self::new(METHOD_NOT_FOUND, "Method not found")
    }

    pub(crate) fn invalid_params() -> Self {
        Self::new(INVALID_PARAMS, "Invalid params")
    }

    /// Params in a list, which no method takes.
    pub(crate) fn positional_params() -> Self {
        Self::new(SERVER_ERROR, "Server error")
    }

    /// Something went wrong here, or with what the ODIN gateway counts as such.
    pub(crate) fn internal(data: Option<Value>) -> Self {
        Self {
            data,
            is_failure: true,
            ..Self::new(INTERNAL_ERROR, "Internal error")
        }
    }
}

impl From<&Denied> for RpcError {
    fn from(denied: &Denied) -> Self {
        Self::new(denied.codes().1, denied.to_string())
    }
}

impl From<Refused> for RpcError {
    fn from(refused: Refused) -> Self {
        Self::refused(refused.to_string())
    }
}
