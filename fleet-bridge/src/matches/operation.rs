//! A Create as callers see it: a match that is made in the background, and what became of that.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    record::{Match, Reason, Stage},
    view::{MatchInstance, MatchView},
};
use crate::{error::Kind, store::Timestamp, voice::Voice};

/// Work that goes on without whoever asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Operation {
    /// Its id, and that of the match.
    #[schema(example = "m-19c5b1a2f3c0123456789abcdef")]
    pub(crate) id: String,
    /// What is being done: `create_instance`.
    #[schema(example = "create_instance")]
    pub(crate) kind: &'static str,
    /// How it stands.
    pub(crate) state: OperationState,
    /// When it was asked for.
    pub(crate) created_at: DateTime<Utc>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) done_at: Option<DateTime<Utc>>,
    /// The server, when it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<MatchInstance>,
    /// The seats of the players, when it succeeded; none where no players were named.
    pub(crate) sessions: Vec<Session>,
    /// The match, when it succeeded, as it is now.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<MatchView>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<OperationError>,
}

/// How an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OperationState {
    /// It is being worked on.
    Pending,
    /// There is a server, and it runs the match.
    Succeeded,
    /// There is none.
    Failed,
    /// Somebody has cancelled it.
    Cancelled,
}

/// A player's seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Session {
    /// The matchmaker's id of the user.
    #[schema(example = "user-1")]
    pub(crate) user_id: String,
    /// Names the seat.
    pub(crate) session_id: String,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct OperationError {
    /// `exhausted`: no server was free in time. `start_rejected`: the game server refused the match.
    pub(crate) kind: Kind,
    /// The same in words.
    pub(crate) detail: String,
}

impl OperationState {
    /// How the making of a match stands.
    pub(crate) fn of(record: &Match) -> Self {
        match record.stage {
            _ if record.started_at.is_some() => Self::Succeeded,
            Stage::Ended(Reason::Cancelled | Reason::Released) => Self::Cancelled,
            Stage::Ended(_) => Self::Failed,
            _ => Self::Pending,
        }
    }

    /// The name on the wire and in metric labels.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Operation {
    /// The operation as it is now; with voice for the players where `voice` is given.
    pub(crate) fn of(record: &Match, voice: Option<&Voice>, now: Timestamp) -> Self {
        let state = OperationState::of(record);
        let found = (state == OperationState::Succeeded).then(|| MatchView::of(record, voice, now));
        let sessions = found.iter().flat_map(|it| &it.players).map(|it| Session {
            user_id: it.user_id.clone(),
            session_id: it.session_id.clone(),
        });
        Self {
            id: record.id.clone(),
            kind: "create_instance",
            state,
            created_at: record.created_at.into(),
            done_at: record.started_at.or(record.ended_at).map(Into::into),
            instance: found.as_ref().and_then(|it| it.instance.clone()),
            sessions: sessions.collect(),
            error: (state == OperationState::Failed).then(|| why(record)),
            found,
        }
    }
}

fn why(record: &Match) -> OperationError {
    match record.reason() {
        Some(Reason::Failed) => OperationError {
            kind: Kind::StartRejected,
            detail: record.failure.clone().unwrap_or_default(),
        },
        _ => OperationError {
            kind: Kind::Exhausted,
            detail: "no server was free in time".to_owned(),
        },
    }
}
