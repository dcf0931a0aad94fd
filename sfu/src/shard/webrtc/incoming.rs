//! What came over an association: which numbers are there, and messages in several parts.

use std::collections::VecDeque;

use super::chunk::{Data, FLAG_BEGIN, FLAG_END};

/// Ranges behind a hole. Clients skip what is lost within a round trip; what comes beyond these is not taken, nor
/// acknowledged.
const RANGES_MAX: usize = 32;

/// Numbers behind the first hole.
const AHEAD_MAX: u32 = 4_096;

/// Parts of messages that wait for the others. Voice fits in one: these are for clients with more to say than that.
const PARTS_MAX: usize = 16;

/// Whether `a` comes after `b`; numbers wrap (RFC 1982).
pub(super) fn is_after(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < 1 << 31
}

/// See the module.
#[derive(Debug)]
pub(super) struct Incoming {
    /// All up to here have come, or never will.
    tsn: u32,
    /// What has come behind it: first and last, in their order, with holes between them.
    ranges: Vec<(u32, u32)>,
    parts: VecDeque<Part>,
}

#[derive(Debug)]
struct Part {
    tsn: u32,
    stream: u16,
    flags: u8,
    bytes: Vec<u8>,
}

impl Incoming {
    /// The other side begins with number `first`.
    pub(super) fn new(first: u32) -> Self {
        Self {
            tsn: first.wrapping_sub(1),
            ranges: Vec::new(),
            parts: VecDeque::new(),
        }
    }

    /// Whether this number is new; it then counts as come.
    pub(super) fn take(&mut self, tsn: u32) -> bool {
        if !is_after(tsn, self.tsn) || tsn.wrapping_sub(self.tsn) > AHEAD_MAX {
            return false;
        }
        if tsn == self.tsn.wrapping_add(1) {
            self.tsn = tsn;
            self.close_holes();
            return true;
        }
        // The range behind which it comes.
        let at = self
            .ranges
            .iter()
            .rposition(|(first, _)| !is_after(*first, tsn));
        if let Some(at) = at {
            let (_, last) = &mut self.ranges[at];
            if !is_after(tsn, *last) {
                return false;
            }
            if tsn == last.wrapping_add(1) {
                *last = tsn;
                self.join(at);
                return true;
            }
        }
        let next = at.map_or(0, |at| at + 1);
        let is_full = self.ranges.len() >= RANGES_MAX;
        match self.ranges.get_mut(next) {
            Some((first, _)) if *first == tsn.wrapping_add(1) => *first = tsn,
            _ if is_full => return false,
            _ => self.ranges.insert(next, (tsn, tsn)),
        }
        true
    }

    /// A range may have grown up to the next one.
    fn join(&mut self, at: usize) {
        let Some((first, last)) = self.ranges.get(at + 1).copied() else {
            return;
        };
        if first == self.ranges[at].1.wrapping_add(1) {
            self.ranges[at].1 = last;
            self.ranges.remove(at + 1);
        }
    }

    fn close_holes(&mut self) {
        while let Some((first, last)) = self.ranges.first().copied() {
            if is_after(first, self.tsn.wrapping_add(1)) {
                return;
            }
            if is_after(last, self.tsn) {
                self.tsn = last;
            }
            self.ranges.remove(0);
        }
    }

    /// Nothing up to this number will come any more.
    pub(super) fn skip_to(&mut self, tsn: u32) {
        if is_after(tsn, self.tsn) {
            self.tsn = tsn;
            self.close_holes();
        }
    }

