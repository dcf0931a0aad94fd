//! The way from a player's voice token to a voice server, for a page that cannot ask the gateway itself: its
//! certificate may be one that the bridge trusts and a browser does not.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Extension, State},
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Bridge, Deadline, body, instances::Refusals};
use crate::error::Error;

/// Who wants to talk.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VoiceConnect {
    /// The player's token, as a match's answers hand it out.
    token: String,
}

/// Where to talk.
#[derive(Serialize, ToSchema)]
pub(super) struct VoiceServer {
    /// Host and port of the voice server.
    #[schema(example = "127.0.0.1:4433")]
    address: String,
    /// Opens the rooms there.
    token: String,
    /// SHA-256 of the certificate to trust, where the settings name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_sha256: Option<String>,
}

/// Ask the gateway for a voice server, on behalf of a player.
#[utoipa::path(post, path = "/v1/voice/connect", tag = "page", security((), ("token" = [])),
    request_body = VoiceConnect,
    responses((status = 200, description = "The voice server of the token's rooms", body = VoiceServer), Refusals,
        (status = 501, description = "The bridge hands out no voice", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn connect(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<VoiceServer>, Error> {
    let matches = bridge.matches()?;
    let voice = matches.voice.as_ref().ok_or(Error::Unimplemented(
        "this bridge hands out no voice: its settings have no [voice]",
    ))?;
    let wish: VoiceConnect = body::read(&bridge, &headers, body, deadline, "a token").await?;
    let (address, token) = voice.connect(&wish.token).await?;
    Ok(Json(VoiceServer {
        address,
        token,
        certificate_sha256: bridge.config.page.voice_certificate_sha256.clone(),
    }))
}
