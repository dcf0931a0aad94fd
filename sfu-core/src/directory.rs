//! The whole server's view: which rooms there are, who may come in, and who gets which ids. No voice passes here.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    bans::Bans,
    id::{MediaId, MediaIds, PeerId, RoomNumber},
    mutes::{Mute, Mutes, TooManyMutes},
};

/// A room's full name: rooms of different namespaces have nothing to do with each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomKey {
    /// Whose rooms.
    pub namespace: String,
    /// The name that clients know.
    pub name: String,
}

/// What the whole server limits; `None` is no limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryLimits {
    /// Clients at the same time.
    pub clients: Option<u64>,
    /// Rooms at the same time.
    pub rooms: Option<u64>,
    /// Peers at the same time.
    pub peers: Option<u64>,
    /// Medias of each peer; all of them are set aside when it joins.
    pub medias: u8,
}

/// Why somebody may not come in. Clients show the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// As many clients as allowed.
    #[error("client limit exceeded")]
    Clients,
    /// As many rooms as allowed.
    #[error("room limit exceeded")]
    Rooms,
    /// As many peers as allowed.
    #[error("peer limit exceeded")]
    Peers,
    /// Every media id is in use.
    #[error("media limit exceeded")]
    Medias,
    /// The user was banned.
    #[error("banned from this room")]
    Banned,
    /// The room was closed for a time.
    #[error("room is temporarily not available")]
    Closed,
    /// The server ends.
    #[error("server is closing")]
    Closing,
}

/// A peer that may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its id.
    pub peer: PeerId,
    /// The medias it may start.
    pub media_ids: Vec<MediaId>,
    /// The room's present life.
    pub room: RoomNumber,
    /// Whose the room is: that of whoever came first.
    pub customer: Arc<str>,
}

/// A room as reports tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomSummary {
    /// Which.
    pub key: RoomKey,
    /// Whose.
    pub customer: Arc<str>,
    /// For how long.
    pub age: Duration,
    /// How many are in.
    pub peers: u64,
}

/// Rooms, ids, bans and limits of one server.
#[derive(Debug)]
pub struct Directory {
    limits: DirectoryLimits,
    rooms: HashMap<RoomKey, Entry>,
    peers: HashMap<PeerId, Member>,
    media_ids: MediaIds,
    bans: Bans,
    mutes: Mutes,
    clients: u64,
    last_peer: u32,
    last_room: u64,
    is_closing: bool,
}

#[derive(Debug)]
struct Entry {
    number: RoomNumber,
    customer: Arc<str>,
    since: Instant,
    peers: HashSet<PeerId>,
    /// A game server has a say in it: it stays for so long without peers.
    kept_until: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    room: RoomKey,
    user_id: String,
    media_ids: Vec<MediaId>,
    /// It was made to leave, and may be on its way in.
    must_leave: bool,
}

impl Directory {
    /// An empty server.
    pub fn new(limits: DirectoryLimits) -> Self {
        Self {
            limits,
            rooms: HashMap::new(),
            peers: HashMap::new(),
            media_ids: MediaIds::default(),
            bans: Bans::default(),
            mutes: Mutes::default(),
            clients: 0,
            last_peer: 0,
            last_room: 0,
            is_closing: false,
        }
    }

    /// Clients at present.
    pub fn clients(&self) -> u64 {
        self.clients
    }

    /// Peers at present.
    pub fn peers(&self) -> u64 {
        self.peers.len() as u64
    }

    /// Rooms at present.
    pub fn rooms(&self) -> u64 {
        self.rooms.len() as u64
    }

    /// What reports tell of the rooms.
    pub fn summaries(&self, now: Instant) -> Vec<RoomSummary> {
        let summary = |(key, entry): (&RoomKey, &Entry)| RoomSummary {
            key: key.clone(),
            customer: Arc::clone(&entry.customer),
            age: now.saturating_duration_since(entry.since),
            peers: entry.peers.len() as u64,
        };
        self.rooms.iter().map(summary).collect()
    }

    /// The share of all media ids that is in use, 0 to 1.
    pub fn media_ids_used(&self) -> f64 {
        1.0 - self.media_ids.available() as f64 / MediaId::COUNT as f64
    }

