//! The sessions of a shard: found by client, by address, by user fragment and by connection, and polled when their time
//! comes.

mod places;
mod polling;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn_proto::{ConnectionEvent, ConnectionHandle};
use sfu_core::{DropReason, MediaId};

use super::{
    ClientId, ConnectionId,
    inbox::Place,
    quic::{Accepted, QuicEndpoint, QuicTls},
    session::{Session, Waiting},
    socket::Packets,
    voice::VoicePacket,
    webrtc::{Offer, Scratch},
};

/// Addresses one client may send from at the same time: its candidates, and those of a network it changes to. The
/// oldest gives way.
const ADDRESSES_MAX: usize = 8;

/// An address stays with its session for this long after its last packet, so that nobody who knows a client's address
/// can draw its packets to a session of their own. Clients send checks more often than this.
const ADDRESS_HELD: Duration = Duration::from_secs(10);

/// Timers of sessions go off together, at multiples of this time: they are about what is lost or over, and to wake for
/// each of many costs more than they are about. It also keeps one that asks for a time that is over from keeping the shard
/// awake.
const TIMER_GRID: Duration = Duration::from_millis(5);

/// Timers go off at the latest after this time. What is set for later, or for a session that is gone, would stay among the
/// timers for as long.
const TIMER_MAX: Duration = Duration::from_secs(10);

/// Bytes of voice that fill a packet: what waits for others to go with then goes.
const PACKET_BYTES: usize = 1_000;

/// Ticks in the time that voice is held: how often packets are taken then.
const TICKS: u32 = 2;

/// Of the time that voice is held, the part that is left for sending it.
const SENDING_PART: u32 = 20;

/// The number of a session on its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SessionNumber(usize);

/// Hashes numbers that we gave ourselves, one after the other: nobody can choose some that collide.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, number: u64) {
        // Odd, with bits all over: the golden ratio's fraction in 64 bits.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

type ByNumber<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

#[derive(Debug)]
struct Entry {
    /// Whose it is. A QUIC connection is there before its client has said who it is.
    client: Option<ClientId>,
    session: Session,
    addresses: VecDeque<SocketAddr>,
    medias: HashMap<MediaId, Place>,
    heard: Instant,
    /// When the first of the packets arrived that it was given since it was polled; they are decrypted in one go.
    arrived: Option<Instant>,
    /// When it is due; the heap may hold later times, which then mean nothing.
    due: Option<Instant>,
    is_touched: bool,
    waiting: Waiting,
    /// Until when its voice waits for more to go with.
    held_until: Option<Instant>,
    /// Whether it counts as a connection without a session.
    is_beginning: bool,
}

impl Entry {
    fn new(now: Instant, client: Option<ClientId>, session: Session) -> Self {
        Self {
            client,
            session,
            addresses: VecDeque::new(),
            medias: HashMap::new(),
            heard: now,
            arrived: None,
            due: None,
            is_touched: false,
            waiting: Waiting::default(),
            held_until: None,
            is_beginning: false,
        }
    }
}

/// A packet of the shared socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    pub(super) source: SocketAddr,
    pub(super) bytes: &'a [u8],
    pub(super) arrived: Instant,
}

/// A voice packet that a session received.
#[derive(Debug)]
pub(super) struct Voice {
    pub(super) session: SessionNumber,
    pub(super) arrived: Instant,
    pub(super) bytes: Bytes,
}

/// Packets for the two sockets.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) webrtc: Packets,
    pub(super) quic: Packets,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    entries: Vec<Option<Entry>>,
    vacant: Vec<usize>,
    by_client: ByNumber<ClientId, SessionNumber>,
    by_user_fragment: HashMap<String, SessionNumber>,
    by_address: HashMap<SocketAddr, SessionNumber>,
    by_connection: ByNumber<ConnectionId, SessionNumber>,
    by_handle: Vec<Option<SessionNumber>>,
    quic: Option<QuicEndpoint>,
    timers: BinaryHeap<Reverse<(Instant, SessionNumber)>>,
    /// Where the grid of timers begins: with the first of them.
    grid: Option<Instant>,
    touched: Vec<SessionNumber>,
    /// Sessions whose voice waits for more, by the time it goes.
    held: VecDeque<(Instant, SessionNumber)>,
    /// How long voice waits for more to go with; zero sends it at once.
    pub(super) hold: Duration,
    /// Voice for rooms of clients that have not negotiated a session yet: they can be in a room without one.
    unconnected: HashMap<ClientId, HashMap<MediaId, Place>>,
    scratch: Scratch,
}

