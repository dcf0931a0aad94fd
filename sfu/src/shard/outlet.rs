//! The way from a shard to the stream of one peer: frames in order, in a queue with a limit. Whoever reads too slowly for
//! it has to leave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use sfu_core::wire::notification::{Encoded, bundle};
use tokio::sync::mpsc;

/// Frames that may wait for a slow reader.
const FRAMES_MAX: usize = 1_024;

/// Bytes that may wait for a slow reader, beyond one frame of any size: the first frame tells of everybody in the room.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Updates in one frame: a reader must not wait for thousands to be put together.
const UPDATES_MAX: usize = 512;

/// The sending half; the stream ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Outlet {
    frames: mpsc::Sender<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
    updates: Vec<Bytes>,
    flushed: Option<Instant>,
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Outlets {
    frames: mpsc::Receiver<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// A peer does not read what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

/// Both halves.
pub(crate) fn outlet() -> (Outlet, Outlets) {
    let (sender, receiver) = mpsc::channel(FRAMES_MAX);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let outlet = Outlet {
        frames: sender,
        waiting_bytes: Arc::clone(&waiting_bytes),
        updates: Vec::new(),
        flushed: None,
    };
    let outlets = Outlets {
        frames: receiver,
        waiting_bytes,
    };
    (outlet, outlets)
}

impl Outlet {
    /// Tells of an event. Updates are gathered until [`Self::flush`]; the result says when that is to be, if it was not
    /// said before. The first update after a pause does not wait.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        event: &Encoded,
        bundle_time: Duration,
    ) -> Result<Option<Instant>, TooSlow> {
        match event {
            Encoded::Update(update) => {
                self.updates.push(update.clone());
                if self.updates.len() >= UPDATES_MAX {
                    self.flush(now)?;
                }
                let due = self.flushed.map_or(now, |flushed| flushed + bundle_time);
                Ok((self.updates.len() == 1).then_some(due))
            }
            Encoded::Frame(frame) => {
                self.flush(now)?;
                self.send(frame.clone())?;
                Ok(None)
            }
        }
    }

    /// Sends a frame behind everything that was told before.
    pub(super) fn answer(&mut self, now: Instant, frame: Bytes) -> Result<(), TooSlow> {
        self.flush(now)?;
        self.send(frame)
    }

    /// Sends what was gathered.
    pub(super) fn flush(&mut self, now: Instant) -> Result<(), TooSlow> {
        if self.updates.is_empty() {
            return Ok(());
        }
        self.flushed = Some(now);
        let frame = bundle(&self.updates);
        self.updates.clear();
        self.send(frame)
    }

    fn send(&self, frame: Bytes) -> Result<(), TooSlow> {
        let bytes = frame.len();
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        let is_too_much = before > 0 && before + bytes > BYTES_MAX;
        if is_too_much {
            return Err(TooSlow);
        }
        match self.frames.try_send(frame) {
            // A stream that has ended is about to say so itself.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(TooSlow),
        }
    }
}

impl Outlets {
    /// The next frame; `None` when the peer is out of its room.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        let frame = self.frames.recv().await?;
        self.waiting_bytes.fetch_sub(frame.len(), Ordering::AcqRel);
        Some(frame)
    }

    /// The next frame if there is one now.
    pub(crate) fn waiting_frame(&mut self) -> Option<Bytes> {
        let frame = self.frames.try_recv().ok()?;
        self.waiting_bytes.fetch_sub(frame.len(), Ordering::AcqRel);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use sfu_core::{Event, PeerId, wire::notification::encode};

    use super::*;

    const BUNDLE_TIME: Duration = Duration::from_millis(20);

    fn update() -> Encoded {
        encode(&Event::PeerLeft(PeerId::new(1).unwrap()))
    }

    fn message() -> Encoded {
        let sender = PeerId::new(1).unwrap();
        let message = Bytes::from_static(b"hello");
        encode(&Event::MessageReceived { sender, message })
    }

    #[test]
    fn updates_are_gathered_and_keep_their_order() {
        let now = Instant::now();
        let (mut outlet, mut outlets) = outlet();
        assert_eq!(
            outlet.tell(now, &update(), BUNDLE_TIME),
            Ok(Some(now)),
            "at once after a pause"
        );
        outlet.flush(now).unwrap();
        let alone = outlets.waiting_frame().unwrap();
        assert_eq!(
            outlet.tell(now, &update(), BUNDLE_TIME),
            Ok(Some(now + BUNDLE_TIME))
        );
        assert_eq!(
            outlet.tell(now, &update(), BUNDLE_TIME),
            Ok(None),
            "the time is set"
        );
        assert_eq!(outlets.waiting_frame(), None);
        outlet.tell(now, &message(), BUNDLE_TIME).unwrap();
        let gathered = outlets.waiting_frame().unwrap();
        assert!(
            gathered.len() > alone.len(),
            "two updates, before the message"
        );
        let Encoded::Frame(message) = message() else {
            panic!("a frame")
        };
        assert_eq!(outlets.waiting_frame(), Some(message));
    }

    #[test]
    fn a_slow_reader_is_noticed_by_frames_and_by_bytes() {
        let now = Instant::now();
        let (mut outlet, _outlets) = outlet();
        let sent = (0..)
            .take_while(|_| outlet.tell(now, &message(), BUNDLE_TIME).is_ok())
            .count();
        assert_eq!(sent, FRAMES_MAX);

        let (mut outlet, mut outlets) = super::outlet();
        let large = Bytes::from(vec![0; BYTES_MAX + 1]);
        assert_eq!(
            outlet.answer(now, large.clone()),
            Ok(()),
            "one frame may be of any size"
        );
        assert_eq!(outlet.answer(now, Bytes::from_static(b"x")), Err(TooSlow));
        let (mut reading, mut reader) = super::outlet();
        for _ in 0..3 {
            assert_eq!(reading.answer(now, large.clone()), Ok(()));
            assert!(reader.waiting_frame().is_some());
        }
        drop(outlet);
        assert!(
            outlets.waiting_frame().is_some(),
            "what was sent before arrives"
        );
    }

    #[tokio::test]
    async fn the_stream_ends_with_the_outlet() {
        let (mut outlet, mut outlets) = outlet();
        outlet
            .answer(Instant::now(), Bytes::from_static(b"last"))
            .unwrap();
        drop(outlet);
        assert_eq!(outlets.frame().await.unwrap(), "last");
        assert_eq!(outlets.frame().await, None);
    }
}
