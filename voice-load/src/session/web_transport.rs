//! A native client over QUIC: signalling on streams, voice in datagrams, as docs/webtransport.md has it. Without a socket
//! and without a clock.

mod entry;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, IdleTimeout, ReadError, StreamEvent, StreamId, TransportConfig, VarInt,
    crypto::rustls::QuicClientConfig,
};
use rustls::RootCertStore;
use url::Url;
use web_transport_proto::{ConnectRequest, ConnectResponse, Frame, Settings};

use self::entry::{Entry, Step};
use super::Said;

pub(crate) use self::entry::Way;

/// Bytes of voice that wait for the congestion controller; what is beyond drops the oldest.
const DATAGRAM_BYTES: usize = 32 * 1024;

/// Silence after which the connection is over.
const IDLE: Duration = Duration::from_secs(60);

/// Longest silence of our own.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Longest frame of the server.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest answer to the session's request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Packets of one poll; a connection that has more to say is asked again at once.
const PACKETS_MAX: usize = 256;

/// Bytes that are read of a stream at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What all connections have in common: whom they trust.
///
/// # Errors
/// When the library cannot do QUIC's own cipher.
pub(crate) fn config(roots: RootCertStore) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport
        .datagram_send_buffer_size(DATAGRAM_BYTES)
        .datagram_receive_buffer_size(Some(1024 * 1024))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// See the module.
pub(crate) struct WebTransport {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    remote: SocketAddr,
    authority: String,
    entry: Entry,
    progress: Progress,
    /// What has come on streams and is not whole yet.
    partial: BTreeMap<StreamId, BytesMut>,
    /// What a stream did not take yet.
    unsent: BTreeMap<StreamId, BytesMut>,
    main: Option<StreamId>,
    room: Option<StreamId>,
    /// Begins our datagrams, and the server's.
    datagram_head: BytesMut,
    failure: Option<String>,
    buffer: Vec<u8>,
    is_over: bool,
}

/// How far the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The server has not said what it can do.
    Settings,
    /// The session was asked for on this stream.
    Asked(StreamId),
    /// The session is there.
    There(StreamId),
}

