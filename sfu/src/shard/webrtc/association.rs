//! One SCTP association on the server's side, for voice alone (RFC 9260, RFC 8831, RFC 3758).
//!
//! Clients begin it, as browsers do on both sides. Messages are unordered and sent once: what is lost is skipped. There is
//! no heartbeat of ours, because ICE's checks show that a client is there, and no chunk to shut it down, because the
//! client's signalling ends it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    chunk::{
        Chunk, DATA_HEADER_BYTES, Data, FLAG_BEGIN, FLAG_END, HEADER_BYTES, Header, Init,
        Malformed, seal, write_cookie_ack, write_data, write_forward_tsn, write_heartbeat_ack,
        write_init_ack, write_sack, write_shutdown_ack,
    },
    incoming::Incoming,
    outgoing::Outgoing,
};

/// Bytes of a packet: with DTLS, UDP and IPv6 around it, it fits in the 1,280 that any path carries.
pub(super) const PACKET_BYTES_MAX: usize = 1_160;

/// Bytes of a message that fit in one packet.
const MESSAGE_BYTES_MAX: usize = PACKET_BYTES_MAX - HEADER_BYTES - DATA_HEADER_BYTES;

/// The stream of voice, which clients and server have agreed on beforehand.
const VOICE_STREAM: u16 = 2;

/// What messages are: text and bytes (RFC 8831, section 8).
const PROTOCOL_TEXT: u32 = 51;
const PROTOCOL_BINARY: u32 = 53;

/// Packets with data after which an acknowledgement goes by itself. With voice for the talker one goes for nothing.
const PACKETS_UNACKNOWLEDGED: u32 = 4;

/// How long an acknowledgement waits at most (RFC 9260, section 6.2, allows 200 ms).
const ACKNOWLEDGE_TIME: Duration = Duration::from_millis(100);

/// Bytes of answers to heartbeats and the like in one packet.
const ANSWERS_MAX: usize = 600;

/// What an association is known by; of the system's generator.
#[derive(Clone, Copy)]
pub(super) struct Seed {
    pub(super) tag: u32,
    pub(super) tsn: u32,
    pub(super) cookie: [u8; 16],
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Association {
    seed: Seed,
    state: State,
    /// What a client has begun, and not confirmed yet.
    begun: Option<(Header, Init)>,
    /// A whole packet, for who is not in the association yet.
    reply: Option<Vec<u8>>,
    /// Chunks that go first.
    answers: Vec<u8>,
    /// Chunks of data, and the length of each.
    data: Vec<u8>,
    lengths: VecDeque<usize>,
}

#[derive(Debug)]
enum State {
    Waiting,
    Open(Box<Open>),
    Over,
}

#[derive(Debug)]
struct Open {
    header: Header,
    needs_no_checksum: bool,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Packets with data since the last acknowledgement.
    unacknowledged: u32,
    /// When it goes at the latest.
    acknowledge_at: Option<Instant>,
}

impl Association {
    pub(super) fn new(seed: Seed) -> Self {
        Self {
            seed,
            state: State::Waiting,
            begun: None,
            reply: None,
            answers: Vec::new(),
            data: Vec::new(),
            lengths: VecDeque::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Takes a packet in; `message` gets what clients say on the stream of voice.
    ///
    /// # Errors
    /// [`Malformed`]; what stands before the fault counts.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        packet: &[u8],
        mut message: impl FnMut(&[u8]),
    ) -> Result<(), Malformed> {
        let (header, mut chunks) = Header::parse(packet)?;
        let mut has_data = false;
        while let Some(chunk) = chunks.next()? {
            if let Chunk::Init(init) = chunk {
                self.begin(header, init);
                return Ok(());
            }
            if header.tag != self.seed.tag {
                return Err(Malformed);
            }
            if let Chunk::Data(data) = chunk {
                has_data = true;
                self.receive_data(now, &data, &mut message);
            } else {
                self.receive_control(now, chunk);
            }
        }
        if let State::Open(open) = &mut self.state
            && has_data
        {
            open.unacknowledged += 1;
            let is_due = open.unacknowledged >= PACKETS_UNACKNOWLEDGED || open.incoming.has_holes();
            open.acknowledge_by(if is_due { now } else { now + ACKNOWLEDGE_TIME });
        }
        Ok(())
    }

    /// A client begins. It says so again when our answer is lost.
    fn begin(&mut self, header: Header, init: Init) {
        if header.tag != 0 || !matches!(self.state, State::Waiting) {
            return;
        }
        if !init.can_skip {
            tracing::debug!("a client's SCTP cannot skip what is lost: it gets no voice");
            return;
        }
        let ours = Header {
            source_port: header.destination_port,
            destination_port: header.source_port,
            tag: init.tag,
        };
        let mut packet = Vec::new();
        ours.write(&mut packet);
        write_init_ack(&mut packet, self.seed.tag, self.seed.tsn, &self.seed.cookie);
        seal(&mut packet);
        self.reply = Some(packet);
        self.begun = Some((ours, init));
    }

    fn receive_control(&mut self, now: Instant, chunk: Chunk<'_>) {
        match (chunk, &mut self.state) {
            (Chunk::CookieEcho(cookie), State::Waiting) if cookie == self.seed.cookie => {
                let Some((header, init)) = self.begun.take() else {
                    return;
                };
                self.state = State::Open(Box::new(Open {
                    header,
                    needs_no_checksum: init.needs_no_checksum,
                    incoming: Incoming::new(init.tsn),
                    outgoing: Outgoing::new(now, self.seed.tsn, init.window),
                    unacknowledged: 0,
                    acknowledge_at: None,
                }));
                self.answer(write_cookie_ack);
            }
            // Our answer was lost.
            (Chunk::CookieEcho(_), State::Open(_)) => self.answer(write_cookie_ack),
            (Chunk::Sack(sack), State::Open(open)) => open.outgoing.acknowledge(now, &sack),
            (Chunk::ForwardTsn(tsn), State::Open(open)) => {
                open.incoming.skip_to(tsn);
                open.acknowledge_by(now);
            }
            (Chunk::Heartbeat(value), State::Open(_)) if value.len() <= ANSWERS_MAX / 2 => {
                self.answer(|answers| write_heartbeat_ack(answers, value));
            }
            (Chunk::Shutdown, State::Open(_)) => self.answer(write_shutdown_ack),
            (Chunk::Abort | Chunk::ShutdownComplete, _) => self.state = State::Over,
            _ => {}
        }
    }

    fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.answers.len() <= ANSWERS_MAX / 2 {
            write(&mut self.answers);
        }
    }

