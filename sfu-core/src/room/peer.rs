//! A peer in its room.

use std::sync::Arc;

use bytes::Bytes;
use fixedbitset::FixedBitSet;

use super::{
    Join,
    slots::{choose, without},
};
use crate::id::{MediaId, PeerId};

/// Where a peer sits in its room: a small number that the next peer gets when it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    pub(super) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("a room has fewer peers than there are peer ids"))
    }

    /// A place in a list that runs beside the room's.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) user_id: Arc<str>,
    pub(super) user_data: Bytes,
    pub(super) media_ids: Vec<MediaId>,
    /// Whether nobody is to hear it.
    pub(super) is_muted: bool,
    /// The slots of those who see this peer, and whom it sees: sight is mutual.
    visible: FixedBitSet,
}

impl Peer {
    pub(super) fn new(join: Join, visible: FixedBitSet) -> Self {
        Self {
            id: join.peer,
            user_id: join.user_id,
            user_data: join.user_data,
            media_ids: join.media_ids,
            is_muted: false,
            visible,
        }
    }

    pub(super) fn visible(&self) -> impl Iterator<Item = Slot> + '_ {
        without(&self.visible, const { &FixedBitSet::new() })
    }

    /// Those who see this peer and are not among `others`.
    pub(super) fn visible_without<'a>(
        &'a self,
        others: &'a FixedBitSet,
    ) -> impl Iterator<Item = Slot> + 'a {
        without(&self.visible, others)
    }

    /// How many they are.
    pub(super) fn visible_count(&self) -> usize {
        self.visible.count_ones(..)
    }

    /// Calls `each` for the chosen among them, and says how many are not chosen.
    pub(super) fn choose_visible(
        &self,
        without: &FixedBitSet,
        chosen: &FixedBitSet,
        each: impl FnMut(Slot),
    ) -> usize {
        choose(&self.visible, without, chosen, each)
    }

    pub(super) fn can_see(&self, other: Slot) -> bool {
        self.visible.contains(other.index())
    }

    pub(super) fn sees(&mut self, other: Slot) {
        self.visible.grow_and_insert(other.index());
    }

    pub(super) fn loses(&mut self, other: Slot) {
        if self.can_see(other) {
            self.visible.remove(other.index());
        }
    }

    /// Takes in who is near now, and says who came and who went.
    pub(super) fn look_around(&mut self, near: FixedBitSet) -> (Vec<Slot>, Vec<Slot>) {
        let came = without(&near, &self.visible).collect();
        let went = without(&self.visible, &near).collect();
        self.visible = near;
        (came, went)
    }
}