    /// Lets a client in, which comes before its peers.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn admit_client(&mut self) -> Result<(), Refusal> {
        if self.is_closing {
            return Err(Refusal::Closing);
        }
        if self
            .limits
            .clients
            .is_some_and(|limit| self.clients >= limit)
        {
            return Err(Refusal::Clients);
        }
        self.clients += 1;
        Ok(())
    }

    /// A client that was let in is gone.
    pub fn release_client(&mut self) {
        self.clients = self.clients.saturating_sub(1);
    }

    /// Lets a peer into a room, which begins with its first peer.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn admit_peer(
        &mut self,
        now: Instant,
        room: &RoomKey,
        user_id: &str,
        customer: &str,
    ) -> Result<Admitted, Refusal> {
        if self.is_closing {
            return Err(Refusal::Closing);
        }
        if self.bans.is_closed(now, room) {
            return Err(Refusal::Closed);
        }
        if self.bans.is_banned(now, room, user_id) {
            return Err(Refusal::Banned);
        }
        if self.limits.peers.is_some_and(|limit| self.peers() >= limit) {
            return Err(Refusal::Peers);
        }
        self.check_room_limit(room)?;
        let media_ids = self.media_ids.take(self.limits.medias.into());
        let media_ids = media_ids.ok_or(Refusal::Medias)?;
        let peer = self.next_peer();
        let entry = self.enter(now, room, customer);
        entry.peers.insert(peer);
        let (number, customer) = (entry.number, Arc::clone(&entry.customer));
        let member = Member {
            room: room.clone(),
            user_id: user_id.to_owned(),
            media_ids: media_ids.clone(),
            must_leave: false,
        };
        self.peers.insert(peer, member);
        Ok(Admitted {
            peer,
            media_ids,
            room: number,
            customer,
        })
    }

    /// A room's game server has something to say of its users: the room begins, if it has not, and stays for at least
    /// `time`, with peers or without. Gives its present life, and whose it is.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn govern(
        &mut self,
        now: Instant,
        room: &RoomKey,
        customer: &str,
        time: Duration,
    ) -> Result<(RoomNumber, Arc<str>), Refusal> {
        // Those who are in may stay for a while, and are somewhere.
        if self.is_closing && !self.rooms.contains_key(room) {
            return Err(Refusal::Closing);
        }
        if self.bans.is_closed(now, room) {
            return Err(Refusal::Closed);
        }
        self.check_room_limit(room)?;
        let entry = self.enter(now, room, customer);
        entry.kept_until = Some(now + time);
        Ok((entry.number, Arc::clone(&entry.customer)))
    }

    /// Rooms that were only kept for their game servers, and have been for long enough: they end.
    pub fn end_kept(&mut self, now: Instant) -> Vec<(RoomKey, RoomNumber)> {
        let is_over = |_: &RoomKey, entry: &mut Entry| {
            entry.peers.is_empty() && entry.kept_until.is_none_or(|end| end <= now)
        };
        let ended = self.rooms.extract_if(is_over);
        ended.map(|(key, entry)| (key, entry.number)).collect()
    }

    fn check_room_limit(&self, room: &RoomKey) -> Result<(), Refusal> {
        let is_new = !self.rooms.contains_key(room);
        let is_full = || self.limits.rooms.is_some_and(|limit| self.rooms() >= limit);
        match is_new && is_full() {
            true => Err(Refusal::Rooms),
            false => Ok(()),
        }
    }

    fn enter(&mut self, now: Instant, room: &RoomKey, customer: &str) -> &mut Entry {
        let next_room = &mut self.last_room;
        self.rooms.entry(room.clone()).or_insert_with(|| {
            *next_room += 1;
            Entry {
                number: RoomNumber(*next_room),
                customer: Arc::from(customer),
                since: now,
                peers: HashSet::new(),
                kept_until: None,
            }
        })
    }

    /// A peer that was let in is gone, and with the last one its room, unless a game server keeps it. Call it when no packet of the peer can be under
    /// way any more: its media ids are given out again.
    pub fn release_peer(&mut self, peer: PeerId) {
        let Some(member) = self.peers.remove(&peer) else {
            return;
        };
        self.media_ids.free(member.media_ids);
        if let Some(entry) = self.rooms.get_mut(&member.room) {
            entry.peers.remove(&peer);
            if entry.peers.is_empty() && entry.kept_until.is_none() {
                self.rooms.remove(&member.room);
            }
        }
    }

    /// The present life of a room.
    pub fn room(&self, room: &RoomKey) -> Option<RoomNumber> {
        self.rooms.get(room).map(|entry| entry.number)
    }

    /// Bans a user, and says which peers have to leave.
    pub fn ban(
        &mut self,
        now: Instant,
        room: &RoomKey,
        user_id: &str,
        time: Duration,
    ) -> Vec<PeerId> {
        self.bans.ban(now, room, user_id, time);
        self.send_away(room, Some(user_id))
    }

    /// Closes a room, and says which peers have to leave.
    pub fn close(&mut self, now: Instant, room: &RoomKey, time: Duration) -> Vec<PeerId> {
        self.bans.close(now, room, time);
        self.send_away(room, None)
    }

    /// Remembers mutes, all or none.
    ///
    /// # Errors
    /// [`TooManyMutes`].
    pub fn mute(
        &mut self,
        now: Instant,
        room: &RoomKey,
        mutes: Vec<Mute>,
    ) -> Result<(), TooManyMutes> {
        self.mutes.put(now, room, mutes)
    }

    /// Forgets a mute. `false` when there was none.
    pub fn unmute(
        &mut self,
        now: Instant,
        room: &RoomKey,
        user_id: &str,
        listener_id: Option<&str>,
    ) -> bool {
        self.mutes.take_back(now, room, user_id, listener_id)
    }

    /// The mutes in a room that a user is one of the two of.
    pub fn mutes_concerning(&self, now: Instant, room: &RoomKey, user_id: &str) -> Vec<Mute> {
        self.mutes.concerning(now, room, user_id)
    }

    /// Whether a peer was made to leave after it had been admitted: it may not have been in its room then.
    pub fn must_leave(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_none_or(|member| member.must_leave)
    }

    fn send_away(&mut self, room: &RoomKey, user_id: Option<&str>) -> Vec<PeerId> {
        let peers = self.peers_of(room, user_id);
        for peer in &peers {
            if let Some(member) = self.peers.get_mut(peer) {
                member.must_leave = true;
            }
        }
        peers
    }

    /// Peers of a room: all, or those of one user.
    pub fn peers_of(&self, room: &RoomKey, user_id: Option<&str>) -> Vec<PeerId> {
        let Some(entry) = self.rooms.get(room) else {
            return Vec::new();
        };
        let is_meant = |peer: &&PeerId| match user_id {
            None => true,
            Some(user_id) => self.peers.get(peer).is_some_and(|it| it.user_id == user_id),
        };
        entry.peers.iter().filter(is_meant).copied().collect()
    }

    /// From now on nobody comes in.
    pub fn begin_closing(&mut self) {
        self.is_closing = true;
    }

    /// Everybody has to leave: the rooms with their peers.
    pub fn send_everybody_away(&mut self) -> Vec<(RoomKey, RoomNumber, Vec<PeerId>)> {
        let rooms: Vec<_> = self
            .rooms
            .iter()
            .map(|(key, entry)| (key.clone(), entry.number))
            .collect();
        let peers = |(key, number): (RoomKey, RoomNumber)| {
            let peers = self.send_away(&key, None);
            (key, number, peers)
        };
        rooms.into_iter().map(peers).collect()
    }

    /// Ids go up, so that one that was just freed is not somebody else's at once, and begin anew after the largest.
    fn next_peer(&mut self) -> PeerId {
        loop {
            self.last_peer = self.last_peer.wrapping_add(1);
            let free = PeerId::new(self.last_peer)
                .filter(|id| *id != PeerId::SERVER && !self.peers.contains_key(id));
            // There are more ids than media ids, and each peer has medias: the loop ends.
            if let Some(id) = free {
                return id;
            }
        }
    }
}