    fn receive_data(&mut self, now: Instant, data: &Data<'_>, message: &mut impl FnMut(&[u8])) {
        let State::Open(open) = &mut self.state else {
            return;
        };
        let is_new = open.incoming.take(data.tsn);
        // Had one been acknowledged, it would not have come again.
        if !is_new || data.is_urgent() {
            open.acknowledge_by(now);
        }
        if !is_new {
            return;
        }
        let is_voice =
            data.stream == VOICE_STREAM && matches!(data.protocol, PROTOCOL_TEXT | PROTOCOL_BINARY);
        if !is_voice {
            return;
        }
        if data.is_whole() {
            message(data.bytes);
        } else if let Some(whole) = open.incoming.assemble(data) {
            message(&whole);
        }
    }

    /// Whether a message of so many bytes would be sent at once.
    pub(super) fn can_write(&self, now: Instant, bytes: usize) -> bool {
        match &self.state {
            State::Open(open) => {
                let chunks = bytes.div_ceil(MESSAGE_BYTES_MAX);
                !open
                    .outgoing
                    .is_full(now, bytes + chunks * DATA_HEADER_BYTES)
            }
            State::Waiting | State::Over => false,
        }
    }

    /// A message, to go with the next [`Self::poll`].
    pub(super) fn write(&mut self, now: Instant, message: &[u8]) {
        let State::Open(open) = &mut self.state else {
            return;
        };
        let mut parts = message.chunks(MESSAGE_BYTES_MAX).peekable();
        let mut flags = FLAG_BEGIN;
        while let Some(bytes) = parts.next() {
            if parts.peek().is_none() {
                flags |= FLAG_END;
            }
            let length = (DATA_HEADER_BYTES + bytes.len()).next_multiple_of(4);
            let data = Data {
                tsn: open.outgoing.send(now, length as u16),
                stream: VOICE_STREAM,
                protocol: PROTOCOL_BINARY,
                flags,
                bytes,
            };
            write_data(&mut self.data, &data);
            self.lengths.push_back(length);
            flags = 0;
        }
    }

