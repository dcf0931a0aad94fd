//! The words of the store: documents, commits and events. No IO and no clock.

use std::{
    fmt,
    ops::Add,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970 by the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Timestamp(pub(crate) u64);

impl Timestamp {
    /// The time that has passed since `earlier`; none when it is not earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// As RFC 3339 writes it, in UTC with milliseconds.
    pub(crate) fn to_rfc3339(self) -> String {
        DateTime::<Utc>::from(self).to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(millis(time)))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(millis(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(u64::try_from(time.timestamp_millis()).unwrap_or_default())
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(time: Timestamp) -> Self {
        let millis = i64::try_from(time.0).unwrap_or(i64::MAX);
        Self::from_timestamp_millis(millis).unwrap_or(Self::MAX_UTC)
    }
}

/// Whole milliseconds of a time.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Names a document. Its text form, `match:m-1`, is what files and Redis hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    /// A match, by its id.
    Match(String),
    /// The claim of a game server, by the Fleet's id of the server.
    Server(i64),
    /// The answer to a call, by its idempotency key.
    Idempotency(String),
    /// What bridges last saw of a game server, by the Fleet's id of the server.
    View(i64),
    /// A delivery to a webhook.
    Webhook(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(id) => write!(f, "match:{id}"),
            Self::Server(id) => write!(f, "server:{id}"),
            Self::Idempotency(key) => write!(f, "idempotency:{key}"),
            Self::View(id) => write!(f, "view:{id}"),
            Self::Webhook(id) => write!(f, "webhook:{id}"),
        }
    }
}

/// A text that no key has.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} names no document")]
pub(crate) struct UnknownKey(String);

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let unknown = || UnknownKey(text.to_owned());
        let (kind, name) = text.split_once(':').ok_or_else(unknown)?;
        let number = || name.parse().map_err(|_| unknown());
        Ok(match kind {
            "match" => Self::Match(name.to_owned()),
            "server" => Self::Server(number()?),
            "idempotency" => Self::Idempotency(name.to_owned()),
            "view" => Self::View(number()?),
            "webhook" => Self::Webhook(name.to_owned()),
            _ => return Err(unknown()),
        })
    }
}

/// Which text a document has: the id of the commit that wrote it. Versions are equal or not; none is before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version(pub(crate) u64);

/// A document as it was read. Its `Debug` form does not show the text, which may hold players' tokens.
#[derive(Clone)]
pub(crate) struct Document {
    /// What a commit expects to find when it builds on this text.
    pub(crate) version: Version,
    /// JSON.
    pub(crate) text: Arc<str>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Document").field(&self.version).finish()
    }
}

/// What a commit makes of one document. Its `Debug` form does not show the text.
#[derive(Clone)]
pub(crate) struct Put {
    /// The document.
    pub(crate) key: Key,
    /// JSON; `None` deletes the document.
    pub(crate) text: Option<String>,
    /// When somebody must look at it; `None`: never.
    pub(crate) due: Option<Timestamp>,
    /// It is forgotten so long after the commit; `None`: never.
    pub(crate) keep: Option<Duration>,
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("key", &self.key)
            .field("deletes", &self.text.is_none())
            .field("due", &self.due)
            .field("keep", &self.keep)
            .finish()
    }
}

/// Changes that are made together or not at all.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// Random. The same id again within a minute is the same commit again.
    pub(crate) id: u64,
    /// Versions that documents must have; `None`: it must not exist.
    pub(crate) expect: Vec<(Key, Option<Version>)>,
    /// Documents to write or delete, each at most once.
    pub(crate) put: Vec<Put>,
    /// What is told to those who follow events, in this order.
    pub(crate) events: Vec<NewEvent>,
}

/// An event that has no number yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NewEvent {
    /// What it is about, e.g. `instance:101` or `match:m-1`.
    pub(crate) subject: String,
    /// What happened, e.g. `match.running`.
    pub(crate) kind: String,
    /// JSON.
    pub(crate) data: String,
}

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// One more than that of the event before it.
    pub(crate) sequence: u64,
    /// When it was committed.
    pub(crate) at: Timestamp,
    /// What it is about, e.g. `instance:101` or `match:m-1`.
    pub(crate) subject: Arc<str>,
    /// What happened, e.g. `match.running`.
    pub(crate) kind: Arc<str>,
    /// JSON.
    pub(crate) data: Arc<str>,
}

impl Event {
    pub(super) fn new(sequence: u64, at: Timestamp, event: NewEvent) -> Self {
        Self {
            sequence,
            at,
            subject: event.subject.into(),
            kind: event.kind.into(),
            data: event.data.into(),
        }
    }
}

/// Events that follow a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventPage {
    /// In their order, without gaps.
    pub(crate) events: Vec<Event>,
    /// Sequence number of the oldest event that is kept; 0 if none is.
    pub(crate) oldest: u64,
    /// Sequence number of the newest event. Without any it is the number before the first.
    pub(crate) newest: u64,
}

impl EventPage {
    /// Whether somebody who has read up to `after` has missed events that are not kept any more, or read them in a
    /// history that is lost. Who reads from the start (`after` is 0) has missed nothing.
    pub(crate) fn has_gap(&self, after: u64) -> bool {
        let oldest = match self.oldest {
            0 => self.newest.saturating_add(1),
            oldest => oldest,
        };
        after != 0 && (after.saturating_add(1) < oldest || after > self.newest)
    }
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is applied, now or when it was sent before.
    Done,
    /// A document has another version than expected; nothing was changed.
    Conflict,
}

/// The store cannot be reached; what a commit did is unknown until the same commit is sent again. The text names no
/// address and no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the store cannot be reached: {0}")]
pub(crate) struct Unavailable(pub(super) String);

impl Unavailable {
    /// A document that is not what its key promises: it was written by another version, or by hand.
    pub(crate) fn unreadable(error: &serde_json::Error) -> Self {
        Self(format!("a document cannot be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_text() {
        for key in [
            Key::Match("m-1".to_owned()),
            Key::Server(i64::MIN),
            Key::Idempotency("a:b c".to_owned()),
            Key::View(7),
            Key::Webhook(String::new()),
        ] {
            assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        }
        for text in ["", "match", "server:x", "other:1"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_timestamp_is_written_as_rfc_3339() {
        let time = Timestamp(1_700_000_000_000) + Duration::from_millis(7);
        assert_eq!(time.to_rfc3339(), "2023-11-14T22:13:20.007Z");
        assert_eq!(Timestamp::from(DateTime::<Utc>::from(time)), time);
        assert_eq!(Timestamp(9).since(Timestamp(2)), Duration::from_millis(7));
        assert_eq!(Timestamp(2).since(Timestamp(9)), Duration::ZERO);
        assert!(!Timestamp(u64::MAX).to_rfc3339().is_empty());
    }

    #[test]
    fn a_gap_is_seen() {
        let page = |oldest, newest| EventPage {
            events: Vec::new(),
            oldest,
            newest,
        };
        for (after, oldest, newest, has_gap) in [
            (0, 5, 9, false),
            (4, 5, 9, false),
            (9, 5, 9, false),
            (3, 5, 9, true),
            (10, 5, 9, true),
            (9, 0, 9, false),
            (8, 0, 9, true),
        ] {
            let page = page(oldest, newest);
            assert_eq!(page.has_gap(after), has_gap, "{after} of {page:?}");
        }
    }
}