impl std::fmt::Debug for WebTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebTransport")
            .field("remote", &self.remote)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl WebTransport {
    /// Sets out; the first packet goes with the first poll.
    ///
    /// # Errors
    /// When the address is none that can be connected to.
    pub(crate) fn connect(
        now: Instant,
        config: ClientConfig,
        remote: SocketAddr,
        authority: &str,
        way: Way,
    ) -> anyhow::Result<Self> {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let (host, _) = authority.rsplit_once(':').unwrap_or((authority, ""));
        let host = host.trim_matches(['[', ']']);
        let (handle, connection) = endpoint.connect(now, config, remote, host)?;
        Ok(Self {
            endpoint,
            handle,
            connection,
            remote,
            authority: authority.to_owned(),
            entry: Entry::new(way),
            progress: Progress::Settings,
            partial: BTreeMap::new(),
            unsent: BTreeMap::new(),
            main: None,
            room: None,
            datagram_head: BytesMut::new(),
            failure: None,
            buffer: Vec::new(),
            is_over: false,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.entry.media().is_some() && !self.has_ended()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.is_over
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn media(&self) -> Option<u16> {
        self.entry.media()
    }

    pub(super) fn receive(
        &mut self,
        now: Instant,
        bytes: &mut [u8],
        out: &mut impl FnMut(Said<'_>),
    ) {
        let data = BytesMut::from(&*bytes);
        self.buffer.clear();
        let event = self
            .endpoint
            .handle(now, self.remote, None, None, data, &mut self.buffer);
        match event {
            Some(DatagramEvent::ConnectionEvent(_, event)) => self.connection.handle_event(event),
            Some(DatagramEvent::Response(transmit)) => {
                if let Some(bytes) = self.buffer.get(..transmit.size) {
                    out(Said::Packet(bytes));
                }
            }
            Some(DatagramEvent::NewConnection(_)) | None => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.connection.handle_timeout(now);
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        let mut datagram = self.datagram_head.clone();
        datagram.extend_from_slice(bytes);
        self.connection
            .datagrams()
            .send(datagram.freeze(), true)
            .is_ok()
    }

    pub(super) fn move_to(&mut self, place: [f64; 3]) {
        if let (Some(room), Some(frame)) = (self.room, self.entry.move_to(place)) {
            self.write_frame(room, &frame);
        }
    }

    /// Ends it as a client does that leaves.
    pub(super) fn leave(&mut self, now: Instant) {
        for stream in [self.room, self.main].into_iter().flatten() {
            // One that is over already is as good.
            let _ = self.connection.send_stream(stream).finish();
        }
        self.connection
            .close(now, VarInt::from_u32(0), Bytes::new());
    }

    pub(super) fn poll(&mut self, now: Instant, out: &mut impl FnMut(Said<'_>)) -> Option<Instant> {
        self.events(out);
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        for _ in 0..PACKETS_MAX {
            self.buffer.clear();
            match self.connection.poll_transmit(now, 1, &mut self.buffer) {
                Some(transmit) => {
                    if let Some(bytes) = self.buffer.get(..transmit.size) {
                        out(Said::Packet(bytes));
                    }
                }
                None => return self.connection.poll_timeout(),
            }
        }
        Some(now)
    }

    fn events(&mut self, out: &mut impl FnMut(Said<'_>)) {
        while let Some(event) = self.connection.poll() {
            let done = match event {
                Event::Connected => self.introduce(),
                Event::ConnectionLost { reason } => {
                    self.is_over = true;
                    self.failure.get_or_insert_with(|| reason.to_string());
                    Ok(())
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => self.accept(out),
                Event::Stream(StreamEvent::Readable { id }) => self.read(id, out),
                Event::Stream(StreamEvent::Writable { id }) => {
                    self.flush(id);
                    Ok(())
                }
                Event::DatagramReceived => {
                    self.voice(out);
                    Ok(())
                }
                Event::Stream(_) | Event::HandshakeDataReady | Event::DatagramsUnblocked => Ok(()),
            };
            if let Err(why) = done {
                self.failure.get_or_insert(why);
                self.is_over = true;
            }
        }
    }

    fn voice(&mut self, out: &mut impl FnMut(Said<'_>)) {
        while let Some(datagram) = self.connection.datagrams().recv() {
            if let Some(voice) = datagram.strip_prefix(&self.datagram_head[..]) {
                out(Said::Voice(voice));
            }
        }
    }

    fn introduce(&mut self) -> Result<(), String> {
        let control = self
            .connection
            .streams()
            .open(Dir::Uni)
            .ok_or("no stream")?;
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        let mut bytes = BytesMut::new();
        settings.encode(&mut bytes);
        self.write(control, &bytes);
        Ok(())
    }

    fn accept(&mut self, out: &mut impl FnMut(Said<'_>)) -> Result<(), String> {
        while let Some(stream) = self.connection.streams().accept(Dir::Uni) {
            self.read(stream, out)?;
        }
        Ok(())
    }

    /// Takes what has come on a stream, as far as it is whole.
    fn read(&mut self, stream: StreamId, out: &mut impl FnMut(Said<'_>)) -> Result<(), String> {
        let partial = self.partial.entry(stream).or_default();
        let mut receiver = self.connection.recv_stream(stream);
        if let Ok(mut chunks) = receiver.read(true) {
            loop {
                match chunks.next(CHUNK_BYTES) {
                    Ok(Some(chunk)) => partial.extend_from_slice(&chunk.bytes),
                    Ok(None) if Some(stream) == self.room || Some(stream) == self.main => {
                        self.failure
                            .get_or_insert_with(|| "the server closed a stream".to_owned());
                        self.is_over = true;
                        break;
                    }
                    Ok(None) | Err(ReadError::Blocked) => break,
                    Err(ReadError::Reset(code)) => {
                        return Err(format!("a stream was reset: {code}"));
                    }
                }
            }
            // Whatever is to be sent for it goes with the next poll.
            let _ = chunks.finalize();
        }
        match self.progress {
            Progress::Settings => self.settled(stream),
            Progress::Asked(asked) if asked == stream => self.answered(stream),
            Progress::Asked(_) | Progress::There(_) => self.frames(stream, out),
        }
    }

    /// The server's settings are there, so that the session can be asked for.
    fn settled(&mut self, stream: StreamId) -> Result<(), String> {
        let Some(bytes) = self.partial.get(&stream) else {
            return Ok(());
        };
        match Settings::decode(&mut &bytes[..]) {
            Ok(settings) if settings.supports_webtransport() > 0 => {
                self.partial.remove(&stream);
                self.ask()
            }
            Ok(_) => Err("the server has no WebTransport".to_owned()),
            // It is not whole yet, or another of HTTP's streams.
            Err(_) if bytes.len() < HEAD_BYTES_MAX => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn ask(&mut self) -> Result<(), String> {
        let stream = self.connection.streams().open(Dir::Bi).ok_or("no stream")?;
        let url = format!("https://{}/main", self.authority);
        let url = Url::parse(&url).map_err(|error| error.to_string())?;
        let request = ConnectRequest::new(url);
        let mut bytes = BytesMut::new();
        request
            .encode(&mut bytes)
            .map_err(|error| error.to_string())?;
        self.write(stream, &bytes);
        self.progress = Progress::Asked(stream);
        Ok(())
    }

    fn answered(&mut self, stream: StreamId) -> Result<(), String> {
        let Some(bytes) = self.partial.get_mut(&stream) else {
            return Ok(());
        };
        // A head that is whole is taken; until then there is nothing that could be.
        if !has_whole_frame(bytes) {
            return match bytes.len() < HEAD_BYTES_MAX {
                true => Ok(()),
                false => Err("too long an answer".to_owned()),
            };
        }
        ConnectResponse::decode(&mut &bytes[..]).map_err(|error| error.to_string())?;
        bytes.clear();
        self.progress = Progress::There(stream);
        put_varint(&mut self.datagram_head, u64::from(stream) / 4);
        let main = self.open_stream()?;
        self.main = Some(main);
        let frame = self.entry.begin();
        self.write_frame(main, &frame);
        Ok(())
    }

    /// A stream of the session.
    fn open_stream(&mut self) -> Result<StreamId, String> {
        let Progress::There(session) = self.progress else {
            return Err("no session".to_owned());
        };
        let stream = self.connection.streams().open(Dir::Bi).ok_or("no stream")?;
        let mut head = BytesMut::new();
        Frame::WEBTRANSPORT.encode(&mut head);
        put_varint(&mut head, session.into());
        self.write(stream, &head);
        Ok(stream)
    }

    fn frames(&mut self, stream: StreamId, out: &mut impl FnMut(Said<'_>)) -> Result<(), String> {
        if Some(stream) != self.main && Some(stream) != self.room {
            // The session's own stream and HTTP's say nothing that we need.
            self.partial.remove(&stream);
            return Ok(());
        }
        while let Some(partial) = self.partial.get_mut(&stream) {
            let Some(length) = partial.first_chunk().copied().map(u32::from_be_bytes) else {
                break;
            };
            let length = length as usize;
            if length > FRAME_BYTES_MAX {
                return Err("too long a frame".to_owned());
            }
            if partial.len() < 4 + length {
                break;
            }
            partial.advance(4);
            let frame = partial.split_to(length);
            match self.entry.take(&frame)? {
                Step::Nothing => {}
                Step::Main(frame) => {
                    if let Some(main) = self.main {
                        self.write_frame(main, &frame);
                    }
                }
                Step::Room(frame) => {
                    if let Some(room) = self.room {
                        self.write_frame(room, &frame);
                    }
                }
                Step::OpenRoom(name) => {
                    let room = self.open_stream()?;
                    self.room = Some(room);
                    self.write_frame(room, name.as_bytes());
                }
                Step::Apart(others) => {
                    for other in others {
                        out(Said::Apart(other));
                    }
                }
            }
        }
        Ok(())
    }

    fn write_frame(&mut self, stream: StreamId, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let mut bytes = BytesMut::with_capacity(4 + frame.len());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(frame);
        self.write(stream, &bytes);
    }

    fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        self.unsent
            .entry(stream)
            .or_default()
            .extend_from_slice(bytes);
        self.flush(stream);
    }

    fn flush(&mut self, stream: StreamId) {
        let Some(unsent) = self.unsent.get_mut(&stream) else {
            return;
        };
        while !unsent.is_empty() {
            match self.connection.send_stream(stream).write(unsent) {
                Ok(written) => unsent.advance(written),
                // It tells when there is room; one that was stopped ends the session anyway.
                Err(_) => return,
            }
        }
    }
}

/// Whether the bytes hold a frame of HTTP/3 to its end: RFC 9114, section 7.1.
fn has_whole_frame(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    matches!(Frame::read(&mut rest), Ok((_, payload)) if payload.remaining() == payload.limit())
}

/// RFC 9000, section 16.
fn put_varint(bytes: &mut BytesMut, value: u64) {
    match value {
        0..=0x3f => bytes.extend_from_slice(&[value as u8]),
        0x40..=0x3fff => bytes.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => {
            bytes.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes());
        }
        _ => bytes.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_length_that_they_need() {
        let written = |value| {
            let mut bytes = BytesMut::new();
            put_varint(&mut bytes, value);
            bytes.to_vec()
        };
        // The examples of RFC 9000, A.1.
        assert_eq!(written(37), [0x25]);
        assert_eq!(written(15_293), [0x7b, 0xbd]);
        assert_eq!(written(494_878_333), [0x9d, 0x7f, 0x3e, 0x7d]);
        assert_eq!(
            written(151_288_809_941_952_652),
            [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]
        );
    }

    #[test]
    fn an_answer_is_waited_for_until_it_is_whole() {
        let mut answer = BytesMut::new();
        ConnectResponse::OK.encode(&mut answer).unwrap();
        for length in 0..answer.len() {
            assert!(!has_whole_frame(&answer[..length]), "{length}");
        }
        assert!(has_whole_frame(&answer));
    }
}
