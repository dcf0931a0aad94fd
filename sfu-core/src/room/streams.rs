//! Which streams a peer hears when it may hear only some: the nearest.

use std::time::{Duration, Instant};

use super::Slot;
use crate::{drops::DropReason, id::MediaId, limits::CONCURRENT_STREAMS_MAX};

/// How long a stream counts as one that its receiver hears after its last review: a talker's pauses are shorter.
pub(super) const STREAM_HELD: Duration = Duration::from_millis(500);

/// How often a talker's listeners are chosen anew. People move little in that time.
pub(super) const REVIEW_TIME: Duration = Duration::from_millis(250);

/// The same for each who is near a talker that somebody hears: two thousand are chosen from every second.
const REVIEW_TIME_EACH: Duration = Duration::from_micros(500);

/// And for each who is near a talker that nobody hears, which is what refusing it costs: whoever begins to talk is
/// considered at once, and in a crowd of two thousand then every four seconds. With a thousand such talkers somebody is
/// considered every four milliseconds, so that no place stays free.
const REVIEW_TIME_UNHEARD: Duration = Duration::from_millis(2);

/// How long until a talker with so many others near is reviewed again.
pub(super) fn review_time(near: usize, is_heard: bool) -> Duration {
    let each = match is_heard {
        true => REVIEW_TIME_EACH,
        false => REVIEW_TIME_UNHEARD,
    };
    let near = u32::try_from(near).unwrap_or(u32::MAX);
    REVIEW_TIME.max(each.saturating_mul(near))
}

/// How long a stream of such a talker is held after a review: the next one must find it.
fn held_time(near: usize) -> Duration {
    let review = review_time(near, true);
    STREAM_HELD.max(review + review / 2)
}

/// Streams that a peer hears at most while the server sheds: more voices at once nobody can follow.
const SHED_STREAMS_MAX: usize = 16;

/// Within a tenth of the radius all talkers are equally near, squared: in a crowd on one spot that moves they must not take
/// turns.
const CLOSE: f64 = 0.1 * 0.1;

/// A talker must be nearer by a quarter than the one it silences, squared: so that two who move do not take turns.
const NEARER: f64 = 0.75 * 0.75;

/// Who hears how many streams in a room at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hearing {
    /// Streams that every listener hears.
    streams: usize,
    /// Slots below this one hear one more: those who came first.
    more_below: usize,
    /// Why what is beyond is refused.
    pub(super) reason: DropReason,
}

impl Hearing {
    /// A limit of every listener's, if there is one.
    pub(super) fn limited(streams: u8) -> Option<Self> {
        (streams > 0).then(|| Self {
            streams: usize::from(streams).min(CONCURRENT_STREAMS_MAX),
            more_below: 0,
            reason: DropReason::StreamLimit,
        })
    }

    /// What so many peers make of a room's budget: as many streams for each, and one more for as many as are left over.
    /// `None` when it is enough for all of their medias.
    pub(super) fn within(budget: u32, peers: usize, medias: usize) -> Option<Self> {
        let budget = budget as usize;
        if budget >= peers.saturating_mul(medias) {
            return None;
        }
        let (streams, more_below) = match budget / peers.max(1) {
            SHED_STREAMS_MAX.. => (SHED_STREAMS_MAX, 0),
            streams => (streams, budget % peers.max(1)),
        };
        Some(Self {
            streams,
            more_below,
            reason: DropReason::Shed,
        })
    }

    /// The one that leaves less.
    pub(super) fn stricter(self, other: Self) -> Self {
        match (self.streams, self.more_below) < (other.streams, other.more_below) {
            true => self,
            false => other,
        }
    }

    /// Streams for one listener.
    pub(super) fn of(self, listener: Slot) -> usize {
        self.streams + usize::from(listener.index() < self.more_below)
    }
}

/// The streams that a peer hears at present; empty unless they are limited.
#[derive(Debug, Default)]
pub(super) struct Streams {
    heard: Vec<Stream>,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    media: MediaId,
    distance: f64,
    /// Until when it counts as heard.
    until: Instant,
}

/// A media of which a listener decides whether it hears it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) media: MediaId,
    /// Whether the listener hears it so far.
    pub(super) is_heard: bool,
    /// From the listener, squared.
    pub(super) distance: f64,
    /// How many others are near the talker.
    pub(super) near: usize,
}

impl Streams {
    /// Whether a media is heard from now on. A nearer talker takes the place of the farthest one; one as near does not, so
    /// that two talkers at one place do not take turns. `gone` is called for every stream that is heard no more.
    pub(super) fn review(
        &mut self,
        now: Instant,
        limit: usize,
        candidate: Candidate,
        mut gone: impl FnMut(MediaId),
    ) -> bool {
        let media = candidate.media;
        let stream = Stream {
            media,
            distance: candidate.distance.max(CLOSE),
            until: now + held_time(candidate.near),
        };
        if candidate.is_heard
            && let Some(own) = self.heard.iter_mut().find(|it| it.media == media)
        {
            *own = stream;
        }
        if self.heard.len() + usize::from(!candidate.is_heard) > limit {
            self.heard.retain(|stream| {
                let is_held = now < stream.until;
                if !is_held {
                    gone(stream.media);
                }
                is_held
            });
        }
        while self.heard.len() > limit {
            self.silence_farthest(&mut gone);
        }
        if candidate.is_heard {
            return self.hears(media);
        }
        if self.heard.len() >= limit {
            let is_nearer = self
                .farthest()
                .is_some_and(|(_, farthest)| farthest * NEARER > stream.distance);
            if !is_nearer {
                return false;
            }
            self.silence_farthest(&mut gone);
        }
        self.heard.push(stream);
        true
    }

