//! Peers that come, go, come back, move, talk and pause in any order, beside a model that compares everybody with everybody.

#![no_main]

mod listener;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use listener::{Listener, check};
use sfu_core::{
    Command, DropReason, Event, Join, LeaveReason, MediaId, PeerId, Position, Refused, Room,
    RoomInfo, RoomLimits, Slot, wire::datagram::Datagram,
};

/// Peers at the same time: enough for crowds, and few enough to compare them all after each act.
const PEERS_MAX: usize = 12;
/// Medias of each peer.
const MEDIAS: u16 = 2;
/// Acts of one input; more of them find nothing that fewer do not.
const ACTS_MAX: usize = 128;
/// An empty map.
const PROPERTIES: Bytes = Bytes::from_static(&[0x80]);

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

fuzz_target!(|data: &[u8]| {
    let Some((streams, acts)) = data.split_first() else {
        return;
    };
    let mut world = World::new(*streams % 5);
    // Each act is three bytes: what, who, and with what.
    for act in acts.as_chunks::<3>().0.iter().take(ACTS_MAX) {
        world.act(*act);
        world.poll();
        world.compare();
    }
    for peer in world.peers.keys().copied().collect::<Vec<_>>() {
        world.leave(peer, None);
        world.poll();
        world.compare();
    }
    assert!(world.room.is_empty() && world.room.slots().is_empty());
});

struct Peer {
    slot: Slot,
    place: [f64; 3],
    medias: Vec<MediaId>,
    running: BTreeSet<MediaId>,
    /// Medias of others that it does not want.
    paused: BTreeSet<MediaId>,
    listener: Listener,
}

struct World {
    room: Room,
    streams: u8,
    now: Instant,
    peers: BTreeMap<PeerId, Peer>,
    next: u16,
    /// The newest packet that each media got through.
    passed: BTreeMap<MediaId, u32>,
    messages_expected: BTreeMap<PeerId, usize>,
}

impl World {
    fn new(streams: u8) -> Self {
        let info = RoomInfo {
            name: Arc::from("room"),
            customer: Arc::from("customer"),
            user_data: Bytes::new(),
        };
        let limits = RoomLimits {
            media_packets_rate: 50,
            media_packets_capacity: 5,
            concurrent_streams: streams,
        };
        Self {
            room: Room::new(info, limits),
            streams,
            now: *ORIGIN,
            peers: BTreeMap::new(),
            next: 0,
            passed: BTreeMap::new(),
            messages_expected: BTreeMap::new(),
        }
    }

    fn act(&mut self, [act, who, what]: [u8; 3]) {
        let Some(peer) = self.nth(who) else {
            return self.join(what);
        };
        // Some other peer's media, or its own.
        let media = self
            .nth(what)
            .map(|it| self.peers[&it].medias[usize::from(what) % 2]);
        let media = media.expect("there is a peer");
        match act % 16 {
            0 | 1 if self.peers.len() < PEERS_MAX => self.join(what),
            2 => self.leave(peer, (what > 128).then_some(LeaveReason::PeerKicked)),
            3 | 4 => self.start(peer, media),
            5 => self.stop(peer, media),
            6 => self.pause(peer, media, true),
            7 => self.pause(peer, media, false),
            8 | 9 => self.relocate(peer, what),
            10 => self.update(peer, what),
            11 => self.send(peer, what),
            15 => self.come_back(peer),
            12 => self.now += Duration::from_millis(u64::from(what) * 4),
            _ => self.speak(peer, media, act / 16),
        }
    }

    fn nth(&self, at: u8) -> Option<PeerId> {
        self.peers
            .keys()
            .nth(usize::from(at) % self.peers.len().max(1))
            .copied()
    }

    fn join(&mut self, what: u8) {
        let first = MediaId::MIN + self.next * MEDIAS;
        let medias: Vec<_> = (first..first + MEDIAS)
            .filter_map(|id| MediaId::new(id.into()))
            .collect();
        self.next += 1;
        let id = PeerId::new(self.next.into()).expect("above 0");
        let join = Join {
            peer: id,
            user_id: Arc::from("user"),
            user_data: Bytes::new(),
            position: position(place(what)),
            media_ids: medias.clone(),
        };
        let slot = self.room.join(self.now, join);
        assert_eq!(self.room.slot(id), Some(slot));
        assert!(
            self.peers.values().all(|peer| peer.slot != slot),
            "two on one slot"
        );
        let peer = Peer {
            slot,
            place: place(what),
            medias,
            running: BTreeSet::new(),
            paused: BTreeSet::new(),
            listener: Listener::new(id),
        };
        self.peers.insert(id, peer);
    }

