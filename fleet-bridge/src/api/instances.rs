//! List, Get and Update, and the calls that ODIN Fleet has no operation for.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{
        Extension, Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse as _, Response},
};
use chrono::Utc;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder, response::Response as Declaration},
};

use super::{Bridge, Deadline, body, matches};
use crate::{
    error::{Error, PROBLEM_JSON},
    fleet::Page,
    matches::{
        operation::Session,
        request::{Player, check_players},
    },
    model::{Instance, InstanceList, InstanceUpdate, Server, SkipReason, convert},
    query::{ListQuery, Place, Rules, Source},
};

/// Milliseconds since the bridge began to read what a list from the index shows.
const AGE: HeaderName = HeaderName::from_static("x-index-age-ms");

/// The errors that any call may be answered with. A 500 is a defect: it is not promised, so that a check of the
/// contract finds it.
pub(super) struct Refusals;

/// The errors of a call that ODIN Fleet has no operation for, and that the settings must switch on.
pub(super) struct Impossible;

const NO_JOIN: &str = "ODIN Fleet has no reservation of places: players connect to connection_info directly. With \
    `join = true` in [instances] this bridge gives them seats in the match that it runs there";

const NO_DELETE: &str = "ODIN Fleet cannot delete one chosen server, and a server is not stopped by mistake: `delete = \
    true` in [instances] of this bridge has it stopped. To have fewer, lower numInstances of its location setting";

/// Players who join.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinRequest {
    /// Who joins.
    user_ids: Vec<String>,
    /// Part of Nakama's call. Nothing on ODIN Fleet takes it, and it is not kept.
    #[serde(default, rename = "metadata")]
    #[schema(example = json!({}))]
    _metadata: BTreeMap<String, String>,
}

/// Where players go who join, in Nakama's words.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct JoinInfo {
    /// The game server.
    instance_info: Instance,
    /// Their seats, in the order in which they were asked for.
    session_info: Vec<Session>,
}

const REFUSALS: [(&str, &str); 12] = [
    ("400", "The call is not usable"),
    ("401", "No token, or an unknown one"),
    ("403", "The token's scope does not allow it"),
    ("404", "No such instance"),
    ("405", "The route does not take this method"),
    (
        "409",
        "The state of what is named does not allow it; `kind` says why",
    ),
    ("413", "The body is too large"),
    ("415", "The body is not declared as JSON"),
    ("422", "Fleet refuses the input"),
    (
        "502",
        "Fleet refuses the bridge, or answers something unreadable",
    ),
    ("503", "Fleet or the bridge has no capacity"),
    ("504", "Not done in time"),
];

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Declaration>> {
        let declared = |(status, text): (&str, &str)| (status.to_owned(), problem(text));
        REFUSALS.into_iter().map(declared).collect()
    }
}

impl IntoResponses for Impossible {
    fn responses() -> BTreeMap<String, RefOr<Declaration>> {
        let mut responses = Refusals::responses();
        let text =
            "ODIN Fleet has no such operation, and the settings of the bridge do not switch it on";
        responses.insert("501".to_owned(), problem(text));
        responses
    }
}

fn problem(text: &str) -> RefOr<Declaration> {
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description(text);
    response.content(PROBLEM_JSON, content).build().into()
}

/// List game servers.
///
/// One call reads one page of the Fleet, or of the index where the bridge keeps one. Servers that players cannot be
/// sent to are left out.
#[utoipa::path(get, path = "/v1/instances", tag = "instances", security((), ("token" = [])),
    params(
        ("query" = Option<String>, Query, description = "The guide's filter as JSON: Metadata, Status, \
            Location{Continent, City, Country}, PerPage, Pages. Not together with the plain filters.",
            example = r#"{"Metadata":{"instance_state":"idle"},"Status":"running"}"#),
        ("limit" = Option<u64>, Query, description = "Most instances in the answer; 0 is a whole page"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the answer before, with the same filter"),
        ("state" = Option<String>, Query, description = "Only with this `instance_state`", example = "idle"),
        ("metadata" = Option<Vec<String>>, Query, description = "Only with this KEY=VALUE in the metadata; repeat it \
            for several"),
        ("status" = Option<String>, Query, description = "Only with this status of the Fleet", example = "running"),
        ("city" = Option<String>, Query, description = "Only in this city", example = "limburg"),
        ("country" = Option<String>, Query, description = "Only in this country", example = "de"),
        ("continent" = Option<String>, Query, description = "Only on this continent", example = "europe"),
        ("per_page" = Option<u8>, Query, description = "Servers on a page of the Fleet"),
        ("page" = Option<u32>, Query, description = "Page of the Fleet, from 1"),
        ("max_age_ms" = Option<u64>, Query, description = "How old the answer may be; 0 asks the Fleet now. Without an \
            index every answer is new")
    ),
    responses((status = 200, description = "The instances", body = InstanceList, headers(
        ("x-index-age-ms" = u64, description = "How old the answer is, where it comes from the index"))), Refusals))]
