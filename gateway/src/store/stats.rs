//! What a store counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn increase(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

/// What has happened in a store since its start. All is 0 without Redis.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// Entries of the log that were read while online.
    pub entries: Counter,
    /// Commands that were decided while Redis was away.
    pub alone: Counter,
    /// How often Redis was lost.
    pub outages: Counter,
    /// Snapshots this gateway wrote.
    pub snapshots: Counter,
    /// How often this gateway began the log anew.
    pub epochs: Counter,
    /// How often entries of the log were found missing at the start.
    pub torn_logs: Counter,
    /// Entries this version cannot read.
    pub unreadable: Counter,
    /// What could not be kept for the others during an outage.
    pub dropped: Counter,
}

impl StoreStats {
    /// All of them by name.
    pub fn events(&self) -> [(&'static str, u64); 8] {
        [
            ("entry", self.entries.value()),
            ("alone", self.alone.value()),
            ("outage", self.outages.value()),
            ("snapshot", self.snapshots.value()),
            ("epoch", self.epochs.value()),
            ("torn_log", self.torn_logs.value()),
            ("unreadable", self.unreadable.value()),
            ("dropped", self.dropped.value()),
        ]
    }
}
