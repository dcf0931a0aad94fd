//! What the store keeps of a match and of a server, and which steps a match can take.

mod shared;

use std::{sync::Arc, time::Duration};

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    delivery::Delivery,
    request::{MatchRequest, Player, VoiceWish},
};
use crate::{
    model::{ConnectionInfo, Keys, Server, convert},
    store::{Key, NewEvent, Put, Timestamp},
};

/// How long whoever works on a match has it for itself. Every step renews this; nobody who is alive takes longer for
/// one.
pub(crate) const WORK_TIME: Duration = Duration::from_secs(15);

/// How long the fence of a free server is remembered. The metadata remembers it, too.
const FENCE_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Longest wait between two attempts to give a server back that cannot be reached.
const PUT_OFF_MAX: Duration = Duration::from_secs(30);

/// First such wait; it doubles.
const PUT_OFF_FIRST: Duration = Duration::from_millis(500);

/// A match, from the wish for it to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Match {
    /// Sorts by time of creation.
    pub(crate) id: String,
    /// What it is there for.
    #[serde(default)]
    pub(crate) purpose: Purpose,
    /// Hash of the key under which the request can be repeated.
    pub(crate) key: Option<String>,
    /// Hash of the request, to notice the key with another one.
    pub(crate) digest: String,
    /// What was asked for; it does not change, and every step copies the record.
    #[serde(with = "shared")]
    pub(crate) request: Arc<MatchRequest>,
    pub(crate) created_at: Timestamp,
    /// Until when a server is looked for.
    pub(crate) give_up_at: Timestamp,
    /// Goes on without a caller who waits for it.
    pub(crate) background: Option<Background>,
    pub(crate) stage: Stage,
    /// Somebody wants it to end.
    pub(crate) ending: Option<Reason>,
    /// Who takes the next step.
    pub(crate) worker: Option<Worker>,
    /// Servers that did not start it, and until when they are left alone.
    pub(crate) tried: Vec<Tried>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) voice: Option<VoicePlan>,
    /// Where it runs, or ran.
    pub(crate) place: Option<Place>,
    pub(crate) started_at: Option<Timestamp>,
    /// Since when nothing is left to do.
    #[serde(default)]
    pub(crate) ended_at: Option<Timestamp>,
    /// The end of its lease.
    pub(crate) expires_at: Option<Timestamp>,
    /// What the game server said when it refused for good.
    pub(crate) failure: Option<String>,
    /// How often giving the server back was put off, and until when.
    pub(crate) put_off: u32,
    pub(crate) retry_at: Option<Timestamp>,
}

/// What a record is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// A match that somebody asked for.
    #[default]
    Match,
    /// A server is put in order that something has left behind, or kept from being claimed.
    Repair,
}

/// How a match stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// A server is looked for.
    Seeking,
    /// A server is ours in the store; the match does not run yet.
    Claimed(Hold),
    /// The game server says that it runs the match.
    Running(Hold),
    /// The server is given back.
    Leaving { hold: Hold, next: Next },
    /// Nothing is left to do.
    Ended(Reason),
}

/// A server that is ours in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) server: i64,
    pub(crate) fence: u64,
    /// Where matches are started and finished.
    pub(crate) api: String,
    /// The Fleet allocated it: no claim stands in its metadata.
    #[serde(default)]
    pub(crate) is_allocated: bool,
    /// The match that the game server may have been told to start, and must be told to finish.
    pub(crate) finish: Option<String>,
}

/// What follows when a server has been given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Next {
    /// Another server is looked for.
    Seek,
    /// The match is over.
    End(Reason),
}

/// Why a match is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Somebody asked for it.
    Released,
    /// Its lease was not renewed.
    Expired,
    /// The game server finished it.
    Finished,
    /// Whoever asked for it went away before it ran.
    Cancelled,
    /// No server was free in time.
    Exhausted,
    /// The game server refused to start it.
    Failed,
    /// Its server is gone.
    Lost,
    /// No match at all: a server was put in order that something had left behind.
    Repaired,
}

impl Reason {
    /// The name on the wire.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Exhausted => "exhausted",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Repaired => "repaired",
        }
    }
}

/// Who works on a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Worker {
    /// Drawn for every piece of work.
    pub(crate) id: u64,
    /// When it counts as gone.
    pub(crate) until: Timestamp,
}

/// A server that did not start the match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tried {
    pub(crate) server: i64,
    pub(crate) until: Timestamp,
}

/// A match that goes on in the background.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Background {
    /// A location setting may be scaled up for it.
    pub(crate) may_scale: bool,
    /// When a setting was scaled up for it.
    pub(crate) scaled_at: Option<Timestamp>,
    /// Who is told of the end of the work.
    pub(crate) webhook: Option<String>,
}