pub(super) async fn list(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    parameters: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(parameters) =
        parameters.map_err(|rejection| Error::invalid_argument(rejection.body_text()))?;
    let settings = bridge.config.index;
    let rules = Rules {
        state_key: &bridge.config.keys.instance_state,
        per_page_max: bridge.config.limit.per_page,
        app_id: bridge.config.app_id,
        source: if settings.enabled {
            Source::Index
        } else {
            Source::Fleet
        },
    };
    let query = ListQuery::parse(&parameters, rules)?;
    if rules.source == Source::Fleet {
        let page = bridge.fleet.page(&query, deadline).await?;
        return Ok(Json(cut(&bridge, &query, rules, page)).into_response());
    }
    let max_age = query.max_age.unwrap_or(settings.max_age);
    bridge.index.fresh(max_age, deadline).await?;
    let age = bridge.index.age().unwrap_or_default();
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let list = from_index(&bridge, &query, rules);
    Ok(([(AGE, age.to_string())], Json(list)).into_response())
}

/// The answer from the index: by id, so that servers which come, go and change between two calls move nothing else.
fn from_index(bridge: &Bridge, query: &ListQuery, rules: Rules<'_>) -> InstanceList {
    let now = Utc::now();
    let position = query.position;
    let size = usize::from(position.per_page.unwrap_or(rules.per_page_max));
    let limit = query.limit.and_then(|limit| usize::try_from(limit).ok());
    let most = limit.map_or(size, |limit| limit.min(size));
    let after = position.after.map_or(Bound::Unbounded, Bound::Excluded);
    let pages_before = query.page().saturating_sub(1);
    let skipped = usize::try_from(pages_before)
        .unwrap_or(usize::MAX)
        .saturating_mul(size);
    let found: Vec<Arc<Server>> = bridge.index.read(|servers| {
        let servers = servers.range((after, Bound::Unbounded));
        let servers = servers.map(|(_, seen)| &seen.server);
        let matching = servers.filter(|server| query.filter.matches(server));
        matching.skip(skipped).cloned().collect()
    });
    let mut instances = Vec::new();
    let mut last = 0;
    for server in found {
        let id = server.id;
        match convert(Arc::unwrap_or_clone(server), &bridge.config.keys, now) {
            Ok(_) if instances.len() == most => {
                let next_cursor = query.cursor(Place::After(last), rules);
                return InstanceList {
                    instances,
                    next_cursor,
                };
            }
            Ok(instance) => {
                instances.push(instance);
                last = id;
            }
            Err(reason) => skip(bridge, id, reason),
        }
    }
    InstanceList {
        instances,
        next_cursor: String::new(),
    }
}

/// Takes from a page what the call asked for, and finds where the next one continues.
fn cut(bridge: &Bridge, query: &ListQuery, rules: Rules<'_>, page: Page) -> InstanceList {
    let now = Utc::now();
    let limit = query.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let mut instances = Vec::new();
    let rest = page
        .servers
        .into_iter()
        .enumerate()
        .skip(usize::from(query.position.offset));
    for (offset, server) in rest {
        let id = server.id;
        match convert(server, &bridge.config.keys, now) {
            Ok(_) if instances.len() == limit => {
                let offset = u16::try_from(offset).unwrap_or(u16::MAX);
                let next_cursor = query.cursor(
                    Place::Page {
                        page: query.page(),
                        offset,
                    },
                    rules,
                );
                return InstanceList {
                    instances,
                    next_cursor,
                };
            }
            Ok(instance) => instances.push(instance),
            Err(reason) => skip(bridge, id, reason),
        }
    }
    let next_page = query.page().checked_add(1).filter(|_| !page.is_last);
    let next_cursor = next_page.map_or(String::new(), |page| {
        query.cursor(Place::Page { page, offset: 0 }, rules)
    });
    InstanceList {
        instances,
        next_cursor,
    }
}

fn skip(bridge: &Bridge, id: i64, reason: SkipReason) {
    tracing::debug!(
        id,
        reason = reason.label(),
        "a server is left out: {reason}"
    );
    bridge.metrics.skipped(reason);
}

/// Read one game server, as it is now.
#[utoipa::path(get, path = "/v1/instances/{id}", tag = "instances", security((), ("token" = [])),
    params(("id" = String, Path, description = "The Fleet's id of the server", example = "101")),
    responses((status = 200, description = "The instance", body = Instance), Refusals))]
