//! A media: one stream of one peer, and who does not want it.

use std::time::Instant;

use bytes::Bytes;
use fixedbitset::FixedBitSet;

use super::{RoomLimits, Slot};
use crate::{
    bucket::TokenBucket, drops::DropReason, event::MediaInfo, id::MediaId, limits::REPLAY_WINDOW,
};

#[derive(Debug)]
pub(super) struct Media {
    owner: Slot,
    running: Option<Running>,
    /// Kept over stops: a talker that stops and starts again is still limited.
    bucket: TokenBucket,
    /// Slots of those who have paused it; mostly nobody has.
    paused_by: FixedBitSet,
    /// Slots of those who are not to hear it.
    muted_for: FixedBitSet,
    /// Both: what a packet looks at.
    withheld_from: FixedBitSet,
    /// Slots of those who hear it where streams are limited: exactly those whose streams name it.
    audience: FixedBitSet,
    /// When the audience is to be chosen anew; `None` is at once.
    review_due: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    properties: Bytes,
    seen: Option<Seen>,
}

/// The newest packet and which of those before it came.
#[derive(Debug)]
struct Seen {
    newest: u32,
    /// Bit n: the packet n before the newest came.
    before: u64,
    /// Packets in a row that were far from the newest.
    strays: u8,
}

/// So many packets in a row far behind the newest mean that the sender began anew with another random sequence.
const STRAYS_MAX: u8 = 3;

impl Media {
    pub(super) fn new(now: Instant, owner: Slot, limits: RoomLimits) -> Self {
        Self {
            owner,
            running: None,
            bucket: TokenBucket::new(
                now,
                limits.media_packets_rate,
                limits.media_packets_capacity,
            ),
            paused_by: FixedBitSet::new(),
            muted_for: FixedBitSet::new(),
            withheld_from: FixedBitSet::new(),
            audience: FixedBitSet::new(),
            review_due: None,
        }
    }

    pub(super) fn owner(&self) -> Slot {
        self.owner
    }

    /// How others see it, or this one of them; `None` unless it runs.
    pub(super) fn info(&self, id: MediaId, hearer: Option<Slot>) -> Option<MediaInfo> {
        let properties = self.running.as_ref()?.properties.clone();
        Some(MediaInfo {
            id,
            properties,
            paused: hearer.is_some_and(|hearer| self.paused_by.contains(hearer.index())),
        })
    }

    /// `false` when it runs already.
    pub(super) fn start(&mut self, properties: Bytes) -> bool {
        let is_new = self.running.is_none();
        if is_new {
            self.running = Some(Running {
                properties,
                seen: None,
            });
        }
        is_new
    }

    /// `false` when it did not run. Pauses end with it: it is announced anew when it starts again.
    pub(super) fn stop(&mut self) -> bool {
        self.paused_by.clear();
        self.withheld_from = self.muted_for.clone();
        self.running.take().is_some()
    }

    /// The slots of those who do not want it, or are not to hear it.
    pub(super) fn withheld_from(&self) -> &FixedBitSet {
        &self.withheld_from
    }

    pub(super) fn pause_for(&mut self, hearer: Slot) {
        self.paused_by.grow_and_insert(hearer.index());
        self.withheld_from.grow_and_insert(hearer.index());
    }

    pub(super) fn resume_for(&mut self, hearer: Slot) {
        remove(&mut self.paused_by, hearer);
        self.settle(hearer);
    }

    pub(super) fn mute_for(&mut self, hearer: Slot) {
        self.muted_for.grow_and_insert(hearer.index());
        self.withheld_from.grow_and_insert(hearer.index());
    }

    pub(super) fn unmute_for(&mut self, hearer: Slot) {
        remove(&mut self.muted_for, hearer);
        self.settle(hearer);
    }

    fn settle(&mut self, hearer: Slot) {
        let at = hearer.index();
        if !self.paused_by.contains(at) && !self.muted_for.contains(at) {
            remove(&mut self.withheld_from, hearer);
        }
    }

    /// The slots of those who hear it where streams are limited.
    pub(super) fn audience(&self) -> &FixedBitSet {
        &self.audience
    }

    /// The same, to be chosen anew if it is time; they are given back to [`Self::set_audience`].
    pub(super) fn audience_to_review(&mut self, now: Instant) -> Option<FixedBitSet> {
        let is_due = self.review_due.is_none_or(|due| due <= now);
        is_due.then(|| std::mem::take(&mut self.audience))
    }

