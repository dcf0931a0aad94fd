//! A record of what happened to matches, for tests and operators: a file with one line of JSON per event, written
//! when the event has become true. Two servers may append to one file: a line is one write.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

/// Where events are appended, if anywhere.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    service_id: i64,
}

/// What happened.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// A match runs.
    Start {
        match_id: &'a str,
        fence: Option<u64>,
    },
    /// It runs no longer.
    Finish {
        match_id: &'a str,
        fence: Option<u64>,
        /// The outcome, as far as somebody named one.
        reason: &'a str,
    },
    /// Somebody was refused.
    Refused {
        match_id: &'a str,
        fence: Option<u64>,
        /// What was asked for: `start` or `finish`.
        call: &'static str,
        /// `occupied` or `stale_fence`.
        reason: &'static str,
        /// The match that runs, if one does.
        running: Option<&'a str>,
    },
    /// The server has said that it is idle while no match ran: it has just started, or was told to finish nothing.
    Idle {
        match_id: &'a str,
        fence: Option<u64>,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u64,
    service_id: i64,
    #[serde(flatten)]
    event: Event<'a>,
}

impl Journal {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: Option<&Path>, service_id: i64) -> io::Result<Self> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        let file = path.map(open).transpose()?;
        Ok(Self { file, service_id })
    }

    /// Appends an event that is true from now on. A disk that is full does not end the match that it tells of.
    pub(crate) fn write(&mut self, event: Event<'_>) {
        let Some(file) = &mut self.file else { return };
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_ms = since.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let service_id = self.service_id;
        let line = Line {
            at_ms,
            service_id,
            event,
        };
        let mut line = serde_json::to_vec(&line).expect("an event is JSON");
        line.push(b'\n');
        if let Err(error) = file.write_all(&line) {
            tracing::warn!(%error, "the journal could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_line_holds_what_happened_where_and_when() {
        let line = Line {
            at_ms: 1,
            service_id: 42,
            event: Event::Refused {
                match_id: "m2",
                fence: Some(7),
                call: "start",
                reason: "occupied",
                running: Some("m1"),
            },
        };
        let expected = json!({
            "at_ms": 1, "service_id": 42, "event": "refused", "match_id": "m2", "fence": 7, "call": "start",
            "reason": "occupied", "running": "m1",
        });
        let line: Value = serde_json::to_value(line).unwrap();
        assert_eq!(line, expected);
    }
}