    /// Whether [`Self::poll`] has something to say.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let State::Open(open) = &self.state else {
            return self.reply.is_some();
        };
        self.reply.is_some()
            || !self.answers.is_empty()
            || !self.lengths.is_empty()
            || open.acknowledge_at.is_some_and(|at| at <= now)
            || open.outgoing.skip_due(now).is_some()
    }

    /// The next packet, if there is one.
    pub(super) fn poll(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        packet.clear();
        if let State::Over = self.state {
            return false;
        }
        if let Some(reply) = self.reply.take() {
            packet.extend_from_slice(&reply);
            return true;
        }
        if !self.is_due(now) {
            return false;
        }
        let State::Open(open) = &mut self.state else {
            return false;
        };
        open.header.write(packet);
        packet.append(&mut self.answers);
        if let Some(at) = open.acknowledge_at
            && (at <= now || !self.lengths.is_empty())
        {
            let (tsn, gaps) = open.incoming.acknowledgement();
            write_sack(packet, tsn, gaps);
            open.unacknowledged = 0;
            open.acknowledge_at = None;
        }
        if let Some(tsn) = open.outgoing.skip(now) {
            write_forward_tsn(packet, tsn);
        }
        let mut bytes = 0;
        while let Some(length) = self.lengths.front()
            && packet.len() + bytes + length <= PACKET_BYTES_MAX
        {
            bytes += length;
            self.lengths.pop_front();
        }
        packet.extend(self.data.drain(..bytes));
        if !open.needs_no_checksum {
            seal(packet);
        }
        true
    }

    /// When to call [`Self::handle_timeout`], and then [`Self::poll`].
    pub(super) fn timeout(&self) -> Option<Instant> {
        let State::Open(open) = &self.state else {
            return None;
        };
        let timeouts = [open.acknowledge_at, open.outgoing.timeout()];
        timeouts.into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let State::Open(open) = &mut self.state {
            open.outgoing.handle_timeout(now);
        }
    }
}

