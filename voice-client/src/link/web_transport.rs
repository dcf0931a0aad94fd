//! A session of WebTransport: streams for frames, datagrams for voice.

use std::{
    fmt::Display,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{TransportConfig, VarInt, crypto::rustls::QuicClientConfig};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use web_transport_quinn::{
    ALPN, ReadError, RecvStream, SendStream, SessionError, WebTransportError, WriteError,
    proto::ConnectRequest,
};

use super::{STEP_TIME_MAX, end::StreamEnd, web_socket::host};
use crate::{
    error::ConnectError,
    shared::Shared,
    trust::TrustError,
    wire::framing::{Deframer, TooLarge, framed},
};

/// Between two signs of life on a connection with nothing to say: short enough for the mappings of home routers.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Without a word of the server for so long, the connection is lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Bytes of voice that wait for the congestion controller: some 60 packets. Older ones are dropped for newer ones.
const VOICE_SENDING_BYTES: usize = 8 * 1024;

/// Bytes of voice that have come and are not read yet: a second of 100 talkers.
const VOICE_RECEIVED_BYTES: usize = 512 * 1024;

/// Bytes of one read from a stream.
const READ_BYTES: usize = 64 * 1024;

/// A frame that cannot be written within this time finds no connection.
const WRITE_TIME_MAX: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Streams that a server opens for HTTP/3 itself: control, and two of its header compression.
const SERVER_STREAMS_MAX: u32 = 8;

/// The code of a client that leaves: normal closure of RFC 6455, section 7.4.
const LEFT: u32 = 1000;

/// Longest wait for the server's answer to a goodbye.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(500);

/// The sockets of a client, one for each family of addresses that was needed.
pub(crate) struct Endpoint {
    config: quinn::ClientConfig,
    endpoints: Vec<quinn::Endpoint>,
}

/// A session. All copies are the same.
#[derive(Clone)]
pub(super) struct Session(web_transport_quinn::Session);

/// A stream of frames.
pub(crate) struct Stream {
    send: SendStream,
    receive: RecvStream,
    deframer: Deframer,
}

impl Endpoint {
    pub(crate) fn new(mut tls: rustls::ClientConfig) -> Result<Self, ConnectError> {
        tls.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
        let crypto = QuicClientConfig::try_from(tls)
            .map_err(|error| TrustError::Tls(rustls::Error::General(error.to_string())))?;
        let mut transport = TransportConfig::default();
        transport
            .keep_alive_interval(Some(KEEP_ALIVE))
            .max_idle_timeout(SILENCE_MAX.try_into().ok())
            .datagram_send_buffer_size(VOICE_SENDING_BYTES)
            .datagram_receive_buffer_size(Some(VOICE_RECEIVED_BYTES))
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(SERVER_STREAMS_MAX));
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        Ok(Self {
            config,
            endpoints: Vec::new(),
        })
    }

    /// Tries the addresses of this `host:port` one after another.
    pub(super) async fn connect(&mut self, address: &str) -> Result<Session, ConnectError> {
        let unreachable = |error: &dyn Display| ConnectError::Unreachable(error.to_string());
        let host = host(address).ok_or_else(|| unreachable(&"an address without port"))?;
        let found = timeout(STEP_TIME_MAX, tokio::net::lookup_host(address)).await;
        let found =
            found.map_err(|_| ConnectError::TimedOut("resolving the voice server's name"))?;
        let found: Vec<_> = found.map_err(|error| unreachable(&error))?.collect();
        let mut failed = unreachable(&"its name has no address");
        for remote in found.into_iter().take(ADDRESSES_MAX) {
            let connecting = timeout(STEP_TIME_MAX, self.connect_to(remote, host, address)).await;
            match connecting {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = ConnectError::TimedOut("connecting by QUIC"),
            }
        }
        Err(failed)
    }

    async fn connect_to(
        &mut self,
        remote: SocketAddr,
        host: &str,
        authority: &str,
    ) -> Result<Session, ConnectError> {
        let unreachable = |error: &dyn Display| ConnectError::Unreachable(error.to_string());
        let endpoint = self.endpoint(remote).map_err(|error| unreachable(&error))?;
        let connecting = endpoint.connect_with(self.config.clone(), remote, host);
        let connecting = connecting.map_err(|error| unreachable(&error))?;
        let connection = connecting.await.map_err(|error| unreachable(&error))?;
        let url = format!("https://{authority}/main");
        let url = reqwest::Url::parse(&url).map_err(|error| unreachable(&error))?;
        let session =
            web_transport_quinn::Session::connect(connection, ConnectRequest::new(url)).await;
        session
            .map(Session)
            .map_err(|error| ConnectError::Broken(error.to_string()))
    }

    fn endpoint(&mut self, remote: SocketAddr) -> std::io::Result<quinn::Endpoint> {
        let is_fit = |endpoint: &&quinn::Endpoint| {
            let local = endpoint.local_addr();
            local.is_ok_and(|local| local.is_ipv4() == remote.is_ipv4())
        };
        if let Some(endpoint) = self.endpoints.iter().find(is_fit) {
            return Ok(endpoint.clone());
        }
        let endpoint = quinn::Endpoint::client(any_port(remote.is_ipv4()))?;
        self.endpoints.push(endpoint.clone());
        Ok(endpoint)
    }

    /// Goes on from new sockets: connections stay, from another address.
    pub(crate) fn rebind(&self) -> std::io::Result<()> {
        for endpoint in &self.endpoints {
            let is_ipv4 = endpoint.local_addr()?.is_ipv4();
            endpoint.rebind(UdpSocket::bind(any_port(is_ipv4))?)?;
        }
        Ok(())
    }
}