    fn leave(&mut self, id: PeerId, reason: Option<LeaveReason>) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        assert_eq!(self.room.leave(peer.slot, reason), peer.medias);
        assert_eq!(self.room.leave(peer.slot, reason), [], "it is out already");
        assert_eq!(self.room.slot(id), None);
    }

    /// It is told everything anew, as if it had been told nothing before; nobody else notices.
    fn come_back(&mut self, id: PeerId) {
        let peer = self.peers.get_mut(&id).expect("listed");
        let anew = Listener::new(id);
        let before = std::mem::replace(&mut peer.listener, anew);
        self.room.introduce(peer.slot);
        let notice = self.room.poll_notice().expect("it is told");
        check(&notice);
        assert_eq!(
            (&notice.to[..], self.room.poll_notice()),
            (&[peer.slot][..], None)
        );
        peer.listener.take_in(&notice.event);
        peer.listener.messages = before.messages;
        assert_eq!(peer.listener.knows, before.knows);
        let running = peer.listener.knows.values().flatten();
        let wanted: BTreeSet<MediaId> = running
            .filter(|media| peer.paused.contains(media))
            .copied()
            .collect();
        assert_eq!(peer.listener.paused, wanted);
        // Nobody else is ever told of a media that it has paused.
        peer.listener.paused.clear();
    }

    fn command(&mut self, id: PeerId, command: Command) -> bool {
        self.room
            .handle_command(self.peers[&id].slot, command)
            .is_ok()
    }

    fn start(&mut self, id: PeerId, media: MediaId) {
        let properties = PROPERTIES;
        let is_done = self.command(id, Command::StartMedia { media, properties });
        let peer = self.peers.get_mut(&id).expect("listed");
        assert_eq!(is_done, peer.medias.contains(&media));
        if is_done && peer.running.insert(media) {
            self.passed.remove(&media);
        }
    }

    fn stop(&mut self, id: PeerId, media: MediaId) {
        let is_done = self.command(id, Command::StopMedia { media });
        let peer = self.peers.get_mut(&id).expect("listed");
        assert_eq!(is_done, peer.medias.contains(&media));
        if is_done {
            peer.running.remove(&media);
            for other in self.peers.values_mut() {
                other.paused.remove(&media);
            }
        }
    }

    fn pause(&mut self, id: PeerId, media: MediaId, is_paused: bool) {
        let is_done = match is_paused {
            true => self.command(id, Command::PauseMedia { media }),
            false => self.command(id, Command::ResumeMedia { media }),
        };
        assert_eq!(is_done, self.visible_medias(id).contains(&media));
        let paused = &mut self.peers.get_mut(&id).expect("listed").paused;
        match (is_done, is_paused) {
            (true, true) => drop(paused.insert(media)),
            (true, false) => drop(paused.remove(&media)),
            (false, _) => {}
        }
    }

    fn relocate(&mut self, id: PeerId, what: u8) {
        let place = place(what);
        let position = position(place);
        assert!(self.command(id, Command::SetPeerPosition { position }));
        self.peers.get_mut(&id).expect("listed").place = place;
        // Pauses end where sight ends.
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            let visible = self.visible_medias(id);
            let peer = self.peers.get_mut(&id).expect("listed");
            peer.paused.retain(|media| visible.contains(media));
        }
    }

    fn update(&mut self, id: PeerId, what: u8) {
        let user_data = Bytes::copy_from_slice(&[what; 3]);
        let command = match what % 2 {
            0 => Command::UpdatePeer { user_data },
            _ => Command::UpdateRoom { user_data },
        };
        assert!(self.command(id, command));
    }

    fn send(&mut self, id: PeerId, what: u8) {
        let message = Bytes::copy_from_slice(&[what]);
        let target = PeerId::new(u32::from(what) % u32::from(self.next) + 1).expect("above 0");
        let targets = (what < 128).then(|| vec![target, target, PeerId::SERVER]);
        for (other, expected) in &mut self.messages_expected {
            let is_meant = match &targets {
                None => *other != id,
                Some(targets) => targets.contains(other),
            };
            *expected += usize::from(is_meant);
        }
        assert!(self.command(id, Command::SendMessage { message, targets }));
    }

    /// A packet, mostly the media's next.
    fn speak(&mut self, id: PeerId, media: MediaId, jump: u8) {
        let last = self.passed.get(&media).copied();
        let sequence = match (last, jump) {
            (None, _) => u32::MAX - u32::from(jump),
            (Some(last), 0) => last,
            (Some(last), 1) => last.wrapping_sub(100),
            (Some(last), 2) => last.wrapping_add(1 << 20),
            (Some(last), _) => last.wrapping_add(1),
        };
        let own = self.peers[&id].medias.contains(&media);
        let is_running = self.peers[&id].running.contains(&media);
        // Mostly there is none.
        let budget = (jump > 192).then(|| u32::from(jump) - 192);
        let (result, heard) = self.forward(id, media, sequence, budget);
        let refused = match result {
            Ok(refused) => refused,
            Err(reason) => {
                assert!(heard.is_empty());
                assert_eq!(reason == DropReason::ForeignMedia, !own);
                assert_eq!(reason == DropReason::MediaStopped, own && !is_running);
                return;
            }
        };
        assert!(own && is_running, "what was not started is heard");
        assert!(last != Some(sequence), "a packet came twice");
        assert!(self.streams > 0 || budget.is_some() || refused.receivers == 0);
        self.passed.insert(media, sequence);
        let wants = |it: &PeerId| !self.peers[it].paused.contains(&media);
        let wanted: BTreeSet<PeerId> = self.near(id).filter(wants).collect();
        let hearers: BTreeSet<PeerId> = heard.iter().copied().collect();
        assert_eq!(hearers.len(), heard.len(), "once each");
        assert!(hearers.is_subset(&wanted), "the near ones, not the sender");
        assert_eq!(hearers.len() + refused.receivers, wanted.len());
        for hearer in heard {
            let known = self.peers[&hearer].listener.knows.get(&id);
            let is_known = known.is_some_and(|medias| medias.contains(&media));
            assert!(is_known, "a packet of a media that was not announced");
        }
        let (again, heard) = self.forward(id, media, sequence, budget);
        assert!(again.is_err() && heard.is_empty());
    }

    fn forward(
        &mut self,
        id: PeerId,
        media: MediaId,
        sequence: u32,
        budget: Option<u32>,
    ) -> (Result<Refused, DropReason>, Vec<PeerId>) {
        let mut bytes = vec![0x96, 1, 0x91, 0xcd];
        bytes.extend(media.value().to_be_bytes());
        bytes.push(0xce);
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([0, 0, 0xc4, 1, 0]);
        let datagram = Datagram::parse(&bytes).expect("a datagram");
        let by_slot: BTreeMap<Slot, PeerId> = self
            .peers
            .iter()
            .map(|(id, peer)| (peer.slot, *id))
            .collect();
        let mut heard = Vec::new();
        let result = self.room.handle_datagram(
            self.now,
            self.peers[&id].slot,
            media,
            &datagram,
            budget,
            |slot| heard.push(by_slot[&slot]),
        );
        (result, heard)
    }

    fn near(&self, id: PeerId) -> impl Iterator<Item = PeerId> {
        let place = self.peers[&id].place;
        let is_near = move |other: &Peer| {
            let squares = place
                .iter()
                .zip(other.place)
                .map(|(a, b)| (a - b) * (a - b));
            squares.sum::<f64>() < 1.0
        };
        let others = self.peers.iter().filter(move |(other, _)| **other != id);
        others
            .filter(move |(_, peer)| is_near(peer))
            .map(|(other, _)| *other)
    }

    fn visible_medias(&self, id: PeerId) -> BTreeSet<MediaId> {
        self.near(id)
            .flat_map(|other| self.peers[&other].medias.iter().copied())
            .collect()
    }

    fn poll(&mut self) {
        while let Some(notice) = self.room.poll_notice() {
            check(&notice);
            for to in &notice.to {
                let peer = self.peers.values_mut().find(|peer| peer.slot == *to);
                match peer {
                    Some(peer) => peer.listener.take_in(&notice.event),
                    // Whoever was sent away has left the model already.
                    None => assert!(matches!(notice.event, Event::Left(_)), "told nobody"),
                }
            }
        }
        for id in self.peers.keys() {
            self.messages_expected.entry(*id).or_default();
        }
        self.messages_expected
            .retain(|id, _| self.peers.contains_key(id));
    }

    /// Everybody knows exactly the near ones, with exactly their running medias.
    fn compare(&self) {
        assert_eq!(self.room.len(), self.peers.len());
        for (id, peer) in &self.peers {
            let near = self
                .near(*id)
                .map(|other| (other, &self.peers[&other].running));
            let known = peer.listener.knows.iter();
            assert!(known.map(|(other, medias)| (*other, medias)).eq(near));
            assert_eq!(peer.listener.messages, self.messages_expected[id]);
            assert!(peer.listener.paused.is_empty());
        }
    }
}

/// One of 256 places, some of them in one another's sight, on both sides of the edges of cells, and very far away.
fn place(what: u8) -> [f64; 3] {
    let axis = |bits: u8| f64::from(i16::from(bits & 7) - 4) * 0.5;
    match what {
        255 => [f64::MAX, 0.0, f64::MIN],
        254 => [1e12, 1e12, 0.0],
        253 => [0.0; 3],
        _ => [axis(what), axis(what >> 3), f64::from(what >> 6) * 0.4],
    }
}

fn position(place: [f64; 3]) -> Position {
    Position::new(place).expect("finite")
}
