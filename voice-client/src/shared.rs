//! What the parts of one client share: voice on its way in and out, whose medias are whose, and the counts.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use sfu_core::{PeerId, wire::datagram::Datagram};
use tokio_util::sync::CancellationToken;

use crate::{
    counters::{MediaCounters, Reception, Tallies},
    error::SendError,
    event::{MediaId, Peer},
    queue::Queue,
    voice::Packet,
};

/// Packets on their way to the network: what is older than this many has no use any more. A talker sends 50 a second.
const OUTGOING_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) tallies: Tallies,
    pub(crate) outgoing: Queue<Bytes>,
    pub(crate) heard: Queue<Packet>,
    /// The application wants the end.
    pub(crate) closing: CancellationToken,
    /// The end is there.
    pub(crate) closed: CancellationToken,
    is_connected: AtomicBool,
    server: Mutex<String>,
    routes: Mutex<HashMap<MediaId, Route>>,
}

/// Whose a media is.
#[derive(Debug)]
struct Route {
    room: Arc<str>,
    peer: PeerId,
    reception: Reception,
}

impl Shared {
    pub(crate) fn new(heard_max: usize) -> Self {
        Self {
            tallies: Tallies::default(),
            outgoing: Queue::new(OUTGOING_MAX),
            heard: Queue::new(heard_max),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            is_connected: AtomicBool::new(false),
            server: Mutex::default(),
            routes: Mutex::default(),
        }
    }

