//! All QUIC connections of a shard: which one a packet is for, and who may begin a new one.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{
    ConnectionEvent, ConnectionHandle, ConnectionIdGenerator, DatagramEvent, Endpoint,
    EndpointConfig, EndpointEvent, Incoming, InvalidCid, ServerConfig,
};
use sfu_core::DropReason;
use tokio::sync::mpsc;

use super::{Arrival, ConnectionId, QuicSession, QuicSettings, QuicTls, connection::Tasks};
use crate::shard::{Inbox, ShardNumber, socket::Packets};

/// Bytes of our connection ids: one names the shard, the others nobody guesses.
const ID_BYTES: usize = 8;

/// Connections without a session above which addresses have to be proven first (RFC 9000, section 8.1).
const UNPROVEN_MAX: usize = 64;

/// Connections without a session of a shard; more are refused.
const BEGINNING_MAX: usize = 4_096;

/// The shard that a packet names: only those of an established connection do, and others are where the kernel brings
/// them.
pub(in crate::shard) fn shard_of(bytes: &[u8]) -> Option<ShardNumber> {
    match bytes {
        [first, shard, ..] if first & 0x80 == 0 => Some(ShardNumber(*shard)),
        _ => None,
    }
}

struct ShardIds(ShardNumber);

impl ConnectionIdGenerator for ShardIds {
    fn generate_cid(&mut self) -> quinn_proto::ConnectionId {
        let mut id = [0; ID_BYTES];
        // Without randomness ids repeat, which the endpoint notices.
        let _ = getrandom::fill(&mut id);
        id[0] = self.0.0;
        quinn_proto::ConnectionId::new(&id)
    }

    fn validate(&self, id: &quinn_proto::ConnectionId) -> Result<(), InvalidCid> {
        match id.first() {
            Some(shard) if *shard == self.0.0 => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// What a packet is for.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every packet is for a known connection, and none of them should cost memory"
)]
pub(in crate::shard) enum Accepted {
    /// A connection that is known.
    Known(ConnectionHandle, ConnectionEvent),
    /// A new one.
    New(Box<QuicSession>),
}

/// See the module.
pub(in crate::shard) struct QuicEndpoint {
    endpoint: Endpoint,
    settings: QuicSettings,
    server: Arc<ServerConfig>,
    tasks: Tasks,
    last_connection: u64,
    buffer: Vec<u8>,
    /// Connections that have no session yet.
    pub(in crate::shard) beginning: usize,
}

impl std::fmt::Debug for QuicEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicEndpoint")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl QuicEndpoint {
    pub(in crate::shard) fn new(
        settings: QuicSettings,
        tls: &QuicTls,
        shard: ShardNumber,
        inbox: Arc<Inbox>,
        arrivals: mpsc::Sender<Arrival>,
    ) -> Self {
        let mut config = EndpointConfig::default();
        config.cid_generator(move || Box::new(ShardIds(shard)));
        let server = Arc::new(settings.server(tls));
        let endpoint = Endpoint::new(Arc::new(config), Some(Arc::clone(&server)), false, None);
        Self {
            endpoint,
            server,
            settings,
            tasks: Tasks {
                arrivals,
                inbox,
                shard,
            },
            last_connection: 0,
            buffer: Vec::new(),
            beginning: 0,
        }
    }

    /// New connections are made with this.
    pub(in crate::shard) fn replace_tls(&mut self, tls: &QuicTls) {
        self.server = Arc::new(self.settings.server(tls));
        self.endpoint
            .set_server_config(Some(Arc::clone(&self.server)));
    }

    /// Finds out what a packet is for; what has to be answered at once goes to `packets`.
    pub(in crate::shard) fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: &[u8],
        packets: &mut Packets,
    ) -> Result<Option<Accepted>, DropReason> {
        self.buffer.clear();
        let bytes = BytesMut::from(bytes);
        let (endpoint, buffer) = (&mut self.endpoint, &mut self.buffer);
        let handle = || endpoint.handle(now, source, None, None, bytes, buffer);
        let event = catch_unwind(AssertUnwindSafe(handle)).map_err(|_| DropReason::Rejected)?;
        match event {
            None => Err(DropReason::UnknownPacket),
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                Ok(Some(Accepted::Known(handle, event)))
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accept = || self.accept(now, incoming, packets);
                catch_unwind(AssertUnwindSafe(accept)).map_err(|_| DropReason::Rejected)
            }
            Some(DatagramEvent::Response(answer)) => {
                packets.push(
                    answer.destination,
                    self.buffer.get(..answer.size).unwrap_or(&[]),
                );
                Ok(None)
            }
        }
    }

    fn accept(
        &mut self,
        now: Instant,
        incoming: Incoming,
        packets: &mut Packets,
    ) -> Option<Accepted> {
        self.buffer.clear();
        let answer = if self.beginning >= BEGINNING_MAX {
            Some(self.endpoint.refuse(incoming, &mut self.buffer))
        } else if self.beginning >= UNPROVEN_MAX
            && !incoming.remote_address_validated()
            && incoming.may_retry()
        {
            self.endpoint.retry(incoming, &mut self.buffer).ok()
        } else {
            match self.endpoint.accept(incoming, now, &mut self.buffer, None) {
                Ok(connection) => {
                    self.last_connection += 1;
                    self.beginning += 1;
                    return Some(Accepted::New(Box::new(QuicSession::new(
                        ConnectionId(self.last_connection),
                        connection,
                        self.tasks.clone(),
                        now + self.settings.connect_timeout,
                        self.settings.voice_wait,
                    ))));
                }
                Err(error) => error.response,
            }
        };
        if let Some(answer) = answer {
            packets.push(
                answer.destination,
                self.buffer.get(..answer.size).unwrap_or(&[]),
            );
        }
        None
    }

    /// What a connection tells of itself.
    pub(in crate::shard) fn exchange(
        &mut self,
        handle: ConnectionHandle,
        event: EndpointEvent,
    ) -> Option<ConnectionEvent> {
        self.endpoint.handle_event(handle, event)
    }
}
