//! The store in memory. [`State`] is pure: it is told the time and never waits.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    ops::Bound,
};

use super::{
    EVENTS_MAX,
    words::{
        Commit, Committed, Document, Event, EventPage, Key, NewEvent, Put, Timestamp, Version,
    },
};

/// Commits that are known by their id when they come again: those of a minute at 1,000 a second would be more, but a
/// commit to memory never gets lost on its way.
const APPLIED_MAX: usize = 10_000;

/// A document and what the indexes hold of it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) document: Document,
    pub(super) due: Option<Timestamp>,
    /// From here on it is forgotten.
    pub(super) until: Option<Timestamp>,
}

/// A commit that was checked, with the time it got.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) id: u64,
    pub(super) at: Timestamp,
    /// Documents as they will be; `None` deletes.
    pub(super) put: Vec<(Key, Option<Kept>)>,
    pub(super) events: Vec<NewEvent>,
}

impl Change {
    pub(super) fn new(commit: &Commit, at: Timestamp) -> Self {
        let put = |put: &Put| {
            let kept = put.text.as_deref().map(|text| Kept {
                document: Document {
                    version: Version(commit.id),
                    text: text.into(),
                },
                due: put.due,
                until: put.keep.map(|keep| at + keep),
            });
            (put.key.clone(), kept)
        };
        Self {
            id: commit.id,
            at,
            put: commit.put.iter().map(put).collect(),
            events: commit.events.clone(),
        }
    }
}

/// What is to be done with a commit.
#[derive(Debug)]
pub(super) enum Decision {
    /// Nothing, and this is the answer.
    Answer(Committed),
    /// This, and it is done.
    Apply(Change),
}

/// Documents, events, and what finds them. A step costs the logarithm of what is kept.
#[derive(Clone, Debug)]
pub(super) struct State {
    documents: BTreeMap<Key, Kept>,
    due: BTreeSet<(Timestamp, Key)>,
    until: BTreeSet<(Timestamp, Key)>,
    events: VecDeque<Event>,
    /// Sequence number of the newest event.
    newest: u64,
    applied: HashSet<u64>,
    /// The same in the order they came.
    applied_order: VecDeque<u64>,
}

impl State {
    /// Empty; the first event gets the number after `newest`.
    pub(super) fn new(newest: u64) -> Self {
        Self {
            documents: BTreeMap::new(),
            due: BTreeSet::new(),
            until: BTreeSet::new(),
            events: VecDeque::new(),
            newest,
            applied: HashSet::new(),
            applied_order: VecDeque::new(),
        }
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Every document, by key.
    pub(super) fn documents(&self) -> impl Iterator<Item = (&Key, &Kept)> {
        self.documents.iter()
    }

    /// The events that are kept, oldest first.
    pub(super) fn kept_events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// Forgets the documents whose time is over. What reads or decides comes after this.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while let Some((until, key)) = self.until.first()
            && *until <= now
        {
            let key = key.clone();
            self.put(key, None);
        }
    }

    pub(super) fn load(&self, key: &Key) -> Option<Document> {
        self.documents.get(key).map(|kept| kept.document.clone())
    }

    /// Changes nothing yet: what is to be applied may have to be written down first.
    pub(super) fn decide(&self, commit: &Commit, now: Timestamp) -> Decision {
        if self.applied.contains(&commit.id) {
            return Decision::Answer(Committed::Done);
        }
        let version = |key| self.documents.get(key).map(|kept| kept.document.version);
        if commit.expect.iter().any(|(key, it)| version(key) != *it) {
            return Decision::Answer(Committed::Conflict);
        }
        Decision::Apply(Change::new(commit, now))
    }

    pub(super) fn apply(&mut self, change: Change) {
        for (key, kept) in change.put {
            self.put(key, kept);
        }
        for event in change.events {
            let event = Event::new(self.newest + 1, change.at, event);
            self.push(event);
        }
        if self.applied.insert(change.id) {
            self.applied_order.push_back(change.id);
        }
        if self.applied_order.len() > APPLIED_MAX
            && let Some(oldest) = self.applied_order.pop_front()
        {
            self.applied.remove(&oldest);
        }
    }

    /// Replaces one document and its places in the indexes.
    pub(super) fn put(&mut self, key: Key, kept: Option<Kept>) {
        if let Some(old) = self.documents.remove(&key) {
            if let Some(due) = old.due {
                self.due.remove(&(due, key.clone()));
            }
            if let Some(until) = old.until {
                self.until.remove(&(until, key.clone()));
            }
        }
        let Some(kept) = kept else {
            return;
        };
        if let Some(due) = kept.due {
            self.due.insert((due, key.clone()));
        }
        if let Some(until) = kept.until {
            self.until.insert((until, key.clone()));
        }
        self.documents.insert(key, kept);
    }

    /// Takes the next event as it is.
    pub(super) fn push(&mut self, event: Event) {
        self.newest = event.sequence;
        self.events.push_back(event);
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// Documents whose due time has come, earliest first.
    pub(super) fn due(&self, now: Timestamp, limit: usize) -> Vec<Key> {
        let due = self.due.iter().take_while(|(due, _)| *due <= now);
        due.take(limit).map(|(_, key)| key.clone()).collect()
    }

    /// Matches by id, ids greater than `after`.
    pub(super) fn matches(&self, after: &str, limit: usize) -> Vec<(String, Document)> {
        let start = Bound::Excluded(Key::Match(after.to_owned()));
        let rest = self.documents.range((start, Bound::Unbounded));
        let matches = rest.map_while(|(key, kept)| match key {
            Key::Match(id) => Some((id.clone(), kept.document.clone())),
            Key::Server(_) | Key::Idempotency(_) | Key::View(_) | Key::Webhook(_) => None,
        });
        matches.take(limit).collect()
    }

    /// Events after a sequence number.
    pub(super) fn events(&self, after: u64, limit: usize) -> EventPage {
        let oldest = self.events.front().map_or(0, |event| event.sequence);
        let skip = match oldest {
            0 => 0,
            oldest => after.saturating_add(1).saturating_sub(oldest),
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        EventPage {
            events: self.events.iter().skip(skip).take(limit).cloned().collect(),
            oldest,
            newest: self.newest,
        }
    }
}
