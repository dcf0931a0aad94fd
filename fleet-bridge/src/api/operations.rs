//! Create, in the words of Nakama's fleet manager, and the operations that it begins.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Extension, Path, State},
};
use http::{HeaderMap, HeaderName, StatusCode, header::LOCATION};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    Bridge, Deadline, body,
    instances::Impossible,
    matches::{hash, optional_key},
};
use crate::{
    error::Error,
    matches::{
        obtain::Wish,
        operation::{Operation, OperationState},
        record::{Background, Match},
        request::{Latency, MatchRequest, Player, Policy, Selector, VoiceWish},
    },
    voice::Voice,
};

const SWITCHED_OFF: &str = "ODIN Fleet keeps a fixed number of servers at each location: there is no operation that \
    creates one. With `create = true` in [instances] this bridge takes an idle one instead, or raises numInstances of \
    a location setting";

/// A game server that is asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InstanceRequest {
    /// Seats of the match that runs there.
    #[schema(example = 8, minimum = 1, maximum = 1000)]
    max_players: u32,
    /// Who gets a seat at once. With nobody named there are no sessions.
    #[serde(default)]
    user_ids: Vec<String>,
    /// What these users have measured.
    #[serde(default)]
    latencies: Vec<UserLatency>,
    /// Handed to the game server when the match starts, as it is.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"game_mode": "DEATH_MATCH"}))]
    metadata: Map<String, Value>,
    /// Where it may be, best first. Without any, every server will do: the nearest if there are latencies.
    #[serde(default)]
    selectors: Vec<Selector>,
    /// The voice rooms of the match; none where it is left out.
    #[serde(default)]
    voice: VoiceWish,
    /// How long the match may run without being renewed, in seconds.
    #[schema(example = 3600, minimum = 1)]
    lease_seconds: Option<u64>,
    /// Told of the end of the operation. Must begin with one of the addresses in the bridge's settings.
    #[schema(example = "https://matchmaker.example.com/fleet/done")]
    webhook: Option<String>,
}

/// How far a user is from a region.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserLatency {
    /// One of `user_ids`.
    #[schema(example = "user-1")]
    user_id: String,
    /// Round trip in milliseconds.
    #[schema(example = 23.5, minimum = 0)]
    latency_in_milliseconds: f64,
    /// A city, country or continent of the Fleet, in any case.
    #[schema(example = "europe")]
    region_identifier: String,
}

impl InstanceRequest {
    /// The match that is to be made.
    fn into_match(self) -> Result<MatchRequest, Error> {
        let mut latencies: BTreeMap<String, Vec<Latency>> = BTreeMap::new();
        for (at, it) in self.latencies.into_iter().enumerate() {
            if !self.user_ids.contains(&it.user_id) {
                let text = format!("`latencies[{at}].user_id`: it is not among `user_ids`");
                return Err(Error::invalid_argument(text));
            }
            latencies.entry(it.user_id).or_default().push(Latency {
                region: it.region_identifier,
                ms: it.latency_in_milliseconds,
            });
        }
        let mut selectors = self.selectors;
        if selectors.is_empty() && !latencies.is_empty() {
            selectors.push(Selector {
                policy: Policy::Latency,
                ..Selector::default()
            });
        }
        let players = self.user_ids.into_iter().map(|user_id| Player {
            latencies: latencies.remove(&user_id).unwrap_or_default(),
            user_id,
            team: None,
        });
        Ok(MatchRequest {
            players: players.collect(),
            selectors,
            max_players: Some(self.max_players),
            settings: self.metadata,
            voice: self.voice,
            lease_seconds: self.lease_seconds,
            deadline_ms: None,
        })
    }
}

/// Create a game server: an idle one is taken, and the match that was asked for runs there.
///
/// The answer comes at once, and the work goes on: look at the operation, or name a `webhook`. Where no server is idle
/// and the settings allow it, a location setting is raised by one. The same `Idempotency-Key` with the same body gives
/// the same operation, whatever became of it.
#[utoipa::path(post, path = "/v1/instances", tag = "instances", security((), ("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Names this request; a random id will do",
        min_length = 1, max_length = 255)),
    request_body = InstanceRequest,
    responses((status = 202, description = "The operation, with voice for the players if it has succeeded already",
        body = Operation, headers(("location" = String, description = "Where the operation is found"))), Impossible))]