    pub(super) fn has_holes(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// What is to be acknowledged: all up to a number, and ranges as distances from it.
    pub(super) fn acknowledgement(&self) -> (u32, impl ExactSizeIterator<Item = (u16, u16)>) {
        // They are at most `AHEAD_MAX` away.
        let distance = |tsn: u32| tsn.wrapping_sub(self.tsn) as u16;
        let ranges = self.ranges.iter();
        let gaps = ranges.map(move |(first, last)| (distance(*first), distance(*last)));
        (self.tsn, gaps)
    }

    /// Keeps a part of a message, and gives the message when it is the last that was missing.
    pub(super) fn assemble(&mut self, part: &Data<'_>) -> Option<Vec<u8>> {
        if self.parts.len() >= PARTS_MAX {
            self.parts.pop_front();
        }
        self.parts.push_back(Part {
            tsn: part.tsn,
            stream: part.stream,
            flags: part.flags,
            bytes: part.bytes.to_vec(),
        });
        let find = |tsn: u32| self.parts.iter().find(|it| it.tsn == tsn);
        let (mut first, mut last) = (part.tsn, part.tsn);
        while find(first)?.flags & FLAG_BEGIN == 0 {
            first = first.wrapping_sub(1);
        }
        while find(last)?.flags & FLAG_END == 0 {
            last = last.wrapping_add(1);
        }
        let mut message = Vec::new();
        let mut at = first;
        loop {
            let part = find(at).filter(|it| it.stream == part.stream)?;
            message.extend_from_slice(&part.bytes);
            if at == last {
                break;
            }
            at = at.wrapping_add(1);
        }
        self.parts
            .retain(|it| is_after(first, it.tsn) || is_after(it.tsn, last));
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn part(tsn: u32, flags: u8, bytes: &[u8]) -> Data<'_> {
        Data {
            tsn,
            stream: 2,
            protocol: 53,
            flags,
            bytes,
        }
    }

    #[test]
    fn parts_become_a_message_in_any_order_and_across_the_wrap() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut incoming = Incoming::new(u32::MAX);
            let parts = [
                part(u32::MAX, FLAG_BEGIN, b"ab"),
                part(0, 0, b"cd"),
                part(1, FLAG_END, b"e"),
            ];
            let [first, second, third] = order;
            assert_eq!(incoming.assemble(&parts[first]), None);
            assert_eq!(incoming.assemble(&parts[second]), None);
            assert_eq!(incoming.assemble(&parts[third]).unwrap(), b"abcde");
            assert!(incoming.parts.is_empty());
        }
    }

    #[test]
    fn parts_without_an_end_are_few() {
        let mut incoming = Incoming::new(1);
        for tsn in 1..1_000 {
            assert_eq!(incoming.assemble(&part(tsn, 0, b"x")), None);
        }
        assert_eq!(incoming.parts.len(), PARTS_MAX);
    }

    #[test]
    fn too_many_holes_are_not_taken() {
        let mut incoming = Incoming::new(0);
        let taken = (0..1_000).filter(|at| incoming.take(1 + 2 * at)).count();
        assert_eq!(taken, RANGES_MAX);
        assert!(!incoming.take(AHEAD_MAX + 1));
        incoming.skip_to(5_000);
        assert!(!incoming.has_holes());
        assert!(incoming.take(5_001));
    }

    proptest! {
        #[test]
        fn it_knows_what_has_come(start: u32, steps in proptest::collection::vec((0..60_u32, any::<bool>()), 0..200)) {
            let mut incoming = Incoming::new(start);
            let mut model = BTreeSet::new();
            let mut cumulative = 0;
            for (at, skips) in steps {
                let tsn = start.wrapping_add(at);
                if skips && at % 7 == 0 {
                    incoming.skip_to(tsn);
                    cumulative = cumulative.max(at + 1);
                } else {
                    let is_new = at >= cumulative && model.insert(at);
                    prop_assert_eq!(incoming.take(tsn), is_new);
                }
                while model.contains(&cumulative) {
                    cumulative += 1;
                }
                let (tsn, gaps) = incoming.acknowledgement();
                prop_assert_eq!(tsn, start.wrapping_add(cumulative).wrapping_sub(1));
                let mut numbers = BTreeSet::new();
                for (first, last) in gaps {
                    prop_assert!(first >= 2 && first <= last);
                    numbers.extend((first..=last).map(|it| cumulative + u32::from(it) - 1));
                }
                let ahead: BTreeSet<_> = model.range(cumulative..).copied().collect();
                prop_assert_eq!(numbers, ahead);
            }
        }
    }
}
