//! A peer's seat in a room: the stream that serves it, or, while it is lost, what is kept for it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sfu_core::{
    Event, LeaveReason, PeerId,
    wire::notification::{Encoded, encode},
};
use tokio::sync::oneshot;

use super::{
    Outlet,
    inbox::{LetGo, Turn},
    outlet::TooSlow,
    rooms::Link,
};

/// Messages that are kept for a lost peer: those of a few seconds. Of more, the oldest go.
const MESSAGES_MAX: usize = 64;

/// Bytes of them; there may be as many lost peers as there are peers.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) peer: PeerId,
    /// Whoever has an older one does not speak for the peer any more.
    pub(super) turn: Turn,
    ear: Ear,
}

#[derive(Debug)]
enum Ear {
    Stream { link: Link, outlet: Outlet },
    Lost { messages: Messages, _let_go: LetGo },
}

/// The newest messages for a lost peer, oldest first, each a frame.
#[derive(Debug, Default)]
pub(super) struct Messages {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Seat {
    pub(super) fn new(peer: PeerId, turn: Turn, link: Link, outlet: Outlet) -> Self {
        let ear = Ear::Stream { link, outlet };
        Self { peer, turn, ear }
    }

    /// Where voice for the peer goes; a lost one hears none.
    pub(super) fn link(&self) -> Option<Link> {
        match &self.ear {
            Ear::Stream { link, .. } => Some(*link),
            Ear::Lost { .. } => None,
        }
    }

    /// Tells of an event, as [`Outlet::tell`]. A lost peer is told everything anew when it comes back, but not what was
    /// said.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        event: &Event,
        encoded: &Encoded,
        bundle_time: Duration,
    ) -> Result<Option<Instant>, TooSlow> {
        match (&mut self.ear, event, encoded) {
            (Ear::Stream { outlet, .. }, ..) => outlet.tell(now, encoded, bundle_time),
            (Ear::Lost { messages, .. }, Event::MessageReceived { .. }, Encoded::Frame(frame)) => {
                messages.keep(frame.clone());
                Ok(None)
            }
            (Ear::Lost { .. }, ..) => Ok(None),
        }
    }

    /// Sends a frame behind everything that was told before.
    pub(super) fn answer(&mut self, now: Instant, frame: Bytes) -> Result<(), TooSlow> {
        match &mut self.ear {
            Ear::Stream { outlet, .. } => outlet.answer(now, frame),
            Ear::Lost { .. } => Ok(()),
        }
    }

    /// Sends what was gathered.
    pub(super) fn flush(&mut self, now: Instant) -> Result<(), TooSlow> {
        match &mut self.ear {
            Ear::Stream { outlet, .. } => outlet.flush(now),
            Ear::Lost { .. } => Ok(()),
        }
    }

    /// The peer's stream ends, and the peer stays. If the stream is still read, it is told that it serves the peer no
    /// more.
    pub(super) fn lose(&mut self, now: Instant, turn: Turn, let_go: oneshot::Sender<()>) {
        self.turn = turn;
        let messages = match &mut self.ear {
            Ear::Lost { messages, .. } => std::mem::take(messages),
            Ear::Stream { outlet, .. } => {
                let last = encode(&Event::Left(LeaveReason::Resumed));
                // Nobody waits for the end of a stream that does not read it.
                let told = outlet.tell(now, &last, Duration::ZERO);
                let _ = told.and_then(|_| outlet.flush(now));
                Messages::default()
            }
        };
        self.ear = Ear::Lost {
            messages,
            _let_go: let_go,
        };
    }

    /// Another stream serves the peer. What is given back is to be sent there, once the peer was told everything anew.
    pub(super) fn resume(&mut self, turn: Turn, link: Link, outlet: Outlet) -> VecDeque<Bytes> {
        self.turn = turn;
        match std::mem::replace(&mut self.ear, Ear::Stream { link, outlet }) {
            Ear::Lost { messages, .. } => messages.frames,
            Ear::Stream { .. } => VecDeque::new(),
        }
    }
}

