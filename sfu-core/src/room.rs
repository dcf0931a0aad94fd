//! A room: its peers, who sees whom, and where each voice packet goes.
//!
//! [`Room`] is driven from outside: commands and datagrams go in with the time, [`Notice`]s come out of
//! [`Room::poll_notice`], and for each datagram the receivers are named one by one. Poll notices after every call that
//! changes the room: a slot is given to the next peer once its peer has left.

mod governed;
mod media;
mod peer;
mod proximity;
mod slots;
mod streams;
mod voice;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use fixedbitset::FixedBitSet;

pub use self::{
    governed::{Directed, Directive, Pair},
    peer::Slot,
    proximity::Position,
    voice::Refused,
};
use self::{
    governed::{Mutes, Places},
    media::Media,
    peer::Peer,
    proximity::Space,
    streams::Streams,
};
use crate::{
    command::{Command, CommandError},
    event::{Event, LeaveReason, MediaInfo, Notice, PeerInfo, RoomInfo},
    id::{MediaId, PeerId},
};

/// What a room limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomLimits {
    /// Voice packets a second of one media.
    pub media_packets_rate: u32,
    /// Voice packets of one media at once after a pause.
    pub media_packets_capacity: u32,
    /// Streams one peer hears at the same time, the nearest first; 0 is no limit.
    pub concurrent_streams: u8,
}

impl Default for RoomLimits {
    /// Those of the ODIN server: 50 packets a second, 100 at once, no limit on streams.
    fn default() -> Self {
        Self {
            media_packets_rate: 50,
            media_packets_capacity: 100,
            concurrent_streams: 0,
        }
    }
}

/// Who comes into a room.
#[derive(Clone, Debug)]
pub struct Join {
    /// Its id, which nobody else on the server has.
    pub peer: PeerId,
    /// The user behind it.
    pub user_id: Arc<str>,
    /// Its user data.
    pub user_data: Bytes,
    /// Where it is.
    pub position: Position,
    /// The medias it may start, which nobody else on the server has.
    pub media_ids: Vec<MediaId>,
}

/// One room.
#[derive(Debug)]
pub struct Room {
    info: RoomInfo,
    limits: RoomLimits,
    peers: Vec<Option<Peer>>,
    /// What each slot hears: beside the peers, because a packet changes it while it goes through its talker's sight.
    streams: Vec<Streams>,
    vacant: Vec<Slot>,
    by_id: HashMap<PeerId, Slot>,
    by_user: HashMap<Arc<str>, Vec<Slot>>,
    medias: HashMap<MediaId, Media>,
    space: Space,
    /// What a game server has said; `None` while clients say themselves where they are.
    places: Option<Places>,
    mutes: Mutes,
    notices: VecDeque<Notice>,
}

impl Room {
    /// An empty room.
    pub fn new(info: RoomInfo, limits: RoomLimits) -> Self {
        Self {
            info,
            limits,
            peers: Vec::new(),
            streams: Vec::new(),
            vacant: Vec::new(),
            by_id: HashMap::new(),
            by_user: HashMap::new(),
            medias: HashMap::new(),
            space: Space::default(),
            places: None,
            mutes: Mutes::default(),
            notices: VecDeque::new(),
        }
    }

    /// How many peers are in.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether nobody is in.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Where a peer sits.
    pub fn slot(&self, peer: PeerId) -> Option<Slot> {
        self.by_id.get(&peer).copied()
    }