impl Open {
    fn acknowledge_by(&mut self, at: Instant) {
        self.acknowledge_at = Some(self.acknowledge_at.map_or(at, |before| before.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;
    use proptest::prelude::*;

    use super::*;

    const SEED: Seed = Seed {
        tag: 0xaaaa_bbbb,
        tsn: u32::MAX - 1,
        cookie: [7; 16],
    };

    /// The client's side, as far as tests need one.
    struct Client {
        tag: u32,
        tsn: u32,
        server: Association,
        /// What the server heard.
        heard: Vec<Vec<u8>>,
    }

    impl Client {
        fn new() -> Self {
            Self {
                tag: 5,
                tsn: 100,
                server: Association::new(SEED),
                heard: Vec::new(),
            }
        }

        fn open(now: Instant) -> Self {
            let mut client = Self::new();
            client
                .send_with(now, 0, |packet| client_init(packet, 5, 100, true))
                .unwrap();
            assert_eq!(client.poll(now).len(), 1);
            client
                .send(now, |packet| chunk(packet, 10, &SEED.cookie))
                .unwrap();
            assert_eq!(client.poll(now).len(), 1);
            assert!(client.server.is_open());
            client
        }

        fn send(
            &mut self,
            now: Instant,
            write: impl FnOnce(&mut Vec<u8>),
        ) -> Result<(), Malformed> {
            self.send_with(now, SEED.tag, write)
        }

        fn send_with(
            &mut self,
            now: Instant,
            tag: u32,
            write: impl FnOnce(&mut Vec<u8>),
        ) -> Result<(), Malformed> {
            let mut packet = Vec::new();
            let header = Header {
                source_port: 5_001,
                destination_port: 5_000,
                tag,
            };
            header.write(&mut packet);
            write(&mut packet);
            let heard = &mut self.heard;
            self.server
                .receive(now, &packet, |message| heard.push(message.to_vec()))
        }

        fn say(&mut self, now: Instant, flags: u8, bytes: &[u8]) {
            let data = Data {
                tsn: self.tsn,
                stream: VOICE_STREAM,
                protocol: PROTOCOL_BINARY,
                flags,
                bytes,
            };
            self.tsn += 1;
            self.send(now, |packet| write_data(packet, &data)).unwrap();
        }

        /// What the server sends.
        fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
            let mut packets = Vec::new();
            let mut packet = Vec::new();
            while self.server.poll(now, &mut packet) {
                assert!(packet.len() <= PACKET_BYTES_MAX);
                let (header, _) = Header::parse(&packet).unwrap();
                assert_eq!((header.tag, header.destination_port), (self.tag, 5_001));
                packets.push(packet.clone());
            }
            packets
        }
    }

    fn chunk(packet: &mut Vec<u8>, kind: u8, value: &[u8]) {
        packet.put_u8(kind);
        packet.put_u8(0);
        packet.put_u16(4 + value.len() as u16);
        packet.extend_from_slice(value);
        packet.resize(packet.len().next_multiple_of(4), 0);
    }

    fn client_init(packet: &mut Vec<u8>, tag: u32, tsn: u32, can_skip: bool) {
        let mut value = Vec::new();
        for number in [tag, 100_000, 0x0010_0010, tsn] {
            value.put_u32(number);
        }
        if can_skip {
            value.put_u32(0xc000_0004);
        }
        chunk(packet, 1, &value);
    }

    fn chunks(packet: &[u8]) -> Vec<Chunk<'_>> {
        let (_, mut chunks) = Header::parse(packet).unwrap();
        std::iter::from_fn(|| chunks.next().unwrap()).collect()
    }

    /// Data of packets, and the highest acknowledgement in them.
    fn read(packets: &[Vec<u8>]) -> (Vec<Data<'_>>, Option<u32>) {
        let all = packets.iter().flat_map(|packet| chunks(packet));
        let (mut data, mut acknowledged) = (Vec::new(), None);
        for chunk in all {
            match chunk {
                Chunk::Data(it) => data.push(it),
                Chunk::Sack(sack) => acknowledged = Some(sack.tsn),
                _ => {}
            }
        }
        (data, acknowledged)
    }

    #[test]
    fn who_begins_again_is_answered_again_and_who_was_not_answered_cannot_join() {
        let now = Instant::now();
        let mut client = Client::new();
        client
            .send(now, |packet| chunk(packet, 10, &SEED.cookie))
            .unwrap();
        assert!(!client.server.is_open(), "nobody has begun");
        for _ in 0..3 {
            client
                .send_with(now, 0, |packet| client_init(packet, 5, 100, true))
                .unwrap();
        }
        assert_eq!(client.poll(now).len(), 1);
        let wrong = client.send_with(now, 1, |packet| chunk(packet, 10, &SEED.cookie));
        assert_eq!(wrong, Err(Malformed), "another association's tag");
        client
            .send(now, |packet| chunk(packet, 10, &[1; 16]))
            .unwrap();
        assert!(!client.server.is_open(), "another cookie");
        for _ in 0..2 {
            client
                .send(now, |packet| chunk(packet, 10, &SEED.cookie))
                .unwrap();
            assert!(client.server.is_open());
            assert_eq!(client.poll(now).len(), 1, "the confirmation may be lost");
        }
    }

    #[test]
    fn who_cannot_skip_is_not_answered() {
        let now = Instant::now();
        let mut client = Client::new();
        client
            .send_with(now, 0, |packet| client_init(packet, 5, 100, false))
            .unwrap();
        assert!(client.poll(now).is_empty());
    }

    #[test]
    fn messages_of_any_length_go_both_ways() {
        let now = Instant::now();
        let mut client = Client::open(now);
        let long: Vec<u8> = (0..3_000).map(|at| at as u8).collect();
        for message in [&b"voice"[..], &long] {
            assert!(client.server.can_write(now, message.len()));
            client.server.write(now, message);
        }
        let packets = client.poll(now);
        let (data, _) = read(&packets);
        assert!(data[0].is_whole());
        assert_eq!(data[0].bytes, b"voice");
        assert_eq!(data[0].tsn, SEED.tsn);
        assert_eq!(data.last().unwrap().tsn, 1, "numbers wrap");
        let joined: Vec<u8> = data[1..].iter().flat_map(|it| it.bytes).copied().collect();
        assert_eq!(joined, long);

        client.say(now, FLAG_BEGIN | FLAG_END, b"one");
        client.say(now, FLAG_BEGIN, b"tw");
        client.say(now, FLAG_END, b"o");
        assert_eq!(client.heard, [&b"one"[..], b"two"]);
    }

    #[test]
    fn what_comes_twice_or_on_other_streams_is_not_heard() {
        let now = Instant::now();
        let mut client = Client::open(now);
        client.say(now, FLAG_BEGIN | FLAG_END, b"one");
        client.tsn -= 1;
        client.say(now, FLAG_BEGIN | FLAG_END, b"one");
        for (stream, protocol) in [(0, PROTOCOL_BINARY), (VOICE_STREAM, 50)] {
            let data = Data {
                tsn: client.tsn,
                stream,
                protocol,
                flags: FLAG_BEGIN | FLAG_END,
                bytes: b"other",
            };
            client.tsn += 1;
            client
                .send(now, |packet| write_data(packet, &data))
                .unwrap();
        }
        assert_eq!(client.heard, [b"one"]);
    }

    #[test]
    fn acknowledgements_go_with_voice_or_after_a_while() {
        let now = Instant::now();
        let mut client = Client::open(now);
        client.say(now, FLAG_BEGIN | FLAG_END, b"1");
        assert!(client.poll(now).is_empty());
        assert_eq!(client.server.timeout(), Some(now + ACKNOWLEDGE_TIME));
        assert_eq!(read(&client.poll(now + ACKNOWLEDGE_TIME)).1, Some(100));

        client.say(now, FLAG_BEGIN | FLAG_END, b"2");
        client.server.write(now, b"voice");
        let packets = client.poll(now);
        assert_eq!(packets.len(), 1);
        assert_eq!(read(&packets).1, Some(101), "it costs nothing here");

        for _ in 0..PACKETS_UNACKNOWLEDGED {
            assert!(client.poll(now).is_empty());
            client.say(now, FLAG_BEGIN | FLAG_END, b"3");
        }
        assert_eq!(read(&client.poll(now)).1, Some(105));

        client.tsn += 1;
        client.say(now, FLAG_BEGIN | FLAG_END, b"behind a hole");
        assert_eq!(
            read(&client.poll(now)).1,
            Some(105),
            "the client is told at once"
        );
        client
            .send(now, |packet| write_forward_tsn(packet, 106))
            .unwrap();
        assert_eq!(
            read(&client.poll(now)).1,
            Some(107),
            "it skips what it lost"
        );
    }

    #[test]
    fn what_is_lost_is_skipped_and_never_sent_again() {
        let now = Instant::now();
        let mut client = Client::open(now);
        client.server.write(now, b"lost");
        assert_eq!(read(&client.poll(now)).0.len(), 1);
        let later = client.server.timeout().unwrap();
        client.server.handle_timeout(later);
        let packets = client.poll(later);
        assert_eq!(chunks(&packets[0]), [Chunk::ForwardTsn(SEED.tsn)]);
        assert!(client.poll(later).is_empty());
    }

    #[test]
    fn it_ends_when_the_client_says_so() {
        let now = Instant::now();
        let mut client = Client::open(now);
        client
            .send(now, |packet| chunk(packet, 4, b"\0\x01\0\x08beat"))
            .unwrap();
        assert_eq!(client.poll(now).len(), 1, "a heartbeat's answer");
        client
            .send(now, |packet| chunk(packet, 7, &[0; 4]))
            .unwrap();
        assert_eq!(client.poll(now).len(), 1, "a shutdown's");
        client.send(now, |packet| chunk(packet, 6, &[])).unwrap();
        assert!(client.server.is_over() && !client.server.is_open());
        assert!(client.poll(now).is_empty());
        assert!(!client.server.can_write(now, 1));
    }

    #[test]
    fn who_only_asks_gets_few_answers() {
        let now = Instant::now();
        let mut client = Client::open(now);
        for _ in 0..1_000 {
            client
                .send(now, |packet| chunk(packet, 4, &[1; 200]))
                .unwrap();
        }
        assert_eq!(client.poll(now).len(), 1);
    }

    proptest! {
        #[test]
        fn any_chunks_are_taken(
            steps in proptest::collection::vec((0..12_u8, proptest::collection::vec(any::<u8>(), 0..64), 0..400_u64), 0..60)
        ) {
            const KINDS: [u8; 12] = [0, 0, 1, 3, 3, 4, 6, 7, 10, 11, 192, 130];
            let mut now = Instant::now();
            let mut client = Client::open(now);
            for (kind, value, wait) in steps {
                now += Duration::from_millis(wait);
                client.server.handle_timeout(now);
                let _ = client.send(now, |packet| chunk(packet, KINDS[usize::from(kind)], &value));
                if client.server.can_write(now, value.len()) && !value.is_empty() {
                    client.server.write(now, &value);
                }
                client.poll(now);
            }
        }
    }
}