pub(super) async fn get(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Instance>, Error> {
    let id = server_id(id)?;
    let server = bridge.fleet.server(id, deadline).await?;
    let instance = convert(server, &bridge.config.keys, Utc::now());
    let applied = false;
    Ok(Json(instance.map_err(|reason| Error::NotConvertible {
        id,
        reason,
        applied,
    })?))
}

/// Change the metadata of a game server: keys that are not named stay.
#[utoipa::path(patch, path = "/v1/instances/{id}", tag = "instances", security((), ("token" = [])),
    params(("id" = String, Path, description = "The Fleet's id of the server", example = "101")),
    request_body = InstanceUpdate,
    responses((status = 200, description = "The instance after the change", body = Instance), Refusals))]
pub(super) async fn update(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Instance>, Error> {
    let id = server_id(id)?;
    let update: InstanceUpdate = body::read(&bridge, &headers, body, deadline, "an update").await?;
    let metadata = update.into_metadata(&bridge.config.keys);
    let server = bridge.fleet.update(id, metadata, deadline).await;
    let server = server.map_err(Error::of_update)?;
    let instance = convert(server, &bridge.config.keys, Utc::now());
    let applied = true;
    Ok(Json(instance.map_err(|reason| Error::NotConvertible {
        id,
        reason,
        applied,
    })?))
}

/// Join: seats for players in the match that runs on a game server, all of them or none.
///
/// A seat is free again after a minute unless it is confirmed, as with `POST /v1/matches/{id}/players`. A player who has
/// a seat already keeps it.
#[utoipa::path(post, path = "/v1/instances/{id}/sessions", tag = "instances", security((), ("token" = [])),
    params(("id" = String, Path, description = "The Fleet's id of the server", example = "101")),
    request_body = JoinRequest,
    responses((status = 200, description = "The instance, and the seats", body = JoinInfo), Impossible))]
pub(super) async fn join(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<JoinInfo>, Error> {
    let matches = bridge.matches_for(bridge.config.instances.join, NO_JOIN)?;
    let id = server_id(id)?;
    let wanted: JoinRequest = body::read(&bridge, &headers, body, deadline, "a join").await?;
    let players: Vec<Player> = wanted.user_ids.into_iter().map(player).collect();
    check_players(&players)?;
    let server = bridge.fleet.server(id, deadline).await?;
    let instance = convert(server, &bridge.config.keys, Utc::now());
    let applied = false;
    let instance_info = instance.map_err(|reason| Error::NotConvertible {
        id,
        reason,
        applied,
    })?;
    let found = matches.match_on(id).await?;
    let found = found.ok_or(Error::NoMatchOn(id))?;
    let seated = matches::seat(matches, &found, &players).await;
    let record = seated.map_err(|error| match error {
        Error::NoMatch(_) => Error::NoMatchOn(id),
        error => error,
    })?;
    let now = matches.now();
    let session = |player: &Player| {
        let mut seats = record.live_seats(now);
        let seat = seats.find(|seat| seat.user_id == player.user_id)?;
        Some(Session {
            user_id: seat.user_id.clone(),
            session_id: seat.session_id.clone(),
        })
    };
    Ok(Json(JoinInfo {
        session_info: players.iter().filter_map(session).collect(),
        instance_info,
    }))
}

/// Delete a game server: the match that runs there is ended, and the server is stopped.
///
/// The location setting keeps its number of instances: a server that is stopped can be started again at the Fleet.
#[utoipa::path(delete, path = "/v1/instances/{id}", tag = "instances", security((), ("token" = [])),
    params(("id" = String, Path, description = "The Fleet's id of the server", example = "101")),
    responses((status = 202, description = "The Fleet stops it"), Impossible))]
pub(super) async fn delete(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Error> {
    if !bridge.config.instances.delete {
        return Err(Error::Unimplemented(NO_DELETE));
    }
    let id = server_id(id)?;
    // The Fleet stops servers of other apps, too, if the token may.
    let server = bridge.fleet.server(id, deadline).await?;
    match &bridge.coordinator {
        Some(matches) => matches.stop(&server, deadline).await?,
        None => {
            let stopped = bridge.fleet.stop(id, deadline).await;
            stopped.map_err(Error::of_update)?;
        }
    }
    Ok(StatusCode::ACCEPTED)
}

fn player(user_id: String) -> Player {
    Player {
        user_id,
        team: None,
        latencies: Vec::new(),
    }
}

/// A client that joins an empty id to the path.
pub(super) async fn empty_id() -> Error {
    Error::invalid_argument("the instance id is empty")
}

/// Only the plain decimal form is an id, so that nothing is ever wrapped, rounded or walked around.
fn server_id(id: Result<Path<String>, PathRejection>) -> Result<i64, Error> {
    let Path(text) = id.map_err(|rejection| Error::invalid_argument(rejection.body_text()))?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let id = text.parse().ok().filter(|_| is_plain);
    id.ok_or_else(|| {
        Error::invalid_argument(format!(
            "the instance id {text:?} is not a positive whole number"
        ))
    })
}
