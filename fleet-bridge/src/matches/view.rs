//! Matches as callers see them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::record::{Match, Place, Reason, Seat};
use crate::{
    model::ConnectionInfo,
    store::Timestamp,
    voice::{Voice, VoiceAccess},
};

/// A match.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MatchView {
    /// Its id; those of later matches sort later.
    #[schema(example = "m-19c5b1a2f3c0123456789abcdef")]
    pub id: String,
    /// `pending`, `running`, `ending` or `ended`.
    #[schema(example = "running")]
    pub state: &'static str,
    /// Why it ends or has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What the game server said when it refused to start it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// Since when it runs, or ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ends unless it is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// How long a lease lasts.
    pub lease_seconds: u64,
    /// Its server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<MatchInstance>,
    /// Seats of the match.
    pub max_players: u32,
    /// Who has a seat.
    pub players: Vec<PlayerView>,
    /// What the game server was told.
    #[schema(value_type = Object)]
    pub settings: Map<String, Value>,
}

/// The server of a match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MatchInstance {
    /// The Fleet's id of the server.
    #[schema(example = "101")]
    pub id: String,
    /// Where players connect to.
    pub connection_info: ConnectionInfo,
    /// The city it is in.
    pub city: String,
    /// The country.
    pub country: String,
    /// The continent.
    pub continent: String,
}

/// A player with a seat.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PlayerView {
    /// The matchmaker's id of the user.
    pub user_id: String,
    /// The team, where there are teams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Names this seat. Whoever takes it again later gets another one.
    pub session_id: String,
    /// The player must have arrived by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_until: Option<DateTime<Utc>>,
    /// Voice, in the answers that hand it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<VoiceAccess>,
}

/// One answer of the list of matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct MatchList {
    /// Ordered by id, and so by time. May be empty while `next_cursor` is not.
    pub matches: Vec<MatchView>,
    /// Continues the list after this answer; empty at the end.
    pub next_cursor: String,
}

impl MatchView {
    /// A match as it is now; with voice for its players where `voice` is given.
    pub(crate) fn of(record: &Match, voice: Option<&Voice>, now: Timestamp) -> Self {
        let instance = |place: &Place| MatchInstance {
            id: place.server.to_string(),
            connection_info: place.connection_info.clone(),
            city: place.city.clone(),
            country: place.country.clone(),
            continent: place.continent.clone(),
        };
        let players = record
            .live_seats(now)
            .map(|seat| PlayerView::of(record, seat, voice));
        Self {
            id: record.id.clone(),
            state: record.state(),
            reason: record.reason(),
            failure: record.failure.clone(),
            created_at: record.created_at.into(),
            started_at: record.started_at.map(Into::into),
            expires_at: record.expires_at.map(Into::into),
            lease_seconds: record.request.lease_seconds.unwrap_or_default(),
            instance: record.place.as_ref().map(instance),
            max_players: u32::try_from(record.request.seats_max()).unwrap_or(u32::MAX),
            players: players.collect(),
            settings: record.request.settings.clone(),
        }
    }
}

impl PlayerView {
    /// A player as a seat shows it.
    pub(crate) fn of(record: &Match, seat: &Seat, voice: Option<&Voice>) -> Self {
        Self {
            user_id: seat.user_id.clone(),
            team: seat.team.clone(),
            session_id: seat.session_id.clone(),
            reserved_until: seat.reserved_until.map(Into::into),
            voice: voice.and_then(|voice| voice.access(record, seat)),
        }
    }
}