impl Sessions {
    pub(super) fn new(quic: Option<QuicEndpoint>) -> Self {
        Self {
            quic,
            ..Self::default()
        }
    }

    /// A client's WebRTC session begins; one that it had before ends, and what belongs to the client stays.
    pub(super) fn connect(&mut self, now: Instant, offer: Offer) {
        let Offer { client, session } = offer;
        let medias = match self.by_client.get(&client) {
            Some(number) => self.remove(*number).map(|entry| entry.medias),
            None => self.unconnected.remove(&client),
        };
        let user_fragment = session.user_fragment.clone();
        let mut entry = Entry::new(now, Some(client), Session::WebRtc(Box::new(session)));
        entry.medias = medias.unwrap_or_default();
        let number = self.insert(entry);
        self.by_client.insert(client, number);
        self.by_user_fragment.insert(user_fragment, number);
        self.touch(number);
    }

    fn insert(&mut self, entry: Entry) -> SessionNumber {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[index] = Some(entry);
        SessionNumber(index)
    }

    /// The client on a connection has said who it is.
    pub(super) fn bind(&mut self, connection: ConnectionId, client: ClientId) {
        let Some(number) = self.by_connection.get(&connection).copied() else {
            return;
        };
        if let Some(entry) = self.entries[number.0].as_mut() {
            entry.client = Some(client);
            entry.medias = self.unconnected.remove(&client).unwrap_or_default();
            self.by_client.insert(client, number);
        }
    }

    /// A task waits for a stream of a connection, or the other way round.
    pub(super) fn look_at_stream(&mut self, now: Instant, connection: ConnectionId, stream: u64) {
        let Some(number) = self.by_connection.get(&connection).copied() else {
            return;
        };
        if let Some(Entry {
            session: Session::Quic(session),
            ..
        }) = self.entries[number.0].as_mut()
        {
            session.look_at(now, stream);
            self.touch(number);
        }
    }

    pub(super) fn replace_quic_tls(&mut self, tls: &QuicTls) {
        if let Some(quic) = &mut self.quic {
            quic.replace_tls(tls);
        }
    }

    pub(super) fn disconnect(&mut self, now: Instant, client: ClientId) {
        self.unconnected.remove(&client);
        let Some(number) = self.by_client.remove(&client) else {
            return;
        };
        let Some(entry) = self.entries[number.0].as_mut() else {
            return;
        };
        match &mut entry.session {
            Session::WebRtc(_) => drop(self.remove(number)),
            // It has words to say yet, and is removed when it has said them.
            Session::Quic(session) => {
                session.disconnect(now);
                entry.client = None;
                entry.medias.clear();
                self.touch(number);
            }
        }
    }

    fn remove(&mut self, number: SessionNumber) -> Option<Entry> {
        let entry = self.entries.get_mut(number.0)?.take()?;
        self.vacant.push(number.0);
        if let Some(client) = entry.client {
            self.by_client.remove(&client);
        }
        for address in &entry.addresses {
            self.by_address.remove(address);
        }
        match &entry.session {
            Session::WebRtc(session) => drop(self.by_user_fragment.remove(&session.user_fragment)),
            Session::Quic(session) => {
                self.by_connection.remove(&session.id);
                if let Some(place) = self.by_handle.get_mut(session.handle().0) {
                    *place = None;
                }
                if let Some(quic) = self.quic.as_mut().filter(|_| entry.is_beginning) {
                    quic.beginning -= 1;
                }
            }
        }
        Some(entry)
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

    /// Gives a packet to its session, and takes the voice out of it.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        number: SessionNumber,
        packet: Arrived<'_>,
        packets: &mut Packets,
        voice: &mut Vec<Voice>,
    ) -> Result<(), DropReason> {
        let entry = self.entries.get_mut(number.0).and_then(Option::as_mut);
        let entry = entry.ok_or(DropReason::UnknownAddress)?;
        let Session::WebRtc(session) = &mut entry.session else {
            return Err(DropReason::UnknownAddress);
        };
        entry.heard = now;
        let Arrived {
            source,
            bytes,
            arrived,
        } = packet;
        let heard = |bytes: &[u8]| {
            voice.push(Voice {
                session: number,
                arrived,
                bytes: Bytes::copy_from_slice(bytes),
            });
        };
        if session.receive(now, source, bytes, &mut self.scratch, packets, heard)? {
            self.touch(number);
        }
        Ok(())
    }