/// One player's seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub(crate) user_id: String,
    pub(crate) team: Option<String>,
    pub(crate) session_id: String,
    /// A late player must have arrived by then.
    pub(crate) reserved_until: Option<Timestamp>,
}

/// Where a match runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) server: i64,
    pub(crate) connection_info: ConnectionInfo,
    pub(crate) city: String,
    pub(crate) country: String,
    pub(crate) continent: String,
}

/// The voice of a match. Tokens are signed anew for every answer, and are the same each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoicePlan {
    /// The voice server that it should be on.
    pub(crate) node: Option<String>,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// What the store knows of a server: the single truth about who has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerClaim {
    /// The fence of the last claim.
    pub(crate) fence: u64,
    /// The match that has it.
    #[serde(rename = "match")]
    pub(crate) match_id: Option<String>,
}

/// What the store knows of an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyOwner {
    #[serde(rename = "match")]
    pub(crate) match_id: String,
    /// Hash of the request that it came with.
    pub(crate) digest: String,
}

impl Place {
    /// Where players of a match on this server go; `None` where they cannot be sent there.
    pub(crate) fn of(server: &Server, keys: &Keys) -> Option<Self> {
        // The time stands for one that nobody looks at.
        let instance = convert(server.clone(), keys, DateTime::UNIX_EPOCH).ok()?;
        Some(Self {
            server: server.id,
            connection_info: instance.connection_info,
            city: server.city.clone(),
            country: server.country.clone(),
            continent: server.continent.clone(),
        })
    }
}

impl ServerClaim {
    /// The document to write.
    pub(crate) fn put(&self, server: i64) -> Put {
        Put {
            key: Key::Server(server),
            text: Some(text_of(self)),
            due: None,
            keep: self.match_id.is_none().then_some(FENCE_KEPT),
        }
    }
}

impl Match {
    /// A match that nobody has worked on yet.
    pub(crate) fn new(
        id: String,
        request: MatchRequest,
        now: Timestamp,
        give_up_at: Timestamp,
    ) -> Self {
        Self {
            id,
            purpose: Purpose::Match,
            key: None,
            digest: String::new(),
            request: Arc::new(request),
            created_at: now,
            give_up_at,
            background: None,
            stage: Stage::Seeking,
            ending: None,
            worker: None,
            tried: Vec::new(),
            seats: Vec::new(),
            voice: None,
            place: None,
            started_at: None,
            ended_at: None,
            expires_at: None,
            failure: None,
            put_off: 0,
            retry_at: None,
        }
    }

    /// Work on a server that something has left behind, as a match that is about to end.
    pub(crate) fn repair(id: String, hold: Hold, now: Timestamp) -> Self {
        let request = MatchRequest {
            selectors: Vec::new(),
            players: Vec::new(),
            max_players: None,
            settings: serde_json::Map::new(),
            voice: VoiceWish::default(),
            lease_seconds: None,
            deadline_ms: None,
        };
        let next = Next::End(Reason::Repaired);
        Self {
            purpose: Purpose::Repair,
            stage: Stage::Leaving { hold, next },
            ..Self::new(id, request, now, now)
        }
    }

    /// Not a match that anybody asked for.
    pub(crate) fn is_repair(&self) -> bool {
        self.purpose == Purpose::Repair
    }

    /// Whether the work of making it is over: it has run, or never will.
    pub(crate) fn is_made(&self) -> bool {
        self.started_at.is_some() || matches!(self.stage, Stage::Ended(_))
    }

    /// What tells of the end of that work, to be written with it.
    pub(crate) fn put_delivery(&self, now: Timestamp) -> Option<Put> {
        let url = self.background.as_ref()?.webhook.clone()?;
        Some(Delivery::new(url).put(&self.id, now))
    }

    /// The server that it has.
    pub(crate) fn hold(&self) -> Option<&Hold> {
        match &self.stage {
            Stage::Claimed(hold) | Stage::Running(hold) | Stage::Leaving { hold, .. } => Some(hold),
            Stage::Seeking | Stage::Ended(_) => None,
        }
    }

    /// Takes seats for the players of the request.
    pub(crate) fn seat(
        &mut self,
        players: &[Player],
        reserved_until: Option<Timestamp>,
        random: impl Fn() -> u64,
    ) {
        let seat = |player: &Player| Seat {
            user_id: player.user_id.clone(),
            team: player.team.clone(),
            session_id: format!("s-{:016x}{:016x}", random(), random()),
            reserved_until,
        };
        self.seats.extend(players.iter().map(seat));
    }

