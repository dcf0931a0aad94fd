//! Events as the entries of a stream.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, RedisResult, streams::StreamId};

use crate::store::words::{Event, Timestamp};

/// The number of an event.
pub(super) fn sequence(entry: &StreamId) -> RedisResult<u64> {
    let number = entry.id.strip_suffix("-0").and_then(|it| it.parse().ok());
    number.ok_or_else(|| unreadable("the id of an event"))
}

/// An event with all its fields.
pub(super) fn event(entry: &StreamId) -> RedisResult<Event> {
    let text = |field| {
        let text: Option<String> = entry.get(field);
        text.map(Arc::from)
            .ok_or_else(|| unreadable("a field of an event"))
    };
    let at: Option<u64> = entry.get("at");
    Ok(Event {
        sequence: sequence(entry)?,
        at: Timestamp(at.ok_or_else(|| unreadable("the time of an event"))?),
        subject: text("subject")?,
        kind: text("kind")?,
        data: text("data")?,
    })
}

fn unreadable(what: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, what).into()
}
