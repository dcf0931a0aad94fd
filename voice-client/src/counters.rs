//! What is counted: of the whole client, and of each media that is heard.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far behind the newest packet of a media another may be and still be told from one that came before.
const WINDOW: u32 = 64;

/// A jump of the sequence by more than this is no loss: the talker began anew with another number. At 50 packets a second,
/// a minute.
const JUMP_MAX: u32 = 3_000;

/// What a client has counted since it was connected first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets handed to the network.
    pub packets_sent: u64,
    /// Packets that were heard, of a media that the client knows.
    pub packets_received: u64,
    /// Packets that were sent faster than the network took them.
    pub dropped_sending: u64,
    /// Packets that nobody took from [`Voice`](crate::Voice) in time.
    pub dropped_receiving: u64,
    /// Packets that were not sent because the client was not connected.
    pub not_connected: u64,
    /// Packets of medias that the client does not know, or does not know yet: their announcement takes another way.
    pub unknown_media: u64,
    /// Datagrams that are no voice.
    pub malformed: u64,
    /// Notifications that this client does not understand.
    pub unknown_events: u64,
    /// Times the connection was lost.
    pub losses: u64,
    /// Rooms that were resumed.
    pub resumed: u64,
    /// Rooms that were joined anew after a loss.
    pub rejoined: u64,
}

/// What became of one media's packets on their way here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaCounters {
    /// Packets that came, each counted once.
    pub received: u64,
    /// Packets that did not come. One that comes late is taken off again.
    pub lost: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that came again, or so late that this cannot be told.
    pub duplicated: u64,
}

macro_rules! tallies {
    ($($name:ident),*) => {
        /// [`Counters`] as they are counted.
        #[derive(Debug, Default)]
        pub(crate) struct Tallies { $(pub(crate) $name: Tally),* }

        impl Tallies {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.0.load(Ordering::Relaxed)),* }
            }
        }
    };
}

tallies!(
    packets_sent,
    packets_received,
    dropped_sending,
    dropped_receiving,
    not_connected,
    unknown_media,
    malformed,
    unknown_events,
    losses,
    resumed,
    rejoined
);

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Watches the sequence of one media.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    counters: MediaCounters,
    newest: Option<u32>,
    /// Bit n: the packet n before the newest has come.
    seen: u64,
}

impl Reception {
    pub(crate) fn counters(&self) -> MediaCounters {
        self.counters
    }

    pub(crate) fn count(&mut self, sequence: u32) {
        let counters = &mut self.counters;
        let Some(newest) = self.newest else {
            counters.received += 1;
            (self.newest, self.seen) = (Some(sequence), 1);
            return;
        };
        let ahead = sequence.wrapping_sub(newest);
        let behind = newest.wrapping_sub(sequence);
        if ahead != 0 && ahead <= JUMP_MAX {
            counters.received += 1;
            counters.lost += u64::from(ahead - 1);
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.newest = Some(sequence);
        } else if behind < WINDOW {
            let bit = 1 << behind;
            if self.seen & bit != 0 {
                counters.duplicated += 1;
                return;
            }
            self.seen |= bit;
            counters.received += 1;
            counters.reordered += 1;
            // What came before the first packet was never counted as lost.
            counters.lost = counters.lost.saturating_sub(1);
        } else if behind <= JUMP_MAX {
            counters.duplicated += 1;
        } else {
            counters.received += 1;
            (self.newest, self.seen) = (Some(sequence), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(sequences: &[u32]) -> MediaCounters {
        let mut reception = Reception::default();
        for sequence in sequences {
            reception.count(*sequence);
        }
        reception.counters()
    }

    #[test]
    fn losses_late_packets_and_copies_are_told_apart() {
        let of = |received, lost, reordered, duplicated| MediaCounters {
            received,
            lost,
            reordered,
            duplicated,
        };
        for (sequences, wanted) in [
            (&[][..], of(0, 0, 0, 0)),
            (&[5, 6, 7], of(3, 0, 0, 0)),
            (&[5, 8], of(2, 2, 0, 0)),
            (&[5, 8, 6], of(3, 1, 1, 0)),
            (&[5, 8, 6, 6, 8], of(3, 1, 1, 2)),
            (&[u32::MAX, 0, 2, 1], of(4, 0, 1, 0)),
            (&[5, 105, 6], of(2, 99, 0, 1)),
            (&[5, 1_000_000, 1_000_001], of(3, 0, 0, 0)),
            (&[1_000_000, 5, 6], of(3, 0, 0, 0)),
            (&[5, 4], of(2, 0, 1, 0)),
        ] {
            assert_eq!(counted(sequences), wanted, "{sequences:?}");
        }
    }
}
