//! Which streams a peer hears when it may hear only some: the nearest.

use std::time::Instant;

use super::STREAM_HELD;
use crate::{id::MediaId, limits::CONCURRENT_STREAMS_MAX};

/// The streams that a peer hears at present; empty unless they are limited.
#[derive(Debug, Default)]
pub(super) struct Streams {
    heard: Vec<Stream>,
}

#[derive(Debug)]
struct Stream {
    media: MediaId,
    distance: f64,
    last: Instant,
}

impl Streams {
    /// Whether a packet of a media at this distance is heard. A nearer talker takes the place of the farthest one; one
    /// as near does not, so that two talkers at one place do not take turns.
    pub(super) fn admit(&mut self, now: Instant, limit: u8, media: MediaId, distance: f64) -> bool {
        let limit = usize::from(limit).min(CONCURRENT_STREAMS_MAX);
        if let Some(stream) = self.heard.iter_mut().find(|stream| stream.media == media) {
            stream.last = now;
            stream.distance = distance;
            return true;
        }
        self.heard
            .retain(|stream| now.saturating_duration_since(stream.last) < STREAM_HELD);
        let stream = Stream {
            media,
            distance,
            last: now,
        };
        if self.heard.len() < limit {
            self.heard.push(stream);
            return true;
        }
        let farthest = self
            .heard
            .iter_mut()
            .max_by(|a, b| a.distance.total_cmp(&b.distance));
        match farthest {
            Some(farthest) if farthest.distance > distance => {
                *farthest = stream;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::room::origin;

    fn media(id: u64) -> MediaId {
        MediaId::new(id).unwrap()
    }

    #[test]
    fn the_nearest_are_heard_and_equals_do_not_take_turns() {
        let now = origin();
        let mut streams = Streams::default();
        assert!(streams.admit(now, 2, media(200), 0.5));
        assert!(streams.admit(now, 2, media(201), 0.9));
        assert!(
            !streams.admit(now, 2, media(202), 0.9),
            "as near as the farthest"
        );
        assert!(streams.admit(now, 2, media(203), 0.1), "nearer");
        assert!(!streams.admit(now, 2, media(201), 0.9), "pushed out");
        assert!(streams.admit(now, 2, media(200), 0.5));
    }

    #[test]
    fn a_silent_stream_makes_room() {
        let now = origin();
        let mut streams = Streams::default();
        assert!(streams.admit(now, 1, media(200), 0.1));
        let pause = now + STREAM_HELD - Duration::from_millis(1);
        assert!(!streams.admit(pause, 1, media(201), 0.9));
        assert!(streams.admit(now + STREAM_HELD, 1, media(201), 0.9));
    }
}
