//! Where a reader of the events begins, and when it has lost some.
//!
//! Pure.

use crate::{error::Error, store::EventPage};

/// Where a reader wants to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Start {
    /// With what comes next.
    #[default]
    Next,
    /// With the oldest that is kept.
    Oldest,
    /// After an event.
    After {
        /// The history of the store that it happened in.
        history: String,
        sequence: u64,
    },
}

/// Why what happened is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The event belongs to another history: the store is another, or was lost.
    History,
    /// The events after it are no longer kept.
    Kept,
}

impl Lost {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::History => "other_history",
            Self::Kept => "too_old",
        }
    }

    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::History => "the id belongs to another history: read the lists again",
            Self::Kept => "the events after the id are no longer kept: read the lists again",
        }
    }
}

impl Start {
    /// After the event of this id.
    pub(super) fn after(id: &str) -> Result<Self, Error> {
        let parts = id.rsplit_once('.');
        let parts = parts.and_then(|(history, number)| Some((history, number.parse().ok()?)));
        let Some((history, sequence)) = parts.filter(|(history, _)| !history.is_empty()) else {
            return Err(Error::invalid_argument(format!(
                "{id:?} is not the id of an event"
            )));
        };
        Ok(Self::After {
            history: history.to_owned(),
            sequence,
        })
    }

    /// The number of the last event before the first that the reader gets, and whether events were lost on the way
    /// there. `kept` is any page of the store, whose history is `history`.
    pub(super) fn place(&self, history: &str, kept: &EventPage) -> (u64, Option<Lost>) {
        let newest = kept.newest;
        match self {
            Self::Oldest if kept.oldest != 0 => (kept.oldest - 1, None),
            Self::Next | Self::Oldest => (newest, None),
            Self::After { history: other, .. } if other != history => (newest, Some(Lost::History)),
            Self::After { sequence, .. } if *sequence > newest => (newest, Some(Lost::History)),
            Self::After { sequence, .. } if kept.has_gap(*sequence) => (newest, Some(Lost::Kept)),
            Self::After { sequence, .. } => (*sequence, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start: &Start, kept: (u64, u64)) -> (u64, Option<Lost>) {
        let kept = EventPage {
            events: Vec::new(),
            oldest: kept.0,
            newest: kept.1,
        };
        start.place("here", &kept)
    }

    #[test]
    fn a_reader_begins_where_it_says() {
        let id = |id| Start::after(id).unwrap();
        for (start, kept, place) in [
            (Start::Next, (0, 0), (0, None)),
            (Start::Next, (3, 9), (9, None)),
            (Start::Oldest, (0, 9), (9, None)),
            (Start::Oldest, (1, 9), (0, None)),
            (Start::Oldest, (3, 9), (2, None)),
            (id("here.9"), (3, 9), (9, None)),
            (id("here.5"), (3, 9), (5, None)),
            (id("here.2"), (3, 9), (2, None)),
            (id("here.1"), (3, 9), (9, Some(Lost::Kept))),
            (id("here.8"), (0, 9), (9, Some(Lost::Kept))),
            (id("here.9"), (0, 9), (9, None)),
            (id("here.10"), (3, 9), (9, Some(Lost::History))),
            (id("there.5"), (3, 9), (9, Some(Lost::History))),
            (id("a.here.5"), (3, 9), (9, Some(Lost::History))),
        ] {
            assert_eq!(check(&start, kept), place, "{start:?} in {kept:?}");
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for id in [
            "",
            "7",
            "here",
            "here.",
            ".7",
            "here.x",
            "here.-1",
            "here.1.5x",
        ] {
            assert!(Start::after(id).is_err(), "{id:?}");
        }
    }
}
