//! What game servers write down about their matches, read back. The format is mock-game-server's.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A line of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The match that it is about; empty if none.
    pub match_id: String,
    /// The claim under which it was asked for.
    pub fence: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The match runs.
    Start,
    /// It runs no longer.
    Finish,
    /// The server says that it is idle, and no match ran.
    Idle,
    /// A call was refused.
    Refused(Refusal),
}

/// A call that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// `start` or `finish`.
    pub call: String,
    /// `occupied` or `stale_fence`.
    pub reason: String,
    /// The match that ran.
    pub running: Option<String>,
}

/// The events of one journal, in order.
pub(crate) fn read(path: &Path) -> Result<Vec<Event>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(|line| {
        serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_game_server_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"at_ms":1,"service_id":42,"event":"start","match_id":"m1","fence":7}
{"at_ms":2,"service_id":42,"event":"refused","match_id":"m2","fence":null,"call":"start","reason":"occupied","running":"m1"}
"#;
        fs::write(file.path(), text).unwrap();
        let refusal = Refusal {
            call: "start".to_owned(),
            reason: "occupied".to_owned(),
            running: Some("m1".to_owned()),
        };
        let expected = [
            (1, "m1", Some(7), EventKind::Start),
            (2, "m2", None, EventKind::Refused(refusal)),
        ];
        let expected = expected.map(|(at_ms, match_id, fence, kind)| Event {
            at_ms,
            match_id: match_id.to_owned(),
            fence,
            kind,
        });
        assert_eq!(read(file.path()).unwrap(), expected);
        fs::write(file.path(), "{}\n").unwrap();
        assert!(read(file.path()).is_err());
    }
}
