//! Plain UDP to the floor relay: a hello names the room, and everything else is voice.

use std::time::{Duration, Instant};

use super::Said;

/// Begins a hello. A voice datagram begins with another byte.
const HELLO: [u8; 4] = *b"room";

/// A hello has the room's number behind the word.
pub(crate) const HELLO_BYTES: usize = HELLO.len() + 4;

/// Between two hellos until one is answered.
const HELLO_PAUSE: Duration = Duration::from_millis(100);

/// A peer of the relay.
#[derive(Debug)]
pub(crate) struct Floor {
    room: u32,
    is_open: bool,
    next_hello: Option<Instant>,
}

/// Whether it is a hello, which the relay answers with the same bytes.
pub(crate) fn is_hello(bytes: &[u8]) -> bool {
    bytes.starts_with(&HELLO) && bytes.len() == HELLO_BYTES
}

/// The room that a hello names.
pub(crate) fn hello_room(bytes: &[u8]) -> Option<u32> {
    let room = bytes.strip_prefix(&HELLO)?;
    room.try_into().ok().map(u32::from_be_bytes)
}

impl Floor {
    pub(crate) fn new(room: u32) -> Self {
        Self {
            room,
            is_open: false,
            next_hello: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn receive(&mut self, bytes: &[u8], out: &mut impl FnMut(Said<'_>)) {
        match is_hello(bytes) {
            true => self.is_open = true,
            false => out(Said::Voice(bytes)),
        }
    }

    pub(super) fn send(&self, bytes: &[u8], out: &mut impl FnMut(Said<'_>)) -> bool {
        out(Said::Packet(bytes));
        self.is_open
    }

    pub(super) fn poll(&mut self, now: Instant, out: &mut impl FnMut(Said<'_>)) -> Option<Instant> {
        if self.is_open {
            return None;
        }
        match self.next_hello {
            Some(next) if now < next => Some(next),
            _ => {
                let mut hello = [0; HELLO_BYTES];
                let (word, room) = hello.split_at_mut(HELLO.len());
                word.copy_from_slice(&HELLO);
                room.copy_from_slice(&self.room.to_be_bytes());
                out(Said::Packet(&hello));
                self.next_hello = Some(now + HELLO_PAUSE);
                self.next_hello
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_says_hello_until_it_is_answered() {
        let now = Instant::now();
        let mut floor = Floor::new(7);
        let (mut packets, mut voice) = (Vec::new(), Vec::new());
        let mut out = |said: Said<'_>| match said {
            Said::Packet(bytes) => packets.push(bytes.to_vec()),
            Said::Voice(bytes) => voice.push(bytes.to_vec()),
            Said::Apart(_) => panic!("a relay knows no places"),
        };
        let next = floor.poll(now, &mut out).unwrap();
        assert_eq!(floor.poll(now, &mut out), Some(next), "not again at once");
        floor.poll(next, &mut out);
        floor.receive(b"voice", &mut out);
        assert!(!floor.is_open());
        let [hello, _] = &packets[..] else {
            panic!("{packets:?}")
        };
        assert!(is_hello(hello));
        assert_eq!(hello_room(hello), Some(7));
        assert_eq!(voice, [b"voice".to_vec()]);
        let hello = hello.clone();
        floor.receive(&hello, &mut |_| panic!("nothing to say"));
        assert!(floor.is_open());
        let asked = floor.poll(next, &mut |_| panic!("nothing to say"));
        assert_eq!(asked, None);
    }
}
