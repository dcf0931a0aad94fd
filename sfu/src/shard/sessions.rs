//! The sessions of a shard: found by client, by address and by user fragment, and polled when their time comes.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use sfu_core::{DropReason, MediaId};

use super::{
    ClientId,
    inbox::Place,
    session::{Offer, Session, destination},
    socket::Outgoing,
};

/// Addresses one client may send from at the same time: its candidates, and those of a network it changes to. The
/// oldest gives way.
const ADDRESSES_MAX: usize = 8;

/// An address stays with its session for this long after its last packet, so that nobody who knows a client's address
/// can draw its packets to a session of their own. Clients send checks more often than this.
const ADDRESS_HELD: Duration = Duration::from_secs(10);

/// Shortest time until a session is polled again by itself. One that asks for a time that is over must not keep the shard
/// from sleeping.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The number of a session on its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionNumber(usize);

#[derive(Debug)]
struct Entry {
    session: Session,
    addresses: VecDeque<SocketAddr>,
    medias: HashMap<MediaId, Place>,
    heard: Instant,
    /// When the first of the packets arrived that it was given since it was polled; they are decrypted in one go.
    arrived: Option<Instant>,
    /// When it is due; the heap may hold later times, which then mean nothing.
    due: Option<Instant>,
    is_touched: bool,
}

/// A voice packet that a session received.
#[derive(Debug)]
pub(super) struct Voice {
    pub(super) session: SessionNumber,
    pub(super) arrived: Instant,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    entries: Vec<Option<Entry>>,
    vacant: Vec<usize>,
    by_client: HashMap<ClientId, SessionNumber>,
    by_user_fragment: HashMap<String, SessionNumber>,
    by_address: HashMap<SocketAddr, SessionNumber>,
    candidates: Vec<SocketAddr>,
    timers: BinaryHeap<Reverse<(Instant, SessionNumber)>>,
    touched: Vec<SessionNumber>,
    /// Voice for rooms of clients that have not negotiated a session yet: they can be in a room without one.
    unconnected: HashMap<ClientId, HashMap<MediaId, Place>>,
}

impl Sessions {
    pub(super) fn new(candidates: Vec<SocketAddr>) -> Self {
        Self {
            candidates,
            ..Self::default()
        }
    }

    /// A client's session begins; one that it had before ends, and what belongs to the client stays.
    pub(super) fn connect(&mut self, now: Instant, offer: Offer) {
        let client = offer.client;
        let medias = match self.by_client.get(&client) {
            Some(number) => self.remove(*number).map(|entry| entry.medias),
            None => self.unconnected.remove(&client),
        };
        let session = Session::new(offer);
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        let number = SessionNumber(index);
        self.by_client.insert(client, number);
        self.by_user_fragment
            .insert(session.user_fragment.clone(), number);
        self.entries[index] = Some(Entry {
            session,
            addresses: VecDeque::new(),
            medias: medias.unwrap_or_default(),
            heard: now,
            arrived: None,
            due: None,
            is_touched: false,
        });
        if let Some(entry) = self.entries[index].as_mut() {
            entry.session.handle_timeout(now);
        }
        self.touch(number);
    }

    pub(super) fn disconnect(&mut self, client: ClientId) {
        self.unconnected.remove(&client);
        if let Some(number) = self.by_client.get(&client) {
            self.remove(*number);
        }
    }

    fn remove(&mut self, number: SessionNumber) -> Option<Entry> {
        let entry = self.entries.get_mut(number.0)?.take()?;
        self.vacant.push(number.0);
        self.by_client.remove(&entry.session.client);
        self.by_user_fragment.remove(&entry.session.user_fragment);
        for address in &entry.addresses {
            self.by_address.remove(address);
        }
        Some(entry)
    }

    /// Where voice of a client's medias belongs.
    pub(super) fn attach(&mut self, client: ClientId, medias: Vec<MediaId>, place: Place) {
        let known = self.medias_of(client);
        for media in medias {
            let at = known.entry(media).or_insert(place);
            // Of two streams that served one peer the later one counts, in whatever order they say so.
            if at.peer != place.peer || at.turn <= place.turn {
                *at = place;
            }
        }
    }

    pub(super) fn detach(&mut self, client: ClientId, place: Place) {
        self.medias_of(client).retain(|_, at| *at != place);
        if self.unconnected.get(&client).is_some_and(HashMap::is_empty) {
            self.unconnected.remove(&client);
        }
    }

    fn medias_of(&mut self, client: ClientId) -> &mut HashMap<MediaId, Place> {
        let entry = self
            .by_client
            .get(&client)
            .and_then(|number| self.entries[number.0].as_mut());
        match entry {
            Some(entry) => &mut entry.medias,
            None => self.unconnected.entry(client).or_default(),
        }
    }

