//! What a listener got of a talker: which packets were owed to it, and what became of them. Pure: sequences and times are
//! arguments.

/// Packets back from the newest in which one that comes twice is known for a double: 2.5 s of speech.
const WINDOW: u32 = u128::BITS;

/// How long the account of a stream goes on when nobody says when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    /// Everything between two sequences is owed; the second is not known yet.
    From(u32),
    /// What is owed is known; stragglers still count.
    Between(u32, u32),
    /// What lies between the first and the last that came is owed: nobody knows when the two began to hear each other.
    Heard,
}

/// Sums over streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) expected: u64,
    pub(crate) received: u64,
    /// Came after a later one.
    pub(crate) reordered: u64,
    /// Came again.
    pub(crate) duplicates: u64,
    /// Longest time without voice from somebody who talked.
    pub(crate) longest_gap_ns: u64,
}

impl Tally {
    pub(crate) fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.expected += other.expected;
        self.received += other.received;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.longest_gap_ns = self.longest_gap_ns.max(other.longest_gap_ns);
    }
}

/// A packet as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) sequence: u32,
    pub(crate) sent_ns: u64,
    pub(crate) arrived_ns: u64,
}

/// One talker as one listener hears it, in one stretch of being together.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    span: Span,
    /// Sequence of the newest, and of the first.
    newest: Option<(u32, u32)>,
    /// Bit `n` is the packet `n` before the newest.
    seen: u128,
    last: Option<Arrival>,
    tally: Tally,
}

impl Stream {
    /// Everything from this packet on is owed.
    pub(crate) fn owed_from(sequence: u32) -> Self {
        Self::new(Span::From(sequence))
    }

    /// What lies between the first and the last packet that come is owed.
    pub(crate) fn as_heard() -> Self {
        Self::new(Span::Heard)
    }

    fn new(span: Span) -> Self {
        Self {
            span,
            newest: None,
            seen: 0,
            last: None,
            tally: Tally::default(),
        }
    }

    /// Takes a packet in, and says whether it counts: it was owed and had not come yet. `interval_ns` is the time
    /// between two packets of a talker who talks.
    pub(crate) fn take(&mut self, arrival: Arrival, interval_ns: u64) -> bool {
        let sequence = arrival.sequence;
        let is_owed = match self.span {
            Span::From(from) => sequence >= from,
            Span::Between(from, until) => (from..until).contains(&sequence),
            Span::Heard => true,
        };
        if !is_owed {
            return false;
        }
        let Some((newest, first)) = self.newest else {
            self.newest = Some((sequence, sequence));
            self.seen = 1;
            return self.count(arrival, interval_ns);
        };
        if sequence > newest {
            let ahead = sequence - newest;
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.newest = Some((sequence, first));
            return self.count(arrival, interval_ns);
        }
        let behind = newest - sequence;
        let bit = 1_u128.checked_shl(behind).unwrap_or(0);
        if behind < WINDOW && self.seen & bit != 0 {
            self.tally.duplicates += 1;
            return false;
        }
        self.seen |= bit;
        self.newest = Some((newest, first.min(sequence)));
        self.tally.reordered += 1;
        self.tally.received += 1;
        true
    }

    fn count(&mut self, arrival: Arrival, interval_ns: u64) -> bool {
        if let Some(last) = self.last {
            let apart = arrival.arrived_ns.saturating_sub(last.arrived_ns);
            let sent_apart = arrival.sent_ns.saturating_sub(last.sent_ns);
            let packets = u64::from(arrival.sequence.saturating_sub(last.sequence));
            // Packets are numbered across pauses, so a pause is what the numbers do not account for.
            let pause = sent_apart.saturating_sub(packets * interval_ns);
            let gap = apart.saturating_sub(pause);
            self.tally.longest_gap_ns = self.tally.longest_gap_ns.max(gap);
        }
        self.last = Some(arrival);
        self.tally.received += 1;
        true
    }

    /// Nothing from this packet on is owed.
    pub(crate) fn owed_until(&mut self, next: u32) {
        if let Span::From(from) = self.span {
            self.span = Span::Between(from, next.max(from));
        }
    }

