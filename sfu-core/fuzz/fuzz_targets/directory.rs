//! Clients, peers, bans and closed rooms in any order, beside a model that knows who is in.

#![no_main]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use sfu_core::{Directory, DirectoryLimits, MediaId, PeerId, Refusal, RoomKey, RoomNumber};

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

fuzz_target!(|data: &[u8]| {
    let Some(([clients, rooms, peers, medias], mut acts)) = data.split_first_chunk() else {
        return;
    };
    let limit = |byte: u8| (byte > 0).then_some(u64::from(byte % 16));
    let limits = DirectoryLimits {
        clients: limit(*clients),
        rooms: limit(*rooms),
        peers: limit(*peers),
        medias: *medias,
    };
    let mut world = World::new(limits);
    while let Some(([act, who], rest)) = acts.split_first_chunk() {
        world.act(*act, usize::from(*who));
        world.check();
        acts = rest;
    }
    world.end();
});

struct Member {
    room: usize,
    user: usize,
    number: RoomNumber,
    medias: Vec<MediaId>,
    must_leave: bool,
}

struct World {
    limits: DirectoryLimits,
    directory: Directory,
    now: Instant,
    clients: u64,
    members: BTreeMap<PeerId, Member>,
    bans: BTreeMap<(usize, usize), Instant>,
    closed: BTreeMap<usize, Instant>,
    is_closing: bool,
    last_number: Option<RoomNumber>,
}

fn key(room: usize) -> RoomKey {
    RoomKey {
        namespace: ["one", "other"][room % 2].to_owned(),
        name: ["a", "b"][room / 2 % 2].to_owned(),
    }
}

fn user(user: usize) -> &'static str {
    ["alice", "bob", "carol", "dave"][user % 4]
}

/// None, some seconds, or longer than clocks can count.
fn time(byte: usize) -> Duration {
    match byte % 8 {
        7 => Duration::MAX,
        seconds => Duration::from_secs(seconds as u64),
    }
}

impl World {
    fn new(limits: DirectoryLimits) -> Self {
        Self {
            limits,
            directory: Directory::new(limits),
            now: *ORIGIN,
            clients: 0,
            members: BTreeMap::new(),
            bans: BTreeMap::new(),
            closed: BTreeMap::new(),
            is_closing: false,
            last_number: None,
        }
    }

    fn act(&mut self, act: u8, who: usize) {
        let (room, user) = (who % 4, who / 4 % 4);
        match act % 16 {
            0 => self.admit_client(),
            1 => {
                self.directory.release_client();
                self.clients = self.clients.saturating_sub(1);
            }
            2..8 => self.admit(room, user),
            8..11 => {
                let peer = self.members.keys().nth(who % self.members.len().max(1));
                if let Some(peer) = peer.copied() {
                    self.release(peer);
                }
            }
            11 => self.ban(room, user, time(who / 16)),
            12 => self.close(room, time(who / 16)),
            13 | 14 => self.now += Duration::from_millis(who as u64 * 20),
            // Rarely: nothing comes in after it.
            _ if who == 255 => {
                self.directory.begin_closing();
                self.is_closing = true;
            }
            _ => {}
        }
    }

    fn admit_client(&mut self) {
        let is_full = self
            .limits
            .clients
            .is_some_and(|limit| self.clients >= limit);
        let wanted = match (self.is_closing, is_full) {
            (true, _) => Err(Refusal::Closing),
            (_, true) => Err(Refusal::Clients),
            _ => Ok(()),
        };
        assert_eq!(self.directory.admit_client(), wanted);
        self.clients += u64::from(wanted.is_ok());
    }

    /// Why nobody, or not this user, may come in; medias are left out.
    fn refusal(&self, room: usize, user: usize) -> Option<Refusal> {
        let is_future = |end: Option<&Instant>| end.is_some_and(|end| *end > self.now);
        let rooms = self.rooms();
        let (peers, is_new) = (self.members.len() as u64, !rooms.contains_key(&room));
        [
            (Refusal::Closing, self.is_closing),
            (Refusal::Closed, is_future(self.closed.get(&room))),
            (Refusal::Banned, is_future(self.bans.get(&(room, user)))),
            (
                Refusal::Peers,
                self.limits.peers.is_some_and(|limit| peers >= limit),
            ),
            (
                Refusal::Rooms,
                is_new
                    && self
                        .limits
                        .rooms
                        .is_some_and(|limit| rooms.len() as u64 >= limit),
            ),
        ]
        .into_iter()
        .find_map(|(refusal, is_it)| is_it.then_some(refusal))
    }