pub(super) async fn create(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Operation>), Error> {
    let matches = bridge.matches_for(bridge.config.instances.create, SWITCHED_OFF)?;
    let key = optional_key(&headers)?.map(|key| hash(key.as_bytes()));
    let wanted: InstanceRequest =
        body::read(&bridge, &headers, body, deadline, "an instance request").await?;
    if let Some(url) = &wanted.webhook {
        matches.webhooks.check(url)?;
    }
    let text = serde_json::to_vec(&wanted).map_err(|_| Error::Internal)?;
    let background = Background {
        may_scale: matches.may_scale(),
        scaled_at: None,
        webhook: wanted.webhook.clone(),
    };
    let request = wanted.into_match()?;
    let wish = Wish {
        key,
        digest: hash(&text),
        request: request.check_open(matches.bounds(), matches.rules())?,
        give_up_at: matches.now() + matches.create_time(),
        background: Some(background),
    };
    let record = matches.begin(&wish).await?;
    let location = format!("/v1/operations/{}", record.id);
    let operation = Operation::of(&record, matches.voice.as_ref(), matches.now());
    Ok((
        StatusCode::ACCEPTED,
        [(LOCATION, location)],
        Json(operation),
    ))
}

/// Look at an operation.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "instances", security((), ("token" = [])),
    params(("id" = String, Path, description = "The id of the operation")),
    responses((status = 200, description = "The operation, without voice tokens", body = Operation), Impossible))]
pub(super) async fn get(
    State(bridge): State<Arc<Bridge>>,
    Path(id): Path<String>,
) -> Result<Json<Operation>, Error> {
    let matches = bridge.matches_for(bridge.config.instances.create, SWITCHED_OFF)?;
    let record = matches.operation(&id).await?;
    Ok(Json(Operation::of(&record, None, matches.now())))
}

/// Cancel an operation that is pending: the work stops, and what it had is given back.
///
/// 200: all of that is done. 202: it will be. 409: the operation is over; to end a match that runs, delete the match.
#[utoipa::path(delete, path = "/v1/operations/{id}", tag = "instances", security((), ("token" = [])),
    params(("id" = String, Path, description = "The id of the operation")),
    responses(
        (status = 200, description = "It is cancelled", body = Operation),
        (status = 202, description = "It is being cancelled", body = Operation), Impossible))]
pub(super) async fn cancel(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Operation>), Error> {
    let matches = bridge.matches_for(bridge.config.instances.create, SWITCHED_OFF)?;
    let record: Match = matches.cancel(&id, deadline).await?;
    let status = match OperationState::of(&record) {
        OperationState::Pending => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    let operation = Operation::of(&record, None::<&Voice>, matches.now());
    Ok((status, Json(operation)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<MatchRequest, Error> {
        serde_json::from_value::<InstanceRequest>(body)
            .unwrap()
            .into_match()
    }

    #[test]
    fn nakamas_words_are_read() {
        let latency = |user: &str, region: &str, ms: f64| json!({"user_id": user, "region_identifier": region, "latency_in_milliseconds": ms});
        let request = read(json!({
            "max_players": 4, "user_ids": ["a", "b"], "metadata": {"game_mode": "duel"},
            "latencies": [latency("b", "europe", 20.0), latency("a", "asia", 90.0), latency("b", "asia", 80.0)],
        }))
        .unwrap();
        let measured = |at: usize| -> Vec<(&str, f64)> {
            let latencies = request.players[at].latencies.iter();
            latencies.map(|it| (it.region.as_str(), it.ms)).collect()
        };
        assert_eq!(measured(0), [("asia", 90.0)]);
        assert_eq!(measured(1), [("europe", 20.0), ("asia", 80.0)]);
        assert_eq!(request.selectors[0].policy, Policy::Latency);
        assert_eq!(request.settings["game_mode"], "duel");
    }

    #[test]
    fn a_server_may_be_asked_for_before_there_are_players() {
        let request = read(json!({"max_players": 4})).unwrap();
        assert!(request.players.is_empty() && request.selectors.is_empty());
    }

    #[test]
    fn a_latency_of_somebody_else_is_refused() {
        let latency =
            json!({"user_id": "x", "region_identifier": "eu", "latency_in_milliseconds": 1});
        let error =
            read(json!({"max_players": 4, "user_ids": ["a"], "latencies": [latency]})).unwrap_err();
        assert!(
            error.to_string().contains("`latencies[0].user_id`"),
            "{error}"
        );
    }
}