fn any_port(is_ipv4: bool) -> SocketAddr {
    match is_ipv4 {
        true => (Ipv4Addr::UNSPECIFIED, 0).into(),
        false => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

impl Session {
    pub(super) async fn open(&self) -> Result<Stream, String> {
        let opened = timeout(STEP_TIME_MAX, self.0.open_bi()).await;
        let opened = opened.map_err(|_| "a stream does not open".to_owned())?;
        let (send, receive) = opened.map_err(|error| error.to_string())?;
        Ok(Stream {
            send,
            receive,
            deframer: Deframer::default(),
        })
    }

    pub(super) async fn leave(&self) {
        self.0.close(LEFT, b"left");
        let _ = timeout(GOODBYE_TIME_MAX, self.0.closed()).await;
    }
}

impl Stream {
    pub(super) async fn send(&mut self, frame: &[u8]) -> Result<(), StreamEnd> {
        match timeout(WRITE_TIME_MAX, self.send.write_all(&framed(frame))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(WriteError::Stopped(code))) => Err(closed(code)),
            Ok(Err(WriteError::SessionError(error))) => Err(session_end(&error)),
            Ok(Err(error)) => Err(StreamEnd::Lost(error.to_string())),
            Err(_) => Err(StreamEnd::Lost("the server does not read".to_owned())),
        }
    }

    /// May be dropped at any time: what was read is kept here.
    pub(super) async fn next(&mut self) -> Result<Bytes, StreamEnd> {
        loop {
            match self.deframer.next() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(TooLarge) => return Err(StreamEnd::Garbage),
            }
            match self.receive.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.deframer.push(&chunk.bytes),
                Ok(None) if self.deframer.is_within_frame() => return Err(StreamEnd::Garbage),
                Ok(None) => return Err(closed(LEFT)),
                Err(ReadError::Reset(code)) => return Err(closed(code)),
                Err(ReadError::SessionError(error)) => return Err(session_end(&error)),
                Err(error) => return Err(StreamEnd::Lost(error.to_string())),
            }
        }
    }

    pub(super) async fn leave(mut self) {
        // A stream that has ended already needs no goodbye.
        if self.send.finish().is_ok() {
            let rest = async {
                while let Ok(Some(_)) = self.receive.read_chunk(READ_BYTES, true).await {}
            };
            let _ = timeout(GOODBYE_TIME_MAX, rest).await;
        }
    }
}

/// Voice both ways, until the connection is gone.
pub(super) async fn carry(session: Session, shared: Arc<Shared>, gone: CancellationToken) {
    loop {
        tokio::select! {
            () = gone.cancelled() => return,
            datagram = session.0.read_datagram() => match datagram {
                Ok(datagram) => shared.receive(&datagram, Instant::now()),
                Err(_) if session.0.close_reason().is_some() => break,
                // A datagram of another session than this, the only one.
                Err(_) => shared.tallies.malformed.add(1),
            },
            datagram = shared.outgoing.pop() => match datagram {
                Some(datagram) => send(&session, &shared, datagram),
                None => return,
            },
        }
    }
    gone.cancel();
}

fn send(session: &Session, shared: &Shared, datagram: Bytes) {
    // Too large for the path, or no room: in either case this packet is lost and the next may not be.
    match session.0.send_datagram(datagram) {
        Ok(()) => shared.tallies.packets_sent.add(1),
        Err(_) => shared.tallies.dropped_sending.add(1),
    }
}

fn closed(code: u32) -> StreamEnd {
    StreamEnd::Closed {
        code,
        reason: String::new(),
    }
}

fn session_end(error: &SessionError) -> StreamEnd {
    match error {
        SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => {
            StreamEnd::Closed {
                code: *code,
                reason: reason.clone(),
            }
        }
        error => StreamEnd::Lost(error.to_string()),
    }
}
