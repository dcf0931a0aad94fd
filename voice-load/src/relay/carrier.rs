//! The relay's thread: waits for packets, for time and for new lanes, and does what was decided.

use std::{
    collections::HashMap,
    io,
    net::UdpSocket,
    os::fd::AsFd as _,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::TryRecvError,
    },
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use super::{
    Counts, Inbox, Lane, Link,
    fate::{Direction, Fate, Verdict},
    flight::{Flight, Packet},
};
use crate::engine::Alarm;

/// Sockets that are told of in one wait.
const EVENTS_MAX: usize = 256;

/// Packets of one socket before it is another one's turn; what is left over is told again.
const BATCH: usize = 16;

/// Bytes of the largest packet.
const PACKET_BYTES_MAX: usize = 2_048;

const ALARM: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// A lane, and what happens on it.
struct Open {
    lane: Lane,
    to_server: Fate,
    to_peer: Fate,
}

struct Carrier<'a> {
    link: Link,
    epoll: Epoll,
    lanes: HashMap<u32, Open>,
    flight: Flight,
    buffer: Vec<u8>,
    counts: &'a Counts,
}

/// Runs until there can be no lanes any more.
pub(super) fn run(link: Link, inbox: &Inbox) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut alarm = Alarm::new()?;
    epoll.add(alarm.fd(), EpollEvent::new(EpollFlags::EPOLLIN, ALARM))?;
    let wake = EpollEvent::new(EpollFlags::EPOLLIN, WAKE);
    epoll.add(inbox.wake.as_fd(), wake)?;
    let mut carrier = Carrier {
        link,
        epoll,
        lanes: HashMap::new(),
        flight: Flight::default(),
        buffer: vec![0; PACKET_BYTES_MAX],
        counts: &inbox.counts,
    };
    let mut events = vec![EpollEvent::empty(); EVENTS_MAX];
    loop {
        alarm.set(Instant::now(), carrier.flight.first())?;
        let count = match carrier.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        carrier.deliver();
        for event in events.iter().take(count) {
            match event.data() {
                ALARM => {}
                WAKE if !carrier.read(inbox)? => return Ok(()),
                WAKE => {}
                socket => carrier.receive(socket),
            }
        }
        carrier.deliver();
    }
}

/// What a lane's socket is called.
fn name(peer: u32, direction: Direction) -> u64 {
    u64::from(peer) * 2 + u64::from(direction == Direction::ToPeer)
}

impl Carrier<'_> {
    /// Takes over the lanes that are there; says whether there can be more.
    fn read(&mut self, inbox: &Inbox) -> io::Result<bool> {
        // It only wakes: how often does not matter, nor that it may be empty.
        let _ = inbox.wake.read();
        loop {
            let lane = match inbox.lanes.try_recv() {
                Ok(lane) => lane,
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            };
            let event =
                |direction| EpollEvent::new(EpollFlags::EPOLLIN, name(lane.peer, direction));
            self.epoll.add(&lane.front, event(Direction::ToServer))?;
            self.epoll.add(&lane.back, event(Direction::ToPeer))?;
            let open = Open {
                to_server: Fate::new(self.link, lane.peer, Direction::ToServer),
                to_peer: Fate::new(self.link, lane.peer, Direction::ToPeer),
                lane,
            };
            // The sockets of an earlier lane leave the wait as they close.
            self.lanes.insert(open.lane.peer, open);
        }
    }

    /// Takes what has come at a socket.
    fn receive(&mut self, socket: u64) {
        let Ok(peer) = u32::try_from(socket / 2) else {
            return;
        };
        let Some(open) = self.lanes.get_mut(&peer) else {
            return;
        };
        let direction = match socket % 2 {
            0 => Direction::ToServer,
            _ => Direction::ToPeer,
        };
        for _ in 0..BATCH {
            let Some(length) = open.lane.receive(direction, &mut self.buffer) else {
                return;
            };
            let fate = match direction {
                Direction::ToServer => &mut open.to_server,
                Direction::ToPeer => &mut open.to_peer,
            };
            let verdict = fate.next();
            add(&self.counts.packets);
            match verdict {
                Verdict::Lost => add(&self.counts.lost),
                Verdict::Once(_) => {}
                Verdict::Twice(..) => add(&self.counts.doubled),
            }
            let bytes = self.buffer.get(..length).unwrap_or_default();
            let now = Instant::now();
            if !self.flight.take(now, verdict, peer, direction, bytes) {
                add(&self.counts.overflowed);
            }
        }
    }

    /// Sends what has arrived at the other end.
    fn deliver(&mut self) {
        let now = Instant::now();
        while let Some(packet) = self.flight.due(now) {
            self.counts.late(now.saturating_duration_since(packet.at));
            let lane = self.lanes.get(&packet.peer);
            if !lane.is_some_and(|open| open.lane.send(&packet)) {
                add(&self.counts.unsent);
            }
        }
    }
}

impl Lane {
    /// The next packet that goes there; `None` when there is none now.
    fn receive(&mut self, direction: Direction, buffer: &mut [u8]) -> Option<usize> {
        match (direction, self.client) {
            (Direction::ToServer, None) => {
                let (length, client) = self.front.recv_from(buffer).ok()?;
                self.front.connect(client).ok()?;
                self.client = Some(client);
                Some(length)
            }
            (Direction::ToServer, Some(_)) => self.front.recv(buffer).ok(),
            (Direction::ToPeer, _) => self.back.recv(buffer).ok(),
        }
    }

    /// Hands a packet on; says whether the kernel took it.
    fn send(&self, packet: &Packet) -> bool {
        match packet.direction {
            Direction::ToServer => send(&self.back, &packet.bytes),
            Direction::ToPeer => self.client.is_some() && send(&self.front, &packet.bytes),
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// What the kernel reports of packets before is no matter.
fn send(socket: &UdpSocket, bytes: &[u8]) -> bool {
    match socket.send(bytes) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            socket.send(bytes).is_ok()
        }
        sent => sent.is_ok(),
    }
}