    /// What there is to tell, oldest first.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Lets a peer in. It is told first, then those who can see it.
    pub fn join(&mut self, now: Instant, join: Join) -> Slot {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.streams.push(Streams::default());
            Slot::new(self.peers.len() - 1)
        });
        let position = match &self.places {
            None => Some(join.position),
            Some(places) => places.of(&join.user_id),
        };
        let visible = position.map(|position| self.space.relocate(slot, position));
        for media in &join.media_ids {
            self.medias
                .insert(*media, Media::new(now, slot, self.limits));
        }
        let user_id = Arc::clone(&join.user_id);
        let peer = Peer::new(join, visible.unwrap_or_default());
        self.by_id.insert(peer.id, slot);
        let of_user = self.by_user.entry(Arc::clone(&user_id)).or_default();
        of_user.push(slot);
        let others: Vec<Slot> = peer.visible().collect();
        for other in &others {
            if let Some(other) = self.peer_mut(*other) {
                other.sees(slot);
            }
        }
        let place = self
            .peers
            .get_mut(slot.index())
            .expect("the slot was made above");
        *place = Some(peer);
        self.apply_mutes_of(slot, &user_id);
        self.introduce(slot);
        if let Some(info) = self.describe(slot, None) {
            self.tell(others, Event::PeerJoined(info));
        }
        slot
    }

    /// Tells a peer everything anew, as of now; nobody else notices. It may have missed any number of notices before, and
    /// has to be told all that come after.
    pub fn introduce(&mut self, slot: Slot) {
        let Some(peer) = self.peer(slot) else {
            return;
        };
        let peers = peer.visible();
        let joined = Event::Joined {
            own: peer.id,
            media_ids: peer.media_ids.clone(),
            room: self.info.clone(),
            peers: peers
                .filter_map(|other| self.describe(other, Some(slot)))
                .collect(),
        };
        self.tell(vec![slot], joined);
    }

    /// Lets a peer out; with a reason, it is told. Those who could see it are told, and its medias are free.
    pub fn leave(&mut self, slot: Slot, reason: Option<LeaveReason>) -> Vec<MediaId> {
        let Some(peer) = self.peers.get_mut(slot.index()).and_then(Option::take) else {
            return Vec::new();
        };
        self.space.remove(slot);
        self.by_id.remove(&peer.id);
        if let Some(of_user) = self.by_user.get_mut(&peer.user_id) {
            of_user.retain(|other| *other != slot);
            if of_user.is_empty() {
                self.by_user.remove(&peer.user_id);
            }
        }
        self.withhold_from(slot, &peer.user_id, false);
        self.forget_streams(slot, &peer.media_ids);
        for media in &peer.media_ids {
            self.medias.remove(media);
        }
        let others: Vec<Slot> = peer.visible().collect();
        for other in &others {
            let other = self.peers.get_mut(other.index()).and_then(Option::as_mut);
            if let Some(other) = other {
                other.loses(slot);
                // It can only have paused what it saw.
                forget_pauses(&mut self.medias, other, slot);
            }
        }
        self.vacant.push(slot);
        self.tell(others, Event::PeerLeft(peer.id));
        if let Some(reason) = reason {
            self.tell(vec![slot], Event::Left(reason));
        }
        peer.media_ids
    }

    /// The peers of a user.
    pub fn peers_of(&self, user_id: &str) -> Vec<Slot> {
        self.by_user.get(user_id).cloned().unwrap_or_default()
    }

    /// Everybody who is in.
    pub fn slots(&self) -> Vec<Slot> {
        self.by_id.values().copied().collect()
    }

    /// Replaces the room's user data; everybody but `author` is told.
    pub fn set_user_data(&mut self, author: Option<Slot>, user_data: Bytes) {
        self.info.user_data = user_data.clone();
        let to = self
            .slots()
            .into_iter()
            .filter(|slot| Some(*slot) != author);
        let to = to.collect();
        self.tell(to, Event::RoomUserDataChanged(user_data));
    }

    /// Sends bytes of the server's to these peers.
    pub fn send_message(&mut self, to: Vec<Slot>, message: Bytes) {
        let sender = PeerId::SERVER;
        self.tell(to, Event::MessageReceived { sender, message });
    }

    /// Does what a peer asks for.
    ///
    /// # Errors
    /// [`CommandError`]; the room is then as it was.
    pub fn handle_command(&mut self, slot: Slot, command: Command) -> Result<(), CommandError> {
        let peer = self.peer(slot).ok_or(CommandError::UnknownPeer)?;
        let id = peer.id;
        match command {
            Command::StartMedia { media, properties } => self.start_media(slot, media, properties),
            Command::StopMedia { media } => self.stop_media(slot, media),
            Command::PauseMedia { media } => self.pause(slot, media, true),
            Command::ResumeMedia { media } => self.pause(slot, media, false),
            Command::UpdatePeer { user_data } => {
                let to = peer.visible().collect();
                if let Some(peer) = self.peer_mut(slot) {
                    peer.user_data = user_data.clone();
                }
                self.tell(
                    to,
                    Event::PeerUserDataChanged {
                        peer: id,
                        user_data,
                    },
                );
                Ok(())
            }
            Command::UpdateRoom { user_data } => {
                self.set_user_data(Some(slot), user_data);
                Ok(())
            }
            Command::SetPeerPosition { position } => {
                // Where a game server says it, what a client says counts for nothing, and is no mistake of its.
                if self.places.is_none() {
                    self.move_peer(slot, Some(position));
                }
                Ok(())
            }
            Command::SendMessage { message, targets } => {
                let to = match targets {
                    None => self.slots().into_iter().filter(|to| *to != slot).collect(),
                    Some(mut targets) => {
                        targets.sort_unstable();
                        targets.dedup();
                        targets.into_iter().filter_map(|id| self.slot(id)).collect()
                    }
                };
                self.tell(
                    to,
                    Event::MessageReceived {
                        sender: id,
                        message,
                    },
                );
                Ok(())
            }
        }
    }

    fn start_media(
        &mut self,
        slot: Slot,
        id: MediaId,
        properties: Bytes,
    ) -> Result<(), CommandError> {
        let media = self.own_media(slot, id)?;
        let media = media
            .start(properties)
            .then(|| media.info(id, None))
            .flatten();
        // Starting again what runs changes nothing, so nobody is told.
        if let Some(media) = media {
            self.tell_visible(slot, |peer| Event::MediaStarted { peer, media });
        }
        Ok(())
    }

    fn stop_media(&mut self, slot: Slot, id: MediaId) -> Result<(), CommandError> {
        if self.own_media(slot, id)?.stop() {
            self.tell_visible(slot, |peer| Event::MediaStopped { peer, media: id });
        }
        Ok(())
    }

    fn own_media(&mut self, slot: Slot, id: MediaId) -> Result<&mut Media, CommandError> {
        let media = self.medias.get_mut(&id);
        media
            .filter(|media| media.owner() == slot)
            .ok_or(CommandError::UnknownMedia)
    }

    fn pause(&mut self, slot: Slot, id: MediaId, is_paused: bool) -> Result<(), CommandError> {
        let peer = self.peers.get(slot.index()).and_then(Option::as_ref);
        let media = self.medias.get_mut(&id).ok_or(CommandError::UnknownMedia)?;
        if !peer.is_some_and(|peer| peer.can_see(media.owner())) {
            return Err(CommandError::UnknownMedia);
        }
        match is_paused {
            true => media.pause_for(slot),
            false => media.resume_for(slot),
        }
        Ok(())
    }

    fn move_peer(&mut self, slot: Slot, position: Option<Position>) {
        if self.space.position(slot) == position {
            return;
        }
        let near = match position {
            Some(position) => self.space.relocate(slot, position),
            None => {
                self.space.remove(slot);
                FixedBitSet::new()
            }
        };
        let Some(peer) = self.peer_mut(slot) else {
            return;
        };
        let id = peer.id;
        let (came, went) = peer.look_around(near);
        for other in &went {
            self.part(slot, *other);
        }
        self.tell(went, Event::PeerLeft(id));
        for other in &came {
            if let Some(other) = self.peer_mut(*other) {
                other.sees(slot);
            }
        }
        for other in &came {
            if let Some(info) = self.describe(*other, None) {
                self.tell(vec![slot], Event::PeerJoined(info));
            }
        }
        if let Some(info) = self.describe(slot, None) {
            self.tell(came, Event::PeerJoined(info));
        }
    }

    /// Two peers no longer see each other. What one has paused of the other is forgotten: it is announced anew when
    /// they meet again, and then as not paused.
    fn part(&mut self, slot: Slot, other: Slot) {
        if let Some(peer) = self.peers.get_mut(other.index()).and_then(Option::as_mut) {
            peer.loses(slot);
            forget_pauses(&mut self.medias, peer, slot);
            let id = peer.id;
            self.tell(vec![slot], Event::PeerLeft(id));
        }
        if let Some(peer) = self.peers.get(slot.index()).and_then(Option::as_ref) {
            forget_pauses(&mut self.medias, peer, other);
        }
    }

    fn peer(&self, slot: Slot) -> Option<&Peer> {
        self.peers.get(slot.index())?.as_ref()
    }

    fn peer_mut(&mut self, slot: Slot) -> Option<&mut Peer> {
        self.peers.get_mut(slot.index())?.as_mut()
    }

    /// How a peer is seen: by one who may have paused its medias, or by those who have just met it.
    fn describe(&self, slot: Slot, by: Option<Slot>) -> Option<PeerInfo> {
        let peer = self.peer(slot)?;
        let running = |id: &MediaId| self.medias.get(id)?.info(*id, by);
        let medias: Vec<MediaInfo> = peer.media_ids.iter().filter_map(running).collect();
        Some(PeerInfo {
            id: peer.id,
            user_id: Arc::clone(&peer.user_id),
            user_data: peer.user_data.clone(),
            medias,
        })
    }

    fn tell_visible(&mut self, slot: Slot, event: impl FnOnce(PeerId) -> Event) {
        if let Some(peer) = self.peer(slot) {
            let (to, event) = (peer.visible().collect(), event(peer.id));
            self.tell(to, event);
        }
    }

    fn tell(&mut self, to: Vec<Slot>, event: Event) {
        if !to.is_empty() {
            self.notices.push_back(Notice { to, event });
        }
    }
}

/// The hearer has paused nothing of the owner's.
fn forget_pauses(medias: &mut HashMap<MediaId, Media>, owner: &Peer, hearer: Slot) {
    for id in &owner.media_ids {
        if let Some(media) = medias.get_mut(id) {
            media.resume_for(hearer);
        }
    }
}

/// Any time will do for a test: the core only looks at differences.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
pub(crate) fn origin() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