    pub(super) fn set_audience(&mut self, audience: FixedBitSet, review_due: Instant) {
        self.audience = audience;
        self.review_due = Some(review_due);
    }

    pub(super) fn unheard_by(&mut self, hearer: Slot) {
        remove(&mut self.audience, hearer);
    }

    /// Whether a packet of its owner may go on.
    pub(super) fn accept(&mut self, now: Instant, sequence: u32) -> Result<(), DropReason> {
        let running = self.running.as_mut().ok_or(DropReason::MediaStopped)?;
        // First the rate: a flood of replays must cost as little as one of new packets.
        if !self.bucket.take(now) {
            return Err(DropReason::MediaRate);
        }
        match &mut running.seen {
            Some(seen) => seen.accept(sequence),
            seen @ None => {
                *seen = Some(Seen::first(sequence));
                Ok(())
            }
        }
    }
}

/// The set may be too small for the slot.
fn remove(slots: &mut FixedBitSet, slot: Slot) {
    if slots.contains(slot.index()) {
        slots.remove(slot.index());
    }
}

impl Seen {
    fn first(newest: u32) -> Self {
        Self {
            newest,
            before: 1,
            strays: 0,
        }
    }

    fn accept(&mut self, sequence: u32) -> Result<(), DropReason> {
        let ahead = sequence.wrapping_sub(self.newest);
        let behind = self.newest.wrapping_sub(sequence);
        if behind < REPLAY_WINDOW {
            self.strays = 0;
            let bit = 1_u64 << behind;
            if self.before & bit != 0 {
                return Err(DropReason::Replayed);
            }
            self.before |= bit;
            return Ok(());
        }
        if ahead < 1 << 31 {
            self.strays = 0;
            self.before = self.before.checked_shl(ahead).unwrap_or(0) | 1;
            self.newest = sequence;
            return Ok(());
        }
        self.strays += 1;
        if self.strays > STRAYS_MAX {
            *self = Self::first(sequence);
            return Ok(());
        }
        Err(DropReason::Late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::origin;

    fn seen(sequences: &[u32]) -> Vec<Result<(), DropReason>> {
        let mut seen = Seen::first(100);
        sequences
            .iter()
            .map(|sequence| seen.accept(*sequence))
            .collect()
    }

    #[test]
    fn a_packet_passes_once_in_any_order() {
        let replayed = Err(DropReason::Replayed);
        assert_eq!(
            seen(&[100, 101, 103, 102, 102, 99, 99, 37, 37]),
            [
                replayed,
                Ok(()),
                Ok(()),
                Ok(()),
                replayed,
                Ok(()),
                replayed,
                Err(DropReason::Late),
                Err(DropReason::Late)
            ]
        );
        let mut wrapping = Seen::first(u32::MAX);
        assert_eq!(wrapping.accept(0), Ok(()));
        assert_eq!(wrapping.accept(u32::MAX), replayed);
        assert_eq!(wrapping.accept(200), Ok(()), "a gap");
        assert_eq!(wrapping.accept(137), Ok(()));
        assert_eq!(wrapping.accept(136), Err(DropReason::Late));
    }

    #[test]
    fn a_sender_that_begins_anew_is_heard_again() {
        let start = 100_u32.wrapping_sub(1 << 20);
        let results = seen(&[start, start + 1, start + 2, start + 3, start + 4, start + 3]);
        let late = Err(DropReason::Late);
        assert_eq!(
            results,
            [late, late, late, Ok(()), Ok(()), Err(DropReason::Replayed)]
        );
    }

    #[test]
    fn only_what_runs_passes_and_only_at_its_rate() {
        let now = origin();
        let limits = RoomLimits {
            media_packets_rate: 50,
            media_packets_capacity: 3,
            concurrent_streams: 0,
        };
        let mut media = Media::new(now, Slot::new(0), limits);
        assert_eq!(media.accept(now, 1), Err(DropReason::MediaStopped));
        assert!(media.start(Bytes::new()) && !media.start(Bytes::new()));
        assert_eq!(
            (1..=3).filter(|it| media.accept(now, *it).is_ok()).count(),
            3
        );
        assert_eq!(media.accept(now, 4), Err(DropReason::MediaRate));
        assert!(media.stop() && !media.stop());
        media.start(Bytes::new());
        assert_eq!(
            media.accept(now, 5),
            Err(DropReason::MediaRate),
            "a new start is no new budget"
        );
    }
}