impl Messages {
    fn keep(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        while self.frames.len() > MESSAGES_MAX || self.bytes > MESSAGE_BYTES_MAX {
            let Some(oldest) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{ClientId, ShardNumber, outlet};

    const NO_TIME: Duration = Duration::ZERO;

    fn seat(outlet: Outlet) -> Seat {
        let peer = PeerId::new(1).unwrap();
        Seat::new(peer, Turn::default(), link(), outlet)
    }

    fn link() -> Link {
        Link {
            shard: ShardNumber(0),
            client: ClientId(1),
        }
    }

    fn say(seat: &mut Seat, now: Instant, text: &[u8]) -> Bytes {
        let event = Event::MessageReceived {
            sender: PeerId::SERVER,
            message: Bytes::copy_from_slice(text),
        };
        let encoded = encode(&event);
        seat.tell(now, &event, &encoded, NO_TIME).unwrap();
        let Encoded::Frame(frame) = encoded else {
            panic!("a frame")
        };
        frame
    }

    fn lost(now: Instant) -> Seat {
        let (outlet, _) = outlet();
        let mut seat = seat(outlet);
        let (let_go, _) = oneshot::channel();
        seat.lose(now, Turn::default().next(), let_go);
        seat
    }

    fn come_back(seat: &mut Seat) -> Vec<Bytes> {
        let (outlet, _) = outlet();
        let turn = seat.turn.next();
        seat.resume(turn, link(), outlet).into()
    }

    #[test]
    fn what_is_said_to_a_lost_peer_is_kept_and_what_happens_is_not() {
        let now = Instant::now();
        let mut seat = lost(now);
        assert!(seat.link().is_none());
        let first = say(&mut seat, now, b"first");
        let event = Event::PeerLeft(PeerId::new(2).unwrap());
        seat.tell(now, &event, &encode(&event), NO_TIME).unwrap();
        let event = Event::PeerUserDataChanged {
            peer: PeerId::new(2).unwrap(),
            user_data: Bytes::new(),
        };
        seat.tell(now, &event, &encode(&event), NO_TIME).unwrap();
        // Lost once more, before it has come back.
        let (let_go, _) = oneshot::channel();
        seat.lose(now, seat.turn.next(), let_go);
        let second = say(&mut seat, now, b"second");
        assert_eq!(come_back(&mut seat), [first, second]);
        assert!(seat.link().is_some());
    }

    #[test]
    fn of_many_messages_the_newest_are_kept() {
        let now = Instant::now();
        let mut seat = lost(now);
        let said: Vec<_> = (0..200)
            .map(|number: u8| say(&mut seat, now, &[number]))
            .collect();
        assert_eq!(come_back(&mut seat), said[said.len() - MESSAGES_MAX..]);

        let mut seat = lost(now);
        let large = vec![0; 32 * 1024];
        let said: Vec<_> = (0..20).map(|_| say(&mut seat, now, &large)).collect();
        let kept = come_back(&mut seat);
        assert_eq!(kept.len(), MESSAGE_BYTES_MAX / said[0].len());
        assert_eq!(
            kept.iter().map(Bytes::len).sum::<usize>() / said[0].len(),
            7
        );
    }

    #[test]
    fn a_stream_that_is_still_read_is_told_who_goes_on() {
        let now = Instant::now();
        let (outlet, mut outlets) = outlet();
        let mut seat = seat(outlet);
        say(&mut seat, now, b"before");
        let (let_go, mut is_let_go) = oneshot::channel();
        seat.lose(now, Turn::default().next(), let_go);
        outlets.waiting_frame().expect("what was said before");
        let last = outlets.waiting_frame().expect("the last event");
        let reason = b"resumed";
        assert!(last.windows(reason.len()).any(|part| part == reason));
        assert_eq!(outlets.waiting_frame(), None);
        assert!(
            is_let_go
                .try_recv()
                .is_err_and(|it| it == oneshot::error::TryRecvError::Empty)
        );
        come_back(&mut seat);
        assert!(
            is_let_go
                .try_recv()
                .is_err_and(|it| it == oneshot::error::TryRecvError::Closed)
        );
    }
}
