//! Matches: make one, look at it, keep it, seat players, end it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Extension, Path, Query, State, rejection::QueryRejection},
};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{Bridge, Deadline, body, instances::Refusals};
use crate::{
    coordinator::Coordinator,
    error::Error,
    matches::{
        obtain::Wish,
        record::{Match, Reason, Stage},
        request::{MatchRequest, Player, check_lease, check_players},
        view::{MatchList, MatchView, PlayerView},
    },
    voice::Voice,
};

/// Longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// Matches on a page that names no limit.
const LIST_LIMIT: usize = 100;

/// Most matches on a page.
const LIST_LIMIT_MAX: usize = 1_000;

/// Records that are looked at for one page at most; the cursor goes on after them.
const LIST_LOOK_MAX: usize = 5_000;

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A longer lease.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Renewal {
    /// From now on, in seconds; as long as the match asked for where it is left out.
    #[schema(example = 3600, minimum = 1)]
    lease_seconds: Option<u64>,
}

/// Players who join a running match.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LatePlayers {
    players: Vec<Player>,
}

/// The seats of players who join.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Joined {
    /// The match.
    #[serde(rename = "match")]
    found: MatchView,
    /// Their seats, in the order in which they were asked for. A seat is free again after a minute, unless it is
    /// confirmed.
    players: Vec<PlayerView>,
}

/// Which matches.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Only those that are pending, running, ending or ended.
    state: Option<String>,
    /// Most matches in the answer; 100 where it is left out, 1,000 at most.
    limit: Option<usize>,
    /// `next_cursor` of the answer before.
    cursor: Option<String>,
}

impl Bridge {
    /// Who makes matches, for a call that the settings must switch on.
    pub(super) fn matches_for(
        &self,
        is_on: bool,
        why_not: &'static str,
    ) -> Result<&Arc<Coordinator>, Error> {
        if !is_on {
            return Err(Error::Unimplemented(why_not));
        }
        self.matches()
    }

    pub(super) fn matches(&self) -> Result<&Arc<Coordinator>, Error> {
        self.coordinator.as_ref().ok_or(Error::Unimplemented(
            "this bridge makes no matches: its settings lack `enabled = true` in [matches]",
        ))
    }
}

