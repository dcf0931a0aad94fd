//! What the page begins with: who its reader is here, all servers at once, and the voice servers.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Extension, State},
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Bridge, Deadline, instances::Refusals};
use crate::{
    auth::{self, Scope},
    error::Error,
    index::ServerView,
    model::Server,
    voice::{Meter, NODE_KEY},
};

/// The caller shows no token, and sees what everybody may see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor;

/// What a caller may do here.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Access {
    /// `write`, `read`, `look` (servers and voice servers alone, without a token) or `none`.
    #[schema(example = "read")]
    access: &'static str,
    /// This bridge makes matches.
    matches: bool,
    /// It hands out voice for them.
    voice: bool,
    /// It tells what happens, at `/v1/events`.
    events: bool,
    /// The page is to offer buttons for matches.
    controls: bool,
}

/// All servers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overview<'a> {
    /// Ordered by id.
    servers: Vec<ServerView<'a>>,
    /// Milliseconds since the bridge began to read them.
    age_ms: u64,
}

/// The voice servers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct VoiceNodes {
    /// Those of the settings, with what they have counted.
    metered: Vec<Meter>,
    /// Those that run on the Fleet, with what they last said of themselves.
    reported: Vec<ReportedNode>,
}

/// A voice server that runs on the Fleet.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ReportedNode {
    /// The Fleet's id of its service.
    id: String,
    /// The city it is in.
    city: String,
    /// `address`, `load`, `rooms`, `peers`, `draining` and `reported_at`, as the server wrote them.
    #[schema(value_type = Object)]
    node: Value,
}

/// Most servers on the Fleet whose reports are shown.
const REPORTED_MAX: usize = 1_000;

/// What may this caller do? Answered to everybody, so that the page knows whether to ask for a token.
#[utoipa::path(get, path = "/v1/access", tag = "page", security((), ("token" = [])),
    responses((status = 200, description = "What the token opens", body = Access)))]
pub(super) async fn access(State(bridge): State<Arc<Bridge>>, headers: HeaderMap) -> Response {
    let config = &bridge.config;
    let access = match auth::allowed(&config.tokens, &headers) {
        Some(Scope::Write) => "write",
        Some(Scope::Read) => "read",
        None if config.page.public && auth::is_nobody(&headers) => "look",
        None => "none",
    };
    let access = Access {
        access,
        matches: config.matches.is_some(),
        voice: config.voice.is_some(),
        events: bridge.follows_servers(),
        controls: config.page.controls,
    };
    ([(CACHE_CONTROL, "no-store")], Json(access)).into_response()
}

/// All servers at once, also those that players cannot be sent to.
///
/// From the index; a bridge that keeps none walks over the Fleet's list, which callers share.
#[utoipa::path(get, path = "/v1/overview", tag = "page", security((), ("token" = [])),
    responses((status = 200, description = "The servers, as the events show them; without their addresses to a caller \
        who shows no token where the bridge has some", body = Overview<'_>), Refusals))]
pub(super) async fn overview(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    visitor: Option<Extension<Visitor>>,
) -> Result<Response, Error> {
    let index = &bridge.index;
    index.fresh(bridge.config.index.max_age, deadline).await?;
    let servers = servers(&bridge, |_| true);
    let views = servers.iter().map(|server| {
        let mut view = ServerView::of(server, &bridge.config.keys);
        if visitor.is_some() {
            view.hide_address();
        }
        view
    });
    let age = index.age().unwrap_or_default();
    let overview = Overview {
        servers: views.collect(),
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    };
    let text = serde_json::to_string(&overview).map_err(|_| Error::Internal)?;
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text).into_response())
}

/// Voice servers and their load.
#[utoipa::path(get, path = "/v1/voice/nodes", tag = "page", security((), ("token" = [])),
    responses((status = 200, description = "Those of the settings, and those that run on the Fleet", body = VoiceNodes),
        Refusals))]
pub(super) async fn voice_nodes(
    State(bridge): State<Arc<Bridge>>,
    visitor: Option<Extension<Visitor>>,
) -> Response {
    let mut metered = bridge.meters.read().await;
    let servers = servers(&bridge, |server| {
        server.is_up() && server.metadata.contains_key(NODE_KEY)
    });
    let report = |server: &Arc<Server>| {
        let mut node = server.metadata.get(NODE_KEY)?.clone();
        if visitor.is_some() {
            node.as_object_mut()?.remove("address");
        }
        Some(ReportedNode {
            id: server.id.to_string(),
            city: server.city.clone(),
            node,
        })
    };
    let reported = servers.iter().filter_map(report).take(REPORTED_MAX);
    let reported = reported.collect();
    if visitor.is_some() {
        for (at, meter) in metered.iter_mut().enumerate() {
            meter.address = format!("#{}", at + 1);
        }
    }
    let nodes = VoiceNodes { metered, reported };
    ([(CACHE_CONTROL, "no-store")], Json(nodes)).into_response()
}

/// Servers of the index, by id. They are taken out quickly: calls and walks wait meanwhile.
fn servers(bridge: &Bridge, wanted: impl Fn(&Server) -> bool) -> Vec<Arc<Server>> {
    bridge.index.read(|servers| {
        let servers = servers.values().map(|seen| &seen.server);
        servers.filter(|server| wanted(server)).cloned().collect()
    })
}