    /// The place of a media, if it is one of this session's.
    pub(super) fn place(&self, number: SessionNumber, media: MediaId) -> Option<Place> {
        self.entries
            .get(number.0)?
            .as_ref()?
            .medias
            .get(&media)
            .copied()
    }

    /// Whether the client is in any room.
    pub(super) fn is_in_a_room(&self, number: SessionNumber) -> bool {
        let entry = self.entries.get(number.0).and_then(Option::as_ref);
        entry.is_some_and(|entry| !entry.medias.is_empty())
    }

    pub(super) fn by_address(&self, source: SocketAddr) -> Option<SessionNumber> {
        self.by_address.get(&source).copied()
    }

    pub(super) fn by_user_fragment(&self, user_fragment: &str) -> Option<SessionNumber> {
        self.by_user_fragment.get(user_fragment).copied()
    }

    /// Remembers that a session's packets come from this address. Whoever names the session's user fragment is believed,
    /// because only the two ends of the signalling know it; but not that an address is theirs which another session is
    /// heard from.
    ///
    /// # Errors
    /// [`DropReason::UnknownAddress`] in that case.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        number: SessionNumber,
        source: SocketAddr,
    ) -> Result<(), DropReason> {
        if let Some(other) = self.by_address(source) {
            if other == number {
                return Ok(());
            }
            if let Some(entry) = self.entries[other.0].as_mut() {
                if now.saturating_duration_since(entry.heard) < ADDRESS_HELD {
                    return Err(DropReason::UnknownAddress);
                }
                entry.addresses.retain(|it| *it != source);
            }
        }
        let entry = self.entries.get_mut(number.0).and_then(Option::as_mut);
        let entry = entry.ok_or(DropReason::UnknownAddress)?;
        if entry.addresses.len() >= ADDRESSES_MAX
            && let Some(oldest) = entry.addresses.pop_front()
        {
            self.by_address.remove(&oldest);
        }
        entry.addresses.push_back(source);
        self.by_address.insert(source, number);
        Ok(())
    }

    /// Gives a packet to its session.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        number: SessionNumber,
        source: SocketAddr,
        bytes: &[u8],
        arrived: Instant,
    ) -> Result<(), DropReason> {
        let destination =
            destination(&self.candidates, source).ok_or(DropReason::UnknownAddress)?;
        let entry = self.entries.get_mut(number.0).and_then(Option::as_mut);
        let entry = entry.ok_or(DropReason::UnknownAddress)?;
        entry.heard = now;
        entry.arrived = Some(entry.arrived.map_or(arrived, |first| first.min(arrived)));
        let result = entry.session.receive(now, source, destination, bytes);
        self.touch(number);
        result
    }

    /// Gives voice to a client.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        client: ClientId,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let number = *self.by_client.get(&client).ok_or(DropReason::NoChannel)?;
        let entry = self.entries.get_mut(number.0).and_then(Option::as_mut);
        let entry = entry.ok_or(DropReason::NoChannel)?;
        entry.session.write(now, bytes)?;
        self.touch(number);
        Ok(())
    }

    fn touch(&mut self, number: SessionNumber) {
        if let Some(entry) = self.entries.get_mut(number.0).and_then(Option::as_mut)
            && !entry.is_touched
        {
            entry.is_touched = true;
            self.touched.push(number);
        }
    }

    /// Tells the sessions whose time has come.
    pub(super) fn handle_timeouts(&mut self, now: Instant) {
        while let Some(Reverse((due, number))) = self.timers.peek().copied() {
            if due > now {
                return;
            }
            self.timers.pop();
            let Some(entry) = self.entries.get_mut(number.0).and_then(Option::as_mut) else {
                continue;
            };
            if entry.due != Some(due) {
                continue;
            }
            entry.due = None;
            entry.session.handle_timeout(now);
            self.touch(number);
        }
    }

    /// When the next session is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    /// Polls every session that something happened to, once each.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        packets: &mut Vec<Outgoing>,
        voice: &mut Vec<Voice>,
    ) {
        for number in std::mem::take(&mut self.touched) {
            let Some(entry) = self.entries.get_mut(number.0).and_then(Option::as_mut) else {
                continue;
            };
            entry.is_touched = false;
            let arrived = entry.arrived.take().unwrap_or(now);
            let polled = entry.session.poll(now, packets, |bytes| {
                voice.push(Voice {
                    session: number,
                    arrived,
                    bytes,
                });
            });
            match polled.timeout {
                Some(timeout) => {
                    let timeout = timeout.max(now + PAUSE_MIN);
                    // An earlier timer does no harm: the session then says when it really is due.
                    if entry.due.is_none_or(|due| timeout < due) {
                        entry.due = Some(timeout);
                        self.timers.push(Reverse((timeout, number)));
                    }
                }
                // The client stays until its signalling ends; it only hears nothing any more.
                None => entry.due = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{ShardNumber, Turn, session::Offers};

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 \
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
        a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n";

    fn sessions(now: Instant, clients: u64) -> (Sessions, Vec<SessionNumber>) {
        let candidate: SocketAddr = "192.0.2.7:8844".parse().unwrap();
        let offers = Offers::new(vec![candidate]).unwrap();
        let mut sessions = Sessions::new(vec![candidate]);
        let connect = |client| {
            let accepted = offers.accept(now, ShardNumber(0), ClientId(client), OFFER);
            let (offer, _) = accepted.unwrap();
            sessions.connect(now, *offer);
            sessions.by_client[&ClientId(client)]
        };
        let numbers = (0..clients).map(connect).collect();
        (sessions, numbers)
    }

    fn address(port: u16) -> SocketAddr {
        ([198, 51, 100, 9], port).into()
    }

    #[test]
    fn nobody_takes_the_address_of_a_session_that_is_heard() {
        let now = Instant::now();
        let (mut sessions, numbers) = sessions(now, 2);
        sessions.learn(now, numbers[0], address(1)).unwrap();
        let stolen = sessions.learn(now, numbers[1], address(1));
        assert_eq!(stolen, Err(DropReason::UnknownAddress));
        assert_eq!(sessions.by_address(address(1)), Some(numbers[0]));
        let later = now + ADDRESS_HELD;
        sessions.learn(later, numbers[1], address(1)).unwrap();
        assert_eq!(sessions.by_address(address(1)), Some(numbers[1]));
        sessions.disconnect(ClientId(0));
        assert_eq!(
            sessions.by_address(address(1)),
            Some(numbers[1]),
            "the first has it no more"
        );
        sessions.disconnect(ClientId(1));
        assert_eq!(sessions.by_address(address(1)), None);
    }

    #[test]
    fn a_session_has_few_addresses_and_the_oldest_gives_way() {
        let now = Instant::now();
        let (mut sessions, numbers) = sessions(now, 1);
        for port in 0..1_000 {
            sessions.learn(now, numbers[0], address(port)).unwrap();
        }
        assert_eq!(sessions.by_address.len(), ADDRESSES_MAX);
        assert_eq!(sessions.by_address(address(0)), None);
        assert_eq!(sessions.by_address(address(999)), Some(numbers[0]));
    }

    #[test]
    fn medias_belong_to_a_client_with_or_without_a_session() {
        let now = Instant::now();
        let (mut sessions, _) = sessions(now, 1);
        let media = MediaId::new(200).unwrap();
        let place = Place {
            shard: ShardNumber(0),
            room: sfu_core::RoomNumber(1),
            peer: sfu_core::PeerId::new(1).unwrap(),
            turn: Turn::default(),
        };
        sessions.attach(ClientId(0), vec![media], place);
        let number = sessions.by_client[&ClientId(0)];
        assert_eq!(sessions.place(number, media), Some(place));
        let later = Place {
            turn: place.turn.next(),
            ..place
        };
        for late in [later, place] {
            sessions.attach(ClientId(0), vec![media], late);
        }
        sessions.detach(ClientId(0), place);
        assert_eq!(sessions.place(number, media), Some(later));
        sessions.detach(ClientId(0), later);
        sessions.attach(ClientId(0), vec![media], place);
        // A second session of the client takes them over.
        let offers = Offers::new(vec![address(1)]).unwrap();
        let (offer, _) = offers
            .accept(now, ShardNumber(0), ClientId(0), OFFER)
            .unwrap();
        sessions.connect(now, *offer);
        let number = sessions.by_client[&ClientId(0)];
        assert_eq!(sessions.place(number, media), Some(place));
        assert_eq!(sessions.by_user_fragment.len(), 1);
        sessions.detach(ClientId(0), place);
        assert!(!sessions.is_in_a_room(number));
        // A client that is in a room before it has a session, and one that never gets one.
        sessions.attach(ClientId(7), vec![media], place);
        sessions.detach(ClientId(7), place);
        sessions.attach(ClientId(8), vec![media], place);
        sessions.disconnect(ClientId(8));
        sessions.detach(ClientId(8), place);
        assert!(sessions.unconnected.is_empty());
    }
}