    /// The seats that are taken or still reserved.
    pub(crate) fn live_seats(&self, now: Timestamp) -> impl Iterator<Item = &Seat> {
        self.seats
            .iter()
            .filter(move |seat| seat.reserved_until.is_none_or(|until| now < until))
    }

    /// When somebody must look at it, unless it is worked on until then.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Ended(_) => None,
            Stage::Running(_) if self.ending.is_none() => self.expires_at,
            Stage::Running(_) | Stage::Seeking | Stage::Claimed(_) | Stage::Leaving { .. } => {
                let works_until = self.worker.map(|worker| worker.until);
                let waits_until = self.retry_at.or(works_until);
                Some(waits_until.unwrap_or(self.created_at))
            }
        }
    }

    /// Why it has to end at this time, if it has to.
    pub(crate) fn must_end(&self, now: Timestamp) -> Option<Reason> {
        let is_over = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
        match &self.stage {
            _ if self.ending.is_some() => self.ending,
            Stage::Seeking | Stage::Claimed(_) if self.give_up_at <= now => Some(Reason::Exhausted),
            Stage::Running(_) if is_over(self.expires_at) => Some(Reason::Expired),
            _ => None,
        }
    }

    /// Leaves its server for what comes next.
    pub(crate) fn leave(&mut self, next: Next) {
        if let Some(hold) = self.hold().cloned() {
            self.stage = Stage::Leaving { hold, next };
            self.put_off = 0;
        }
    }

    /// Notes that the server cannot be given back now.
    pub(crate) fn put_off(&mut self, now: Timestamp) {
        let delay = PUT_OFF_FIRST
            .saturating_mul(1 << self.put_off.min(16))
            .min(PUT_OFF_MAX);
        self.put_off = self.put_off.saturating_add(1);
        self.retry_at = Some(now + delay);
    }

    /// Begins anew, as if it had just been asked for: for a request that is repeated after it came to nothing.
    pub(crate) fn reopen(&mut self, give_up_at: Timestamp) {
        self.stage = Stage::Seeking;
        self.ending = None;
        self.ended_at = None;
        self.failure = None;
        self.tried.clear();
        self.give_up_at = give_up_at;
    }

    /// Whether it ended without ever having run.
    pub(crate) fn came_to_nothing(&self) -> bool {
        matches!(self.stage, Stage::Ended(_)) && self.started_at.is_none()
    }

    /// Whether the same request may lead to a match after all.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.came_to_nothing() && self.failure.is_none()
    }

    /// The document to write; one that is over is kept for `keep`.
    pub(crate) fn put(&self, keep: Duration) -> Put {
        let is_over = matches!(self.stage, Stage::Ended(_));
        Put {
            key: Key::Match(self.id.clone()),
            text: Some(text_of(self)),
            due: self.due(),
            keep: is_over.then_some(keep),
        }
    }

    /// The document that finds the match by its key; kept as long as the match.
    pub(crate) fn put_key(&self, keep: Duration) -> Option<Put> {
        let is_over = matches!(self.stage, Stage::Ended(_));
        Some(Put {
            key: Key::Idempotency(self.key.clone()?),
            text: Some(text_of(&KeyOwner {
                match_id: self.id.clone(),
                digest: self.digest.clone(),
            })),
            due: None,
            keep: is_over.then_some(keep),
        })
    }

    /// The state on the wire.
    pub(crate) fn state(&self) -> &'static str {
        match &self.stage {
            Stage::Seeking | Stage::Claimed(_) => "pending",
            Stage::Leaving {
                next: Next::Seek, ..
            } => "pending",
            Stage::Running(_) => "running",
            Stage::Leaving {
                next: Next::End(_), ..
            } => "ending",
            Stage::Ended(_) => "ended",
        }
    }

    /// Why it ends or has ended.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self.stage {
            Stage::Ended(reason)
            | Stage::Leaving {
                next: Next::End(reason),
                ..
            } => Some(reason),
            Stage::Seeking | Stage::Claimed(_) | Stage::Running(_) | Stage::Leaving { .. } => None,
        }
    }

    /// What subscribers are told: what changed is in the kind.
    pub(crate) fn event(&self, kind: &str) -> NewEvent {
        NewEvent {
            subject: format!("match:{}", self.id),
            kind: kind.to_owned(),
            data: json!({
                "id": self.id,
                "state": self.state(),
                "reason": self.reason(),
                "instance": self.place.as_ref().map(|place| place.server.to_string()),
                "players": self.seats.len(),
                "expires_at": self.expires_at.map(Timestamp::to_rfc3339),
            })
            .to_string(),
        }
    }
}

fn text_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a record is plain data with texts as keys")
}
