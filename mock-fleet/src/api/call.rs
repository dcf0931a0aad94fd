//! One call as an operation sees it: who calls, which ids the path names, the query, the body.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::{Answer, Outcome};
use crate::fields;
use crate::listing::{Place, Table};
use crate::model::ApiVersion;
use crate::query::Query;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::access::Caller;
use crate::state::service::Service;
use crate::view::Viewer;

/// A call, after its token has been looked at.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Caller,
    /// The bearer token itself; empty when the operation needs none.
    pub(crate) bearer: String,
    /// Ids of the path, in order.
    pub(crate) ids: Vec<i64>,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
    /// Address of the path, for links.
    pub(crate) url: String,
    /// Address of the API, for links to elsewhere.
    pub(crate) base_url: String,
    pub(crate) api: ApiVersion,
}

impl Call {
    /// An id of the path. The table of operations says how many there are.
    pub(crate) fn id(&self, index: usize) -> i64 {
        self.ids.get(index).copied().unwrap_or_default()
    }

    /// The body as a JSON object.
    pub(crate) fn json(&self) -> Result<Map<String, Value>, Refusal> {
        fields::parse(&self.body)
    }

    /// Turns things of the state into views.
    pub(crate) fn viewer<'a>(&self, state: &'a State) -> Viewer<'a> {
        Viewer {
            state,
            api: self.api,
        }
    }

    /// The app that the path names first, if the caller reaches it.
    pub(crate) fn app(&self, state: &State) -> Result<i64, Refusal> {
        let app = state.apps.find(self.id(0))?.id;
        self.caller.require(app)?;
        Ok(app)
    }

    /// The service that the path names first, if the caller reaches its app.
    pub(crate) fn service<'a>(&self, state: &'a State) -> Result<&'a Service, Refusal> {
        let service = state.services.find(self.id(0))?;
        self.caller.require(service.app_id)?;
        Ok(service)
    }

    /// Answers with a service.
    pub(crate) fn show_service(&self, state: &State, id: i64) -> Outcome {
        let view = self.viewer(state).server(state.services.find(id)?);
        view.map(|view| Answer::json(&view))
            .ok_or(Refusal::NotFound("DockerService"))
    }

    /// Answers with a page of things.
    pub(crate) fn page<'a, T, V: serde::Serialize>(
        &self,
        state: &'a State,
        table: &Table<T>,
        things: impl Iterator<Item = &'a T>,
        view: impl Fn(&'a T) -> V,
    ) -> Outcome {
        let page = table.select(state, things, &self.query, self.api)?;
        let place = Place {
            path: &self.url,
            query: &self.query,
            api: self.api,
        };
        Ok(Answer::Json(page.to_json(place, |thing| view(thing))))
    }
}
