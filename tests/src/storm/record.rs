//! What matchmakers have seen: the matches that they were told of, how often what happened, and how long it took.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::check::Violation;

/// Answers kept of those that nobody should get: the first ones say what is wrong.
const SURPRISES_MAX: usize = 100;

/// A match as one matchmaker knows it. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its id.
    pub match_id: String,
    /// The service that it was said to run on.
    pub server: i64,
    /// When the matchmaker had the answer.
    pub from_ms: u64,
    /// When the matchmaker began to finish it; never, if it did not.
    pub until_ms: Option<u64>,
    /// When its lease ends, as the answer says.
    pub expires_ms: u64,
    /// When the matchmaker was told that it has ended.
    pub ended_ms: Option<u64>,
}

impl Told {
    /// Until when the server must have been the match's own.
    pub(crate) fn owned_until_ms(&self) -> u64 {
        self.until_ms
            .unwrap_or(self.expires_ms)
            .min(self.expires_ms)
    }
}

/// What all matchmakers have seen.
#[derive(Debug, Default)]
pub struct Record {
    /// The matches they were told of.
    pub told: Vec<Told>,
    /// How often what happened.
    pub counts: BTreeMap<String, u64>,
    /// Times of the calls that brought a match.
    pub calls: Vec<Duration>,
    /// Times from the first call with a key to its match.
    pub waits: Vec<Duration>,
    /// Keys for which two bridges gave different answers.
    pub unequal_replays: Vec<String>,
    /// Answers that nobody should get.
    pub surprises: Vec<String>,
}

impl Record {
    /// Counts something.
    pub(crate) fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    /// Keeps an answer that nobody should get.
    pub(crate) fn surprise(&mut self, text: String) {
        self.count("answers that nobody should get");
        if self.surprises.len() < SURPRISES_MAX {
            self.surprises.push(text);
        }
    }

    /// What is wrong whatever the game servers say.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let unequal = self.unequal_replays.iter().cloned();
        let surprises = self.surprises.iter().cloned();
        unequal
            .map(|key| Violation::UnequalReplay { key })
            .chain(surprises.map(Violation::Surprise))
            .collect()
    }
}

/// The record while matchmakers write it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedRecord(Arc<Mutex<Record>>);

impl SharedRecord {
    /// Writes something down.
    pub(crate) fn note(&self, write: impl FnOnce(&mut Record)) {
        write(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All that was written down.
    pub(crate) fn take(&self) -> Record {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
