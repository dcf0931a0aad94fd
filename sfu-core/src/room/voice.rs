//! Where a voice packet goes. Where streams are limited, who hears a talker is a set of slots, so that a packet costs what
//! it delivers: what is refused costs next to nothing, however many talk to however many.

use std::time::Instant;

use fixedbitset::FixedBitSet;

use super::{
    Room, Slot,
    streams::{Candidate, Hearing, review_time},
};
use crate::{drops::DropReason, id::MediaId, wire::datagram::Datagram};

/// Who would have heard a packet, and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub receivers: usize,
    /// Why, if there were any.
    pub reason: DropReason,
}

impl Room {
    /// Finds the receivers of a packet of one media, and calls `deliver` for each. Where streams are limited, by the
    /// room's limit or by a `budget` of streams for the whole room, it goes to those who have chosen it, at a cost that
    /// does not depend on how many have not; they choose a few times a second.
    ///
    /// # Errors
    /// [`DropReason`] when the packet goes nowhere at all.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        sender: Slot,
        media_id: MediaId,
        datagram: &Datagram<'_>,
        budget: Option<u32>,
        deliver: impl FnMut(Slot),
    ) -> Result<Refused, DropReason> {
        let hearing = self.hearing(budget);
        let media = self
            .medias
            .get_mut(&media_id)
            .ok_or(DropReason::ForeignMedia)?;
        if media.owner() != sender {
            return Err(DropReason::ForeignMedia);
        }
        media.accept(now, datagram.sequence)?;
        let talker = self.peers.get(sender.index()).and_then(Option::as_ref);
        let talker = talker.ok_or(DropReason::ForeignMedia)?;
        if talker.is_muted {
            return Err(DropReason::Muted);
        }
        let Some(hearing) = hearing else {
            talker
                .visible_without(media.withheld_from())
                .for_each(deliver);
            return Ok(Refused {
                receivers: 0,
                reason: DropReason::StreamLimit,
            });
        };
        if let Some(audience) = media.audience_to_review(now) {
            self.review(now, sender, media_id, audience, hearing);
        }
        let media = self.medias.get(&media_id).ok_or(DropReason::ForeignMedia)?;
        let talker = self.peer(sender).ok_or(DropReason::ForeignMedia)?;
        let receivers = talker.choose_visible(media.withheld_from(), media.audience(), deliver);
        Ok(Refused {
            receivers,
            reason: hearing.reason,
        })
    }

    /// `None` when everybody hears everybody near.
    fn hearing(&self, budget: Option<u32>) -> Option<Hearing> {
        let limited = Hearing::limited(self.limits.concurrent_streams);
        let shed = budget.and_then(|it| Hearing::within(it, self.len(), self.medias.len()));
        match (limited, shed) {
            (Some(limited), Some(shed)) => Some(limited.stricter(shed)),
            (limited, shed) => limited.or(shed),
        }
    }

    /// Lets everybody near choose whether it hears a media.
    fn review(
        &mut self,
        now: Instant,
        sender: Slot,
        media_id: MediaId,
        mut audience: FixedBitSet,
        hearing: Hearing,
    ) {
        let Self {
            peers,
            streams,
            medias,
            space,
            ..
        } = self;
        let talker = peers.get(sender.index()).and_then(Option::as_ref);
        let (Some(talker), Some(media)) = (talker, medias.get_mut(&media_id)) else {
            return;
        };
        let mut gone = Vec::new();
        audience.grow(streams.len());
        let near = talker.visible_count();
        for to in talker.visible_without(media.withheld_from()) {
            let Some(streams) = streams.get_mut(to.index()) else {
                continue;
            };
            let candidate = Candidate {
                media: media_id,
                is_heard: audience.contains(to.index()),
                // Whoever sees it is somewhere.
                distance: space.distance_squared(sender, to).unwrap_or_default(),
                near,
            };
            let is_gone = |media| gone.push((media, to));
            let is_heard = streams.review(now, hearing.of(to), candidate, is_gone);
            audience.set(to.index(), is_heard);
        }
        let review_due = now + review_time(near, !audience.is_clear());
        media.set_audience(audience, review_due);
        for (media, hearer) in gone {
            if let Some(media) = medias.get_mut(&media) {
                media.unheard_by(hearer);
            }
        }
    }

    /// Whoever leaves hears nothing and is not heard: others may choose somebody else.
    pub(super) fn forget_streams(&mut self, slot: Slot, media_ids: &[MediaId]) {
        if let Some(streams) = self.streams.get_mut(slot.index()) {
            for media in std::mem::take(streams).medias() {
                if let Some(media) = self.medias.get_mut(&media) {
                    media.unheard_by(slot);
                }
            }
        }
        for id in media_ids {
            let Some(media) = self.medias.get(id) else {
                continue;
            };
            for hearer in media.audience().ones() {
                if let Some(streams) = self.streams.get_mut(hearer) {
                    streams.forget(*id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