    fn admit(&mut self, room: usize, who: usize) {
        let refusal = self.refusal(room, who);
        let result = self
            .directory
            .admit_peer(self.now, &key(room), user(who), "customer");
        let admitted = match result {
            Ok(admitted) => admitted,
            Err(Refusal::Medias) => {
                let used: usize = self.members.values().map(|it| it.medias.len()).sum();
                assert!(
                    refusal.is_none() && used + usize::from(self.limits.medias) > MediaId::COUNT
                );
                return;
            }
            Err(other) => return assert_eq!(Some(other), refusal),
        };
        assert_eq!(refusal, None, "it came in");
        assert_ne!(admitted.peer, PeerId::SERVER);
        assert_eq!(admitted.media_ids.len(), usize::from(self.limits.medias));
        match self.rooms().get(&room) {
            Some(number) => assert_eq!(*number, admitted.room),
            None => {
                assert!(Some(admitted.room) > self.last_number, "a life of its own");
                self.last_number = Some(admitted.room);
            }
        }
        let member = Member {
            room,
            user: who,
            number: admitted.room,
            medias: admitted.media_ids,
            must_leave: false,
        };
        assert!(self.members.insert(admitted.peer, member).is_none());
        // A set for every act would make long inputs slow: ids only come here.
        let mut medias = BTreeSet::new();
        let mut all = self.members.values().flat_map(|it| &it.medias);
        assert!(
            all.all(|media| medias.insert(*media)),
            "a media of two peers"
        );
    }

    fn release(&mut self, peer: PeerId) {
        self.members.remove(&peer);
        self.directory.release_peer(peer);
        self.directory.release_peer(peer);
        assert!(
            self.directory.must_leave(peer),
            "whoever is gone may not stay"
        );
    }

    fn ban(&mut self, room: usize, who: usize, time: Duration) {
        let sent = self.directory.ban(self.now, &key(room), user(who), time);
        note(&mut self.bans, (room, who), self.now, time);
        self.expect_sent(sent, |it| it.room == room && it.user == who);
    }

    fn close(&mut self, room: usize, time: Duration) {
        let sent = self.directory.close(self.now, &key(room), time);
        note(&mut self.closed, room, self.now, time);
        self.expect_sent(sent, |it| it.room == room);
    }

    fn expect_sent(&mut self, mut sent: Vec<PeerId>, is_meant: impl Fn(&Member) -> bool) {
        let mut wanted = Vec::new();
        for (peer, member) in self.members.iter_mut().filter(|(_, it)| is_meant(it)) {
            member.must_leave = true;
            wanted.push(*peer);
        }
        sent.sort();
        assert_eq!(sent, wanted);
    }

    /// Rooms with their present lives.
    fn rooms(&self) -> BTreeMap<usize, RoomNumber> {
        self.members
            .values()
            .map(|it| (it.room, it.number))
            .collect()
    }

    fn check(&self) {
        let rooms = self.rooms();
        assert_eq!(self.directory.clients(), self.clients);
        assert_eq!(self.directory.peers(), self.members.len() as u64);
        assert_eq!(self.directory.rooms(), rooms.len() as u64);
        for room in 0..4 {
            assert_eq!(self.directory.room(&key(room)), rooms.get(&room).copied());
        }
        for (peer, member) in &self.members {
            assert_eq!(self.directory.must_leave(*peer), member.must_leave);
        }
    }

    fn end(mut self) {
        let summaries = self.directory.summaries(self.now);
        let peers: u64 = summaries.iter().map(|it| it.peers).sum();
        assert_eq!(
            (summaries.len(), peers),
            (self.rooms().len(), self.members.len() as u64)
        );
        let sent = self.directory.send_everybody_away();
        assert_eq!(
            sent.iter().map(|(.., peers)| peers.len()).sum::<usize>(),
            self.members.len()
        );
        for peer in self.members.keys().copied().collect::<Vec<_>>() {
            self.release(peer);
        }
        assert_eq!((self.directory.peers(), self.directory.rooms()), (0, 0));
        assert_eq!(
            self.directory.media_ids_used(),
            0.0,
            "every media id came back"
        );
    }
}

/// The longer one stays.
fn note<K: Ord>(ends: &mut BTreeMap<K, Instant>, key: K, now: Instant, time: Duration) {
    if time.is_zero() {
        return;
    }
    // Beyond all that an input can wait.
    let end = now + time.min(Duration::from_secs(1 << 30));
    let known = ends.entry(key).or_insert(end);
    *known = end.max(*known);
}
