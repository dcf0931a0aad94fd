//! What can be called, by whom, and how it is counted.

mod connect;
mod identity;
mod info;
mod moderation;
mod schema;
mod supervisor;

use std::{panic::AssertUnwindSafe, time::Instant};

use futures::FutureExt as _;

use crate::{
    auth::Licensee,
    error::RpcError,
    metrics::CallOutcome,
    rpc::{CallResult, Params},
    state::Gateway,
};

/// Everything that can be called. The names on the wire are the ODIN gateway's, but for the two about mutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Connect,
    RoomClose,
    RoomUpdate,
    RoomBanClient,
    RoomSendMessage,
    RoomMuteClient,
    RoomUnmuteClient,
    GridConfig,
    Report,
    GetConfig,
    SubmitReport,
    Info,
}

impl Method {
    /// Those for customers come first.
    const ALL: [Self; 12] = [
        Self::Connect,
        Self::RoomClose,
        Self::RoomUpdate,
        Self::RoomBanClient,
        Self::RoomSendMessage,
        Self::RoomMuteClient,
        Self::RoomUnmuteClient,
        Self::GridConfig,
        Self::Report,
        Self::GetConfig,
        Self::SubmitReport,
        Self::Info,
    ];

    /// For customers and their clients.
    const EXTERNAL: &'static [Self] = Self::ALL.split_at(7).0;

    /// For voice servers and operators.
    const INTERNAL: &'static [Self] = Self::ALL.split_at(7).1;

    /// Those of a route.
    pub(crate) fn of_route(is_internal: bool) -> &'static [Self] {
        match is_internal {
            true => Self::INTERNAL,
            false => Self::EXTERNAL,
        }
    }

    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "Connect",
            Self::RoomClose => "RoomClose",
            Self::RoomUpdate => "RoomUpdate",
            Self::RoomBanClient => "RoomBanClient",
            Self::RoomSendMessage => "RoomSendMessage",
            Self::RoomMuteClient => "RoomMuteClient",
            Self::RoomUnmuteClient => "RoomUnmuteClient",
            Self::GridConfig => "sfu.GridConfig",
            Self::Report => "sfu.Report",
            Self::GetConfig => "GetConfig",
            Self::SubmitReport => "SubmitReport",
            Self::Info => "Info",
        }
    }
}

/// Who calls, and where.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The pool of the path.
    pub(crate) pool: String,
    /// Where the call comes from; no proxy's word is taken for it.
    pub(crate) peer: std::net::SocketAddr,
    /// Whose token was shown; nobody's on the internal route.
    pub(crate) licensee: Option<Licensee>,
}

/// Carries out a call and counts it.
pub(crate) async fn call(
    gateway: &Gateway,
    caller: &Caller,
    method: Method,
    params: Params,
) -> CallResult {
    let started = Instant::now();
    let work = AssertUnwindSafe(dispatch(gateway, caller, method, params)).catch_unwind();
    let result = work.await.unwrap_or_else(|_| Err(RpcError::internal(None)));
    let outcome = match &result {
        Ok(_) => CallOutcome::Success,
        Err(error) if error.is_failure => CallOutcome::Failure,
        Err(_) => CallOutcome::Rejected,
    };
    gateway
        .metrics
        .call(method.name(), outcome, started.elapsed());
    if let Err(error) = &result {
        tracing::debug!(
            method = method.name(),
            code = error.code,
            "{}",
            error.message
        );
    }
    result
}

async fn dispatch(
    gateway: &Gateway,
    caller: &Caller,
    method: Method,
    params: Params,
) -> CallResult {
    use supervisor::Dialect;
    match (method, &caller.licensee) {
        (Method::Connect, Some(licensee)) => connect::connect(gateway, caller, licensee).await,
        (
            Method::RoomClose
            | Method::RoomUpdate
            | Method::RoomBanClient
            | Method::RoomSendMessage
            | Method::RoomMuteClient
            | Method::RoomUnmuteClient,
            Some(licensee),
        ) => moderation::moderate(gateway, caller, licensee, method, &params).await,
        (Method::GridConfig, _) => supervisor::config(gateway, caller, &params, Dialect::Sfu),
        (Method::GetConfig, _) => supervisor::config(gateway, caller, &params, Dialect::Plain),
        (Method::Report, _) => supervisor::report(gateway, caller, &params, Dialect::Sfu).await,
        (Method::SubmitReport, _) => {
            supervisor::report(gateway, caller, &params, Dialect::Plain).await
        }
        (Method::Info, _) => Ok(info::info(gateway, caller)),
        // The external route gives nobody a method without a token.
        (
            Method::Connect
            | Method::RoomClose
            | Method::RoomUpdate
            | Method::RoomBanClient
            | Method::RoomSendMessage
            | Method::RoomMuteClient
            | Method::RoomUnmuteClient,
            None,
        ) => Err(RpcError::method_not_found()),
    }
}
