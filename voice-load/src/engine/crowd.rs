//! Everybody in the run: who is where, who talks when, and who has heard what. Sockets and sessions are in here, waiting is
//! not.

use std::{
    collections::VecDeque,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    Heard, Measured, Progress,
    agenda::Agenda,
    talkers::{Due, Talkers},
};
use crate::{
    clock::Moment,
    listener::{Listener, Times, no_times},
    packet::{self, Stamp},
    plan::Plan,
    session::{Said, Session},
    socket::{PeerSocket, Reception},
};

/// Between a peer's arrival and the first packet that is owed to it. The server's end of a voice connection opens a
/// message later than ours.
const SETTLE: Duration = Duration::from_millis(100);

/// A peer's voice connection.
#[derive(Debug)]
struct Peer {
    socket: PeerSocket,
    session: Session,
    /// It is in its room.
    media: Option<u16>,
    /// When it counts, once it is in its room and its connection is open.
    settled_at: Option<Instant>,
    is_present: bool,
    has_ended: bool,
    /// When the session wants to be asked, and the earliest time that is in the agenda for that.
    asked_at: Option<Instant>,
    noted_at: Option<Instant>,
}

/// See the module.
pub(super) struct Crowd<'a> {
    plan: Plan,
    progress: &'a Progress,
    peers: Vec<Option<Peer>>,
    listeners: Vec<Listener>,
    talkers: Talkers,
    /// When sessions want to be asked, by peer.
    sessions_due: Agenda,
    settling: VecDeque<(Instant, u32)>,
    reception: Reception,
    packet: Vec<u8>,
    counted: Counted,
}

/// Since the beginning of what counts.
struct Counted {
    sent: u64,
    unsent: u64,
    skipped: u64,
    lag: Times,
    lateness: Times,
}

impl Counted {
    fn new() -> Self {
        Self {
            sent: 0,
            unsent: 0,
            skipped: 0,
            lag: no_times(),
            lateness: no_times(),
        }
    }
}

impl<'a> Crowd<'a> {
    pub(super) fn new(plan: Plan, progress: &'a Progress) -> Self {
        let peers = 0..plan.peer_count();
        Self {
            talkers: Talkers::new(&plan, Instant::now()),
            listeners: peers.clone().map(|_| Listener::new(&plan)).collect(),
            peers: peers.map(|_| None).collect(),
            plan,
            progress,
            sessions_due: Agenda::default(),
            settling: VecDeque::new(),
            reception: Reception::new(),
            packet: Vec::new(),
            counted: Counted::new(),
        }
    }

    /// When there is something to do without anything that comes in.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let settling = self.settling.front().map(|(at, _)| *at);
        [self.sessions_due.first(), self.talkers.first(), settling]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn enter(&mut self, peer: u32, session: Session, socket: PeerSocket) {
        let Some(place) = self.peers.get_mut(peer as usize) else {
            return;
        };
        *place = Some(Peer {
            socket,
            session,
            media: None,
            settled_at: None,
            is_present: false,
            has_ended: false,
            asked_at: None,
            noted_at: None,
        });
        self.poll(peer);
    }

    pub(super) fn socket(&self, peer: u32) -> Option<&PeerSocket> {
        let peer = self.peers.get(peer as usize)?.as_ref()?;
        Some(&peer.socket)
    }

    pub(super) fn in_room(&mut self, peer: u32, media: u16) {
        if let Some(Some(it)) = self.peers.get_mut(peer as usize) {
            it.media = Some(media);
            self.arrived(peer);
        }
    }

    pub(super) fn apart(&mut self, listener: u32, talker: u32) {
        if let (Some(it), Some(place)) = (
            self.listeners.get_mut(listener as usize),
            self.plan.talker_of(talker),
        ) {
            it.meet(self.plan.place, place, 0);
        }
    }