/// Make a match: a server that is yours, running it, and voice for every player.
///
/// The answer comes when the game server says that the match runs. The same key with the same body gives the same
/// match, whenever and at whichever bridge of the same store it is sent again. Whoever goes away before the answer
/// gives the server back.
#[utoipa::path(post, path = "/v1/matches", tag = "matches", security((), ("token" = [])),
    params(("Idempotency-Key" = String, Header, description = "Names this request; a random id will do",
        min_length = 1, max_length = 255)),
    request_body = MatchRequest,
    responses((status = 201, description = "The match runs", body = MatchView), Refusals,
        (status = 501, description = "The bridge makes no matches", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn create(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<MatchView>), Error> {
    let matches = bridge.matches()?;
    let key = required_key(&headers)?;
    let request: MatchRequest = body::read(&bridge, &headers, body, deadline, "a match").await?;
    let request = request.check(matches.bounds(), matches.rules())?;
    let looking = Duration::from_millis(request.deadline_ms.unwrap_or_default());
    let wish = Wish {
        key: Some(hash(key.as_bytes())),
        digest: digest(&request)?,
        give_up_at: matches.now() + looking,
        request,
        background: None,
    };
    let record = matches.obtain(wish).await?;
    let view = MatchView::of(&record, matches.voice.as_ref(), matches.now());
    Ok((StatusCode::CREATED, Json(view)))
}

/// List matches, the oldest first.
#[utoipa::path(get, path = "/v1/matches", tag = "matches", security((), ("token" = [])), params(ListParameters),
    responses((status = 200, description = "Matches, without their voice tokens", body = MatchList), Refusals,
        (status = 501, description = "The bridge makes no matches", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn list(
    State(bridge): State<Arc<Bridge>>,
    parameters: Result<Query<ListParameters>, QueryRejection>,
) -> Result<Json<MatchList>, Error> {
    let matches = bridge.matches()?;
    let Query(parameters) =
        parameters.map_err(|rejection| Error::invalid_argument(rejection.body_text()))?;
    let states = ["pending", "running", "ending", "ended"];
    if let Some(state) = &parameters.state
        && !states.contains(&state.as_str())
    {
        return Err(Error::invalid_argument(format!(
            "`state` is one of {}",
            states.join(", ")
        )));
    }
    let limit = parameters.limit.unwrap_or(LIST_LIMIT);
    if !(1..=LIST_LIMIT_MAX).contains(&limit) {
        return Err(Error::invalid_argument(format!(
            "`limit` must be from 1 to {LIST_LIMIT_MAX}"
        )));
    }
    let mut list = MatchList::default();
    let mut after = parameters.cursor.unwrap_or_default();
    let mut looked = 0;
    loop {
        let page = matches.store.matches(&after, limit).await?;
        let is_last = page.len() < limit;
        looked += page.len();
        for (id, document) in page {
            after = id;
            let record: Match = serde_json::from_str(&document.text).map_err(|error| {
                tracing::error!(id = after, "a record cannot be read: {error}");
                Error::Internal
            })?;
            let is_wanted = parameters
                .state
                .as_deref()
                .is_none_or(|state| state == record.state());
            if is_wanted && !record.is_repair() {
                list.matches
                    .push(MatchView::of(&record, None, matches.now()));
                if list.matches.len() == limit {
                    list.next_cursor = after;
                    return Ok(Json(list));
                }
            }
        }
        if is_last {
            return Ok(Json(list));
        }
        if looked >= LIST_LOOK_MAX {
            list.next_cursor = after;
            return Ok(Json(list));
        }
    }
}

/// Look at a match.
#[utoipa::path(get, path = "/v1/matches/{id}", tag = "matches", security((), ("token" = [])),
    params(("id" = String, Path, description = "The id of the match")),
    responses((status = 200, description = "The match, without voice tokens", body = MatchView), Refusals,
        (status = 501, description = "The bridge makes no matches", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn get(
    State(bridge): State<Arc<Bridge>>,
    Path(id): Path<String>,
) -> Result<Json<MatchView>, Error> {
    let matches = bridge.matches()?;
    let record = matches.read(&id).await?;
    Ok(Json(MatchView::of(&record, None, matches.now())))
}

/// End a match: it is finished on its game server, the server is idle again, its voice rooms are closed.
///
/// 200: all of that is done. 202: it will be, the game server cannot be reached yet.
#[utoipa::path(delete, path = "/v1/matches/{id}", tag = "matches", security((), ("token" = [])),
    params(("id" = String, Path, description = "The id of the match")),
    responses(
        (status = 200, description = "It is over", body = MatchView),
        (status = 202, description = "It is ending", body = MatchView), Refusals,
        (status = 501, description = "The bridge makes no matches", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<MatchView>), Error> {
    let matches = bridge.matches()?;
    let record = matches.end(&id, Reason::Released, deadline).await?;
    let status = match record.stage {
        Stage::Ended(_) => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    };
    Ok((status, Json(MatchView::of(&record, None, matches.now()))))
}

/// Have the game server finish a match, as it does by itself when the game is over.
///
/// The bridge then finds that it has: the match ends with the reason `finished`.
#[utoipa::path(post, path = "/v1/matches/{id}/finish", tag = "matches", security((), ("token" = [])),
    params(("id" = String, Path, description = "The id of the match")),
    responses((status = 202, description = "The game server has finished it", body = MatchView), Refusals,
        (status = 501, description = "The bridge makes no matches", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn finish(
    State(bridge): State<Arc<Bridge>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<MatchView>), Error> {
    let matches = bridge.matches()?;
    let record = matches.finish(&id).await?;
    let view = MatchView::of(&record, None, matches.now());
    Ok((StatusCode::ACCEPTED, Json(view)))
}

/// Keep a match: its lease begins anew.
#[utoipa::path(post, path = "/v1/matches/{id}/renew", tag = "matches", security((), ("token" = [])),
    params(("id" = String, Path, description = "The id of the match")), request_body = Renewal,
    responses((status = 200, description = "The match", body = MatchView), Refusals,
        (status = 501, description = "The bridge makes no matches", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn renew(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<MatchView>, Error> {
    let matches = bridge.matches()?;
    let renewal: Renewal = body::read(&bridge, &headers, body, deadline, "a renewal").await?;
    if let Some(seconds) = renewal.lease_seconds {
        check_lease(seconds, matches.bounds())?;
    }
    let renewed = matches.change(&id, "match.renewed", |record, now| {
        running(record)?;
        let wanted = renewal
            .lease_seconds
            .or(record.request.lease_seconds)
            .unwrap_or_default();
        let expires_at = now + Duration::from_secs(wanted);
        record.expires_at = Some(expires_at);
        if let Some(voice) = &mut record.voice {
            // Tokens that are handed out from now on last as long as the match does.
            voice.expires_at = voice.expires_at.max(expires_at);
        }
        Ok(())
    });
    let (record, ()) = renewed.await?;
    matches.rewrite_claim(&id).await?;
    Ok(Json(MatchView::of(&record, None, matches.now())))
}

/// Seat players who join late: all of them or none.
///
/// Their seats are kept for a minute, and for good once confirmed. A player who has a seat already keeps it.
#[utoipa::path(post, path = "/v1/matches/{id}/players", tag = "matches", security((), ("token" = [])),
    params(("id" = String, Path, description = "The id of the match")), request_body = LatePlayers,
    responses((status = 200, description = "Their seats", body = Joined), Refusals,
        (status = 501, description = "The bridge makes no matches", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn join(
    State(bridge): State<Arc<Bridge>>,
    Extension(Deadline(deadline)): Extension<Deadline>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Joined>, Error> {
    let matches = bridge.matches()?;
    let late: LatePlayers = body::read(&bridge, &headers, body, deadline, "players").await?;
    check_players(&late.players)?;
    let record = seat(matches, &id, &late.players).await?;
    let now = matches.now();
    let players = late.players.iter().filter_map(|player| {
        let seat = record
            .live_seats(now)
            .find(|seat| seat.user_id == player.user_id)?;
        Some(PlayerView::of(&record, seat, matches.voice.as_ref()))
    });
    Ok(Json(Joined {
        players: players.collect(),
        found: MatchView::of(&record, None::<&Voice>, now),
    }))
}

/// Seats players in a running match: all of them or none.
///
/// # Errors
/// `not_running`, `match_full`, `not_found` or `unavailable`.
pub(super) async fn seat(
    matches: &Arc<Coordinator>,
    id: &str,
    players: &[Player],
) -> Result<Match, Error> {
    let kept = matches.settings.seat_time;
    let (record, ()) = matches
        .change(id, "match.players", |record, now| {
            running(record)?;
            record
                .seats
                .retain(|seat| seat.reserved_until.is_none_or(|until| now < until));
            let until = now + kept;
            let mut new = Vec::new();
            for player in players {
                match record
                    .seats
                    .iter_mut()
                    .find(|seat| seat.user_id == player.user_id)
                {
                    Some(seat) if seat.reserved_until.is_some() => {
                        seat.reserved_until = Some(until);
                    }
                    Some(_) => {}
                    None => new.push(player.clone()),
                }
            }
            let max = record.request.seats_max();
            let free = max.saturating_sub(record.seats.len());
            if new.len() > free {
                let wanted = new.len();
                return Err(Error::MatchFull { free, max, wanted });
            }
            record.seat(&new, Some(until), || fastrand::u64(..));
            Ok(())
        })
        .await?;
    Ok(record)
}

/// A late player has arrived: the seat is no longer given back by itself.
#[utoipa::path(post, path = "/v1/matches/{id}/players/{user_id}/confirm", tag = "matches",
    security((), ("token" = [])),
    params(("id" = String, Path, description = "The id of the match"),
        ("user_id" = String, Path, description = "The player")),
    responses((status = 200, description = "The match", body = MatchView), Refusals,
        (status = 501, description = "The bridge makes no matches", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn confirm(
    State(bridge): State<Arc<Bridge>>,
    Path((id, user_id)): Path<(String, String)>,
) -> Result<Json<MatchView>, Error> {
    let matches = bridge.matches()?;
    let confirmed = matches.change(&id, "match.players", |record, now| {
        running(record)?;
        let mut seats = record.seats.iter_mut();
        let is_live = |until: Option<_>| until.is_none_or(|until| now < until);
        let seat = seats.find(|seat| seat.user_id == user_id && is_live(seat.reserved_until));
        seat.ok_or_else(|| Error::NoSeat(user_id.clone()))?
            .reserved_until = None;
        Ok(())
    });
    let (record, ()) = confirmed.await?;
    Ok(Json(MatchView::of(&record, None, matches.now())))
}

/// A player has left for good: the seat is free.
#[utoipa::path(delete, path = "/v1/matches/{id}/players/{user_id}", tag = "matches", security((), ("token" = [])),
    params(("id" = String, Path, description = "The id of the match"),
        ("user_id" = String, Path, description = "The player")),
    responses((status = 200, description = "The match", body = MatchView), Refusals,
        (status = 501, description = "The bridge makes no matches", body = crate::error::Problem,
            content_type = "application/problem+json")))]
pub(super) async fn leave(
    State(bridge): State<Arc<Bridge>>,
    Path((id, user_id)): Path<(String, String)>,
) -> Result<Json<MatchView>, Error> {
    let matches = bridge.matches()?;
    let left = matches.change(&id, "match.players", |record, _| {
        running(record)?;
        record.seats.retain(|seat| seat.user_id != user_id);
        Ok(())
    });
    let (record, ()) = left.await?;
    Ok(Json(MatchView::of(&record, None, matches.now())))
}

fn running(record: &Match) -> Result<(), Error> {
    if matches!(record.stage, Stage::Running(_)) && record.ending.is_none() {
        return Ok(());
    }
    Err(Error::NotRunning(record.state()))
}

/// The key of a request that must have one.
fn required_key(headers: &HeaderMap) -> Result<&str, Error> {
    optional_key(headers)?.ok_or_else(|| {
        Error::invalid_argument(
            "the header Idempotency-Key is missing: it names the request, so that it can be sent again when its \
             answer is lost",
        )
    })
}

/// The key of a request.
pub(super) fn optional_key(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let is_one = values.next().is_none();
    let key = value.to_str().ok().filter(|key| {
        is_one
            && (1..=KEY_BYTES_MAX).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    key.map(Some).ok_or_else(|| {
        Error::invalid_argument(format!(
            "the header Idempotency-Key must be given once, with 1 to {KEY_BYTES_MAX} visible ASCII characters"
        ))
    })
}

/// What identifies a request: all of it but how long its caller waits.
pub(super) fn digest(request: &MatchRequest) -> Result<String, Error> {
    let request = MatchRequest {
        deadline_ms: None,
        ..request.clone()
    };
    let text = serde_json::to_vec(&request).map_err(|_| Error::Internal)?;
    Ok(hash(&text))
}

pub(super) fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// When a call about matches must be answered at the latest.
pub(super) fn allowed(bridge: &Bridge) -> Option<Duration> {
    let matches = bridge.coordinator.as_ref()?;
    Some(matches.settings.deadline_max + matches.patience())
}
