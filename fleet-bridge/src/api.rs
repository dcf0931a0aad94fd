//! The routes and what every call passes through.

mod body;
mod edge;
mod events;
mod health;
mod instances;
mod matches;
mod operations;
mod overview;
mod voice;

use std::{sync::Arc, time::Instant};

use axum::{Router, middleware};
use tokio::sync::{Mutex, Semaphore, watch};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

use crate::{
    config::Config,
    coordinator::Coordinator,
    error::{Error, Kind, Problem},
    fleet::Fleet,
    index::Index,
    metrics::Metrics,
    page,
    store::Store,
    voice::Meters,
};

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) config: Config,
    pub(crate) fleet: Fleet,
    pub(crate) index: Arc<Index>,
    pub(crate) metrics: Arc<Metrics>,
    /// One permit a call under way.
    pub(crate) permits: Semaphore,
    /// What the bridges share.
    pub(crate) store: Arc<Store>,
    /// Makes matches; `None`: the settings ask for none.
    pub(crate) coordinator: Option<Arc<Coordinator>>,
    /// Reads what voice servers count.
    pub(crate) meters: Meters,
    /// One permit a reader of the events.
    pub(crate) seats: Arc<Semaphore>,
    /// True once the bridge takes no more calls: whoever waits for long stops.
    pub(crate) stopping: watch::Receiver<bool>,
    /// The last answer to "is the Fleet there", and when it was given.
    pub(crate) readiness: Arc<Mutex<Option<(Instant, health::Readiness)>>>,
}

impl Bridge {
    /// Whether the bridge walks over the servers again and again, and tells what changes.
    pub(crate) fn follows_servers(&self) -> bool {
        self.config.index.enabled || self.coordinator.is_some()
    }
}

/// When a call must be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Instant);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bifrost fleet bridge",
        description = "Lists, reads and updates the game servers of an ODIN Fleet app, in the words of Nakama's \
            fleet manager. Every error is a problem (RFC 9457) with a stable `kind`. Where the bridge has tokens in \
            its settings, send one as `Authorization: Bearer …`."
    ),
    components(schemas(Kind, Problem)),
    modifiers(&BearerTokens),
    tags(
        (name = "instances", description = "Game servers"),
        (name = "matches", description = "Matches on game servers of their own"),
        (name = "events", description = "What happens, as it happens"),
        (name = "page", description = "What the page in the browser is made of"),
        (name = "operation", description = "For whoever runs the bridge")
    )
)]
struct Document;

struct BearerTokens;

impl Modify for BearerTokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

fn routes() -> OpenApiRouter<Arc<Bridge>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(instances::list, operations::create))
        .routes(routes!(
            instances::get,
            instances::update,
            instances::delete
        ))
        .routes(routes!(instances::join))
        .routes(routes!(operations::get, operations::cancel))
        .routes(routes!(matches::create, matches::list))
        .routes(routes!(matches::get, matches::delete))
        .routes(routes!(matches::finish))
        .routes(routes!(matches::renew))
        .routes(routes!(matches::join))
        .routes(routes!(matches::leave))
        .routes(routes!(matches::confirm))
        .routes(routes!(events::follow))
        .routes(routes!(overview::access))
        .routes(routes!(overview::overview))
        .routes(routes!(overview::voice_nodes))
        .routes(routes!(voice::connect))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The contract, as JSON.
pub fn openapi_json() -> String {
    let (_, document) = routes().split_for_parts();
    let mut text = document
        .to_pretty_json()
        .expect("the document is plain data with texts as keys");
    text.push('\n');
    text
}

pub(crate) fn router(bridge: Arc<Bridge>) -> Router {
    let (mut router, document) = routes().split_for_parts();
    if bridge.config.page.enabled {
        router = router.merge(page::router());
    }
    router
        .route("/v1/instances/", axum::routing::any(instances::empty_id))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .fallback(async || Error::NoRoute)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&bridge),
            edge::pass,
        ))
        .with_state(bridge)
}
