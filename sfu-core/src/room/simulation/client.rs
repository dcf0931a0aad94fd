//! What a client of the simulation knows, which is what it was told.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    event::{Event, PeerInfo},
    id::{MediaId, PeerId, RoomNumber},
    room::{Position, Slot},
};

/// What the model knows of a peer.
pub(super) struct Client {
    pub(super) peer: PeerId,
    pub(super) room: usize,
    pub(super) slot: Slot,
    pub(super) number: RoomNumber,
    pub(super) user: usize,
    pub(super) position: Position,
    pub(super) media: Vec<MediaId>,
    pub(super) is_talking: bool,
    pub(super) sequence: u32,
    /// Peers that it was told of and not told to be gone, with their running medias.
    pub(super) knows: BTreeMap<PeerId, Vec<MediaId>>,
    /// Running medias of those that it does not want.
    pub(super) paused: BTreeSet<MediaId>,
}

impl Client {
    pub(super) fn take_in(&mut self, event: &Event) {
        match event {
            Event::Joined {
                own,
                peers,
                media_ids,
                ..
            } => {
                assert_eq!((*own, media_ids), (self.peer, &self.media));
                for peer in peers {
                    self.learn(peer);
                }
            }
            Event::PeerJoined(peer) => self.learn(peer),
            Event::PeerLeft(peer) => {
                let medias = self.knows.remove(peer).expect("a known peer left");
                self.paused.retain(|media| !medias.contains(media));
            }
            Event::MediaStarted { peer, media } => {
                self.knows
                    .get_mut(peer)
                    .expect("a known peer")
                    .push(media.id);
            }
            Event::MediaStopped { peer, media } => {
                let medias = self.knows.get_mut(peer).expect("a known peer");
                let at = medias
                    .iter()
                    .position(|it| it == media)
                    .expect("a running media");
                medias.remove(at);
                self.paused.remove(media);
            }
            Event::Left(_) => panic!("told after it left"),
            Event::RoomUserDataChanged(_)
            | Event::PeerUserDataChanged { .. }
            | Event::MessageReceived { .. } => {}
        }
    }

    fn learn(&mut self, peer: &PeerInfo) {
        assert_ne!(peer.id, self.peer, "the client hangs when it finds itself");
        let medias = peer.medias.iter().map(|media| media.id).collect();
        let paused = peer.medias.iter().filter(|media| media.paused);
        self.paused.extend(paused.map(|media| media.id));
        assert_eq!(
            self.knows.insert(peer.id, medias),
            None,
            "a peer came twice"
        );
    }
}