    /// Takes what has come for a peer.
    pub(super) fn receive(&mut self, peer: u32) {
        let Some(Some(it)) = self.peers.get_mut(peer as usize) else {
            return;
        };
        let Some(listener) = self.listeners.get_mut(peer as usize) else {
            return;
        };
        let now = Moment::now();
        let (plan, counted) = (&self.plan, &mut self.counted);
        let Peer {
            socket, session, ..
        } = it;
        let (mut asked_at, mut heard) = (it.asked_at, 0);
        self.reception.receive(socket, |bytes, stamp| {
            let waited = stamp.map_or(Duration::ZERO, |stamp| now.since(stamp));
            let waited_ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
            counted.lag.saturating_record(waited_ns);
            let arrived_ns = now.monotonic_ns.saturating_sub(waited_ns);
            let mut out = |said: Said<'_>| match said {
                Said::Packet(bytes) => drop(socket.send(bytes)),
                Said::Voice(bytes) => {
                    heard += 1;
                    if let Some(stamp) = packet::read(bytes) {
                        listener.hear(plan, peer, stamp, arrived_ns);
                    }
                }
                Said::Apart(other) => {
                    if let Some(place) = plan.talker_of(other) {
                        listener.meet(plan.place, place, 0);
                    }
                }
            };
            session.receive(now.instant, bytes, &mut out);
            asked_at = session.poll(now.instant, &mut out);
        });
        it.asked_at = asked_at;
        self.progress.heard.fetch_add(heard, Ordering::Relaxed);
        self.noted(peer);
    }

    /// Does whatever is due.
    pub(super) fn advance(&mut self) {
        let now = Instant::now();
        while let Some(due) = self.talkers.due(now) {
            self.say(due);
        }
        while let Some((at, peer)) = self.sessions_due.due(now) {
            let Some(Some(it)) = self.peers.get_mut(peer as usize) else {
                continue;
            };
            if it.noted_at != Some(at) {
                // An earlier time took its place. To note it again would keep it for ever.
                continue;
            }
            it.noted_at = None;
            if it.asked_at.is_some_and(|at| at <= now) {
                it.session.handle_timeout(now);
                self.poll(peer);
            } else {
                self.noted(peer);
            }
        }
        while let Some((_, peer)) = self.settling.pop_front_if(|(at, _)| *at <= now) {
            self.settle(now, peer);
        }
    }

    /// Lets a session say what it has to say.
    fn poll(&mut self, peer: u32) {
        let Some(Some(it)) = self.peers.get_mut(peer as usize) else {
            return;
        };
        let Peer {
            socket, session, ..
        } = it;
        // Voice comes in packets alone.
        let mut out = |said: Said<'_>| match said {
            Said::Packet(bytes) => drop(socket.send(bytes)),
            Said::Voice(_) | Said::Apart(_) => {}
        };
        it.asked_at = session.poll(Instant::now(), &mut out);
        self.noted(peer);
    }

    /// After a session was asked: notes when it wants to be asked again, and what became of it.
    fn noted(&mut self, peer: u32) {
        let Some(Some(it)) = self.peers.get_mut(peer as usize) else {
            return;
        };
        if let Some(at) = it.asked_at
            && it.noted_at.is_none_or(|noted| at < noted)
        {
            it.noted_at = Some(at);
            self.sessions_due.add(at, peer);
        }
        if it.session.has_ended() && !it.has_ended {
            it.has_ended = true;
            self.progress.note_end(peer, it.session.failure());
        }
        it.media = it.media.or_else(|| it.session.media());
        if it.settled_at.is_none() {
            self.arrived(peer);
        }
    }

    /// If a peer is in its room and can hear, it soon counts.
    fn arrived(&mut self, peer: u32) {
        let Some(Some(it)) = self.peers.get_mut(peer as usize) else {
            return;
        };
        if it.media.is_some() && it.settled_at.is_none() && it.session.is_open() {
            let at = Instant::now() + SETTLE;
            it.settled_at = Some(at);
            self.settling.push_back((at, peer));
        }
    }

    fn settle(&mut self, now: Instant, peer: u32) {
        let Some(Some(it)) = self.peers.get_mut(peer as usize) else {
            return;
        };
        if it.is_present || it.settled_at.is_none_or(|at| at > now) {
            return;
        }
        it.is_present = true;
        self.progress.present.fetch_add(1, Ordering::Relaxed);
        let (room, own_place) = (self.plan.room_of(peer), self.plan.talker_of(peer));
        if let Some(listener) = self.listeners.get_mut(peer as usize) {
            for place in (0..self.plan.talkers).filter(|it| self.talkers.is_active(room, *it)) {
                listener.meet(self.plan.place, place, self.talkers.next(room, place));
            }
        }
        if let Some(place) = own_place {
            self.talkers.start(&self.plan, now, room, place);
            self.meet_talker(peer, room, place);
        }
    }

    /// Everybody who is there hears a new talker.
    fn meet_talker(&mut self, talker: u32, room: u32, place: u32) {
        let next = self.talkers.next(room, place);
        for member in room * self.plan.peers..(room + 1) * self.plan.peers {
            let peer = self.peers.get(member as usize).and_then(Option::as_ref);
            let is_present = member != talker && peer.is_some_and(|it| it.is_present);
            if let (Some(listener), true) = (self.listeners.get_mut(member as usize), is_present) {
                listener.meet(self.plan.place, place, next);
            }
        }
    }

    /// Says a talker's packet.
    fn say(&mut self, due: Due) {
        let late_ns = u64::try_from(due.late.as_nanos()).unwrap_or(u64::MAX);
        self.counted.skipped += u64::from(due.skipped);
        self.counted.lateness.saturating_record(late_ns);
        self.counted.sent += 1;
        self.progress.sent.fetch_add(1, Ordering::Relaxed);
        let Some(Some(it)) = self.peers.get_mut(due.peer as usize) else {
            return;
        };
        let now = Moment::now();
        let stamp = Stamp {
            sender: due.peer,
            sequence: due.sequence,
            sent_ns: now.monotonic_ns,
        };
        let (media, length) = (it.media.unwrap_or_default(), self.plan.packet_bytes);
        packet::write(&mut self.packet, media, stamp, length);
        let Peer {
            socket, session, ..
        } = it;
        let mut was_sent = true;
        let mut out = |said: Said<'_>| {
            if let Said::Packet(bytes) = said {
                was_sent &= socket.send(bytes);
            }
        };
        let was_taken = session.send(&self.packet, &mut out);
        it.asked_at = session.poll(now.instant, &mut out);
        if !was_taken || !was_sent {
            self.counted.unsent += 1;
        }
        self.noted(due.peer);
    }

    pub(super) fn move_to(&mut self, peer: u32, place: [f64; 3]) {
        if let Some(Some(it)) = self.peers.get_mut(peer as usize) {
            it.session.move_to(place);
            self.poll(peer);
        }
    }

    /// The peer talks no more, and nothing more is owed to it.
    pub(super) fn rest(&mut self, peer: u32) {
        let Some(Some(it)) = self.peers.get_mut(peer as usize) else {
            return;
        };
        if std::mem::take(&mut it.is_present) {
            self.progress.present.fetch_sub(1, Ordering::Relaxed);
        }
        let room = self.plan.room_of(peer);
        if let Some(listener) = self.listeners.get_mut(peer as usize) {
            for place in 0..self.plan.talkers {
                listener.part(place, self.talkers.next(room, place));
            }
        }
        let Some(place) = self.plan.talker_of(peer) else {
            return;
        };
        self.talkers.stop(room, place);
        let next = self.talkers.next(room, place);
        for member in room * self.plan.peers..(room + 1) * self.plan.peers {
            if let Some(listener) = self.listeners.get_mut(member as usize) {
                listener.part(place, next);
            }
        }
    }

    pub(super) fn leave(&mut self, peer: u32) {
        self.rest(peer);
        if let Some(Some(it)) = self.peers.get_mut(peer as usize) {
            it.session.leave(Instant::now());
            // What it says at its end is nobody's failure.
            it.has_ended = true;
            self.poll(peer);
        }
        if let Some(place) = self.peers.get_mut(peer as usize) {
            *place = None;
        }
    }

    /// What counts begins now.
    pub(super) fn begin(&mut self) {
        let (plan, talkers) = (&self.plan, &self.talkers);
        for (peer, listener) in (0_u32..).zip(&mut self.listeners) {
            let room = plan.room_of(peer);
            listener.begin(plan.place, |place| talkers.next(room, place));
        }
        self.counted = Counted::new();
    }

    /// Only so many of each room may talk.
    pub(super) fn allow(&mut self, talkers: u32) {
        self.talkers.allow(&self.plan, Instant::now(), talkers);
    }

    /// What counted, with nothing about our own time.
    pub(super) fn report(&mut self) -> Measured {
        let (plan, talkers) = (&self.plan, &self.talkers);
        let heard = (0_u32..).zip(&self.listeners).map(|(peer, listener)| {
            let room = plan.room_of(peer);
            Heard {
                peer,
                tally: listener.tally(|place| talkers.next(room, place)),
                latency: listener.latency.clone(),
                misdelivered: listener.misdelivered,
            }
        });
        let heard = heard.collect();
        let counted = std::mem::replace(&mut self.counted, Counted::new());
        Measured {
            heard,
            sent: counted.sent,
            unsent: counted.unsent,
            skipped: counted.skipped,
            lag: counted.lag,
            lateness: counted.lateness,
            busy: Duration::ZERO,
            elapsed: Duration::ZERO,
        }
    }
}