    /// Gives a packet of the QUIC socket to its connection, or begins one.
    pub(super) fn receive_quic(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: &[u8],
        arrived: Instant,
        packets: &mut Packets,
    ) -> Result<(), DropReason> {
        let quic = self.quic.as_mut().ok_or(DropReason::UnknownPacket)?;
        match quic.receive(now, source, bytes, packets)? {
            None => Ok(()),
            Some(Accepted::Known(handle, event)) => self.give(now, handle, event, arrived),
            Some(Accepted::New(session)) => {
                let (connection, handle) = (session.id, session.handle().0);
                let mut entry = Entry::new(now, None, Session::Quic(session));
                entry.is_beginning = true;
                let number = self.insert(entry);
                self.by_connection.insert(connection, number);
                if self.by_handle.len() <= handle {
                    self.by_handle.resize(handle + 1, None);
                }
                self.by_handle[handle] = Some(number);
                self.touch(number);
                Ok(())
            }
        }
    }

    fn give(
        &mut self,
        now: Instant,
        handle: ConnectionHandle,
        event: ConnectionEvent,
        arrived: Instant,
    ) -> Result<(), DropReason> {
        let number = self.by_handle.get(handle.0).copied().flatten();
        let number = number.ok_or(DropReason::UnknownAddress)?;
        let entry = self.entries.get_mut(number.0).and_then(Option::as_mut);
        let entry = entry.ok_or(DropReason::UnknownAddress)?;
        let Session::Quic(session) = &mut entry.session else {
            return Err(DropReason::UnknownAddress);
        };
        entry.heard = now;
        entry.arrived = Some(entry.arrived.map_or(arrived, |first| first.min(arrived)));
        session.take(event);
        self.touch(number);
        Ok(())
    }

    /// Gives voice to a client; it goes with one of the next polls.
    pub(super) fn deliver(
        &mut self,
        arrived: Instant,
        client: ClientId,
        voice: &VoicePacket,
    ) -> Result<(), DropReason> {
        let number = *self.by_client.get(&client).ok_or(DropReason::NoChannel)?;
        let entry = self.entries.get_mut(number.0).and_then(Option::as_mut);
        let entry = entry
            .filter(|entry| entry.session.is_open())
            .ok_or(DropReason::NoChannel)?;
        entry.waiting.push(arrived, voice)?;
        if self.hold.is_zero() || entry.waiting.bytes() >= PACKET_BYTES {
            entry.held_until = None;
            self.touch(number);
        } else if entry.held_until.is_none() {
            // As of its arrival, and a little early: to send takes time as well.
            let until = arrived + self.hold.saturating_sub(self.hold / SENDING_PART);
            entry.held_until = Some(until);
            self.held.push_back((until, number));
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{ShardNumber, Turn, webrtc::Offers};

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 \
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
        a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n";

    fn sessions(now: Instant, clients: u64) -> (Sessions, Vec<SessionNumber>) {
        let candidate: SocketAddr = "192.0.2.7:8844".parse().unwrap();
        let offers = Offers::new(vec![candidate]).unwrap();
        let mut sessions = Sessions::new(None);
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
        sessions.disconnect(now, ClientId(0));
        assert_eq!(
            sessions.by_address(address(1)),
            Some(numbers[1]),
            "the first has it no more"
        );
        sessions.disconnect(now, ClientId(1));
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
        sessions.disconnect(now, ClientId(8));
        sessions.detach(ClientId(8), place);
        assert!(sessions.unconnected.is_empty());
    }
}