/// A room of a test.
#[cfg(test)]
pub(crate) fn room(name: &str) -> RoomKey {
    RoomKey {
        namespace: "ns".to_owned(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::origin;

    const OPEN: DirectoryLimits = DirectoryLimits {
        clients: None,
        rooms: None,
        peers: None,
        medias: 2,
    };

    fn admit(directory: &mut Directory, name: &str, user_id: &str) -> Result<Admitted, Refusal> {
        directory.admit_peer(origin(), &room(name), user_id, "customer")
    }

    #[test]
    fn limits_count_what_is_there() {
        let limits = DirectoryLimits {
            clients: Some(1),
            rooms: Some(1),
            peers: Some(2),
            medias: 2,
        };
        let mut directory = Directory::new(limits);
        assert_eq!(directory.admit_client(), Ok(()));
        assert_eq!(directory.admit_client(), Err(Refusal::Clients));
        directory.release_client();
        assert_eq!(directory.admit_client(), Ok(()));

        let first = admit(&mut directory, "a", "1").unwrap();
        assert_eq!(admit(&mut directory, "b", "1"), Err(Refusal::Rooms));
        let second = admit(&mut directory, "a", "2").unwrap();
        assert_eq!(admit(&mut directory, "a", "3"), Err(Refusal::Peers));
        assert_eq!(first.room, second.room);
        directory.release_peer(first.peer);
        directory.release_peer(first.peer);
        directory.release_peer(second.peer);
        let anew = admit(&mut directory, "a", "1").unwrap();
        assert_ne!(anew.room, first.room, "a room that ended begins anew");
        assert!(
            anew.media_ids
                .iter()
                .all(|id| !first.media_ids.contains(id))
        );
    }

    #[test]
    fn media_ids_run_out_before_they_are_shared() {
        let mut directory = Directory::new(DirectoryLimits {
            medias: 255,
            ..OPEN
        });
        let mut taken = HashSet::new();
        let admitted = (0..MediaId::COUNT / 255).map(|_| admit(&mut directory, "a", "1").unwrap());
        for admitted in admitted.collect::<Vec<_>>() {
            assert!(admitted.media_ids.iter().all(|id| taken.insert(*id)));
        }
        assert_eq!(admit(&mut directory, "a", "1"), Err(Refusal::Medias));
        assert_eq!(directory.peers(), (MediaId::COUNT / 255) as u64);
    }

    #[test]
    fn peer_ids_begin_anew_without_meeting_anyone() {
        let mut directory = Directory::new(OPEN);
        let first = admit(&mut directory, "a", "1").unwrap().peer;
        directory.last_peer = u32::MAX - 1;
        let ids: Vec<_> = (0..2)
            .map(|_| admit(&mut directory, "a", "1").unwrap().peer.value())
            .collect();
        assert_eq!(
            (first.value(), ids),
            (1, vec![2, 3]),
            "0, the server's own and 1 are passed over"
        );
    }

    #[test]
    fn a_ban_names_who_must_leave_and_holds() {
        let mut directory = Directory::new(OPEN);
        let now = origin();
        let bob = admit(&mut directory, "a", "bob").unwrap().peer;
        let alice = admit(&mut directory, "a", "alice").unwrap().peer;
        let elsewhere = admit(&mut directory, "b", "bob").unwrap().peer;
        let hour = Duration::from_secs(3600);
        assert_eq!(directory.ban(now, &room("a"), "bob", hour), [bob]);
        let must_leave = [bob, alice, elsewhere].map(|peer| directory.must_leave(peer));
        assert_eq!(must_leave, [true, false, false]);
        assert_eq!(admit(&mut directory, "a", "bob"), Err(Refusal::Banned));
        let mut all = directory.close(now, &room("a"), hour);
        all.sort();
        assert_eq!(all, [bob, alice]);
        assert_eq!(admit(&mut directory, "a", "carol"), Err(Refusal::Closed));
        assert_eq!(directory.peers_of(&room("b"), None), [elsewhere]);
        assert_eq!(directory.close(now, &room("c"), hour), []);
        directory.begin_closing();
        assert_eq!(admit(&mut directory, "b", "carol"), Err(Refusal::Closing));
        assert_eq!(directory.admit_client(), Err(Refusal::Closing));
    }

    #[test]
    fn a_room_with_a_game_server_stays_without_peers_for_its_time() {
        let limits = DirectoryLimits {
            rooms: Some(1),
            ..OPEN
        };
        let mut directory = Directory::new(limits);
        let now = origin();
        let minute = Duration::from_secs(60);
        let (number, customer) = directory.govern(now, &room("a"), "acme", minute).unwrap();
        assert_eq!(&*customer, "acme");
        assert_eq!(
            directory.govern(now, &room("b"), "acme", minute),
            Err(Refusal::Rooms)
        );
        let bob = admit(&mut directory, "a", "bob").unwrap();
        assert_eq!((bob.room, &*bob.customer), (number, "acme"));
        assert_eq!(directory.end_kept(now + minute), [], "somebody is in");
        directory.release_peer(bob.peer);
        assert_eq!(directory.room(&room("a")), Some(number));
        let again = directory.govern(now + minute / 2, &room("a"), "acme", minute);
        assert_eq!(again.map(|(number, _)| number), Ok(number));
        assert_eq!(directory.end_kept(now + minute), []);
        let end = now + minute / 2 + minute;
        assert_eq!(directory.end_kept(end), [(room("a"), number)]);
        assert_eq!((directory.rooms(), directory.end_kept(end)), (0, vec![]));

        directory.close(now, &room("a"), minute);
        assert_eq!(
            directory.govern(now, &room("a"), "acme", minute),
            Err(Refusal::Closed)
        );
        let (number, _) = directory.govern(now, &room("c"), "acme", minute).unwrap();
        directory.begin_closing();
        let again = directory.govern(now, &room("c"), "acme", minute);
        assert_eq!(again.map(|(number, _)| number), Ok(number));
        assert_eq!(
            directory.govern(now, &room("b"), "acme", minute),
            Err(Refusal::Closing)
        );
    }

    #[test]
    fn summaries_tell_of_every_room() {
        let mut directory = Directory::new(OPEN);
        let now = origin();
        directory.admit_peer(now, &room("a"), "1", "first").unwrap();
        directory
            .admit_peer(now, &room("a"), "2", "second")
            .unwrap();
        let summary = RoomSummary {
            key: room("a"),
            customer: Arc::from("first"),
            age: Duration::from_secs(7),
            peers: 2,
        };
        assert_eq!(directory.summaries(now + Duration::from_secs(7)), [summary]);
    }
}
