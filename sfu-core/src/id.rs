//! Names of peers, medias and rooms, and who gets which.

use std::{collections::VecDeque, fmt, num::NonZeroU32};

/// A peer: a client in a room. Above 0, because clients take 0 for "missing", and below 2^32, because the web client
/// sends larger numbers back as floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(NonZeroU32);

impl PeerId {
    /// The sender of what no peer sent: messages of the moderation. No peer ever has it.
    pub const SERVER: Self = Self(NonZeroU32::MAX);

    /// `None` for 0.
    pub fn new(id: u32) -> Option<Self> {
        NonZeroU32::new(id).map(Self)
    }

    /// The number on the wire.
    pub fn value(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A media: one stream of voice of one peer. Unique on the server while in use, because a datagram names its media and
/// no room, and one data channel carries the datagrams of all rooms of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaId(u16);

impl MediaId {
    /// The smallest id that is given out. Smaller ones take a byte less on the wire, and the web client's decoder refuses
    /// datagrams below 40 bytes, which its comfort noise then is.
    pub const MIN: u16 = 128;

    /// How many can be in use at the same time.
    pub const COUNT: usize = (u16::MAX - Self::MIN) as usize + 1;

    /// `None` for what no media can have.
    pub fn new(id: u64) -> Option<Self> {
        let id = u16::try_from(id).ok()?;
        (id >= Self::MIN).then_some(Self(id))
    }

    /// The number on the wire.
    pub fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a room on this server: a room that ends and begins anew has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomNumber(pub u64);

/// Gives out media ids: the one that has been free for the longest time comes first, so that a late datagram of an old media is
/// not taken for a new one's. All of them are there from the start: the list never grows.
#[derive(Debug)]
pub struct MediaIds(VecDeque<u16>);

impl Default for MediaIds {
    fn default() -> Self {
        Self((MediaId::MIN..=u16::MAX).collect())
    }
}

impl MediaIds {
    /// How many can still be taken.
    pub fn available(&self) -> usize {
        self.0.len()
    }

    /// Takes so many, or none if there are not enough.
    pub fn take(&mut self, count: usize) -> Option<Vec<MediaId>> {
        (count <= self.0.len()).then(|| self.0.drain(..count).map(MediaId).collect())
    }

    /// Gives ids back that [`Self::take`] gave out.
    pub fn free(&mut self, ids: impl IntoIterator<Item = MediaId>) {
        self.0.extend(ids.into_iter().map(MediaId::value));
        debug_assert!(self.available() <= MediaId::COUNT, "an id is free twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_that_has_been_free_for_longest_comes_first() {
        let mut ids = MediaIds::default();
        let first = ids.take(2).unwrap();
        assert_eq!(first, [MediaId(128), MediaId(129)]);
        ids.free(first);
        let rest = ids.take(MediaId::COUNT - 2).unwrap();
        assert_eq!(rest.first(), Some(&MediaId(130)));
        assert_eq!(rest.last(), Some(&MediaId(u16::MAX)));
        ids.free([MediaId(500), MediaId(400)]);
        assert_eq!(ids.take(5), None, "there are four");
        let reused = [128, 129, 500, 400].map(MediaId);
        assert_eq!(ids.take(4).unwrap(), reused);
        assert_eq!(ids.take(1), None);
        assert_eq!(ids.available(), 0);
    }

    #[test]
    fn ids_that_nobody_has_are_none() {
        assert_eq!(PeerId::new(0), None);
        for id in [0, 127, 65_536, u64::MAX] {
            assert_eq!(MediaId::new(id), None);
        }
        assert_eq!(MediaId::new(128), Some(MediaId(128)));
    }
}