    /// The media is no more.
    pub(super) fn forget(&mut self, media: MediaId) {
        self.heard.retain(|stream| stream.media != media);
    }

    /// What is heard.
    pub(super) fn medias(&self) -> impl Iterator<Item = MediaId> {
        self.heard.iter().map(|stream| stream.media)
    }

    fn hears(&self, media: MediaId) -> bool {
        self.medias().any(|heard| heard == media)
    }

    /// Its place and its distance; of equals the one that came last.
    fn farthest(&self) -> Option<(usize, f64)> {
        let distances = self.heard.iter().map(|stream| stream.distance).enumerate();
        distances.max_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    fn silence_farthest(&mut self, mut gone: impl FnMut(MediaId)) {
        if let Some((at, _)) = self.farthest() {
            // In order, because the first of equals stay.
            gone(self.heard.remove(at).media);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::origin;

    fn media(id: u64) -> MediaId {
        MediaId::new(id).unwrap()
    }

    struct Listener(Streams);

    impl Listener {
        /// Whether it hears a media, and which ones it hears no more.
        fn review(
            &mut self,
            now: Instant,
            limit: usize,
            id: u64,
            distance: f64,
        ) -> (bool, Vec<u64>) {
            let mut gone = Vec::new();
            let is_gone = |media: MediaId| gone.push(media.value().into());
            let candidate = Candidate {
                media: media(id),
                is_heard: self.0.hears(media(id)),
                distance,
                near: 2,
            };
            let is_heard = self.0.review(now, limit, candidate, is_gone);
            (is_heard, gone)
        }
    }

    #[test]
    fn the_nearest_are_heard_and_equals_do_not_take_turns() {
        let now = origin();
        let mut listener = Listener(Streams::default());
        assert_eq!(listener.review(now, 2, 200, 0.5), (true, vec![]));
        assert_eq!(listener.review(now, 2, 201, 0.9), (true, vec![]));
        let as_near = listener.review(now, 2, 202, 0.9);
        assert_eq!(as_near, (false, vec![]));
        let hardly_nearer = listener.review(now, 2, 202, 0.6);
        assert_eq!(hardly_nearer, (false, vec![]));
        assert_eq!(listener.review(now, 2, 203, 0.1), (true, vec![201]));
        assert_eq!(listener.review(now, 2, 201, 0.9), (false, vec![]));
        assert_eq!(listener.review(now, 2, 200, 0.5), (true, vec![]));
    }

    #[test]
    fn in_a_crowd_nobody_is_nearer() {
        let now = origin();
        let mut listener = Listener(Streams::default());
        assert!(listener.review(now, 1, 200, 0.009).0);
        assert!(!listener.review(now, 1, 201, 0.0).0);
    }

    #[test]
    fn a_silent_stream_makes_room() {
        let now = origin();
        let mut listener = Listener(Streams::default());
        assert!(listener.review(now, 1, 200, 0.1).0);
        let pause = now + STREAM_HELD - Duration::from_millis(1);
        assert!(!listener.review(pause, 1, 201, 0.9).0);
        let silent = now + STREAM_HELD;
        assert_eq!(listener.review(silent, 1, 201, 0.9), (true, vec![200]));
    }

    #[test]
    fn the_larger_the_crowd_the_less_often_it_is_reviewed_and_the_longer_it_is_held() {
        for near in [0, 100, 2_000, 100_000, usize::MAX] {
            assert!(held_time(near) > review_time(near, true));
            assert!(review_time(near, true) <= review_time(near, false));
        }
        assert_eq!(review_time(100, false), REVIEW_TIME);
        assert_eq!(held_time(100), STREAM_HELD);
        assert_eq!(review_time(2_000, true), Duration::from_secs(1));
        assert_eq!(review_time(2_000, false), Duration::from_secs(4));
    }

    #[test]
    fn a_lower_limit_silences_the_farthest_and_of_equals_the_last() {
        let now = origin();
        let mut listener = Listener(Streams::default());
        for (id, distance) in [(200, 0.5), (201, 0.9), (202, 0.5), (203, 0.5)] {
            assert!(listener.review(now, 4, id, distance).0);
        }
        assert_eq!(listener.review(now, 3, 200, 0.5), (true, vec![201]));
        assert_eq!(listener.review(now, 1, 203, 0.5), (false, vec![203, 202]));
        assert_eq!(listener.review(now, 0, 200, 0.5), (false, vec![200]));
    }

    #[test]
    fn a_budget_is_shared_by_all_or_by_those_who_came_first() {
        let of = |budget, slot| {
            let hearing = Hearing::within(budget, 1_000, 1_000);
            hearing.map(|hearing| hearing.of(Slot::new(slot)))
        };
        assert_eq!(of(1_000_000, 0), None, "enough for everybody");
        assert_eq!(of(900_000, 0), Some(SHED_STREAMS_MAX));
        assert_eq!((of(2_999, 998), of(2_999, 999)), (Some(3), Some(2)));
        assert_eq!((of(300, 299), of(300, 300)), (Some(1), Some(0)));
        assert_eq!(Hearing::within(64, 8, 8), None);
        assert_eq!(Hearing::within(64, 0, 0), None);
    }

    #[test]
    fn the_stricter_limit_holds_and_names_the_reason() {
        let limited = Hearing::limited(4).unwrap();
        assert_eq!(Hearing::limited(0), None);
        for (budget, streams, reason) in [
            (900_000, 4, DropReason::StreamLimit),
            (3_000, 3, DropReason::Shed),
            (500, 1, DropReason::Shed),
        ] {
            let shed = Hearing::within(budget, 1_000, 1_000).unwrap();
            for both in [shed.stricter(limited), limited.stricter(shed)] {
                assert_eq!((both.of(Slot::new(0)), both.reason), (streams, reason));
            }
        }
    }
}