    /// What became of what was owed. `next` is the talker's next packet, for a stream that goes on.
    pub(crate) fn tally(&self, next: u32) -> Tally {
        let expected = match (self.span, self.newest) {
            (Span::From(from), _) => next.saturating_sub(from),
            (Span::Between(from, until), _) => until - from,
            (Span::Heard, Some((newest, first))) => newest - first + 1,
            (Span::Heard, None) => 0,
        };
        Tally {
            expected: expected.into(),
            ..self.tally
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL_NS: u64 = 20_000_000;

    fn arrival(sequence: u32) -> Arrival {
        let sent_ns = u64::from(sequence) * INTERVAL_NS;
        Arrival {
            sequence,
            sent_ns,
            arrived_ns: sent_ns + 100_000,
        }
    }

    fn taken(stream: &mut Stream, sequences: impl IntoIterator<Item = u32>) -> usize {
        let take = |it: &u32| stream.take(arrival(*it), INTERVAL_NS);
        sequences.into_iter().filter(take).count()
    }

    #[test]
    fn a_whole_stream_loses_nothing() {
        let mut stream = Stream::owed_from(5);
        assert_eq!(taken(&mut stream, 5..1_005), 1_000);
        let tally = stream.tally(1_005);
        assert_eq!(
            (tally.expected, tally.received, tally.lost()),
            (1_000, 1_000, 0)
        );
        assert_eq!((tally.reordered, tally.duplicates), (0, 0));
        assert_eq!(tally.longest_gap_ns, INTERVAL_NS);
    }

    #[test]
    fn what_is_lost_late_or_double_is_told_apart() {
        let mut stream = Stream::owed_from(0);
        // 3 comes after 5, 4 twice, 6 never, 9 (the last) never.
        assert_eq!(taken(&mut stream, [0, 1, 2, 4, 4, 5, 3, 7, 8]), 8);
        let tally = stream.tally(10);
        let got = (
            tally.expected,
            tally.received,
            tally.reordered,
            tally.duplicates,
            tally.lost(),
        );
        assert_eq!(got, (10, 8, 1, 1, 2));
        // The double of one that came late is a double.
        assert_eq!(taken(&mut stream, [3, 6]), 1);
        assert_eq!(stream.tally(10).duplicates, 2);
        assert_eq!(stream.tally(10).lost(), 1);
    }

    #[test]
    fn a_stream_of_which_nothing_comes_is_lost_whole() {
        assert_eq!(Stream::owed_from(7).tally(27).lost(), 20);
        assert_eq!(Stream::as_heard().tally(27).expected, 0);
    }

    #[test]
    fn only_what_is_owed_counts() {
        let mut stream = Stream::owed_from(10);
        assert_eq!(taken(&mut stream, 0..20), 10);
        stream.owed_until(25);
        // Stragglers of before the end still come; what was said after it is nobody's loss.
        assert_eq!(taken(&mut stream, [21, 20, 22, 25, 26]), 3);
        let tally = stream.tally(99);
        assert_eq!((tally.expected, tally.received, tally.lost()), (15, 13, 2));
    }

    #[test]
    fn where_nobody_knows_the_ends_holes_are_lost() {
        let mut stream = Stream::as_heard();
        assert_eq!(taken(&mut stream, [101, 100, 104, 105]), 4);
        let tally = stream.tally(900);
        assert_eq!((tally.expected, tally.received, tally.lost()), (6, 4, 2));
    }

    #[test]
    fn a_pause_is_no_gap_and_a_hole_is() {
        let mut stream = Stream::owed_from(0);
        taken(&mut stream, 0..3);
        // Three seconds of silence, without a packet in between.
        let silence = 3_000_000_000;
        let after = |sequence| Arrival {
            sent_ns: arrival(sequence).sent_ns + silence,
            arrived_ns: arrival(sequence).arrived_ns + silence,
            sequence,
        };
        assert!(stream.take(after(3), INTERVAL_NS));
        assert_eq!(stream.tally(4).longest_gap_ns, INTERVAL_NS);
        // Four packets missing.
        assert!(stream.take(after(8), INTERVAL_NS));
        assert_eq!(stream.tally(9).longest_gap_ns, 5 * INTERVAL_NS);
    }

    #[test]
    fn a_jump_wider_than_the_window_is_survived() {
        let mut stream = Stream::owed_from(0);
        assert_eq!(taken(&mut stream, [0, 1_000, 1_000, 1, 872]), 4);
        assert_eq!(stream.tally(1_001).duplicates, 1);
        let mut sum = stream.tally(1_001);
        sum.add(stream.tally(1_001));
        assert_eq!((sum.expected, sum.duplicates), (2_002, 2));
    }
}
