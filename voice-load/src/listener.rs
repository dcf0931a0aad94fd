//! What one peer has heard, of everybody, in the time that counts.

use hdrhistogram::Histogram;

use crate::{
    account::{Arrival, Stream, Tally},
    packet::Stamp,
    plan::{Place, Plan},
};

/// Shortest and longest time that is told apart, in nanoseconds: a microsecond, less than any way through the kernel
/// takes; a minute, longer than anything waits.
const TIME_NS: (u64, u64) = (1_000, 60_000_000_000);

/// Decimal digits of a time: figures are good to a hundredth.
const DIGITS: u8 = 2;

/// Times, as many as packets, in little memory.
pub(crate) type Times = Histogram<u32>;

/// No time yet.
pub(crate) fn no_times() -> Times {
    Histogram::new_with_bounds(TIME_NS.0, TIME_NS.1, DIGITS).expect("bounds that fit")
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// The talkers of its room, by their place; `None` are itself and those it is not together with.
    streams: Vec<Option<Stream>>,
    /// Of streams that have ended.
    past: Tally,
    pub(crate) latency: Times,
    /// Voice of itself, of another room, or of nobody here.
    pub(crate) misdelivered: u64,
}

impl Listener {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            streams: vec![None; plan.talkers as usize],
            past: Tally::default(),
            latency: no_times(),
            misdelivered: 0,
        }
    }

    /// It hears a talker from its next packet on.
    pub(crate) fn meet(&mut self, place: Place, talker: u32, next: u32) {
        self.fold(talker, next);
        if let Some(stream) = self.streams.get_mut(talker as usize) {
            *stream = Some(match place {
                Place::Spot => Stream::owed_from(next),
                Place::Spread => Stream::as_heard(),
            });
        }
    }

    /// What the talker says from now on is not owed to it; what was said before may still come.
    pub(crate) fn part(&mut self, talker: u32, next: u32) {
        if let Some(Some(stream)) = self.streams.get_mut(talker as usize) {
            stream.owed_until(next);
        }
    }

    fn fold(&mut self, talker: u32, next: u32) {
        let stream = self.streams.get_mut(talker as usize);
        if let Some(stream) = stream.and_then(Option::take) {
            self.past.add(stream.tally(next));
        }
    }

    /// Forgets everything; `next` are the talkers' next packets.
    pub(crate) fn begin(&mut self, place: Place, next: impl Fn(u32) -> u32) {
        for talker in 0..u32::try_from(self.streams.len()).unwrap_or(u32::MAX) {
            if self
                .streams
                .get(talker as usize)
                .is_some_and(Option::is_some)
            {
                self.meet(place, talker, next(talker));
            }
        }
        self.past = Tally::default();
        self.latency.reset();
        self.misdelivered = 0;
    }

    /// Takes a packet in; says whether it counts.
    pub(crate) fn hear(&mut self, plan: &Plan, own: u32, stamp: Stamp, arrived_ns: u64) -> bool {
        let is_same_room = stamp.sender < plan.peer_count()
            && plan.room_of(stamp.sender) == plan.room_of(own)
            && stamp.sender != own;
        let talker = plan.talker_of(stamp.sender).filter(|_| is_same_room);
        let Some(talker) = talker else {
            self.misdelivered += 1;
            return false;
        };
        let Some(Some(stream)) = self.streams.get_mut(talker as usize) else {
            return false;
        };
        let arrival = Arrival {
            sequence: stamp.sequence,
            sent_ns: stamp.sent_ns,
            arrived_ns,
        };
        let interval_ns = u64::try_from(plan.interval().as_nanos()).unwrap_or(u64::MAX);
        let counts = stream.take(arrival, interval_ns);
        if counts {
            self.latency
                .saturating_record(arrived_ns.saturating_sub(stamp.sent_ns));
        }
        counts
    }

    /// What became of everything that was owed; `next` are the talkers' next packets.
    pub(crate) fn tally(&self, next: impl Fn(u32) -> u32) -> Tally {
        let mut sum = self.past;
        for (talker, stream) in (0_u32..).zip(&self.streams) {
            if let Some(stream) = stream {
                sum.add(stream.tally(next(talker)));
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    fn stamp(sender: u32, sequence: u32) -> Stamp {
        let sent_ns = u64::from(sequence) * 20_000_000;
        Stamp {
            sender,
            sequence,
            sent_ns,
        }
    }

    #[test]
    fn only_voice_of_others_in_the_room_is_heard() {
        let plan = plan();
        let mut listener = Listener::new(&plan);
        listener.meet(Place::Spot, 1, 0);
        // Peers 10 to 19 are in the second room; 10 and 11 talk.
        let mut hear = |sender| listener.hear(&plan, 10, stamp(sender, 0), 1_000_000);
        assert!(hear(11));
        for wrong in [10, 12, 0, 1, 21, 50, u32::MAX] {
            assert!(!hear(wrong), "{wrong}");
        }
        assert_eq!(listener.misdelivered, 7);
        assert_eq!(listener.tally(|_| 1).lost(), 0);
        assert_eq!(listener.latency.len(), 1);
    }

    #[test]
    fn who_goes_and_comes_again_is_owed_what_was_said_while_it_was_there() {
        let plan = plan();
        let mut listener = Listener::new(&plan);
        listener.meet(Place::Spot, 1, 100);
        listener.hear(&plan, 0, stamp(1, 100), 0);
        listener.part(1, 102);
        listener.hear(&plan, 0, stamp(1, 101), 0);
        listener.meet(Place::Spot, 1, 500);
        listener.hear(&plan, 0, stamp(1, 501), 0);
        let tally = listener.tally(|_| 503);
        assert_eq!((tally.expected, tally.received), (5, 3));
        listener.begin(Place::Spot, |_| 503);
        assert_eq!(listener.tally(|_| 504).expected, 1);
        assert_eq!(listener.latency.len(), 0);
    }
}