    /// Voice goes out from now on, or no more.
    pub(crate) fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
        let stale = self.outgoing.clear();
        self.tallies.not_connected.add(stale);
    }

    /// The voice server that the client was let in by last.
    pub(crate) fn server(&self) -> String {
        let server = self.server.lock();
        server.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_server(&self, address: &str) {
        let server = self.server.lock();
        *server.unwrap_or_else(PoisonError::into_inner) = address.to_owned();
    }

    pub(crate) fn send(&self, datagram: Bytes) -> Result<(), SendError> {
        if !self.is_connected.load(Ordering::Relaxed) {
            self.tallies.not_connected.add(1);
            return Err(SendError::NotConnected);
        }
        if self.outgoing.push(datagram) {
            self.tallies.dropped_sending.add(1);
        }
        Ok(())
    }

    /// Takes a datagram in.
    pub(crate) fn receive(&self, bytes: &Bytes, arrived: Instant) {
        let Ok(datagram) = Datagram::parse(bytes) else {
            self.tallies.malformed.add(1);
            return;
        };
        let mut medias = datagram.medias().iter().filter_map(|id| MediaId::new(*id));
        let packet = {
            let mut routes = self.routes();
            let known = medias.find(|media| routes.contains_key(media));
            known.and_then(|media| {
                let route = routes.get_mut(&media)?;
                route.reception.count(datagram.sequence);
                Some(Packet {
                    room: Arc::clone(&route.room),
                    peer: route.peer,
                    media,
                    sequence: datagram.sequence,
                    timestamp: datagram.timestamp,
                    payload: bytes.slice(bytes.len() - datagram.payload_bytes..),
                    arrived,
                })
            })
        };
        let Some(packet) = packet else {
            self.tallies.unknown_media.add(1);
            return;
        };
        self.tallies.packets_received.add(1);
        if self.heard.push(packet) {
            self.tallies.dropped_receiving.add(1);
        }
    }

    /// From now on this media is this peer's.
    pub(crate) fn route(&self, room: &Arc<str>, peer: PeerId, media: MediaId) {
        let mut routes = self.routes();
        let is_same = |route: &Route| route.peer == peer && route.room == *room;
        if !routes.get(&media).is_some_and(is_same) {
            let route = Route {
                room: Arc::clone(room),
                peer,
                reception: Reception::default(),
            };
            routes.insert(media, route);
        }
    }

    pub(crate) fn forget_media(&self, room: &Arc<str>, media: MediaId) {
        let mut routes = self.routes();
        if routes.get(&media).is_some_and(|route| route.room == *room) {
            routes.remove(&media);
        }
    }

    pub(crate) fn forget_peer(&self, room: &Arc<str>, peer: PeerId) {
        self.routes()
            .retain(|_, route| route.room != *room || route.peer != peer);
    }

    /// These are all that a room has now.
    pub(crate) fn replace_room<'a>(
        &self,
        room: &Arc<str>,
        peers: impl Iterator<Item = &'a Peer> + Clone,
    ) {
        let all = |peer: &'a Peer| peer.medias.iter().map(|media| (media.id, peer.id));
        let medias: HashMap<MediaId, PeerId> = peers.flat_map(all).collect();
        let stays =
            |media: &MediaId, route: &Route| medias.get(media).is_some_and(|it| *it == route.peer);
        self.routes()
            .retain(|media, route| route.room != *room || stays(media, route));
        for (media, peer) in medias {
            self.route(room, peer, media);
        }
    }

    pub(crate) fn media_counters(&self, media: MediaId) -> Option<MediaCounters> {
        let routes = self.routes();
        routes.get(&media).map(|route| route.reception.counters())
    }

    fn routes(&self) -> MutexGuard<'_, HashMap<MediaId, Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::encode;

    fn id(id: u32) -> PeerId {
        PeerId::new(id).unwrap()
    }

    fn media(id: u16) -> MediaId {
        MediaId::new(id).unwrap()
    }

    #[test]
    fn packets_are_told_apart_by_their_media() {
        let shared = Shared::new(2);
        let room = Arc::from("lobby");
        shared.route(&room, id(1), media(200));
        let now = Instant::now();
        for (number, sequence) in [(200, 1), (201, 1), (200, 4), (200, 5)] {
            shared.receive(&encode(number, sequence, 9, &[7, 8]).unwrap(), now);
        }
        shared.receive(&Bytes::from_static(b"noise"), now);
        let heard = shared.heard.try_pop().unwrap();
        assert_eq!(
            (&*heard.room, heard.peer, heard.sequence),
            ("lobby", id(1), 4)
        );
        assert_eq!((heard.timestamp, &heard.payload[..]), (9, &[7, 8][..]));
        let counters = shared.tallies.read();
        assert_eq!(
            (counters.packets_received, counters.dropped_receiving),
            (3, 1)
        );
        assert_eq!((counters.unknown_media, counters.malformed), (1, 1));
        let of_media = shared.media_counters(media(200)).unwrap();
        assert_eq!((of_media.received, of_media.lost), (3, 2));
        assert!(shared.media_counters(media(201)).is_none());
    }

    #[test]
    fn a_room_forgets_its_own_medias_alone() {
        let shared = Shared::new(2);
        let (one, two): (Arc<str>, Arc<str>) = (Arc::from("one"), Arc::from("two"));
        shared.route(&one, id(1), media(200));
        shared.route(&one, id(2), media(201));
        shared.route(&two, id(1), media(202));
        shared.forget_media(&two, media(200));
        shared.forget_peer(&one, id(1));
        let known = |id| shared.media_counters(media(id)).is_some();
        assert_eq!([200, 201, 202].map(known), [false, true, true]);
        shared.receive(&encode(201, 1, 1, &[1]).unwrap(), Instant::now());
        let peer = |peer, number| Peer {
            id: id(peer),
            user_id: String::new(),
            user_data: Bytes::new(),
            medias: vec![crate::event::RemoteMedia {
                id: media(number),
                properties: Default::default(),
            }],
        };
        shared.replace_room(&one, [peer(2, 201), peer(3, 203)].iter());
        assert_eq!([201, 202, 203].map(known), [true; 3]);
        assert_eq!(shared.media_counters(media(201)).unwrap().received, 1);
        shared.replace_room(&one, [peer(4, 201)].iter());
        assert_eq!([201, 202, 203].map(known), [true, true, false]);
        assert_eq!(shared.media_counters(media(201)).unwrap().received, 0);
    }

    #[test]
    fn nothing_is_sent_or_kept_while_the_client_is_away() {
        let shared = Shared::new(2);
        assert_eq!(shared.send(Bytes::new()), Err(SendError::NotConnected));
        shared.set_connected(true);
        for _ in 0..=OUTGOING_MAX {
            shared.send(Bytes::new()).unwrap();
        }
        shared.set_connected(false);
        assert!(shared.outgoing.try_pop().is_none());
        let counters = shared.tallies.read();
        assert_eq!(counters.dropped_sending, 1);
        assert_eq!(counters.not_connected, 1 + OUTGOING_MAX as u64);
    }
}
