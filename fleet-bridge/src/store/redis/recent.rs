//! The newest events, as one reader brings them: however many follow them here, Redis is asked once.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::store::{
    EVENTS_MAX,
    words::{Event, EventPage},
};

/// Events that are kept here: whoever is further behind asks Redis.
pub(super) const RECENT_MAX: usize = 2_000;

/// Events were lost between Redis and here.
#[derive(Debug)]
pub(super) struct Gap;

/// The newest events, while they are followed.
#[derive(Debug)]
pub(super) struct Recent {
    events: Mutex<Option<Tail>>,
    newest: watch::Sender<u64>,
}

/// The end of the list of events.
#[derive(Debug)]
struct Tail {
    events: VecDeque<Event>,
    /// The oldest that Redis kept when it was read; 0 if none was.
    oldest: u64,
    newest: u64,
}

impl Recent {
    /// Nothing is followed yet.
    pub(super) fn new() -> Self {
        Self {
            events: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }

    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Begins with the newest events that Redis gave, in their order, as far as none is missing.
    pub(super) fn begin(&self, mut events: Vec<Event>, oldest: u64, newest: u64) {
        let mut pairs = events.windows(2);
        let is_gap = |pair: &[Event]| pair[0].sequence + 1 != pair[1].sequence;
        if let Some(at) = pairs.rposition(is_gap) {
            events.drain(..=at);
        }
        let mut tail = self.lock();
        *tail = Some(Tail {
            events: events.into(),
            oldest,
            newest,
        });
        self.tell(newest);
    }

    /// Takes events that have come since.
    pub(super) fn extend(&self, events: Vec<Event>) -> Result<(), Gap> {
        let mut tail = self.lock();
        let Some(tail) = &mut *tail else {
            return Err(Gap);
        };
        for event in events {
            if event.sequence != tail.newest + 1 {
                return Err(Gap);
            }
            tail.newest = event.sequence;
            if tail.oldest == 0 {
                tail.oldest = event.sequence;
            }
            tail.events.push_back(event);
            if tail.events.len() > RECENT_MAX {
                tail.events.pop_front();
            }
        }
        self.tell(tail.newest);
        Ok(())
    }

    /// Events are not followed any more: Redis is asked until they are again.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    /// Events after a sequence number, if all of them are here.
    pub(super) fn page(&self, after: u64, limit: usize) -> Option<EventPage> {
        let tail = self.lock();
        let tail = tail.as_ref()?;
        let kept = tail.newest.saturating_sub(EVENTS_MAX as u64) + 1;
        let oldest = match tail.oldest {
            0 => 0,
            oldest => oldest.max(kept),
        };
        let first = after.saturating_add(1).max(oldest);
        let skip = match tail.events.front() {
            Some(front) => first.checked_sub(front.sequence)?,
            None if first <= tail.newest && oldest != 0 => return None,
            None => 0,
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Some(EventPage {
            events: tail.events.iter().skip(skip).take(limit).cloned().collect(),
            oldest,
            newest: tail.newest,
        })
    }

    /// While it is locked, so that numbers come in their order.
    fn tell(&self, newest: u64) {
        self.newest
            .send_if_modified(|old| std::mem::replace(old, newest) != newest);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tail>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::words::{NewEvent, Timestamp};

    fn events(sequences: impl IntoIterator<Item = u64>) -> Vec<Event> {
        let event = |sequence| {
            let event = NewEvent {
                subject: "a".to_owned(),
                kind: "b".to_owned(),
                data: "{}".to_owned(),
            };
            Event::new(sequence, Timestamp(0), event)
        };
        sequences.into_iter().map(event).collect()
    }

    fn sequences(page: &EventPage) -> Vec<u64> {
        page.events.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn what_is_not_here_is_left_to_redis() {
        let recent = Recent::new();
        assert_eq!(recent.page(0, 10), None);
        recent.begin(events(5..=9), 3, 9);
        assert_eq!(recent.page(0, 10), None);
        assert_eq!(recent.page(3, 10), None);
        let page = recent.page(4, 2).unwrap();
        assert_eq!(sequences(&page), [5, 6]);
        assert_eq!((page.oldest, page.newest), (3, 9));
        assert_eq!(sequences(&recent.page(8, 10).unwrap()), [9]);
        assert!(recent.page(9, 10).unwrap().events.is_empty());
        assert!(recent.page(u64::MAX, 10).unwrap().events.is_empty());
        recent.end();
        assert_eq!(recent.page(8, 10), None);
    }

    #[test]
    fn a_history_without_events_is_known_whole() {
        let recent = Recent::new();
        recent.begin(Vec::new(), 0, 7);
        let page = recent.page(0, 10).unwrap();
        assert_eq!((page.events.len(), page.oldest, page.newest), (0, 0, 7));
        recent.extend(events([8])).unwrap();
        let page = recent.page(0, 10).unwrap();
        assert_eq!((page.events.len(), page.oldest, page.newest), (1, 8, 8));
        assert_eq!(*recent.newest().borrow(), 8);
    }

    #[test]
    fn a_gap_is_an_error() {
        let recent = Recent::new();
        assert!(recent.extend(events([1])).is_err());
        recent.begin(events([1, 2, 4, 5]), 1, 5);
        assert_eq!(sequences(&recent.page(3, 10).unwrap()), [4, 5]);
        assert_eq!(recent.page(2, 10), None);
        assert!(recent.extend(events([7])).is_err());
        assert_eq!(*recent.newest().borrow(), 5);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let recent = Recent::new();
        recent.begin(Vec::new(), 0, 0);
        let last = EVENTS_MAX as u64 + 5;
        recent.extend(events(1..=last)).unwrap();
        let page = recent.page(last - 1, 10).unwrap();
        assert_eq!((page.oldest, page.newest), (6, last));
        let first = last - RECENT_MAX as u64;
        assert_eq!(recent.page(first, 1).unwrap().events[0].sequence, first + 1);
        assert_eq!(recent.page(first - 1, 1), None);
    }
}
